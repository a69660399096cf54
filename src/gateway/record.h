/*
 * A request that is logged: what is remembered of it while it runs, and the line that it becomes, a CloudEvent 1.0.
 *
 *     {"specversion":"1.0","id":"<32 hex>","source":"/endpoints/digits","type":"slipway.request","subject":"7",
 *      "time":"…","datacontenttype":"application/json","data":{"version":"7","code_weights":"3.5","protocol":"predict",
 *      "status":200,"outcome":"ok","latency_ms":4.2,"queue_ms":0.1,"run_ms":3.9,"trace_id":"…","client":"alice",
 *      "request":{"content_type":"text/plain","size":2,"truncated":false,"text":"hi"},"response":{…}}}
 *
 * What is not known is not there: queue_ms and run_ms of a request that no replica had, status and response of one
 * whose client left, version of one that was not routed. A body is text where what is kept of it is UTF-8, else base64;
 * no header but the type of the content is kept.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "gateway/stats.h"
#include "util/json.h"

struct call;

struct record_body {
    bool is_there;
    char *content_type; /* NULL: none was said */
    char *data;         /* the first `kept` of `size` bytes */
    size_t kept, size;
};

struct record {
    int status; /* of HTTP; 0: the client left before the reply */
    enum outcome outcome;
    int64_t queue_ns, run_ns; /* -1: it came to no replica, to no answer */
    char *client;             /* NULL: nobody's token was needed */
    size_t max;               /* bytes of a body that are kept */
    struct record_body request, response;
    struct call *call;
};

/* -- the call's side -- */
/* The call is to be logged, if it is its turn (call->record). The client is copied. */
void record_begin(struct call *call, const char *client);
/* The client left; its request is still there. */
void record_cancelled(struct record *record, struct call *call);
/* The call is over: its line goes to the log. */
struct record *record_end(struct record *record, struct call *call);

/* -- a line -- */
void record_keep(struct record_body *body, const char *content_type, const void *data, size_t length, size_t max);
void record_body_release(struct record_body *body);
/* {"content_type","size","truncated","text"|"base64"} */
json_t *record_body_describe(const struct record_body *body);
/* What the event says beside what the record knows; what is NULL is not said. */
struct record_context {
    const char *endpoint, *version, *code_weights, *protocol;
    const char *trace; /* 16 bytes */
    int64_t arrived_ms; /* wall clock */
    int64_t latency_ns;
};
/* One line, without its end; to be freed. */
char *record_line(const struct record *record, const struct record_context *context);
