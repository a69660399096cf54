#include <string.h>
#include "gateway/balance.h"
#include "gateway/parts.h"
#include "util/limits.h"
#include "util/utf8.h"
#include "util/xalloc.h"

struct part {
    char *text;
    size_t length;
    struct call *call; /* while it is queued or running */
    json_t *answer;
};

struct parts {
    struct call *whole;
    struct part *items;
    size_t count, capacity;
    size_t started, answered;
    bool is_starting; /* who fails now must not free what parts_start() looks at */
    enum outcome outcome;
    enum error_code code;
    char *failure; /* NULL: none */
};

/* Parts reply to nobody. */
static const struct codec part_codec = {.name = "part"};

struct parts *parts_new(struct call *whole)
{
    struct parts *parts = xnew0(struct parts);

    parts->whole = whole;
    whole->parts = parts;
    return parts;
}

struct parts *parts_free(struct parts *parts)
{
    if (!parts)
        return NULL;
    for (size_t i = 0; i < parts->count; i++) {
        if (parts->items[i].call)
            call_cancel(parts->items[i].call);
        free(parts->items[i].text);
        json_decref(parts->items[i].answer);
    }
    free(parts->items);
    free(parts->failure);
    free(parts);
    return NULL;
}

int parts_add_take(struct parts *parts, char *text, size_t length, struct error *error)
{
    if (parts->count == LIMIT_PREDICT_INSTANCES) {
        free(text);
        return error_set(error, ERROR_TOO_LARGE, "a request may hold %d instances of text", LIMIT_PREDICT_INSTANCES);
    }
    if (parts->count == parts->capacity) {
        parts->capacity = parts->capacity ? 2 * parts->capacity : 8;
        parts->items = xreallocarray(parts->items, parts->capacity, sizeof(*parts->items));
    }
    parts->items[parts->count++] = (struct part){.text = text, .length = length};
    return 0;
}

static void start_one(struct parts *parts)
{
    struct part *part = &parts->items[parts->started];

    part->call = call_new_part(parts->whole, &part_codec, parts->started, steal_ptr(part->text), part->length);
    parts->started++;
    balance_enqueue(part->call->gateway, part->call);
}

void parts_start(struct parts *parts)
{
    parts->whole->state = CALL_PARTED;
    parts->is_starting = true;
    while (!parts->failure && parts->started < parts->count && parts->started - parts->answered < LIMIT_PREDICT_PARTS)
        start_one(parts);
    parts->is_starting = false;
    if (parts->failure)
        call_fail(parts->whole, parts->outcome, parts->code, "%s", parts->failure);
}

/* JSON where it is; else text, whatever bytes it has. */
static json_t *value_of(const char *body, size_t length)
{
    cleanup_free char *copy = xmalloc(length + 1); /* of shared memory: the worker may still write it */
    json_t *value;

    memcpy(copy, body, length);
    copy[length] = '\0';
    value = json_parse(copy, length, NULL);
    if (!value)
        value = json_stringn(copy, length);
    return value ? value : json_string(utf8_repair(copy));
}

void parts_answered(struct parts *parts, size_t index, const char *body, size_t length)
{
    struct part *part = &parts->items[index];

    part->call = NULL;
    part->answer = value_of(body, length);
    if (++parts->answered == parts->count)
        call_parts_answered(parts->whole);
    else if (!parts->is_starting)
        parts_start(parts);
}

void parts_failed(struct parts *parts, size_t index, enum outcome outcome, enum error_code code, const char *message)
{
    struct call *whole = parts->whole;

    parts->items[index].call = NULL;
    if (!parts->is_starting) {
        call_fail(whole, outcome, code, "%s", message);
        return;
    }
    parts->outcome = outcome;
    parts->code = code;
    parts->failure = xstrdup(message);
}

json_t *parts_answers(const struct parts *parts)
{
    json_t *answers = json_array();

    for (size_t i = 0; i < parts->count; i++)
        json_array_append(answers, parts->items[i].answer);
    return answers;
}
