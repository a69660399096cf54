#include <string.h>
#include "format/frame.h"
#include "format/wire.h"
#include "gateway/instances.h"
#include "gateway/parts.h"
#include "gateway/tensors.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/xalloc.h"

/* -- text -- */

static int add_text(struct parts *parts, const json_t *value, struct error *error)
{
    const char *base64 = json_object_size(value) == 1 ? json_string_value(json_object_get(value, "b64")) : NULL;
    size_t length = json_string_length(value);
    char *text;

    if (json_is_string(value)) {
        text = xmalloc(length + 1);
        memcpy(text, json_string_value(value), length + 1);
    } else if (base64) {
        text = base64_decode(base64, &length);
        if (!text)
            return error_set(error, ERROR_INVALID, "'b64' is not base64");
    } else {
        text = json_text(value);
        length = strlen(text);
    }
    return parts_add_take(parts, text, length, error);
}

static int decode_texts(struct call *call, const json_t *rows, const char *what, struct error *error)
{
    struct parts *parts = parts_new(call);
    json_t *row;
    size_t i;

    if (!json_is_array(rows) || !json_array_size(rows))
        return error_set(error, ERROR_INVALID, "'%s' must be an array of at least one instance", what);
    json_array_foreach(rows, i, row) {
        if (add_text(parts, row, error) < 0)
            return -1;
    }
    return 0;
}

/* -- tensors -- */

/* Shape and type are those of the signature; a last dimension of 1 need not be written out. */
static int fit(const json_t *declared, struct tensor_spec *spec, struct error *error)
{
    const json_t *shape = json_object_get(declared, "shape");
    cleanup_free char *wanted = shape ? json_text(shape) : NULL;
    size_t rank = json_array_size(shape);

    if (!json_is_array(shape))
        return 0;
    if (spec->rank + 1 == rank && json_integer_value(json_array_get(shape, rank - 1)) == 1 && rank <= FRAME_RANK)
        spec->shape[spec->rank++] = 1;
    if (spec->rank != rank)
        return error_set(error, ERROR_INVALID, "input '%s' has %u dimensions, the model wants the shape %.80s",
                         spec->name, spec->rank, wanted);
    for (size_t i = 0; i < rank; i++) {
        json_int_t n = json_integer_value(json_array_get(shape, i));

        if (n >= 0 && n != spec->shape[i])
            return error_set(error, ERROR_INVALID, "input '%s': dimension %zu is %ld, the model wants the shape %.80s",
                             spec->name, i, (long)spec->shape[i], wanted);
    }
    return 0;
}

static int add_input(struct strbuf *frame, uint32_t index, const json_t *declared, const json_t *value,
                     struct error *error)
{
    struct tensor_spec spec = {.name = json_get_string(declared, "name", ""),
                               .type = frame_type_parse(json_get_string(declared, "datatype", ""))};
    struct tensor_spec written;

    if (spec.type < 0 || spec.type == FRAME_FP16)
        return error_set(error, ERROR_INVALID,
                         "input '%s' is of type %s, which only the binary form of the Open "
                         "Inference Protocol can carry",
                         spec.name, json_get_string(declared, "datatype", "?"));
    if (tensor_shape_of(value, &spec, error) < 0)
        return -1;
    written = spec; /* as it is nested, before the model's own shape is given to it */
    if (fit(declared, &spec, error) < 0)
        return -1;
    frame_begin_entry(frame, index, spec.name, (uint32_t)spec.type, spec.shape, spec.rank);
    if (tensor_add_nested(frame, &written, value, error) < 0)
        return -1;
    frame_end_entry(frame, index);
    return 0;
}

static bool is_base64(const json_t *value)
{
    return json_object_size(value) == 1 && json_is_string(json_object_get(value, "b64"));
}

static bool is_named(const json_t *value)
{
    return json_is_object(value) && !is_base64(value);
}

/* The names of an object are those of the inputs, no more and no less. */
static int check_names(const json_t *inputs, const json_t *object, struct error *error)
{
    const char *name;
    json_t *input, *value;
    size_t i;

    json_array_foreach(inputs, i, input) {
        name = json_get_string(input, "name", "");
        if (!json_object_get(object, name))
            return error_set(error, ERROR_INVALID, "input '%s' is missing", name);
    }
    if (json_object_size(object) == json_array_size(inputs))
        return 0;
    json_object_foreach((json_t *)object, name, value) {
        json_array_foreach(inputs, i, input) {
            if (strcmp(json_get_string(input, "name", ""), name) == 0)
                break;
        }
        if (i == json_array_size(inputs))
            break;
    }
    return error_set(error, ERROR_INVALID, "the model has no input '%.80s'", name);
}

/* `columns`: an object by input, or the value of the only one. */
static int decode_tensors(struct call *call, const json_t *columns, struct error *error)
{
    cleanup_strbuf struct strbuf frame = STRBUF_INIT(LIMIT_PREDICT_BODY);
    const json_t *inputs = call->route->inputs;
    json_t *input;
    size_t i;

    if (!is_named(columns) && json_array_size(inputs) != 1)
        return error_set(error, ERROR_INVALID, "the model has %zu inputs: name them", json_array_size(inputs));
    if (is_named(columns) && check_names(inputs, columns, error) < 0)
        return -1;
    call->kind = WIRE_TENSORS;
    frame_begin(&frame, (uint32_t)json_array_size(inputs));
    json_array_foreach(inputs, i, input) {
        const json_t *value = is_named(columns) ? json_object_get(columns, json_get_string(input, "name", ""))
                                                : columns;

        if (add_input(&frame, (uint32_t)i, input, value, error) < 0)
            return -1;
    }
    if (frame.overflowed)
        return error_set(error, ERROR_TOO_LARGE, "the inputs take more than %zu bytes", frame.max);
    call->encoded = strbuf_detach(&frame, &call->encoded_length);
    return frame_check(call->encoded, call->encoded_length, error);
}

/* [{"x": 1, "y": 2}, …] → {"x": [1, …], "y": [2, …]} */
static json_t *columns_of(const json_t *inputs, const json_t *rows, struct error *error)
{
    cleanup_json json_t *columns = json_object();
    json_t *row, *input;
    size_t i, j;

    json_array_foreach(inputs, j, input)
        json_object_set_new(columns, json_get_string(input, "name", ""), json_array());
    json_array_foreach(rows, i, row) {
        if (!is_named(row)) {
            error_set(error, ERROR_INVALID, "instance %zu is no object, as the first is", i);
            return NULL;
        }
        if (check_names(inputs, row, error) < 0) {
            error_wrap(error, "instance %zu", i);
            return NULL;
        }
        json_array_foreach(inputs, j, input) {
            const char *name = json_get_string(input, "name", "");

            json_array_append(json_object_get(columns, name), json_object_get(row, name));
        }
    }
    return steal_ptr(columns);
}

/* -- the three forms -- */

int instances_decode_rows(struct call *call, const json_t *rows, const char *what, struct error *error)
{
    cleanup_json json_t *columns = NULL;

    if (!call->route->inputs)
        return decode_texts(call, rows, what, error);
    if (!json_is_array(rows) || !json_array_size(rows))
        return error_set(error, ERROR_INVALID, "'%s' must be an array of at least one instance", what);
    if (!is_named(json_array_get(rows, 0)))
        return decode_tensors(call, rows, error);
    columns = columns_of(call->route->inputs, rows, error);
    return columns ? decode_tensors(call, columns, error) : -1;
}

int instances_decode_columns(struct call *call, const json_t *columns, const char *what, struct error *error)
{
    if (call->route->inputs)
        return decode_tensors(call, columns, error);
    if (!is_named(columns))
        return decode_texts(call, columns, what, error);
    if (json_object_size(columns) != 1 || !json_object_get(columns, "text"))
        return error_set(error, ERROR_INVALID, "this model takes text: its one input is called 'text'");
    return decode_texts(call, json_object_get(columns, "text"), "text", error);
}

static int check_table(const json_t *names, const json_t *rows, struct error *error)
{
    json_t *row;
    size_t i;

    if (!json_is_array(rows) || !json_array_size(rows))
        return error_set(error, ERROR_INVALID, "the data frame has no rows");
    if (names && !json_is_array(names))
        return error_set(error, ERROR_INVALID, "'columns' is an array of names");
    json_array_foreach(names, i, row) {
        if (!json_is_string(row))
            return error_set(error, ERROR_INVALID, "'columns' is an array of names");
    }
    json_array_foreach(rows, i, row) {
        if (!json_is_array(row) || (names && json_array_size(row) != json_array_size(names)))
            return error_set(error, ERROR_INVALID, "row %zu of the data frame has not one value for each column", i);
    }
    return 0;
}

/* Rows as objects; two columns of one name are an error. */
static json_t *records_of(const json_t *names, const json_t *rows, struct error *error)
{
    cleanup_json json_t *records = json_array();
    json_t *row, *value;
    size_t i, j;

    json_array_foreach(rows, i, row) {
        json_t *record = json_object();

        json_array_foreach(row, j, value)
            json_object_set(record, json_string_value(json_array_get(names, j)), value);
        json_array_append_new(records, record);
        if (json_object_size(record) != json_array_size(names)) {
            error_set(error, ERROR_INVALID, "two columns of the data frame have one name");
            return NULL;
        }
    }
    return steal_ptr(records);
}

static bool are_inputs(const json_t *inputs, const json_t *names)
{
    json_t *name, *input;
    size_t i, j;

    json_array_foreach(names, i, name) {
        json_array_foreach(inputs, j, input) {
            if (strcmp(json_get_string(input, "name", ""), json_string_value(name)) == 0)
                break;
        }
        if (j == json_array_size(inputs))
            return false;
    }
    return json_array_size(names) == json_array_size(inputs);
}

int instances_decode_table(struct call *call, const json_t *names, const json_t *rows, struct error *error)
{
    const json_t *inputs = call->route->inputs;
    cleanup_json json_t *records = NULL;

    if (check_table(names, rows, error) < 0)
        return -1;
    if (names && (!inputs || are_inputs(inputs, names))) {
        records = records_of(names, rows, error);
        return records ? instances_decode_rows(call, records, "data", error) : -1;
    }
    return instances_decode_rows(call, rows, "data", error);
}

/* -- answers -- */

static json_t *columns_of_frame(const char *frame, struct error *error)
{
    cleanup_json json_t *columns = json_object();

    for (uint32_t i = 0; i < frame_count(frame); i++) {
        const struct frame_entry *entry = &frame_entries(frame)[i];
        json_t *value = tensor_nested(frame, entry, error);

        if (!value)
            return NULL;
        json_object_set_new(columns, entry->name, value);
    }
    return steal_ptr(columns);
}

/* {"a": [1, …], "b": [2, …]} → [{"a": 1, "b": 2}, …] */
static json_t *rows_of(const json_t *columns, struct error *error)
{
    cleanup_json json_t *rows = json_array();
    size_t count = json_array_size(json_object_iter_value(json_object_iter((json_t *)columns)));
    const char *name;
    json_t *column;

    for (size_t i = 0; i < count; i++)
        json_array_append_new(rows, json_object());
    json_object_foreach((json_t *)columns, name, column) {
        if (!json_is_array(column) || json_array_size(column) != count) {
            error_set(error, ERROR_INTERNAL, "the outputs have different numbers of rows: ask with columns ('inputs')");
            return NULL;
        }
        for (size_t i = 0; i < count; i++)
            json_object_set(json_array_get(rows, i), name, json_array_get(column, i));
    }
    return steal_ptr(rows);
}

json_t *instances_encode(const struct call *call, const char *body, size_t length, enum instances_form form,
                         struct error *error)
{
    cleanup_free char *frame = NULL;
    cleanup_json json_t *columns = NULL;

    if (call->parts)
        return parts_answers(call->parts);
    frame = xmalloc(length + 1); /* a copy: the worker could change it under our hands */
    memcpy(frame, body, length);
    if (frame_check(frame, length, error) < 0) {
        cleanup_error struct error inner = ERROR_INIT;

        error_move(&inner, error);
        error_set(error, ERROR_INTERNAL, "the model's answer is wrong: %s", inner.message);
        return NULL;
    }
    columns = columns_of_frame(frame, error);
    if (!columns)
        return NULL;
    if (json_object_size(columns) == 1)
        return json_incref(json_object_iter_value(json_object_iter(columns)));
    return form == INSTANCES_ROWS ? rows_of(columns, error) : steal_ptr(columns);
}
