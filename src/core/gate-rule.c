/* The short form of gate rules and its translation to jq; see gate.h. */
#include <ctype.h>
#include <string.h>
#include "core/gate.h"
#include "core/rule.h"
#include "core/model.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define CHAMPION "champion."

/* One side of a comparison: a number, or a metric with an optional "± number". Points into the text. */
struct operand {
    const char *text;
    size_t length;
    bool is_number, of_champion;
    const char *offset; /* "- 0.01" */
    size_t offset_length;
};

struct comparison {
    struct operand left, right;
    char operator_[3];
};

static const char *skip_space(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

static bool is_number(const char *text, size_t length)
{
    cleanup_free char *copy = xstrndup(text, length);
    double value;

    return parse_number(copy, -1e300, 1e300, &value, NULL) == 0;
}

/* A metric's name as programs write them: accuracy, eval/loss, top-5. Returns its end, or NULL. */
static const char *scan_name(const char *p)
{
    if (!isalpha((unsigned char)*p) && *p != '_')
        return NULL;
    while (isalnum((unsigned char)*p) || (*p && strchr("_-/.@", *p)))
        p++;
    return p;
}

static const char *scan_number(const char *p)
{
    const char *end = p + strspn(p, "+-.0123456789eE");

    return end > p && is_number(p, (size_t)(end - p)) ? end : NULL;
}

/* "+ 0.01" behind a name. Returns where it goes on; NULL: broken. */
static const char *scan_offset(const char *p, struct operand *ret)
{
    const char *start = skip_space(p), *end;

    if ((*start != '+' && *start != '-') || start == p)
        return p;
    end = scan_number(skip_space(start + 1));
    if (!end)
        return NULL;
    ret->offset = start;
    ret->offset_length = (size_t)(end - start);
    return end;
}

static const char *scan_operand(const char *p, struct operand *ret)
{
    const char *end;

    p = skip_space(p);
    *ret = (struct operand){.text = p};
    end = scan_number(p);
    if (end) {
        ret->is_number = true;
        ret->length = (size_t)(end - p);
        return end;
    }
    if (strncmp(p, CHAMPION, strlen(CHAMPION)) == 0) {
        ret->of_champion = true;
        ret->text = p += strlen(CHAMPION);
    }
    end = scan_name(p);
    if (!end)
        return NULL;
    ret->length = (size_t)(end - p);
    return scan_offset(end, ret);
}

static const char *scan_comparison(const char *p, struct comparison *ret)
{
    static const char *const operators[] = {">=", "<=", "==", "!=", ">", "<"};

    p = scan_operand(p, &ret->left);
    if (!p)
        return NULL;
    p = skip_space(p);
    for (size_t i = 0; i < ARRAY_SIZE(operators); i++) {
        if (strncmp(p, operators[i], strlen(operators[i])) == 0) {
            snprintf(ret->operator_, sizeof(ret->operator_), "%s", operators[i]);
            return scan_operand(p + strlen(operators[i]), &ret->right);
        }
    }
    return NULL;
}

/* Where the operand's value is in the document. */
static void add_path(struct strbuf *out, const struct operand *o)
{
    if (o->is_number)
        strbuf_addf(out, "(%.*s)", (int)o->length, o->text);
    else
        strbuf_addf(out, "%s[\"%.*s\"]", o->of_champion ? ".champion.metrics" : ".metrics", (int)o->length, o->text);
}

static void add_comparison(struct strbuf *out, const struct comparison *c)
{
    if (c->left.of_champion || c->right.of_champion)
        strbuf_adds(out, "(.champion == null or ");
    strbuf_adds(out, "(");
    add_path(out, &c->left);
    strbuf_adds(out, " as $a | ");
    add_path(out, &c->right);
    strbuf_addf(out, " as $b | ([$a, $b] | all(type == \"number\")) and $a %.*s %s $b %.*s)",
                (int)c->left.offset_length, c->left.offset ? c->left.offset : "", c->operator_,
                (int)c->right.offset_length, c->right.offset ? c->right.offset : "");
    if (c->left.of_champion || c->right.of_champion)
        strbuf_adds(out, ")");
}

/* accuracy = \(.metrics["accuracy"]) */
static void add_seen(struct strbuf *out, const struct operand *o)
{
    cleanup_free char *path = NULL;

    if (o->is_number)
        return;
    path = xasprintf("(%s[\"%.*s\"]", o->of_champion ? ".champion.metrics" : ".metrics", (int)o->length, o->text);
    if (strstr(out->data, path))
        return;
    strbuf_addf(out, "%s%s%.*s = \\(", out->length ? ", " : "", o->of_champion ? CHAMPION : "", (int)o->length,
                o->text);
    add_path(out, o);
    strbuf_adds(out, " // \"missing\")");
}

/* -- the whole rule: comparisons, "and", "or", "not", parentheses, "champion == null" -- */

#define DEPTH 32 /* of parentheses */

struct translation {
    const char *p;
    struct strbuf program, seen;
};

/* Takes the word or sign if it stands there. */
static bool take(struct translation *t, const char *token)
{
    size_t n = strlen(token);

    t->p = skip_space(t->p);
    if (strncmp(t->p, token, n) != 0)
        return false;
    if (isalpha((unsigned char)token[n - 1]) &&
        (isalnum((unsigned char)t->p[n]) || (t->p[n] && strchr("_-/.", t->p[n]))))
        return false;
    t->p += n;
    return true;
}

static bool take_null_test(struct translation *t)
{
    const char *start = t->p;

    if (take(t, "champion")) {
        const char *sign = take(t, "==") ? "==" : take(t, "!=") ? "!=" : NULL;

        if (sign && take(t, "null")) {
            strbuf_addf(&t->program, "(.champion %s null)", sign);
            return true;
        }
    }
    t->p = start;
    return false;
}

static bool translate_or(struct translation *t, int depth);

static bool translate_one(struct translation *t, int depth)
{
    struct comparison c = {0};
    const char *end;

    if (depth > DEPTH)
        return false;
    if (take(t, "not")) {
        strbuf_adds(&t->program, "(");
        if (!translate_one(t, depth + 1))
            return false;
        strbuf_adds(&t->program, " | not)");
        return true;
    }
    if (take(t, "(")) {
        strbuf_adds(&t->program, "(");
        if (!translate_or(t, depth + 1) || !take(t, ")"))
            return false;
        strbuf_adds(&t->program, ")");
        return true;
    }
    if (take_null_test(t))
        return true;
    end = scan_comparison(t->p, &c);
    if (!end)
        return false;
    t->p = end;
    add_comparison(&t->program, &c);
    add_seen(&t->seen, &c.left);
    add_seen(&t->seen, &c.right);
    return true;
}

static bool translate_and(struct translation *t, int depth)
{
    if (!translate_one(t, depth))
        return false;
    while (take(t, "and")) {
        strbuf_adds(&t->program, " and ");
        if (!translate_one(t, depth))
            return false;
    }
    return true;
}

static bool translate_or(struct translation *t, int depth)
{
    if (!translate_and(t, depth))
        return false;
    while (take(t, "or")) {
        strbuf_adds(&t->program, " or ");
        if (!translate_and(t, depth))
            return false;
    }
    return true;
}

char *gate_translate(const char *rule)
{
    struct translation t = {rule, STRBUF_INIT(16 * LIMIT_RULE), STRBUF_INIT(16 * LIMIT_RULE)};
    bool is_short = translate_or(&t, 0) && *skip_space(t.p) == 0 && !t.program.overflowed && !t.seen.overflowed;
    char *program = is_short ? xasprintf("{verdict: (%s), reason: \"%s\"}", t.program.data, t.seen.data)
                             : xstrdup(rule);

    strbuf_release(&t.program);
    strbuf_release(&t.seen);
    return program;
}

/* The name behind ".metrics": .metrics.NAME or .metrics["NAME"]. Returns its length, 0 if none is there. */
static size_t named_metric(const char *p, const char **ret_name)
{
    size_t length;

    if (strncmp(p, "[\"", 2) == 0) {
        length = strcspn(p + 2, "\"\\");
        *ret_name = p + 2;
        return strncmp(p + 2 + length, "\"]", 2) == 0 ? length : 0;
    }
    if (*p != '.' || (!isalpha((unsigned char)p[1]) && p[1] != '_'))
        return 0;
    for (length = 1; isalnum((unsigned char)p[1 + length]) || p[1 + length] == '_'; length++)
        ;
    *ret_name = p + 1;
    return length;
}

char *gate_missing(const char *program, const json_t *document)
{
    static const char word[] = ".metrics", prefix[] = ".champion";
    const json_t *champion = json_object_get(document, "champion");
    struct strbuf text = STRBUF_INIT(LIMIT_RULE);

    for (const char *at = strstr(program, word); at; at = strstr(at + 1, word)) {
        bool of_champion = (size_t)(at - program) >= strlen(prefix) &&
                           strncmp(at - strlen(prefix), prefix, strlen(prefix)) == 0;
        const char *start;
        size_t length = named_metric(at + strlen(word), &start);
        cleanup_free char *name = length ? xstrndup(start, length) : NULL, *full = NULL;

        if (!name || (of_champion && !json_is_object(champion)) ||
            json_is_number(json_object_get(json_object_get(of_champion ? champion : document, "metrics"), name)))
            continue;
        full = xasprintf("%s%s", of_champion ? CHAMPION : "", name);
        if (!text.length || !strstr(text.data, full))
            strbuf_addf(&text, "%s%s", text.length ? ", " : "", full);
    }
    if (!text.length)
        strbuf_release(&text);
    return text.length ? strbuf_detach(&text, NULL) : NULL;
}

int gate_check(const char *rule, const char *alias, struct error *error)
{
    cleanup_free char *program = NULL;

    if (!rule)
        return error_set(error, ERROR_INVALID, "a gate must have a rule");
    if (strlen(rule) > LIMIT_RULE)
        return error_set(error, ERROR_TOO_LARGE, "the rule has more than %llu bytes", (unsigned long long)LIMIT_RULE);
    if (alias && model_check_alias(alias, error) < 0)
        return -1;
    program = gate_translate(rule);
    return rule_check(program, error);
}
