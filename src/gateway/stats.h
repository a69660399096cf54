/*
 * What the gateway counts, and its text for Prometheus.
 *
 * Durations are histograms of fixed bounds, from a request's arrival to its answer, as Prometheus wants them.
 * The flows of authorisation follow the queueing model of a wrapped model: all requests, those with a bad
 * token, those that lead to an introspection, and those that reach the model.
 */
#pragma once

#include <stdint.h>
#include "util/durations.h"
#include "util/strbuf.h"

#define STATS_BUCKETS 14
extern const double stats_bounds[STATS_BUCKETS]; /* seconds */

struct duration_stats {
    uint64_t buckets[STATS_BUCKETS + 1];
    uint64_t count;
    int64_t sum_ns;
    struct durations fine; /* for quantiles */
};

/* How a request ended. */
enum outcome {
    OUTCOME_OK,
    OUTCOME_MODEL_ERROR, /* the model raised an error */
    OUTCOME_INVALID,     /* 4xx: the request is wrong */
    OUTCOME_QUEUE_FULL,
    OUTCOME_TIMEOUT,
    OUTCOME_CANCELLED,   /* the client left */
    OUTCOME_WORKER_LOST, /* the replica died, or broke the protocol, while it ran */
    OUTCOME_UNAVAILABLE, /* nothing to serve it with */
    OUTCOME_COUNT_,
};
const char *outcome_name(enum outcome outcome);

struct route_stats {
    uint64_t outcomes[OUTCOME_COUNT_];
    struct duration_stats latency; /* arrival to answer */
    struct duration_stats queue;   /* arrival to submission */
    struct duration_stats run;     /* as the worker says; of a batch, for each of its requests */
    uint64_t cache_hits, cache_misses; /* of requests whose answer could be remembered */
    uint64_t batches, batched;     /* calls of predict_batch(), and the requests in them */
};

struct endpoint_stats {
    uint64_t requests;
    uint64_t unauthenticated, forbidden, rate_limited, quota_exceeded; /* never reached a route */
};

struct auth_stats {
    uint64_t requests;               /* to endpoints that want a token */
    uint64_t no_token, bad_token, forbidden;
    uint64_t cache_hits, introspections, introspection_failures;
    uint64_t reached_model;
};

void duration_add(struct duration_stats *stats, int64_t ns);

struct gateway;
void stats_format(const struct gateway *gateway, struct strbuf *text);
