#include <string.h>
#include "gateway/auth.h"
#include "gateway/balance.h"
#include "gateway/call.h"
#include "gateway/gateway.h"
#include "gateway/parts.h"
#include "gateway/record.h"
#include "gateway/shadow.h"
#include "http/router.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/utf8.h"
#include "util/xalloc.h"

static void call_free(struct call *call)
{
    if (call->record)
        call->record = record_end(call->record, call);
    list_unlink(&call->link);
    loop_remove(call->deadline);
    parts_free(call->parts);
    if (call->codec->release)
        call->codec->release(call);
    if (call->route)
        route_unref(call->route);
    endpoint_unref(call->endpoint);
    free(call->version);
    free(call->encoded);
    free(call);
}

static void count(struct call *call, enum outcome outcome)
{
    if (!call->route || call->whole || !call_counts(call))
        return;
    call->route->stats.outcomes[outcome]++;
    duration_add(&call->route->stats.latency, clock_monotonic_ns() - call->arrived_ns);
}

/* Takes the call out of whatever holds it. */
static void detach(struct call *call)
{
    balance_cancel(call->gateway, call);
    list_unlink(&call->link);
}

static void add_retry_after(struct call *call)
{
    char text[24];

    snprintf(text, sizeof(text), "%ld", (long)(call->retry_after_s ? call->retry_after_s : 1));
    loop_request_add_header(call->request, "Retry-After", text);
}

static void fail(struct call *call, enum outcome outcome, enum error_code code, const char *message)
{
    int status = http_status_of(code);

    detach(call);
    count(call, outcome);
    if (call->record)
        call->record->outcome = outcome;
    if (call->request) {
        if (outcome == OUTCOME_QUEUE_FULL || outcome == OUTCOME_UNAVAILABLE)
            add_retry_after(call);
        if (code == ERROR_UNAUTHENTICATED)
            loop_request_add_header(call->request, "WWW-Authenticate", "Bearer");
        call->codec->fail(call->request, status, code, message);
    } else {
        shadow_failed(call, outcome, message);
    }
    if (call->whole)
        parts_failed(call->whole->parts, call->part, outcome, code, message);
    call_free(call);
}

void call_fail(struct call *call, enum outcome outcome, enum error_code code, const char *format, ...)
{
    cleanup_free char *message = NULL;
    va_list args;

    va_start(args, format);
    message = xvasprintf(format, args);
    va_end(args);
    fail(call, outcome, code, message);
}

static void call_error(struct call *call, enum outcome outcome, struct error *error)
{
    fail(call, outcome, error->code, error->message);
}

void call_cancel(struct call *call)
{
    detach(call);
    count(call, OUTCOME_CANCELLED);
    if (call->record)
        record_cancelled(call->record, call);
    call_free(call);
}

/* What an answer's status means to the client. */
static const struct {
    enum outcome outcome;
    enum error_code code;
} status_rows[] = {
    [WIRE_STATUS_OK] = {OUTCOME_OK, ERROR_NONE},
    [WIRE_STATUS_FAILED] = {OUTCOME_MODEL_ERROR, ERROR_INTERNAL},
    [WIRE_STATUS_INVALID] = {OUTCOME_INVALID, ERROR_INVALID},
    [WIRE_STATUS_EXPIRED] = {OUTCOME_TIMEOUT, ERROR_TIMEOUT},
    [WIRE_STATUS_TOO_LARGE] = {OUTCOME_MODEL_ERROR, ERROR_INTERNAL},
    [WIRE_STATUS_UNSUPPORTED] = {OUTCOME_INVALID, ERROR_INVALID},
};
_Static_assert(ARRAY_SIZE(status_rows) == WIRE_STATUS_COUNT_, "a row for each status");

/* A worker's message is not trusted to be text. */
static char *printable(const char *body, size_t length)
{
    return utf8_repair(xstrndup(body, length < WIRE_TEXT ? length : WIRE_TEXT));
}

/* False: the answer made no sense, which was the reply then. */
static bool reply(struct call *call, const char *body, size_t length)
{
    cleanup_error struct error error = ERROR_INIT;
    struct shadow_plan plan;

    shadow_plan(call, &plan);
    if (call->codec->encode(call, body, length, &error) < 0) {
        shadow_discard(&plan);
        call_error(call, OUTCOME_MODEL_ERROR, &error);
        return false;
    }
    count(call, OUTCOME_OK);
    shadow_begin(call, &plan, body, length);
    call_free(call);
    return true;
}

/* Replies, and remembers the answer if it was a good one. The worker may change it while it is copied, but not what
 * is looked at, sent and remembered. */
static void reply_and_remember(struct call *call, const char *body, size_t length)
{
    struct answers *answers = call->gateway->answers;
    struct route *route = call->route;
    struct digest key = call->key;
    char *copy = xmalloc(length + 1);

    memcpy(copy, body, length);
    route_ref(route);
    if (reply(call, copy, length) && !route->removed && route->endpoint->cache)
        answers_put_take(answers, route->endpoint->cache, &route->answers, &key, steal_ptr(copy), length);
    free(copy);
    route_unref(route);
}

/* Gives an answer again that the model gave to an equal request, or notes what this one's is to be remembered by.
 * True: it did, and the call is freed. */
static bool reply_again(struct call *call, const char *body, size_t length)
{
    struct gateway *gateway = call->gateway;
    struct route *route = call->route;
    const char *answer;

    if (call->encoded) {
        body = call->encoded;
        length = call->encoded_length;
    }
    if (!route->is_deterministic || !call->endpoint->cache || length > LIMIT_ANSWER_CACHE_ITEM)
        return false;
    answers_key(route->number, call->kind, body, length, &call->key);
    answer = answers_get(gateway->answers, &call->key, &length);
    if (!answer) {
        call->is_keyed = true;
        route->stats.cache_misses++;
        return false;
    }
    route->stats.cache_hits++;
    loop_request_add_header(call->request, "Slipway-Cache", "hit");
    reply(call, answer, length);
    return true;
}

void call_answer(struct call *call, uint32_t status, const char *body, size_t length, int64_t run_ns)
{
    if (call_counts(call))
        duration_add(&call->route->stats.run, run_ns);
    if (call->record)
        call->record->run_ns = run_ns;
    call->worker = NULL;
    if (status != WIRE_STATUS_OK) {
        cleanup_free char *message = printable(body, length);

        fail(call, status_rows[status].outcome, status_rows[status].code, message);
        return;
    }
    if (call->whole) {
        struct parts *parts = call->whole->parts;
        size_t part = call->part;
        struct shadow_plan plan;

        shadow_plan(call, &plan);
        shadow_begin(call, &plan, body, length);
        call_free(call);
        parts_answered(parts, part, body, length);
        return;
    }
    if (call->is_keyed && length <= LIMIT_ANSWER_CACHE_ITEM)
        reply_and_remember(call, body, length);
    else
        reply(call, body, length);
}

struct call *call_new_part(struct call *whole, const struct codec *codec, size_t number, char *text, size_t length)
{
    struct call *call = xnew0(struct call);

    list_init(&call->link);
    call->gateway = whole->gateway;
    call->codec = codec;
    call->endpoint = whole->endpoint;
    endpoint_ref(call->endpoint);
    call->route = whole->route;
    route_ref(call->route);
    call->whole = whole;
    call->part = number;
    call->priority = whole->priority;
    call->kind = WIRE_PREDICT;
    call->encoded = text;
    call->encoded_length = length;
    call->arrived_ns = clock_monotonic_ns();
    call->deadline_ns = whole->deadline_ns;
    call->has_trace = whole->has_trace;
    memcpy(call->trace, whole->trace, sizeof(call->trace));
    return call;
}

void call_parts_answered(struct call *call)
{
    reply(call, NULL, 0);
}

static void on_deadline(void *userdata)
{
    struct call *call = userdata;
    cleanup_free char *excuse = call->state == CALL_QUEUED ? load_excuse(call->route) : NULL;

    call->deadline = NULL;
    call_fail(call, OUTCOME_TIMEOUT, ERROR_TIMEOUT, "no answer within %.3f s%s%s",
              (double)(call->deadline_ns - call->arrived_ns) / NS_PER_SEC, excuse ? ": " : "", excuse ? excuse : "");
}

/* 00-<trace id>-<parent id>-<flags> (W3C trace context); anything else is ignored, as it says. */
static void take_trace(struct call *call)
{
    const char *text = loop_request_header(call->request, "traceparent");
    char trace_id[33], parent_id[17];

    if (!text || strlen(text) < 55 || text[2] != '-' || text[35] != '-' || text[52] != '-')
        return;
    snprintf(trace_id, sizeof(trace_id), "%.32s", text + 3);
    snprintf(parent_id, sizeof(parent_id), "%.16s", text + 36);
    call->has_trace = hex_decode(trace_id, call->trace, 16) && hex_decode(parent_id, call->trace + 16, 8);
}

/* The deadline that the client wishes, at most the endpoint's. */
static int take_timeout(struct call *call, int64_t *ret_ms, struct error *error)
{
    const char *text = loop_request_header(call->request, "Slipway-Timeout-Ms");
    int64_t ms;

    if (!text)
        return 0;
    if (parse_int(text, 1, INT32_MAX, &ms, error) < 0)
        return error_wrap(error, "header Slipway-Timeout-Ms");
    if (ms < *ret_ms)
        *ret_ms = ms;
    return 0;
}

/* Who is served first, and who gives way, where requests wait. */
static int take_priority(struct call *call, struct error *error)
{
    const char *text = loop_request_header(call->request, "Slipway-Priority");
    int64_t priority = 0;

    if (text && parse_int(text, -LIMIT_PRIORITY, LIMIT_PRIORITY, &priority, error) < 0)
        return error_wrap(error, "header Slipway-Priority");
    call->priority = (int)priority;
    return 0;
}

void call_start(struct gateway *gateway, struct loop_request *request, const struct codec *codec,
                struct endpoint *endpoint, const char *version)
{
    cleanup_error struct error error = ERROR_INIT;
    struct call *call = xnew0(struct call);
    int64_t timeout_ms = endpoint->timeout_ms;

    list_init(&call->link);
    call->gateway = gateway;
    call->request = request;
    call->codec = codec;
    call->endpoint = endpoint;
    endpoint_ref(endpoint);
    call->version = xstrdup_null(version);
    call->arrived_ns = clock_monotonic_ns();
    loop_request_set_data(request, call);
    endpoint->stats.requests++;
    if (take_timeout(call, &timeout_ms, &error) < 0 || take_priority(call, &error) < 0) {
        call_error(call, OUTCOME_INVALID, &error);
        return;
    }
    take_trace(call);
    call->deadline_ns = call->arrived_ns + timeout_ms * NS_PER_MS;
    call->deadline = loop_add_timer(gateway->loop, timeout_ms * NS_PER_MS, on_deadline, call);
    if (endpoint->is_public)
        call_authorised(call, NULL);
    else
        bearer_check(gateway->auth, call);
}

struct call *call_copy(const struct call *call, struct route *route, const struct codec *codec)
{
    struct call *copy = xnew0(struct call);
    int64_t timeout_ns = call->endpoint->timeout_ms * NS_PER_MS;

    list_init(&copy->link);
    copy->gateway = call->gateway;
    copy->codec = codec;
    copy->is_copy = true;
    copy->kind = call->kind;
    copy->endpoint = call->endpoint;
    endpoint_ref(copy->endpoint);
    copy->route = route;
    route_ref(route);
    copy->arrived_ns = clock_monotonic_ns();
    copy->deadline_ns = copy->arrived_ns + timeout_ns;
    copy->deadline = loop_add_timer(call->gateway->loop, timeout_ns, on_deadline, copy);
    return copy;
}

static int choose_route(struct call *call, struct error *error)
{
    const struct endpoint *endpoint = call->endpoint;
    const char *sticky = endpoint->sticky ? loop_request_header(call->request, endpoint->sticky) : NULL;
    struct route *route = endpoint_route(call->endpoint, call->version, sticky);

    if (!route && call->version)
        return error_set(error, ERROR_NOT_FOUND, "endpoint %s does not serve version %s", endpoint->name,
                         call->version);
    if (!route)
        return error_set(error, ERROR_UNAVAILABLE, "endpoint %s serves no version", endpoint->name);
    route_ref(route);
    call->route = route;
    return 0;
}

void call_authorised(struct call *call, const char *client)
{
    cleanup_error struct error error = ERROR_INIT;
    const char *body;
    size_t length;

    list_unlink(&call->link);
    if (call->endpoint->log.sample > 0 && !call->codec->local)
        record_begin(call, client);
    if (choose_route(call, &error) < 0) {
        call_error(call, OUTCOME_UNAVAILABLE, &error);
        return;
    }
    if (call->codec->local) {
        call->codec->local(call);
        call_free(call);
        return;
    }
    body = loop_request_body(call->request, &length);
    if (call->codec->decode(call, body, length, &error) < 0) {
        call_error(call, OUTCOME_INVALID, &error);
        return;
    }
    if (!call->parts && reply_again(call, body, length))
        return;
    call->gateway->auth_stats.reached_model++;
    if (call->parts)
        parts_start(call->parts);
    else
        balance_enqueue(call->gateway, call);
}
