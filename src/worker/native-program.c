#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "format/frame.h"
#include "format/wire.h"
#include "util/json.h"
#include "util/slice.h"
#include "util/strbuf.h"
#include "worker/native-program.h"
#include "worker/native.h"
#include "worker/worker.h"

struct program {
    struct native_model *model;
    struct strbuf frame;
    struct strbuf data; /* of the one input of a text request */
};

/* -- types -- */

static const struct {
    uint32_t frame;
    enum dtype dtype;
} types[] = {
    {FRAME_BOOL, DTYPE_BOOL},  {FRAME_UINT8, DTYPE_U8}, {FRAME_UINT16, DTYPE_U16}, {FRAME_UINT32, DTYPE_U32},
    {FRAME_UINT64, DTYPE_U64}, {FRAME_INT8, DTYPE_I8},  {FRAME_INT16, DTYPE_I16},  {FRAME_INT32, DTYPE_I32},
    {FRAME_INT64, DTYPE_I64},  {FRAME_FP16, DTYPE_F16}, {FRAME_FP32, DTYPE_F32},   {FRAME_FP64, DTYPE_F64},
};

static int dtype_of_frame(uint32_t type, enum dtype *ret_dtype)
{
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (types[i].frame == type) {
            *ret_dtype = types[i].dtype;
            return 0;
        }
    }
    return -1;
}

static int frame_of_dtype(enum dtype dtype)
{
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (types[i].dtype == dtype)
            return (int)types[i].frame;
    return -1;
}

/* Appends one element of a type, converted from a number. */
static int add_number(struct strbuf *out, enum dtype dtype, double value)
{
#define CASE(DTYPE, type)                                                                                              \
    case DTYPE: {                                                                                                      \
        type v = (type)value;                                                                                          \
        strbuf_add(out, &v, sizeof(v));                                                                                \
        return 0;                                                                                                      \
    }
    switch (dtype) {
        CASE(DTYPE_BOOL, bool)
        CASE(DTYPE_U8, uint8_t)
        CASE(DTYPE_I8, int8_t)
        CASE(DTYPE_U16, uint16_t)
        CASE(DTYPE_I16, int16_t)
        CASE(DTYPE_U32, uint32_t)
        CASE(DTYPE_I32, int32_t)
        CASE(DTYPE_U64, uint64_t)
        CASE(DTYPE_I64, int64_t)
        CASE(DTYPE_F32, float)
        CASE(DTYPE_F64, double)
    default: return -1;
    }
#undef CASE
}

static json_t *number_at(enum dtype dtype, const void *data, size_t index)
{
#define CASE(DTYPE, type, make)                                                                                        \
    case DTYPE: return make(((const type *)data)[index]);
#define REAL(v) (isfinite((double)(v)) ? json_real((double)(v)) : json_null())
    switch (dtype) {
        CASE(DTYPE_BOOL, bool, json_boolean)
        CASE(DTYPE_U8, uint8_t, json_integer)
        CASE(DTYPE_I8, int8_t, json_integer)
        CASE(DTYPE_U16, uint16_t, json_integer)
        CASE(DTYPE_I16, int16_t, json_integer)
        CASE(DTYPE_U32, uint32_t, json_integer)
        CASE(DTYPE_I32, int32_t, json_integer)
        CASE(DTYPE_I64, int64_t, json_integer)
        CASE(DTYPE_F32, float, REAL)
        CASE(DTYPE_F64, double, REAL)
    default: return NULL;
    }
#undef REAL
#undef CASE
}

/* -- tensors -- */

static int run_tensors(struct program *program, const struct native_tensor *inputs, size_t n_inputs,
                       struct error *error)
{
    const struct native_tensor *outputs;
    size_t n_outputs;

    if (native_run(program->model, inputs, n_inputs, &outputs, &n_outputs, error) < 0)
        return -1;
    strbuf_reset(&program->frame);
    frame_begin(&program->frame, (uint32_t)n_outputs);
    for (size_t i = 0; i < n_outputs; i++) {
        int type = frame_of_dtype(outputs[i].dtype);

        if (type < 0 || outputs[i].rank > FRAME_RANK)
            return error_set(error, ERROR_UNSUPPORTED, "output %s has a type or rank that cannot be sent",
                             outputs[i].name);
        frame_begin_entry(&program->frame, (uint32_t)i, outputs[i].name, (uint32_t)type, outputs[i].shape,
                          (uint32_t)outputs[i].rank);
        strbuf_add(&program->frame, outputs[i].data, outputs[i].size);
        frame_end_entry(&program->frame, (uint32_t)i);
    }
    if (program->frame.overflowed)
        return error_set(error, ERROR_TOO_LARGE, "the outputs are larger than an answer may be");
    return 0;
}

static int answer_tensors(struct program *program, const struct slipway_request *request, struct error *error)
{
    struct native_tensor inputs[NATIVE_PORTS];
    const struct frame_entry *entries;
    uint32_t count;

    if (frame_check(request->body, request->length, error) < 0)
        return -1;
    entries = frame_entries(request->body);
    count = frame_count(request->body);
    if (count > NATIVE_PORTS)
        return error_set(error, ERROR_INVALID, "%u inputs were given; a model has at most %d", count, NATIVE_PORTS);
    for (uint32_t i = 0; i < count; i++) {
        struct native_tensor *t = &inputs[i];

        *t = (struct native_tensor){
            .rank = (int)entries[i].rank, .data = request->body + entries[i].offset, .size = entries[i].length};
        memcpy(t->name, entries[i].name, FRAME_NAME);
        memcpy(t->shape, entries[i].shape, entries[i].rank * sizeof(int64_t));
        if (dtype_of_frame(entries[i].type, &t->dtype) < 0)
            return error_set(error, ERROR_INVALID, "input %s has datatype %s, which no native model takes", t->name,
                             frame_type_name(entries[i].type));
    }
    return run_tensors(program, inputs, count, error);
}

/* -- text -- */

/* Appends the numbers of nested arrays. */
static int add_numbers(const json_t *value, enum dtype dtype, struct strbuf *out, struct error *error)
{
    const json_t *item;
    size_t i;

    if (json_is_array(value)) {
        json_array_foreach((json_t *)value, i, item)
            if (add_numbers(item, dtype, out, error) < 0)
                return -1;
        return 0;
    }
    if (!json_is_number(value) && !json_is_boolean(value) && !json_is_null(value))
        return error_set(error, ERROR_INVALID, "the text must be JSON arrays of numbers");
    if (add_number(out, dtype, json_is_null(value) ? NAN : json_is_true(value) ? 1 : json_number_value(value)) < 0)
        return error_set(error, ERROR_UNSUPPORTED, "an input of type %s cannot be given as text", dtype_name(dtype));
    return 0;
}

/* The free dimensions of a shape from the number of elements: one may be free, the others of several are 1. */
static int fill_shape(struct native_tensor *tensor, int64_t elements, struct error *error)
{
    int64_t known = 1;
    int open = -1;

    for (int i = tensor->rank - 1; i >= 0; i--) {
        if (tensor->shape[i] >= 0) {
            known *= tensor->shape[i];
        } else {
            if (open >= 0)
                tensor->shape[open] = 1;
            open = i;
        }
    }
    if (open >= 0 && known > 0 && elements % known == 0) {
        tensor->shape[open] = elements / known;
        return 0;
    }
    if (open < 0 && known == elements)
        return 0;
    return error_set(error, ERROR_INVALID, "%" PRId64 " numbers were given; input %s takes %s%" PRId64, elements,
                     tensor->name, open >= 0 ? "a multiple of " : "", known);
}

static json_t *nested(const struct native_tensor *tensor, int dimension, size_t *index)
{
    json_t *array;

    if (dimension == tensor->rank)
        return number_at(tensor->dtype, tensor->data, (*index)++);
    array = json_array();
    for (int64_t i = 0; i < tensor->shape[dimension]; i++)
        json_array_append_new(array, nested(tensor, dimension + 1, index));
    return array;
}

static int answer_text(struct program *program, const struct slipway_request *request, struct error *error)
{
    const struct native_signature *signature = native_signature(program->model);
    cleanup_json json_t *value = json_parse(request->body, request->length, error), *answer = NULL;
    const struct native_tensor *outputs;
    struct native_tensor input;
    cleanup_free char *text = NULL;
    size_t n_outputs, index = 0;

    if (!value)
        return -1;
    if (signature->n_inputs != 1)
        return error_set(error, ERROR_UNSUPPORTED, "this model has %zu inputs: send tensors", signature->n_inputs);
    input = signature->inputs[0];
    strbuf_reset(&program->data);
    if (add_numbers(value, input.dtype, &program->data, error) < 0)
        return -1;
    if (program->data.overflowed)
        return error_set(error, ERROR_TOO_LARGE, "the input has too many numbers");
    input.data = program->data.data;
    input.size = program->data.length;
    if (fill_shape(&input, (int64_t)(input.size / dtype_size(input.dtype)), error) < 0 ||
        native_run(program->model, &input, 1, &outputs, &n_outputs, error) < 0)
        return -1;
    answer = nested(&outputs[0], 0, &index);
    if (!answer)
        return error_set(error, ERROR_UNSUPPORTED, "an output of type %s cannot be given as text",
                         dtype_name(outputs[0].dtype));
    text = json_text(answer);
    strbuf_reset(&program->frame);
    strbuf_adds(&program->frame, text);
    return 0;
}

/* -- requests -- */

static uint32_t status_of(enum error_code code)
{
    switch (code) {
    case ERROR_INVALID: return WIRE_STATUS_INVALID;
    case ERROR_UNSUPPORTED: return WIRE_STATUS_UNSUPPORTED;
    case ERROR_TOO_LARGE: return WIRE_STATUS_TOO_LARGE;
    default: return WIRE_STATUS_FAILED;
    }
}

static void put(struct slipway_request *request, const void *data, size_t length, uint32_t status)
{
    char *to = slipway_request_reserve(request, length);

    request->status = to ? status : WIRE_STATUS_TOO_LARGE;
    request->answer_length = to ? length : 0;
    if (to)
        memcpy(to, data, length);
}

static void answer(void *userdata, struct slipway_request *request)
{
    struct program *program = userdata;
    cleanup_error struct error error = ERROR_INIT;
    int r = request->kind == WIRE_PREDICT ? answer_text(program, request, &error)
                                          : answer_tensors(program, request, &error);

    if (r < 0)
        put(request, error.message, strlen(error.message), status_of(error.code));
    else
        put(request, program->frame.data, program->frame.length, WIRE_STATUS_OK);
}

static int serve(struct slipway_worker *worker, const char *runtime, const char *environment, const char *path,
                 struct error *error)
{
    cleanup_native struct native_model *model = NULL;
    const struct native_runtime *kind = native_runtime_find(runtime, error);
    struct program program = {.frame = STRBUF_INIT(LIMIT_PREDICT_REPLY), .data = STRBUF_INIT(LIMIT_PREDICT_BODY)};

    if (!kind || native_load(kind, environment, path, &model, error) < 0) {
        slipway_worker_failed(worker, error->message);
        return -1;
    }
    program.model = model;
    slice_short(); /* the loading is over, requests come */
    slipway_worker_ready(worker, WIRE_CAN_PREDICT | WIRE_CAN_TENSORS);
    slipway_worker_run(worker, answer, &program);
    strbuf_release(&program.frame);
    strbuf_release(&program.data);
    return 0;
}

int native_program(const char *runtime, const char *environment, const char *path, struct error *error)
{
    struct slipway_worker *worker = slipway_worker_open(NULL);
    int r;

    if (slipway_worker_hello(worker, runtime, WIRE_CAN_PREDICT | WIRE_CAN_TENSORS, 1) < 0)
        r = error_set(error, ERROR_UNAVAILABLE, "%s", slipway_worker_error(worker));
    else
        r = serve(worker, runtime, environment, path, error);
    slipway_worker_close(worker);
    return r;
}
