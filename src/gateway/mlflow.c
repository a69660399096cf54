/*
 * MLflow's scoring protocol: POST /invocations, application/json with one of
 *
 *     {"instances": rows}  {"inputs": columns}
 *     {"dataframe_split": {"columns": [names], "data": [[…], …]}}  {"dataframe_records": [{name: value}, …]}
 *
 * or text/csv with names in its first line; the answer is {"predictions": values}. Source: MLflow's "Deploy MLflow
 * Model as a Local Inference Server". instances.h says what these are to which model. Failures are
 * {"error_code": word, "message": text}.
 */
#include <string.h>
#include <strings.h>
#include "format/csv.h"
#include "gateway/codec.h"
#include "gateway/content.h"
#include "gateway/instances.h"
#include "gateway/oip.h"
#include "util/xalloc.h"

static void fail(struct loop_request *request, int status, enum error_code code, const char *message)
{
    static const char *const words[ERROR_CODE_COUNT_] = {
        [ERROR_INVALID] = "BAD_REQUEST",
        [ERROR_NOT_FOUND] = "RESOURCE_DOES_NOT_EXIST",
        [ERROR_UNAUTHENTICATED] = "UNAUTHENTICATED",
        [ERROR_FORBIDDEN] = "PERMISSION_DENIED",
        [ERROR_TOO_LARGE] = "INVALID_PARAMETER_VALUE",
        [ERROR_RATE_LIMITED] = "REQUEST_LIMIT_EXCEEDED",
        [ERROR_UNAVAILABLE] = "TEMPORARILY_UNAVAILABLE",
        [ERROR_TIMEOUT] = "DEADLINE_EXCEEDED",
        [ERROR_UNSUPPORTED] = "NOT_IMPLEMENTED",
    };

    oip_reply(request, status,
              json_build("{s:s, s:o}", "error_code", words[code] ? words[code] : "INTERNAL_ERROR", "message",
                         json_string_lossy(message)));
}

/* -- CSV -- */

static json_t *cell_value(const struct cell *cell, bool is_name)
{
    cleanup_free char *text = NULL;
    json_t *value;

    if (!is_name && cell->kind == CELL_MISSING)
        return json_null();
    if (!is_name && cell->kind == CELL_INTEGER)
        return json_integer(cell->integer);
    if (!is_name && cell->kind == CELL_REAL) {
        value = json_real(cell->real);
        return value ? value : json_null(); /* infinite */
    }
    text = xstrndup(cell->text, cell->length);
    return json_string_lossy(text);
}

static json_t *row_of(const struct cell *cells, size_t count, bool are_names)
{
    json_t *row = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(row, cell_value(&cells[i], are_names));
    return row;
}

static int decode_csv(struct call *call, const char *body, size_t length, struct error *error)
{
    cleanup_reader struct reader *reader = reader_open_memory(body, length, "the body");
    cleanup_json json_t *names = NULL, *rows = json_array();
    cleanup_csv struct csv *csv = NULL;
    const struct cell *cells;
    size_t count;
    int r;

    /* The reader would unpack it, and without a limit. */
    if (length >= 2 && memcmp(body, "\x1f\x8b", 2) == 0)
        return error_set(error, ERROR_INVALID, "the body is packed: say so in Content-Encoding");
    if (csv_open(reader, ',', &csv, error) < 0)
        return -1;
    while ((r = csv_next(csv, &cells, &count, error)) > 0) {
        if (names)
            json_array_append_new(rows, row_of(cells, count, false));
        else
            names = row_of(cells, count, true);
    }
    return r < 0 ? -1 : instances_decode_table(call, names, rows, error);
}

/* -- JSON -- */

static int decode_records(struct call *call, const json_t *records, struct error *error)
{
    cleanup_json json_t *names = json_array(), *rows = json_array();
    const char *name;
    json_t *record, *value;
    size_t i, j;

    if (!json_is_array(records) || !json_array_size(records))
        return error_set(error, ERROR_INVALID, "'dataframe_records' must be an array of at least one object");
    json_object_foreach(json_array_get(records, 0), name, value)
        json_array_append_new(names, json_string(name));
    json_array_foreach(records, i, record) {
        json_t *row = json_array();

        json_array_append_new(rows, row);
        json_array_foreach(names, j, value) {
            json_t *cell = json_object_get(record, json_string_value(value));

            if (!cell || json_object_size(record) != json_array_size(names))
                return error_set(error, ERROR_INVALID, "record %zu has not the fields of the first", i);
            json_array_append(row, cell);
        }
    }
    if (!json_array_size(names))
        return error_set(error, ERROR_INVALID, "'dataframe_records' must be an array of objects with fields");
    return instances_decode_table(call, names, rows, error);
}

static int decode_split(struct call *call, const json_t *split, struct error *error)
{
    if (!json_is_object(split))
        return error_set(error, ERROR_INVALID, "'dataframe_split' is an object with 'columns' and 'data'");
    return instances_decode_table(call, json_object_get(split, "columns"), json_object_get(split, "data"), error);
}

static int decode_instances(struct call *call, const json_t *value, struct error *error)
{
    return instances_decode_rows(call, value, "instances", error);
}

static int decode_inputs(struct call *call, const json_t *value, struct error *error)
{
    return instances_decode_columns(call, value, "inputs", error);
}

static int decode_json(struct call *call, const char *body, size_t length, struct error *error)
{
    static const struct {
        const char *name;
        int (*decode)(struct call *call, const json_t *value, struct error *error);
    } forms[] = {
        {"instances", decode_instances},
        {"inputs", decode_inputs},
        {"dataframe_split", decode_split},
        {"dataframe_records", decode_records},
    };
    cleanup_json json_t *request = json_parse(body, length, error);
    const json_t *params = json_object_get(request, "params");
    size_t fields = json_object_size(request) - (params != NULL);

    if (!request)
        return -1;
    if (json_object_size(params))
        return error_set(error, ERROR_INVALID, "the model takes no 'params'");
    for (size_t i = 0; fields == 1 && i < ARRAY_SIZE(forms); i++) {
        const json_t *value = json_object_get(request, forms[i].name);

        if (value)
            return forms[i].decode(call, value, error);
    }
    return error_set(error, ERROR_INVALID,
                     "the body must be an object with one of inputs, instances, dataframe_split, dataframe_records");
}

static int decode(struct call *call, const char *body, size_t length, struct error *error)
{
    const char *type = loop_request_content_type(call->request);
    cleanup_free char *owned = NULL;

    if (content_unpack(call, body, length, &owned, &body, &length, error) < 0)
        return -1;
    if (type && strncasecmp(type, "text/csv", 8) == 0)
        return decode_csv(call, body, length, error);
    return decode_json(call, body, length, error);
}

static int encode(struct call *call, const char *body, size_t length, struct error *error)
{
    json_t *value = instances_encode(call, body, length, INSTANCES_COLUMNS, error);

    if (!value)
        return -1;
    oip_reply(call->request, 200, json_build("{s:o}", "predictions", value));
    return 0;
}

const struct codec mlflow_codec = {.name = "mlflow", .decode = decode, .encode = encode, .fail = fail};
