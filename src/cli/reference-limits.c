#include <stdlib.h>
#include <string.h>
#include "cli/reference.h"
#include "util/embed.h"
#include "util/limits.h" /* so that a change of it builds this file again */
#include "util/xalloc.h"

EMBED(limits, "src/util/limits.h");

/* "(16 * KIB)" as people write it, "16 KiB"; what is no product or shift of numbers stays as it is. To be
 * freed. */
static char *value_text(const char *text, size_t length)
{
    static const char *const units[][2] = {{"* KIB", "KiB"}, {"* MIB", "MiB"}, {"* GIB", "GiB"}, {"* TIB", "TiB"}};
    cleanup_free char *value = NULL;
    const char *shift;

    if (length >= 2 && text[0] == '(' && text[length - 1] == ')') {
        text++;
        length -= 2;
    }
    value = xstrndup(text, length);
    for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
        const char *found = strstr(value, units[i][0]);

        if (found)
            return xasprintf("%.*s%s", (int)(found - value), value, units[i][1]);
    }
    shift = strstr(value, " << ");
    if (shift)
        return xasprintf("%llu", strtoull(value, NULL, 10) << strtoull(shift + 4, NULL, 10));
    return steal_ptr(value);
}

/* "#define NAME VALUE" and its comment, which may go on over lines. Returns where the entry ends. */
static const char *put_limit(FILE *out, const char *line)
{
    const char *name = line + strlen("#define "), *name_end = strpbrk(name, " \n");
    const char *value = name_end + strspn(name_end, " ");
    const char *comment = strstr(value, "/*"), *eol = strchrnul(value, '\n'), *end = eol;
    size_t length = (size_t)((comment && comment < eol ? comment : eol) - value);
    cleanup_free char *text = NULL;
    bool blank = true;

    while (length && value[length - 1] == ' ')
        length--;
    text = value_text(value, length);
    fprintf(out, "| `%.*s` | %s | ", (int)(name_end - name), name, text);
    if (comment && comment < eol) {
        end = strstr(comment, "*/");
        for (const char *p = comment + 2; p < end; p++) {
            bool is_blank = strchr(" \n", *p) || (*p == '*' && blank);

            if (!is_blank)
                fprintf(out, "%s%s%c", blank && p > comment + 3 ? " " : "", *p == '|' ? "\\" : "", *p);
            blank = is_blank;
        }
    }
    fputs(" |\n", out);
    return end;
}

void reference_limits(FILE *out)
{
    for (const char *line = embedded_limits; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, "/* -- ", 6) == 0) {
            const char *end = strstr(line, " -- */");

            fprintf(out, "\n## %.*s\n\n| limit | value | of what |\n| --- | --- | --- |\n", (int)(end - line - 6),
                    line + 6);
        } else if (strncmp(line, "#define ", 8) == 0 && strncmp(line + 9, "IB ", 3) != 0) {
            line = put_limit(out, line);
        }
    }
}
