/*
 * What a JSON value must look like, as rows of a table.
 *
 * One table serves three ends: it checks requests (unknown fields and wrong types are named), it
 * becomes the JSON Schema in the OpenAPI document, and it documents the field for people.
 *
 *     static const struct schema_field job_fields[] = {
 *         {"name", SCHEMA_STRING, SCHEMA_REQUIRED, .max = LIMIT_NAME, .doc = "name of the job"},
 *         {"cpus", SCHEMA_NUMBER, .min = 0, .max = 4096, .doc = "CPU cores, fractions allowed"},
 *         {"tags", SCHEMA_ARRAY, .item = SCHEMA_STRING, .max = 100},
 *         {"code", SCHEMA_OBJECT, .object = &code_schema},
 *         {}
 *     };
 *     static const struct schema job_schema = {"Job", job_fields, "a definition that runs are made of"};
 */
#pragma once

#include <stdbool.h>
#include "util/json.h"

enum schema_type {
    SCHEMA_END, /* ends a table */
    SCHEMA_STRING,
    SCHEMA_INTEGER,
    SCHEMA_NUMBER,
    SCHEMA_BOOLEAN,
    SCHEMA_TIME,   /* RFC 3339 text */
    SCHEMA_OBJECT, /* of .object; any object where that is NULL */
    SCHEMA_ARRAY,  /* of .item (and .object where item is SCHEMA_OBJECT) */
    SCHEMA_MAP,    /* object with free keys; values of .item */
    SCHEMA_ANY,
};

enum schema_flags {
    SCHEMA_REQUIRED = 1 << 0,
    SCHEMA_NULLABLE = 1 << 1,
};

struct schema_field {
    const char *name;
    enum schema_type type;
    unsigned flags;
    enum schema_type item;
    const struct schema *object;
    double min, max;            /* of a number; of a length (characters, elements). Both 0: free */
    const char *const *values;  /* NULL-terminated list of the strings that are allowed */
    const char *doc;
};

struct schema {
    const char *name;                  /* component name in OpenAPI, CamelCase */
    const struct schema_field *fields; /* ended by SCHEMA_END */
    const char *doc;
    bool open;                         /* unknown fields are allowed */
};

/* ERROR_INVALID with the path of the field, what was found, and what is right:
 * "field 'resources.cpus' must be a number, not a string". */
int schema_check(const struct schema *schema, const json_t *value, struct error *error);

/* JSON Schema (2020-12, as OpenAPI 3.1 uses it); nested named schemas become
 * {"$ref": "#/components/schemas/NAME"} and are added to `components` unless there already. */
json_t *schema_describe(const struct schema *schema, json_t *components);
