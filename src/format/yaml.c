#include <math.h>
#include <string.h>
#include <yaml.h>
#include "format/yaml.h"
#include "util/limits.h"
#include "util/parse.h"

struct source {
    yaml_parser_t parser;
    const char *name;
    struct error *error;
};

static void source_release(struct source *source)
{
    yaml_parser_delete(&source->parser);
}
#define cleanup_source CLEANUP(source_release)

static void event_release(yaml_event_t *event)
{
    yaml_event_delete(event);
}
#define cleanup_event CLEANUP(event_release)

static int refuse(struct source *source, const yaml_mark_t *mark, const char *what)
{
    return error_set(source->error, ERROR_INVALID, "%s: line %zu: %s", source->name, mark->line + 1, what);
}

static int next_event(struct source *source, yaml_event_t *ret)
{
    if (yaml_parser_parse(&source->parser, ret))
        return 0;
    return refuse(source, &source->parser.problem_mark,
                  source->parser.problem ? source->parser.problem : "not valid YAML");
}

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(text, *words) == 0)
            return true;
    return false;
}

/* The core schema (YAML 1.2.2, §10.3.2), without octal and hexadecimal numbers. */
static json_t *plain_scalar(const char *text)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    int64_t integer;
    double number;

    if (is_one_of(text, nulls))
        return json_null();
    if (is_one_of(text, trues))
        return json_true();
    if (is_one_of(text, falses))
        return json_false();
    if (text[strspn(text, "-+.0123456789eE")] == 0 && strpbrk(text, "0123456789")) {
        if (parse_int(text, INT64_MIN, INT64_MAX, &integer, NULL) == 0)
            return json_integer(integer);
        if (parse_number(text, -HUGE_VAL, HUGE_VAL, &number, NULL) == 0)
            return json_real(number);
    }
    return json_string(text);
}

static json_t *build(struct source *source, yaml_event_t *event, unsigned depth);

static json_t *build_scalar(struct source *source, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    json_t *value;

    if (strlen(text) != event->data.scalar.length) {
        refuse(source, &event->start_mark, "a string holds a NUL");
        return NULL;
    }
    value = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? plain_scalar(text) : json_string(text);
    if (!value)
        refuse(source, &event->start_mark, "a string is not UTF-8");
    return value;
}

static json_t *build_sequence(struct source *source, unsigned depth)
{
    cleanup_json json_t *array = json_array();

    for (;;) {
        cleanup_event yaml_event_t event = {0};
        json_t *value;

        if (next_event(source, &event) < 0)
            return NULL;
        if (event.type == YAML_SEQUENCE_END_EVENT)
            return steal_ptr(array);
        value = build(source, &event, depth);
        if (!value)
            return NULL;
        json_array_append_new(array, value);
    }
}

static json_t *build_mapping(struct source *source, unsigned depth)
{
    cleanup_json json_t *object = json_object();

    for (;;) {
        cleanup_event yaml_event_t key = {0}, event = {0};
        const char *name;
        json_t *value;

        if (next_event(source, &key) < 0)
            return NULL;
        if (key.type == YAML_MAPPING_END_EVENT)
            return steal_ptr(object);
        if (key.type != YAML_SCALAR_EVENT || key.data.scalar.anchor || key.data.scalar.tag) {
            refuse(source, &key.start_mark, "a key must be a plain word");
            return NULL;
        }
        name = (const char *)key.data.scalar.value;
        if (json_object_get(object, name)) {
            refuse(source, &key.start_mark, "a key stands twice");
            return NULL;
        }
        if (next_event(source, &event) < 0 || !(value = build(source, &event, depth)))
            return NULL;
        if (json_object_set_new(object, name, value) < 0) {
            refuse(source, &key.start_mark, "a key is not UTF-8");
            return NULL;
        }
    }
}

static json_t *build(struct source *source, yaml_event_t *event, unsigned depth)
{
    const char *problem = NULL;

    if (depth >= LIMIT_JSON_DEPTH)
        problem = "nested too deeply";
    else if (event->type == YAML_ALIAS_EVENT)
        problem = "aliases are not allowed";
    else if ((event->type == YAML_SCALAR_EVENT && event->data.scalar.anchor) ||
             (event->type == YAML_SEQUENCE_START_EVENT && event->data.sequence_start.anchor) ||
             (event->type == YAML_MAPPING_START_EVENT && event->data.mapping_start.anchor))
        problem = "anchors are not allowed";
    else if ((event->type == YAML_SCALAR_EVENT && event->data.scalar.tag) ||
             (event->type == YAML_SEQUENCE_START_EVENT && event->data.sequence_start.tag) ||
             (event->type == YAML_MAPPING_START_EVENT && event->data.mapping_start.tag))
        problem = "tags are not allowed";
    if (problem) {
        refuse(source, &event->start_mark, problem);
        return NULL;
    }
    switch (event->type) {
    case YAML_SCALAR_EVENT: return build_scalar(source, event);
    case YAML_SEQUENCE_START_EVENT: return build_sequence(source, depth + 1);
    case YAML_MAPPING_START_EVENT: return build_mapping(source, depth + 1);
    default: refuse(source, &event->start_mark, "not a value"); return NULL;
    }
}

/* The events around the value: stream, document, their ends. */
static json_t *build_stream(struct source *source)
{
    cleanup_json json_t *value = NULL;

    for (;;) {
        cleanup_event yaml_event_t event = {0};

        if (next_event(source, &event) < 0)
            return NULL;
        switch (event.type) {
        case YAML_STREAM_END_EVENT: return value ? steal_ptr(value) : json_null();
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_END_EVENT: break;
        case YAML_DOCUMENT_START_EVENT:
            if (value) {
                refuse(source, &event.start_mark, "there is more than one document");
                return NULL;
            }
            break;
        default:
            value = build(source, &event, 0);
            if (!value)
                return NULL;
        }
    }
}

json_t *yaml_parse(const char *text, size_t length, const char *name, struct error *error)
{
    cleanup_source struct source source = {.name = name, .error = error};

    if (!yaml_parser_initialize(&source.parser)) {
        error_set(error, ERROR_INTERNAL, "libyaml cannot be started");
        return NULL;
    }
    yaml_parser_set_input_string(&source.parser, (const unsigned char *)text, length);
    return build_stream(&source);
}
