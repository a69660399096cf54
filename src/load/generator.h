/*
 * A load generator for HTTP/1.1: one thread, many kept connections.
 *
 * Open loop: requests arrive by a clock (Poisson or constant), whatever the server does. An arrival that
 * finds no idle connection waits, and its latency counts from the moment it was meant to be sent, so that a
 * stalled server cannot hide its stall ("coordinated omission"). Closed loop: each connection sends the next
 * request when it has its answer; latency counts from sending.
 *
 * What is sent is chosen for each arrival by a callback, e.g. a request with a bad token with some
 * probability. Requests are complete texts made in advance.
 */
#pragma once

#include <stdint.h>
#include "load/histogram.h"
#include "util/error.h"

enum load_arrivals {
    LOAD_POISSON,  /* exponential gaps of mean 1/rate */
    LOAD_CONSTANT, /* equal gaps of 1/rate */
    LOAD_CLOSED,   /* as fast as the answers come */
};

struct load_request {
    const char *text; /* request line, headers, empty line, body; borrowed until it was answered */
    size_t length;
};

struct load_reply {
    int status;
    const char *body; /* valid during the callback */
    size_t body_length;
    int64_t latency_ns;
};

struct load_options {
    const char *host; /* numeric address or name; NULL with unix_path */
    const char *port;
    const char *unix_path;
    int connections;            /* 1 to 10,000 */
    enum load_arrivals arrivals;
    double rate;                /* requests a second; not for LOAD_CLOSED */
    int64_t duration_ns;        /* arrivals end after this time: of an open loop, those meant for later */
    uint64_t count;             /* or after this many; 0: no bound */
    int64_t timeout_ns;         /* an answer that takes longer is an error; 0: 30 s */
    uint64_t seed;

    /* Chooses the next request. `when` is its intended time, ns since the start. */
    struct load_request (*next)(void *userdata, int64_t when);
    /* Sees every answer; NULL: none. */
    void (*reply)(void *userdata, const struct load_reply *reply);
    /* Called about every `tick_ns` (0: never); a return other than 0 ends the arrivals. */
    int (*tick)(void *userdata, int64_t elapsed_ns);
    int64_t tick_ns;
    void *userdata;
};

/* Counters; statuses[n] counts answers with HTTP status n. */
struct load_result {
    int64_t elapsed_ns;         /* from the first arrival to the last answer */
    uint64_t arrivals, answered;
    uint64_t statuses[600];
    uint64_t errors_connect, errors_closed, errors_timeout, errors_protocol;
    uint64_t most_waiting;      /* arrivals that waited for a connection at the same time */
    struct histogram *latency;  /* of answers with status < 400 */
    struct histogram *refused;  /* of the others */
    struct histogram *late;     /* how far behind its clock the generator itself was: part of those latencies */
};

/* Runs the load to its end, in this thread, which gets short turns on the processor and exact timers; meanwhile the
 * counters of ret_result grow, for callbacks to read. ERROR_UNAVAILABLE if no connection can be made at all. Afterwards
 * load_result_release() in any case. */
int load_run(const struct load_options *options, struct load_result *ret_result, struct error *error);
void load_result_release(struct load_result *result);
uint64_t load_result_errors(const struct load_result *result);
