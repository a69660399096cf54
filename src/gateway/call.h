/*
 * One inference request in the gateway, from arrival to answer.
 *
 *     authorising ──▶ queued ──▶ running ──▶ (answered, freed)
 *          │             │          │
 *          └─────────────┴──────────┴──▶ ended: refused, timed out, or its client left
 *
 * A call that ends while it runs leaves its slot in the ring; the answer is dropped when it comes. So a call is
 * freed the moment it is answered, and nothing refers to it afterwards.
 */
#pragma once

#include "gateway/codec.h"
#include "gateway/route.h"
#include "gateway/stats.h"
#include "http/server-loop.h"
#include "util/hash.h"
#include "util/list.h"

struct gateway;

enum call_state { CALL_AUTHORISING, CALL_QUEUED, CALL_RUNNING, CALL_PARTED /* its parts run: parts.h */ };

struct parts;
struct record;

struct call {
    struct list link; /* of the authorisation it waits for, or in a list of route->queue */
    struct gateway *gateway;
    struct loop_request *request; /* NULL: a copy for a shadow or a part, nobody waits */
    const struct codec *codec;
    struct endpoint *endpoint; /* referenced */
    struct route *route;       /* referenced; NULL before routing */
    char *version;             /* that was asked for; NULL: any */
    enum call_state state;
    int priority;      /* -LIMIT_PRIORITY to LIMIT_PRIORITY */
    struct worker *worker;     /* while running */
    int slot;
    uint32_t kind;
    char *encoded;             /* body for the worker where the codec made one; else the request's own */
    size_t encoded_length;
    void *codec_state;         /* between decode and encode */
    struct parts *parts;       /* of a request that is several texts; else NULL */
    struct call *whole;        /* of a part: the call that it is a part of; else NULL */
    size_t part;               /* its number there */
    struct loop_source *deadline;
    bool is_copy;              /* for a shadow */
    int64_t arrived_ns, deadline_ns;
    int64_t retry_after_s; /* told with a refusal; 0: 1 */
    int64_t queued_ns; /* since when it waits for a replica; 0: it did not */
    struct digest key; /* what its answer is remembered by */
    bool is_keyed;     /* it is remembered */
    bool is_cold;      /* it waits for the first replica of a route that slept */
    char trace[24];
    bool has_trace;
    struct record *record; /* it is logged; NULL: it is not */
};

/* Ends the call with an answer of the worker. Frees it. */
void call_answer(struct call *call, uint32_t status, const char *body, size_t length, int64_t run_ns);
/* Ends the call with an error. `outcome` is counted if a route is known. Frees it. */
void call_fail(struct call *call, enum outcome outcome, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The client left. Frees it. */
void call_cancel(struct call *call);

/* Takes an inference request that arrived (its body is there) on. */
void call_start(struct gateway *gateway, struct loop_request *request, const struct codec *codec,
                struct endpoint *endpoint, const char *version);
/* A call to another route of the endpoint that nobody waits for. What it asks (`encoded`, never NULL) and the codec's
 * state are the caller's to set before it is enqueued. */
struct call *call_copy(const struct call *call, struct route *route, const struct codec *codec);
/* Whether it counts in its route's figures: not the copies of a route that has requests of its own. */
static inline bool call_counts(const struct call *call)
{
    return !call->is_copy || call->route->weight <= 0;
}

/* Continues after the token was looked at. client: whose token it is; NULL: nobody's. */
void call_authorised(struct call *call, const char *client);
/* A call for one text of `whole`, with its route and deadline; takes the text. */
struct call *call_new_part(struct call *whole, const struct codec *codec, size_t number, char *text, size_t length);
/* All parts are answered: replies. Frees the call. */
void call_parts_answered(struct call *call);
