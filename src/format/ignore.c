#include "format/ignore.h"

#include <string.h>
#include "util/fs.h"
#include "util/xalloc.h"

struct ignore_rule {
    char *pattern;
    bool negated, directories, anchored;
};

/* "[a-z]", "[!x]": *pattern is behind '['; moves it behind ']'. An unclosed one matches nothing. */
static bool class_matches(const char **pattern, char c)
{
    const char *p = *pattern;
    bool negated = *p == '!' || *p == '^', found = false;

    if (negated)
        p++;
    for (bool first = true; *p && (*p != ']' || first); first = false) {
        char low = *p++, high = low;

        if (p[0] == '-' && p[1] && p[1] != ']') {
            high = p[1];
            p += 2;
        }
        if (c >= low && c <= high)
            found = true;
    }
    if (!*p)
        return false;
    *pattern = p + 1;
    return c != '/' && found != negated;
}

/* Matches greedily and goes back to the last star only: "*" and "**" keep one place each to go back to,
 * which is enough because a later star of the same kind makes an earlier one superfluous. */
bool glob_matches(const char *pattern, const char *text)
{
    const char *p = pattern, *t = text;
    const char *star = NULL, *star_text = NULL;   /* behind "*", and where its rest was tried */
    const char *stars = NULL, *stars_text = NULL; /* behind "**" */

    for (;;) {
        if (p[0] == '*' && p[1] == '*') {
            while (*p == '*')
                p++;
            /* "**" followed by a slash also stands for no directory at all. */
            if (*p == '/' && (t == text || t[-1] == '/'))
                p++;
            stars = p;
            stars_text = t;
            star = NULL;
            continue;
        }
        if (*p == '*') {
            star = ++p;
            star_text = t;
            continue;
        }
        if (*t && *p == '[') {
            const char *behind = p + 1;

            if (class_matches(&behind, *t)) {
                p = behind;
                t++;
                continue;
            }
        } else if (*t && *p && (*p == *t || (*p == '?' && *t != '/'))) {
            p++;
            t++;
            continue;
        } else if (!*t && !*p) {
            return true;
        }
        if (star && *star_text && *star_text != '/') {
            p = star;
            t = ++star_text;
        } else if (stars && *stars_text) {
            p = stars;
            t = ++stars_text;
            star = NULL;
            /* Directly behind "**" and a slash only the beginning of a name may match. */
            if (stars > pattern && stars[-1] == '/')
                while (*t && t[-1] != '/')
                    t = ++stars_text;
        } else {
            return false;
        }
    }
}

void ignore_add(struct ignore *ignore, const char *line, size_t length)
{
    struct ignore_rule rule = {0};

    while (length && strchr(" \t\r\n", line[length - 1]))
        length--;
    if (!length || line[0] == '#')
        return;
    if (line[0] == '!') {
        rule.negated = true;
        line++;
        length--;
    }
    if (length && line[length - 1] == '/') {
        rule.directories = true;
        length--;
    }
    rule.anchored = memchr(line, '/', length);
    if (length && line[0] == '/') {
        line++;
        length--;
    }
    if (!length)
        return;
    rule.pattern = xstrndup(line, length);
    if (ignore->count == ignore->capacity) {
        ignore->capacity = ignore->capacity ? 2 * ignore->capacity : 16;
        ignore->rules = xreallocarray(ignore->rules, ignore->capacity, sizeof(*ignore->rules));
    }
    ignore->rules[ignore->count++] = rule;
}

void ignore_add_lines(struct ignore *ignore, const char *text)
{
    while (*text) {
        size_t length = strcspn(text, "\n");

        ignore_add(ignore, text, length);
        text += length + (text[length] == '\n');
    }
}

bool ignore_matches(const struct ignore *ignore, const char *name, bool is_directory)
{
    for (size_t i = ignore->count; i-- > 0;) {
        const struct ignore_rule *rule = &ignore->rules[i];

        if (rule->directories && !is_directory)
            continue;
        if (glob_matches(rule->pattern, rule->anchored ? name : fs_basename(name)))
            return !rule->negated;
    }
    return false;
}

void ignore_release(struct ignore *ignore)
{
    for (size_t i = 0; i < ignore->count; i++)
        free(ignore->rules[i].pattern);
    free(ignore->rules);
    *ignore = (struct ignore)IGNORE_INIT;
}
