#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "util/clock.h"
#include "util/fs.h"
#include "util/json.h"
#include "util/limits.h"
#include "util/utf8.h"
#include "util/xalloc.h"

static bool depth_is_fine(const json_t *value, unsigned left)
{
    const char *key;
    json_t *child;
    size_t i;

    if (!json_is_object(value) && !json_is_array(value))
        return true;
    if (left == 0)
        return false;
    json_array_foreach(value, i, child) {
        if (!depth_is_fine(child, left - 1))
            return false;
    }
    json_object_foreach((json_t *)value, key, child) {
        if (!depth_is_fine(child, left - 1))
            return false;
    }
    return true;
}

json_t *json_parse(const char *text, size_t length, struct error *error)
{
    cleanup_json json_t *value = NULL;
    json_error_t e;

    value = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!value) {
        error_set(error, ERROR_INVALID, "not valid JSON: line %d, column %d: %s", e.line, e.column, e.text);
        return NULL;
    }
    if (!depth_is_fine(value, LIMIT_JSON_DEPTH)) {
        error_set(error, ERROR_INVALID, "JSON is nested deeper than %d levels", LIMIT_JSON_DEPTH);
        return NULL;
    }
    return steal_ptr(value);
}

json_t *json_parse_file(const char *path, size_t max, struct error *error)
{
    cleanup_free char *text = NULL;
    size_t length;
    json_t *value;

    if (fs_read(path, max, &text, &length, error) < 0)
        return NULL;
    value = json_parse(text, length, error);
    if (!value)
        error_wrap(error, "%s", path);
    return value;
}

static char *dump(const json_t *value, size_t flags)
{
    char *text = json_dumps(value, flags | JSON_ENCODE_ANY);

    if (!text)
        abort();
    return text;
}

char *json_text(const json_t *value)
{
    return dump(value, JSON_COMPACT | JSON_PRESERVE_ORDER);
}

char *json_text_canonical(const json_t *value)
{
    return dump(value, JSON_COMPACT | JSON_SORT_KEYS);
}

char *json_text_pretty(const json_t *value)
{
    return dump(value, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
}

json_t *json_build(const char *format, ...)
{
    json_error_t e;
    json_t *value;
    va_list args;

    va_start(args, format);
    value = json_vpack_ex(&e, 0, format, args);
    va_end(args);
    if (!value) {
        fprintf(stderr, "slipway: json_build(\"%s\"): %s\n", format, e.text);
        abort();
    }
    return value;
}

const char *json_get_string(const json_t *object, const char *key, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : otherwise;
}

int64_t json_get_int(const json_t *object, const char *key, int64_t otherwise)
{
    const json_t *value = json_object_get(object, key);

    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

double json_get_number(const json_t *object, const char *key, double otherwise)
{
    const json_t *value = json_object_get(object, key);

    return json_is_number(value) ? json_number_value(value) : otherwise;
}

bool json_get_bool(const json_t *object, const char *key, bool otherwise)
{
    const json_t *value = json_object_get(object, key);

    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static void set(json_t *object, const char *key, json_t *value)
{
    if (!value || json_object_set_new(object, key, value) < 0)
        abort();
}

json_t *json_string_lossy(const char *text)
{
    json_t *string = json_string(text);
    cleanup_free char *clean = NULL;

    if (string)
        return string;
    clean = xstrdup(text);
    return json_string(utf8_repair(clean));
}

void json_set_string(json_t *object, const char *key, const char *value)
{
    set(object, key, value ? json_string(value) : json_null());
}

void json_set_int(json_t *object, const char *key, int64_t value)
{
    set(object, key, json_integer(value));
}

void json_set_number(json_t *object, const char *key, double value)
{
    set(object, key, isfinite(value) ? json_real(value) : json_null());
}

void json_set_bool(json_t *object, const char *key, bool value)
{
    set(object, key, json_boolean(value));
}

void json_set_time_ms(json_t *object, const char *key, int64_t wall_ms)
{
    char buffer[CLOCK_RFC3339_SIZE];

    set(object, key, wall_ms ? json_string(clock_format_ms(wall_ms, buffer)) : json_null());
}
