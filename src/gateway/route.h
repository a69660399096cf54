/*
 * What is served: endpoints, their routes (one a version) and the replicas of each, as configured.
 *
 *     endpoint ──▶ route (version 7, weight 90) ──▶ replica ──▶ worker (while one is connected)
 *              └─▶ route (version 8, weight 10) ──▶ replica …
 *
 * The table owns all of them. A configuration is checked whole (routes_parse) before it is applied
 * (routes_apply); what is in both the old and the new one keeps its identity, its queue and its counters. What
 * is gone is unlinked at once, and freed when the last request that refers to it is answered (route_unref).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "gateway/answers.h"
#include "gateway/load.h"
#include "gateway/queue.h"
#include "gateway/recorder.h"
#include "gateway/stats.h"
#include "util/error.h"
#include "util/json.h"
#include "util/list.h"
#include "util/loop.h"
#include "util/map.h"

struct gateway;
struct shadow;
struct worker;

enum replica_phase {
    REPLICA_ABSENT,  /* not connected */
    REPLICA_WARMING, /* connected, not ready */
    REPLICA_READY,
    REPLICA_DRAINING, /* no longer wished; answers what it has */
    REPLICA_DRAINED,
    REPLICA_PHASE_COUNT_,
};

struct replica {
    struct list link; /* in route->replicas */
    struct route *route;
    char id[40];
    char key[128];
    enum replica_phase phase;
    struct worker *worker; /* NULL while absent */
    bool wished;
    uint64_t requests, errors, bad_answers;
};

struct route {
    struct list link; /* in endpoint->routes, or unlinked */
    struct endpoint *endpoint;
    unsigned refs;    /* the table's, and one per request */
    char *version, *code_weights, *platform;
    double weight;
    struct shadow *shadow;    /* NULL: it is none */
    json_t *inputs, *outputs; /* signature; NULL: text in, text out */
    int concurrency;
    struct list replicas;
    uint64_t number; /* no other route of this gateway has or had it */
    bool is_deterministic; /* its answers may be remembered */
    struct list answers; /* those that are: answers.h */
    struct call_queue queue;
    size_t n_running;
    uint32_t batch_size;   /* requests that one call of the model takes; 1: no batches */
    int64_t batch_delay_ns; /* that a request may wait for more, while a replica is idle */
    bool can_batch;        /* its replicas say so */
    struct loop_source *batch_timer; /* for when what waits is handed out, full or not; NULL: none */
    struct route_stats stats;
    struct route_load load;
    bool removed;
};

struct endpoint {
    unsigned refs; /* the table's, and one per route and per call */
    char *name, *project, *model, *sticky;
    int64_t timeout_ms, body_limit;
    size_t queue;
    bool is_public;
    double rate, burst; /* requests of one token: a second, and at once; rate 0: no limit */
    struct answers_share *cache; /* NULL: no answers are remembered */
    struct list routes;
    double weight_sum;
    uint64_t turn; /* spreads requests over the routes by weight */
    struct request_log log;
    struct endpoint_stats stats;
};

struct routes {
    struct map endpoints; /* by name; owned */
    uint64_t numbers; /* of routes, used so far */
};

void routes_init(struct routes *routes);
void routes_release(struct routes *routes);

/* Checks {"endpoints":[…]} of control.h. */
int routes_check(const json_t *configuration, struct error *error);
/* Applies what was checked. Replicas that are no longer wished become REPLICA_DRAINING if they are connected
 * (and are freed by routes_forget_replica), else they are freed. */
void routes_apply(struct routes *routes, struct gateway *gateway, const json_t *configuration);

/* By the endpoint's name, or by its model ("vision/digits", "project:vision/digits"); NULL: none. */
struct endpoint *routes_find(const struct routes *routes, const char *name);
struct replica *routes_find_replica(const struct routes *routes, const char *id);

/* The route for a request: an explicit version ("7", "3.5"; NULL: none), else by the sticky value (NULL: none), else
 * by weight. A version that has no ready replica, while another that shares the traffic has, is passed over. NULL:
 * there is none. */
struct route *endpoint_route(struct endpoint *endpoint, const char *version, const char *sticky);
/* True if a route with traffic is ready: has a replica that is, or may do without until somebody asks. It takes the
 * requests of those that are not. */
bool endpoint_is_ready(const struct endpoint *endpoint);
bool route_is_ready(const struct route *route);

void endpoint_ref(struct endpoint *endpoint);
void endpoint_unref(struct endpoint *endpoint);
void route_ref(struct route *route);
void route_unref(struct route *route);
/* A replica that is not wished and not connected is freed; others stay. */
void replica_settle(struct replica *replica);

const char *replica_phase_name(enum replica_phase phase);
