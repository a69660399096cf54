#include "format/jsonl.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "util/json.h"
#include "util/limits.h"
#include "util/map.h"
#include "util/xalloc.h"

/* A key of the first object and the cells it fills. */
struct field {
    size_t first, count;
    bool is_array;
    uint64_t seen; /* line in which it was seen last */
};

struct jsonl {
    struct reader *reader;
    struct strvec names;
    struct map fields;
    struct cell *cells;
    json_t *object;      /* of the current line; cells point into it */
    struct strvec texts; /* numbers written out, for columns of text */
    uint64_t line;
};

struct jsonl *jsonl_open(struct reader *reader)
{
    struct jsonl *jsonl = xnew0(struct jsonl);

    jsonl->reader = reader;
    jsonl->fields.destroy = free;
    return jsonl;
}

struct jsonl *jsonl_free(struct jsonl *jsonl)
{
    if (!jsonl)
        return NULL;
    strvec_release(&jsonl->names);
    strvec_release(&jsonl->texts);
    map_release(&jsonl->fields);
    json_decref(jsonl->object);
    free(jsonl->cells);
    free(jsonl);
    return NULL;
}

static int complain(const struct jsonl *jsonl, struct error *error, const char *key, const char *what)
{
    return error_set(error, ERROR_INVALID, "%s: line %" PRIu64 ": '%.100s' %s", reader_name(jsonl->reader), jsonl->line,
                     key, what);
}

/* Columns from the first object. */
static int learn(struct jsonl *jsonl, struct error *error)
{
    const char *key;
    json_t *value;

    json_object_foreach(jsonl->object, key, value) {
        struct field *field = xnew0(struct field);

        field->first = jsonl->names.count;
        field->is_array = json_is_array(value);
        field->count = field->is_array ? json_array_size(value) : 1;
        map_put(&jsonl->fields, key, field);
        if (jsonl->names.count + field->count > LIMIT_CSV_COLUMNS)
            return error_set(error, ERROR_TOO_LARGE, "%s: more than %d columns", reader_name(jsonl->reader),
                             LIMIT_CSV_COLUMNS);
        for (size_t i = 0; i < field->count; i++) {
            if (field->is_array)
                strvec_pushf(&jsonl->names, "%s[%zu]", key, i);
            else
                strvec_push(&jsonl->names, key);
        }
    }
    jsonl->cells = xcalloc(jsonl->names.count + 1, sizeof(*jsonl->cells));
    return 0;
}

static void set_text(struct cell *cell, const char *text, size_t length)
{
    cell->text = text;
    cell->length = length;
}

static int fill_cell(struct jsonl *jsonl, struct cell *cell, const char *key, const json_t *value, struct error *error)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
        cell->kind = CELL_MISSING;
        set_text(cell, "", 0);
        return 0;
    case JSON_STRING:
        if (json_string_length(value) > LIMIT_CSV_FIELD)
            return complain(jsonl, error, key, "is too long a text");
        cell->kind = json_string_length(value) ? CELL_TEXT : CELL_MISSING;
        set_text(cell, json_string_value(value), json_string_length(value));
        return 0;
    case JSON_TRUE:
    case JSON_FALSE:
        cell->kind = CELL_TEXT;
        set_text(cell, json_is_true(value) ? "true" : "false", json_is_true(value) ? 4 : 5);
        return 0;
    case JSON_INTEGER:
        cell->kind = CELL_INTEGER;
        cell->integer = json_integer_value(value);
        strvec_pushf(&jsonl->texts, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL:
        cell->kind = CELL_REAL;
        cell->real = json_real_value(value);
        strvec_pushf(&jsonl->texts, "%.17g", json_real_value(value));
        break;
    default: return complain(jsonl, error, key, "is nested; only numbers, texts, and arrays of numbers become columns");
    }
    set_text(cell, jsonl->texts.items[jsonl->texts.count - 1], strlen(jsonl->texts.items[jsonl->texts.count - 1]));
    return 0;
}

static int fill_field(struct jsonl *jsonl, const char *key, const json_t *value, struct error *error)
{
    struct field *field = map_get(&jsonl->fields, key);
    struct cell *cells;

    if (!field)
        return complain(jsonl, error, key, "is not in the first object");
    field->seen = jsonl->line;
    cells = jsonl->cells + field->first;
    if (!field->is_array) {
        if (json_is_array(value))
            return complain(jsonl, error, key, "is an array, but was none in the first object");
        return fill_cell(jsonl, cells, key, value, error);
    }
    if (!json_is_array(value) || json_array_size(value) != field->count)
        return complain(jsonl, error, key, "is not an array of the same length as in the first object");
    for (size_t i = 0; i < field->count; i++) {
        const json_t *item = json_array_get(value, i);

        if (!json_is_number(item) && !json_is_null(item))
            return complain(jsonl, error, key, "is an array of something else than numbers");
        if (fill_cell(jsonl, &cells[i], key, item, error) < 0)
            return -1;
    }
    return 0;
}

/* Keys that this object lacks are missing values. */
static void fill_absent(struct jsonl *jsonl)
{
    struct map_iterator it = {0};

    while (map_next(&jsonl->fields, &it)) {
        const struct field *field = it.value;

        for (size_t i = 0; field->seen != jsonl->line && i < field->count; i++)
            jsonl->cells[field->first + i] = (struct cell){.kind = CELL_MISSING, .text = ""};
    }
}

static bool is_blank(const char *line, size_t length)
{
    while (length && (*line == ' ' || *line == '\t' || *line == '\r')) {
        line++;
        length--;
    }
    return length == 0;
}

int jsonl_next(struct jsonl *jsonl, const struct cell **ret_cells, struct error *error)
{
    const char *line, *key;
    size_t length;
    json_t *value;
    int r;

    do {
        r = reader_line(jsonl->reader, LIMIT_LINE, &line, &length, error);
        if (r <= 0)
            return r;
        jsonl->line++;
    } while (is_blank(line, length));
    json_decref(jsonl->object);
    strvec_release(&jsonl->texts);
    jsonl->object = json_parse(line, length, error);
    if (!jsonl->object)
        return error_wrap(error, "%s: line %" PRIu64, reader_name(jsonl->reader), jsonl->line);
    if (!json_is_object(jsonl->object))
        return error_set(error, ERROR_INVALID, "%s: line %" PRIu64 " is not an object", reader_name(jsonl->reader),
                         jsonl->line);
    if (!jsonl->cells && learn(jsonl, error) < 0)
        return -1;
    json_object_foreach(jsonl->object, key, value)
        if (fill_field(jsonl, key, value, error) < 0)
            return -1;
    fill_absent(jsonl);
    *ret_cells = jsonl->cells;
    return 1;
}

const struct strvec *jsonl_names(const struct jsonl *jsonl)
{
    return &jsonl->names;
}

uint64_t jsonl_line(const struct jsonl *jsonl)
{
    return jsonl->line;
}
