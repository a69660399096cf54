#include <string.h>
#include "gateway/call.h"
#include "gateway/gateway.h"
#include "gateway/record.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/utf8.h"
#include "util/xalloc.h"

#define TRACE_SIZE 16
#define UTF8_MAX   4 /* bytes of a character */

/* -- bodies -- */

void record_keep(struct record_body *body, const char *content_type, const void *data, size_t length, size_t max)
{
    record_body_release(body);
    body->is_there = true;
    body->content_type = xstrdup_null(content_type);
    body->size = length;
    body->kept = length < max ? length : max;
    body->data = xmalloc(body->kept + 1);
    memcpy(body->data, body->kept ? data : "", body->kept);
    body->data[body->kept] = '\0';
}

void record_body_release(struct record_body *body)
{
    free(body->content_type);
    free(body->data);
    *body = (struct record_body){0};
}

/* How much of the body is text: all that is kept, but for a last character that was cut; -1: it is none. */
static ssize_t text_length(const struct record_body *body)
{
    size_t at = 0;

    if (memchr(body->data, '\0', body->kept))
        return -1;
    while (at < body->kept) {
        int n = utf8_next(body->data + at);

        if (n < 0)
            return body->kept < body->size && body->kept - at < UTF8_MAX ? (ssize_t)at : -1;
        at += (size_t)n;
    }
    return (ssize_t)at;
}

/* Strings of strangers: a header's value need not be UTF-8. */
static void set_lossy(json_t *object, const char *key, const char *text)
{
    if (text)
        json_object_set_new(object, key, json_string_lossy(text));
}

json_t *record_body_describe(const struct record_body *body)
{
    json_t *value = json_object();
    ssize_t length = text_length(body);

    set_lossy(value, "content_type", body->content_type);
    json_set_int(value, "size", (int64_t)body->size);
    json_set_bool(value, "truncated", body->kept < body->size);
    if (length >= 0) {
        json_object_set_new(value, "text", json_stringn(body->data, (size_t)length));
    } else {
        cleanup_free char *base64 = xmalloc(BASE64_SIZE(body->kept));

        json_set_string(value, "base64", base64_encode(body->data, body->kept, base64));
    }
    return value;
}

/* -- the line -- */

static void set_ms(json_t *object, const char *key, int64_t ns)
{
    if (ns >= 0)
        json_set_number(object, key, (double)(ns / NS_PER_US) / 1000);
}

static json_t *describe_data(const struct record *record, const struct record_context *context)
{
    json_t *data = json_object();
    char trace_id[2 * TRACE_SIZE + 1];

    set_lossy(data, "version", context->version);
    set_lossy(data, "code_weights", context->code_weights);
    json_set_string(data, "protocol", context->protocol);
    if (record->status)
        json_set_int(data, "status", record->status);
    json_set_string(data, "outcome", outcome_name(record->outcome));
    set_ms(data, "latency_ms", context->latency_ns);
    set_ms(data, "queue_ms", record->queue_ns);
    set_ms(data, "run_ms", record->run_ns);
    if (context->trace) {
        hex_encode(context->trace, TRACE_SIZE, trace_id);
        json_set_string(data, "trace_id", trace_id);
    }
    set_lossy(data, "client", record->client);
    if (record->request.is_there)
        json_object_set_new(data, "request", record_body_describe(&record->request));
    if (record->response.is_there)
        json_object_set_new(data, "response", record_body_describe(&record->response));
    return data;
}

char *record_line(const struct record *record, const struct record_context *context)
{
    cleanup_free char *source = xasprintf("/endpoints/%s", context->endpoint);
    cleanup_json json_t *event = NULL;
    char id[ID_SIZE];

    id_new(id);
    event = json_build("{s:s, s:s, s:s, s:s}", "specversion", "1.0", "id", id, "source", source, "type",
                       "slipway.request");
    if (context->version && *context->version)
        set_lossy(event, "subject", context->version);
    json_set_time_ms(event, "time", context->arrived_ms);
    json_set_string(event, "datacontenttype", "application/json");
    json_object_set_new(event, "data", describe_data(record, context));
    return json_text(event);
}

/* -- the call's side -- */

/* Fractions of the golden ratio, as in route.c: an even spread. */
static bool is_sampled(struct request_log *log)
{
    return (double)(++log->turn * UINT64_C(11400714819323198485) >> 11) * 0x1p-53 < log->sample;
}

static void keep_request(struct record *record, const struct call *call)
{
    size_t length;
    const char *body = loop_request_body(call->request, &length);

    record_keep(&record->request, loop_request_content_type(call->request), body, length, record->max);
}

static void on_reply(void *userdata, int status, const char *content_type, const void *data, size_t length)
{
    struct record *record = userdata;

    record->status = status;
    record_keep(&record->response, content_type, data, length, record->max);
    keep_request(record, record->call);
}

void record_begin(struct call *call, const char *client)
{
    struct request_log *log = &call->endpoint->log;
    struct record *record;

    if (!is_sampled(log))
        return;
    record = xnew0(struct record);
    record->call = call;
    record->outcome = OUTCOME_OK;
    record->queue_ns = record->run_ns = -1;
    record->client = xstrdup_null(client);
    record->max = log->body;
    call->record = record;
    loop_request_on_reply(call->request, on_reply, record);
}

void record_cancelled(struct record *record, struct call *call)
{
    record->outcome = OUTCOME_CANCELLED;
    keep_request(record, call);
}

struct record *record_end(struct record *record, struct call *call)
{
    int64_t latency_ns = clock_monotonic_ns() - call->arrived_ns;
    const struct record_context context = {
        .endpoint = call->endpoint->name,
        .version = call->route ? call->route->version : call->version,
        .code_weights = call->route ? call->route->code_weights : NULL,
        .protocol = call->codec->name,
        .trace = call->has_trace ? call->trace : NULL,
        .arrived_ms = clock_wall_ms() - latency_ns / NS_PER_MS,
        .latency_ns = latency_ns,
    };
    cleanup_free char *line = record_line(record, &context);

    recorder_add(call->gateway->recorder, &call->endpoint->log, line);
    record_body_release(&record->request);
    record_body_release(&record->response);
    free(record->client);
    free(record);
    return NULL;
}
