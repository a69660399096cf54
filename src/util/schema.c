#include <stdlib.h>
#include <string.h>
#include "util/clock.h"
#include "util/limits.h"
#include "util/schema.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

static const char *const type_names[] = {
    [SCHEMA_END] = "nothing",      [SCHEMA_STRING] = "a string",       [SCHEMA_INTEGER] = "an integer",
    [SCHEMA_NUMBER] = "a number",  [SCHEMA_BOOLEAN] = "true or false", [SCHEMA_TIME] = "a time (RFC 3339)",
    [SCHEMA_OBJECT] = "an object", [SCHEMA_ARRAY] = "an array",        [SCHEMA_MAP] = "an object",
    [SCHEMA_ANY] = "any value",
};

static const char *found_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    default: return "null";
    }
}

static bool type_fits(enum schema_type type, const json_t *value)
{
    int64_t ms;

    switch (type) {
    case SCHEMA_STRING: return json_is_string(value);
    case SCHEMA_INTEGER: return json_is_integer(value);
    case SCHEMA_NUMBER: return json_is_number(value);
    case SCHEMA_BOOLEAN: return json_is_boolean(value);
    case SCHEMA_TIME: return json_is_string(value) && clock_parse_ms(json_string_value(value), &ms) == 0;
    case SCHEMA_OBJECT:
    case SCHEMA_MAP: return json_is_object(value);
    case SCHEMA_ARRAY: return json_is_array(value);
    default: return true;
    }
}

static int check_object(const struct schema *schema, const json_t *value, const char *path, struct error *error);

static int check_values(const struct schema_field *field, const char *text, const char *path, struct error *error)
{
    cleanup_strbuf struct strbuf allowed = STRBUF_INIT(LIMIT_DESCRIPTION);

    for (const char *const *v = field->values; *v; v++) {
        if (strcmp(*v, text) == 0)
            return 0;
        strbuf_addf(&allowed, "%s%s", allowed.length ? ", " : "", *v);
    }
    return error_set(error, ERROR_INVALID, "field '%s' is '%.80s'; it must be one of: %s", path, text, allowed.data);
}

static int check_range(const struct schema_field *field, const json_t *value, const char *path, struct error *error)
{
    const char *what = "";
    double n;

    if (field->min == 0 && field->max == 0)
        return 0;
    if (json_is_number(value)) {
        n = json_number_value(value);
    } else if (json_is_string(value)) {
        n = (double)json_string_length(value);
        what = " characters long";
    } else if (json_is_array(value)) {
        n = (double)json_array_size(value);
        what = " elements long";
    } else if (json_is_object(value)) {
        n = (double)json_object_size(value);
        what = " entries long";
    } else {
        return 0;
    }

    if (n < field->min)
        return error_set(error, ERROR_INVALID, "field '%s' must be at least %.15g%s, not %.15g", path, field->min, what,
                         n);
    if (field->max != 0 && n > field->max)
        return error_set(error, ERROR_INVALID, "field '%s' must be at most %.15g%s, not %.15g", path, field->max, what,
                         n);
    return 0;
}

static int check_type(enum schema_type type, const struct schema *object, const json_t *value, const char *path,
                      struct error *error)
{
    if (!type_fits(type, value))
        return error_set(error, ERROR_INVALID, "field '%s' must be %s, not %s", path, type_names[type],
                         found_name(value));
    if (type == SCHEMA_OBJECT && object)
        return check_object(object, value, path, error);
    return 0;
}

static int check_field(const struct schema_field *field, const json_t *value, const char *path, struct error *error)
{
    const char *key;
    json_t *child;
    size_t i;

    if (json_is_null(value) && (field->flags & SCHEMA_NULLABLE))
        return 0;
    if (check_type(field->type, field->object, value, path, error) < 0 || check_range(field, value, path, error) < 0)
        return -1;
    if (field->values && field->type == SCHEMA_STRING)
        return check_values(field, json_string_value(value), path, error);

    if (field->type == SCHEMA_ARRAY && field->item) {
        json_array_foreach(value, i, child) {
            cleanup_free char *where = xasprintf("%s[%zu]", path, i);

            if (check_type(field->item, field->object, child, where, error) < 0)
                return -1;
        }
    }
    if (field->type == SCHEMA_MAP && field->item) {
        json_object_foreach((json_t *)value, key, child) {
            cleanup_free char *where = xasprintf("%s.%s", path, key);

            if (check_type(field->item, field->object, child, where, error) < 0)
                return -1;
        }
    }
    return 0;
}

static const struct schema_field *find(const struct schema *schema, const char *name)
{
    for (const struct schema_field *field = schema->fields; field->type != SCHEMA_END; field++)
        if (strcmp(field->name, name) == 0)
            return field;
    return NULL;
}

static int unknown_field(const struct schema *schema, const char *path, struct error *error)
{
    cleanup_strbuf struct strbuf known = STRBUF_INIT(LIMIT_DESCRIPTION);

    for (const struct schema_field *field = schema->fields; field->type != SCHEMA_END; field++)
        strbuf_addf(&known, "%s%s", known.length ? ", " : "", field->name);
    return error_set(error, ERROR_INVALID, "unknown field '%.200s'; known are: %s", path,
                     known.length ? known.data : "none");
}

static int check_object(const struct schema *schema, const json_t *value, const char *path, struct error *error)
{
    const char *key;
    json_t *child;

    json_object_foreach((json_t *)value, key, child) {
        cleanup_free char *where = *path ? xasprintf("%s.%s", path, key) : xstrdup(key);
        const struct schema_field *field = find(schema, key);

        if (!field && schema->open)
            continue;
        if (!field)
            return unknown_field(schema, where, error);
        if (check_field(field, child, where, error) < 0)
            return -1;
    }
    for (const struct schema_field *field = schema->fields; field->type != SCHEMA_END; field++)
        if ((field->flags & SCHEMA_REQUIRED) && !json_object_get(value, field->name))
            return error_set(error, ERROR_INVALID, "field '%s%s%s' is missing", path, *path ? "." : "", field->name);
    return 0;
}

int schema_check(const struct schema *schema, const json_t *value, struct error *error)
{
    if (!json_is_object(value))
        return error_set(error, ERROR_INVALID, "expected an object, not %s", value ? found_name(value) : "nothing");
    return check_object(schema, value, "", error);
}

static json_t *describe_type(enum schema_type type, const struct schema *object, json_t *components)
{
    switch (type) {
    case SCHEMA_STRING: return json_build("{s:s}", "type", "string");
    case SCHEMA_INTEGER: return json_build("{s:s}", "type", "integer");
    case SCHEMA_NUMBER: return json_build("{s:s}", "type", "number");
    case SCHEMA_BOOLEAN: return json_build("{s:s}", "type", "boolean");
    case SCHEMA_TIME: return json_build("{s:s, s:s}", "type", "string", "format", "date-time");
    case SCHEMA_OBJECT: return object ? schema_describe(object, components) : json_build("{s:s}", "type", "object");
    default: return json_object();
    }
}

static json_t *allow_null(json_t *description)
{
    const char *type = json_get_string(description, "type", NULL);

    if (type) {
        json_object_set_new(description, "type", json_build("[s, s]", type, "null"));
        return description;
    }
    return json_build("{s:[o, {s:s}]}", "anyOf", description, "type", "null");
}

static json_t *describe_field(const struct schema_field *field, json_t *components)
{
    const char *low = NULL, *high = NULL;
    json_t *d;

    switch (field->type) {
    case SCHEMA_ARRAY:
        d = json_build("{s:s, s:o}", "type", "array", "items", describe_type(field->item, field->object, components));
        low = "minItems", high = "maxItems";
        break;
    case SCHEMA_MAP:
        d = json_build("{s:s, s:o}", "type", "object", "additionalProperties",
                       describe_type(field->item, field->object, components));
        low = "minProperties", high = "maxProperties";
        break;
    case SCHEMA_STRING:
        d = describe_type(field->type, NULL, components);
        low = "minLength", high = "maxLength";
        break;
    case SCHEMA_INTEGER:
    case SCHEMA_NUMBER:
        d = describe_type(field->type, NULL, components);
        low = "minimum", high = "maximum";
        break;
    default: d = describe_type(field->type, field->object, components); break;
    }
    if (low && (field->min != 0 || field->max != 0)) {
        json_object_set_new(d, low, json_integer((json_int_t)field->min));
        if (field->max != 0)
            json_object_set_new(d, high, json_integer((json_int_t)field->max));
    }
    if (field->values) {
        json_t *values = json_array();

        for (const char *const *v = field->values; *v; v++)
            json_array_append_new(values, json_string(*v));
        if (field->flags & SCHEMA_NULLABLE)
            json_array_append_new(values, json_null());
        json_object_set_new(d, "enum", values);
    }
    if (field->flags & SCHEMA_NULLABLE)
        d = allow_null(d);
    if (field->doc)
        json_object_set_new(d, "description", json_string(field->doc));
    return d;
}

json_t *schema_describe(const struct schema *schema, json_t *components)
{
    cleanup_free char *reference = xasprintf("#/components/schemas/%s", schema->name);
    json_t *component, *properties, *required;

    if (json_object_get(components, schema->name))
        return json_build("{s:s}", "$ref", reference);

    component = json_build("{s:s}", "type", "object");
    json_object_set_new(components, schema->name, component);
    if (schema->doc)
        json_set_string(component, "description", schema->doc);

    properties = json_object();
    required = json_array();
    for (const struct schema_field *field = schema->fields; field->type != SCHEMA_END; field++) {
        json_object_set_new(properties, field->name, describe_field(field, components));
        if (field->flags & SCHEMA_REQUIRED)
            json_array_append_new(required, json_string(field->name));
    }
    json_object_set_new(component, "properties", properties);
    if (json_array_size(required))
        json_object_set_new(component, "required", required);
    else
        json_decref(required);
    json_set_bool(component, "additionalProperties", schema->open);
    return json_build("{s:s}", "$ref", reference);
}
