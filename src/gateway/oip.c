/*
 * The Open Inference Protocol v2 over HTTP: infer with JSON and binary tensors, metadata, statistics and
 * configuration of a model. Sources: kserve/open-inference-protocol (inference_rest.md), and the binary
 * tensor, statistics and model configuration extensions of the Triton server.
 */
#include <string.h>
#include "format/deflate.h"
#include "format/wire.h"
#include "gateway/call.h"
#include "gateway/codec.h"
#include "gateway/content.h"
#include "gateway/oip.h"
#include "gateway/tensors.h"
#include "util/json.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

#define HEADER_LENGTH "Inference-Header-Content-Length"

/* What the request wished, kept until the answer. */
struct wishes {
    char *id;
    json_t *outputs;     /* array of {"name","parameters"?}; NULL: all */
    bool binary_default; /* outputs that say nothing are sent in binary form */
};

static void release(struct call *call)
{
    struct wishes *wishes = call->codec_state;

    if (!wishes)
        return;
    free(wishes->id);
    json_decref(wishes->outputs);
    free(wishes);
}

void oip_fail(struct loop_request *request, int status, enum error_code code, const char *message)
{
    cleanup_json json_t *reply = json_build("{s:o}", "error", json_string_lossy(message));
    char *text = json_text(reply);

    loop_request_reply_take(request, status, "application/json", text, strlen(text));
}

/* -- JSON to tensors -- */

static int read_input(const json_t *item, struct tensor_spec *input, struct error *error)
{
    const char *type = json_string_value(json_object_get(item, "datatype"));
    const json_t *shape = json_object_get(item, "shape");
    json_t *n;
    size_t i;

    input->name = json_string_value(json_object_get(item, "name"));
    if (!input->name || strlen(input->name) >= FRAME_NAME)
        return error_set(error, ERROR_INVALID, "an input has no 'name', or one longer than %d characters",
                         FRAME_NAME - 1);
    input->type = type ? frame_type_parse(type) : -1;
    if (input->type < 0)
        return error_set(error, ERROR_INVALID, "input '%s' has datatype '%s', which is none of the protocol's",
                         input->name, type ? type : "");
    if (!json_is_array(shape) || json_array_size(shape) > FRAME_RANK)
        return error_set(error, ERROR_INVALID, "input '%s' needs a 'shape' of at most %d dimensions", input->name,
                         FRAME_RANK);
    input->rank = (uint32_t)json_array_size(shape);
    json_array_foreach(shape, i, n) {
        if (!json_is_integer(n))
            return error_set(error, ERROR_INVALID, "input '%s': dimensions are integers", input->name);
        input->shape[i] = json_integer_value(n);
    }
    input->elements = frame_elements(input->shape, input->rank);
    if (input->elements < 0)
        return error_set(error, ERROR_INVALID, "input '%s' has an impossible shape", input->name);
    return 0;
}

/* The raw bytes behind the JSON part, taken from the front by one input after the other. */
struct tail {
    const char *data;
    size_t length;
};

static int add_input(struct strbuf *frame, uint32_t index, const json_t *item, struct tail *tail, struct error *error)
{
    const json_t *size = json_object_get(json_object_get(item, "parameters"), "binary_data_size");
    const json_t *data = json_object_get(item, "data");
    struct tensor_spec input;

    if (read_input(item, &input, error) < 0)
        return -1;
    frame_begin_entry(frame, index, input.name, (uint32_t)input.type, input.shape, input.rank);
    if (size) {
        size_t n = (size_t)json_integer_value(size);

        if (!json_is_integer(size) || json_integer_value(size) < 0 || n > tail->length)
            return error_set(error, ERROR_INVALID, "input '%s': 'binary_data_size' does not fit the body", input.name);
        strbuf_add(frame, tail->data, n);
        tail->data += n;
        tail->length -= n;
    } else {
        if (!json_is_array(data))
            return error_set(error, ERROR_INVALID, "input '%s' has no 'data'", input.name);
        if (input.type == FRAME_FP16)
            return error_set(error, ERROR_INVALID, "input '%s': FP16 can only be sent in binary form", input.name);
        if (tensor_add_flat(frame, &input, data, error) < 0)
            return -1;
    }
    frame_end_entry(frame, index);
    return 0;
}

static int take_wishes(struct call *call, const json_t *request, struct error *error)
{
    struct wishes *wishes = xnew0(struct wishes);
    json_t *outputs = json_object_get(request, "outputs"), *id = json_object_get(request, "id"), *item;
    size_t i;

    call->codec_state = wishes;
    if (id && !json_is_string(id))
        return error_set(error, ERROR_INVALID, "'id' is a string");
    wishes->id = xstrdup_null(json_string_value(id));
    wishes->binary_default = json_get_bool(json_object_get(request, "parameters"), "binary_data_output", false);
    if (!outputs || json_is_null(outputs))
        return 0;
    if (!json_is_array(outputs))
        return error_set(error, ERROR_INVALID, "'outputs' is an array");
    json_array_foreach(outputs, i, item) {
        if (!json_is_string(json_object_get(item, "name")))
            return error_set(error, ERROR_INVALID, "an output has no 'name'");
    }
    if (json_array_size(outputs))
        wishes->outputs = json_incref(outputs);
    return 0;
}

static int finish_frame(struct call *call, struct strbuf *frame, struct error *error)
{
    if (frame->overflowed)
        return error_set(error, ERROR_TOO_LARGE, "the inputs take more than %zu bytes", frame->max);
    call->encoded = strbuf_detach(frame, &call->encoded_length);
    return frame_check(call->encoded, call->encoded_length, error);
}

static int decode_json(struct call *call, const char *text, size_t length, struct tail tail, struct error *error)
{
    cleanup_strbuf struct strbuf frame = STRBUF_INIT(LIMIT_PREDICT_BODY);
    cleanup_json json_t *request = json_parse(text, length, error);
    const json_t *inputs = json_object_get(request, "inputs");
    json_t *item;
    size_t i;

    if (!request)
        return -1;
    if (!json_is_array(inputs) || !json_array_size(inputs) || json_array_size(inputs) > FRAME_TENSORS)
        return error_set(error, ERROR_INVALID, "'inputs' must be an array of 1 to %d tensors", FRAME_TENSORS);
    if (take_wishes(call, request, error) < 0)
        return -1;
    frame_begin(&frame, (uint32_t)json_array_size(inputs));
    json_array_foreach(inputs, i, item) {
        if (add_input(&frame, (uint32_t)i, item, &tail, error) < 0)
            return -1;
    }
    if (tail.length)
        return error_set(error, ERROR_INVALID, "%zu bytes of the body belong to no input", tail.length);
    return finish_frame(call, &frame, error);
}

/* Inference-Header-Content-Length: 0: the body is the one input, raw. */
static int decode_raw(struct call *call, const char *body, size_t length, struct error *error)
{
    cleanup_strbuf struct strbuf frame = STRBUF_INIT(LIMIT_PREDICT_BODY);
    const json_t *signature = call->route->inputs ? json_array_get(call->route->inputs, 0) : NULL;
    const char *name = json_get_string(signature, "name", "text");
    int type = frame_type_parse(json_get_string(signature, "datatype", "BYTES"));
    uint32_t n = (uint32_t)length;
    int64_t shape = 1;

    if (json_array_size(call->route->inputs) > 1 || type < 0)
        return error_set(error, ERROR_INVALID, "a raw body needs a model of one input");
    call->codec_state = xnew0(struct wishes);
    frame_begin(&frame, 1);
    if (type != FRAME_BYTES)
        shape = (int64_t)(length / frame_type_size((uint32_t)type));
    frame_begin_entry(&frame, 0, name, (uint32_t)type, &shape, 1);
    if (type == FRAME_BYTES)
        strbuf_add(&frame, &n, sizeof(n));
    strbuf_add(&frame, body, length);
    frame_end_entry(&frame, 0);
    return finish_frame(call, &frame, error);
}

static int decode_plain(struct call *call, const char *body, size_t length, struct error *error)
{
    const char *header = loop_request_header(call->request, HEADER_LENGTH);
    int64_t n = (int64_t)length;

    call->kind = WIRE_TENSORS;
    if (header && parse_int(header, 0, (int64_t)length, &n, error) < 0)
        return error_wrap(error, "header " HEADER_LENGTH);
    if (header && n == 0)
        return decode_raw(call, body, length, error);
    return decode_json(call, body, (size_t)n, (struct tail){body + n, length - (size_t)n}, error);
}

/* The header counts bytes of the unpacked body. */
static int decode(struct call *call, const char *body, size_t length, struct error *error)
{
    cleanup_free char *owned = NULL;

    if (content_unpack(call, body, length, &owned, &body, &length, error) < 0)
        return -1;
    return decode_plain(call, body, length, error);
}

/* -- tensors to JSON -- */

static json_t *describe_output(const struct frame_entry *entry)
{
    json_t *shape = json_array();

    for (uint32_t i = 0; i < entry->rank; i++)
        json_array_append_new(shape, json_integer(entry->shape[i]));
    return json_build("{s:s, s:s, s:o}", "name", entry->name, "datatype", frame_type_name(entry->type), "shape", shape);
}

/* Adds one output to the reply, and its data there or to the binary tail. */
static int add_output(json_t *outputs, struct strbuf *tail, const char *frame, const struct frame_entry *entry,
                      bool binary, struct error *error)
{
    cleanup_json json_t *output = describe_output(entry);
    json_t *values;

    if (binary) {
        json_object_set_new(output, "parameters", json_build("{s:I}", "binary_data_size", (json_int_t)entry->length));
        strbuf_add(tail, frame + entry->offset, entry->length);
    } else {
        values = tensor_values(frame, entry, error);
        if (!values)
            return -1;
        json_object_set_new(output, "data", values);
    }
    json_array_append_new(outputs, steal_ptr(output));
    return 0;
}

static const struct frame_entry *find_output(const char *frame, const char *name)
{
    for (uint32_t i = 0; i < frame_count(frame); i++) {
        if (!strcmp(frame_entries(frame)[i].name, name))
            return &frame_entries(frame)[i];
    }
    return NULL;
}

static int add_outputs(const struct wishes *wishes, json_t *outputs, struct strbuf *tail, const char *frame,
                       struct error *error)
{
    json_t *wish;
    size_t i;

    if (!wishes->outputs) {
        for (i = 0; i < frame_count(frame); i++) {
            if (add_output(outputs, tail, frame, &frame_entries(frame)[i], wishes->binary_default, error) < 0)
                return -1;
        }
        return 0;
    }
    json_array_foreach(wishes->outputs, i, wish) {
        const char *name = json_get_string(wish, "name", "");
        const struct frame_entry *entry = find_output(frame, name);
        bool binary = json_get_bool(json_object_get(wish, "parameters"), "binary_data", wishes->binary_default);

        if (!entry)
            return error_set(error, ERROR_INVALID, "the model has no output '%s'", name);
        if (add_output(outputs, tail, frame, entry, binary, error) < 0)
            return -1;
    }
    return 0;
}

static void send_reply(struct call *call, const json_t *reply, const struct strbuf *tail)
{
    enum deflate_form form = deflate_form_accepted(loop_request_header(call->request, "Accept-Encoding"));
    char *body = json_text(reply), header[24];
    size_t n = strlen(body), packed_length;
    cleanup_free char *plain = NULL;

    if (tail->length) {
        snprintf(header, sizeof(header), "%zu", n);
        loop_request_add_header(call->request, HEADER_LENGTH, header);
        body = xrealloc(body, n + tail->length);
        memcpy(body + n, tail->data, tail->length);
        n += tail->length;
    }
    if (form != DEFLATE_NONE) {
        plain = body;
        deflate_pack(form, plain, n, &body, &packed_length);
        n = packed_length;
        loop_request_add_header(call->request, "Content-Encoding", deflate_form_name(form));
    }
    loop_request_reply_take(call->request, 200, tail->length ? "application/octet-stream" : "application/json", body,
                            n);
}

static int encode(struct call *call, const char *body, size_t length, struct error *error)
{
    cleanup_strbuf struct strbuf tail = STRBUF_INIT(LIMIT_PREDICT_REPLY);
    cleanup_free char *frame = xmalloc(length + 1); /* a copy: the worker could change it under our hands */
    struct wishes *wishes = call->codec_state;
    cleanup_json json_t *reply = json_object(), *outputs = json_array();

    memcpy(frame, body, length);
    if (frame_check(frame, length, error) < 0) {
        cleanup_error struct error inner = ERROR_INIT;

        error_move(&inner, error);
        return error_set(error, ERROR_INTERNAL, "the model's answer is wrong: %s", inner.message);
    }
    if (add_outputs(wishes, outputs, &tail, frame, error) < 0)
        return -1;
    json_set_string(reply, "model_name", call->endpoint->name);
    json_set_string(reply, "model_version", call->route->version);
    if (wishes->id)
        json_set_string(reply, "id", wishes->id);
    json_object_set_new(reply, "outputs", steal_ptr(outputs));
    send_reply(call, reply, &tail);
    return 0;
}

const struct codec oip_codec = {
    .name = "infer", .decode = decode, .encode = encode, .fail = oip_fail, .release = release};

/* -- what the gateway answers itself -- */

void oip_reply(struct loop_request *request, int status, json_t *value)
{
    char *text = json_text(value);

    json_decref(value);
    loop_request_reply_take(request, status, "application/json", text, strlen(text));
}

static json_t *signature(json_t *tensors)
{
    return tensors ? json_incref(tensors)
                   : json_build("[{s:s, s:s, s:[i]}]", "name", "text", "datatype", "BYTES", "shape", -1);
}

static void metadata(struct call *call)
{
    json_t *versions = json_array();
    const struct route *route;

    list_for_each(route, &call->endpoint->routes, link)
        json_array_append_new(versions, json_string(route->version));
    oip_reply(call->request, 200,
              json_build("{s:s, s:o, s:s, s:o, s:o}", "name", call->endpoint->name, "versions", versions, "platform",
                         call->route->platform ? call->route->platform : "slipway_python", "inputs",
                         signature(call->route->inputs), "outputs", signature(call->route->outputs)));
}

static json_t *duration(const struct duration_stats *stats)
{
    return json_build("{s:I, s:I}", "count", (json_int_t)stats->count, "ns", (json_int_t)stats->sum_ns);
}

static json_t *route_statistics(const struct route *route)
{
    const struct route_stats *stats = &route->stats;
    uint64_t failed = 0;
    json_t *inference;

    for (int i = OUTCOME_MODEL_ERROR; i < OUTCOME_COUNT_; i++)
        failed += stats->outcomes[i];
    inference = json_build("{s:o, s:{s:I, s:i}, s:o, s:{s:i, s:i}, s:o, s:{s:i, s:i}}", "success",
                           duration(&stats->latency), "fail", "count", (json_int_t)failed, "ns", 0, "queue",
                           duration(&stats->queue), "compute_input", "count", 0, "ns", 0, "compute_infer",
                           duration(&stats->run), "compute_output", "count", 0, "ns", 0);
    return json_build("{s:s, s:s, s:i, s:I, s:I, s:o, s:[]}", "name", route->endpoint->name, "version", route->version,
                      "last_inference", 0, "inference_count", (json_int_t)stats->outcomes[OUTCOME_OK],
                      "execution_count", (json_int_t)stats->run.count, "inference_stats", inference, "batch_stats");
}

static void statistics(struct call *call)
{
    json_t *list = json_array();
    const struct route *route;

    list_for_each(route, &call->endpoint->routes, link) {
        if (!call->version || route == call->route)
            json_array_append_new(list, route_statistics(route));
    }
    oip_reply(call->request, 200, json_build("{s:o}", "model_stats", list));
}

void oip_all_statistics(const struct routes *routes, json_t *list)
{
    struct map_iterator it = {0};

    while (map_next(&routes->endpoints, &it)) {
        const struct endpoint *endpoint = it.value;
        const struct route *route;

        list_for_each(route, &endpoint->routes, link)
            json_array_append_new(list, route_statistics(route));
    }
}

static json_t *config_tensors(json_t *tensors)
{
    cleanup_json json_t *given = signature(tensors);
    json_t *list = json_array(), *item;
    size_t i;

    json_array_foreach(given, i, item) {
        json_t *shape = json_object_get(item, "shape");

        json_array_append_new(list, json_build("{s:s, s:s++, s:o}", "name", json_get_string(item, "name", ""),
                                               "data_type", "TYPE_",
                                               !strcmp(json_get_string(item, "datatype", ""), "BYTES")
                                                   ? "STRING"
                                                   : json_get_string(item, "datatype", ""),
                                               "", "dims", shape ? json_incref(shape) : json_array()));
    }
    return list;
}

static void config(struct call *call)
{
    oip_reply(call->request, 200,
              json_build("{s:s, s:s, s:s, s:i, s:o, s:o}", "name", call->endpoint->name, "platform",
                         call->route->platform ? call->route->platform : "slipway_python", "backend", "slipway",
                         "max_batch_size", 0, "input", config_tensors(call->route->inputs), "output",
                         config_tensors(call->route->outputs)));
}

const struct codec oip_metadata_codec = {.name = "metadata", .local = metadata, .fail = oip_fail};
const struct codec oip_stats_codec = {.name = "stats", .local = statistics, .fail = oip_fail};
const struct codec oip_config_codec = {.name = "config", .local = config, .fail = oip_fail};
