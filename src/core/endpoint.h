/*
 * Endpoints: a name in a URL, what is to be served under it, and what is.
 *
 * Desired state is rows of endpoint_routes:
 *
 *     role      live      gets the requests, or those that the canary does not get
 *               standby   the version before it: loaded and warm, so that a rollback is only a swap
 *               next      being deployed: becomes live as soon as a replica of it is ready
 *               canary    gets a share (weight, per cent) as soon as a replica of it is ready: core/endpoint-trial.c
 *               shadow    gets copies of requests; its answers are compared and never returned
 *
 * At most one version has each role, and a version one role. Every change of the roles is a row of deployments:
 *
 *     pending ──▶ live                       deploy, follow, rollback, promote, abort, traffic: the routes are in force
 *        │  └───▶ running ──▶ promoted       canary, shadow: until it becomes the live version,
 *        │           └──────▶ aborted        or is ended by a person, a rule or its own failure
 *        └─────▶ failed | superseded         its replica cannot start | another one came
 *
 * Observed state is rows of replicas, each a process of the engine:
 *
 *     starting ──▶ warming ──▶ ready ──▶ draining ──▶ stopped
 *        │            │          │           │
 *        │            ├──────────┴─▶ starting│   (it ended; started again after 0, 1, 5, 15 s)
 *        └────────────┴──────────┴───────────┴──▶ failed    (the version is bad)
 *
 * schedule/serving.c brings the second to the first. All functions run in the caller's transaction.
 */
#pragma once

#include <stdint.h>
#include "core/model.h"
#include "util/limits.h"
#include "util/state.h"

enum replica_state {
    REPLICA_STARTING, /* the process is being started, or init() runs */
    REPLICA_WARMING,  /* connected to the gateway, warm-up requests run */
    REPLICA_READY,
    REPLICA_DRAINING, /* gets no new request; ends when those in flight are answered */
    REPLICA_STOPPED,
    REPLICA_FAILED,
    REPLICA_STATE_COUNT_,
};
extern const struct state_machine replica_states;

struct endpoint_options {
    int64_t timeout_ms; /* of a request */
    int64_t queue;      /* requests that may wait */
    int64_t min_replicas, max_replicas; /* of each version: as many as its load needs; min 0: none while nobody asks */
    int64_t scale_queue_time_ms; /* requests that wait longer bring another replica */
    int64_t scale_down_after_ms; /* so long one fewer would have done before there is one fewer */
    int64_t idle_ms; /* so long nobody asked before there is none; min 0 only */
    bool is_public; /* no token needed */
    double cpus; /* per replica; 0: no limit */
    uint64_t memory; /* bytes per replica; 0: no limit */
    int64_t concurrency; /* 0: what the package says */
    char sticky[LIMIT_STICKY_HEADER + 1]; /* header whose equal values keep a version; "": none */
    double rate_per_second, rate_burst; /* requests of one token; 0: no limit; burst 0: as many as in a second */
    uint64_t cache; /* bytes of answers that are remembered, of deterministic versions; 0: none */
    double log_sample; /* part of the requests that is logged; 0: none */
    uint64_t log_body; /* bytes that are kept of each, and of its answer */
    int64_t batch_size; /* requests that one call of predict_batch() takes; 0: what the package says */
    int64_t batch_delay_us; /* that they wait for each other; -1: what the package says */
};
#define ENDPOINT_OPTIONS_INIT                                                                                          \
    {.timeout_ms = LIMIT_PREDICT_TIMEOUT_MS,                                                                           \
     .queue = LIMIT_PREDICT_QUEUE,                                                                                     \
     .min_replicas = LIMIT_PREDICT_REPLICAS,                                                                           \
     .max_replicas = LIMIT_PREDICT_REPLICAS,                                                                           \
     .scale_queue_time_ms = LIMIT_SCALE_QUEUE_TIME_MS,                                                                 \
     .scale_down_after_ms = LIMIT_SCALE_DOWN_AFTER_MS,                                                                 \
     .idle_ms = LIMIT_SCALE_IDLE_MS,                                                                                   \
     .log_body = LIMIT_REQUEST_LOG_DEFAULT,                                                                            \
     .batch_delay_us = -1}

/* From the JSON of the column and of the API; what is absent gets its default. "replicas" is short for a minimum and
 * a maximum that are the same. */
void endpoint_options_read(const json_t *json, struct endpoint_options *ret);
/* What a schema cannot say: the minimum is not above the maximum, a header has a name. */
int endpoint_options_check(const struct endpoint_options *options, struct error *error);
/* Whether the number of replicas follows the load. */
bool endpoint_options_scale(const struct endpoint_options *options);
/* What the options and the package (core/package.h) come to for the package's version. False: no batches (size 1). */
bool endpoint_batch(const struct endpoint_options *options, const json_t *package, int64_t *ret_size,
                    int64_t *ret_delay_us);

/* Creates it with the version as `next`. If the version was found by an alias the endpoint follows it.
 * ERROR_EXISTS if the name is taken in any project. */
int endpoint_create(struct db_tx *tx, const char *project, const char *name, const struct model_version *version,
                    const struct endpoint_options *options, const char *actor, int64_t *ret_deployment,
                    struct error *error);
/* Changes the options that are given, as the API writes them, and leaves the others. */
int endpoint_set_options(struct db_tx *tx, const char *project, const char *name, const json_t *changes,
                         const char *actor, struct error *error);
/* Makes the version `next`; a pending deployment is superseded. kind: "deploy", "follow". For a
 * version that is live or on its way already it is the deployment that made it so, and nothing changes. */
int endpoint_deploy(struct db_tx *tx, const char *project, const char *name, const struct model_version *version,
                    const char *kind, const char *actor, int64_t *ret_deployment, struct error *error);
/* With a canary, endpoint_abort() of it. Else swaps live and standby, and supersedes a pending deployment.
 * ERROR_CONFLICT without a standby. If the endpoint follows an alias, the alias goes back too. */
int endpoint_rollback(struct db_tx *tx, const char *project, const char *name, const char *actor,
                      int64_t *ret_deployment, struct error *error);
/* Marks it for removal; serving drains it and calls endpoint_delete(). */
int endpoint_remove(struct db_tx *tx, const char *project, const char *name, const char *actor, struct error *error);
int endpoint_delete(struct db_tx *tx, int64_t id, struct error *error);

/* -- versions beside the live one (endpoint-trial.c) -- */

/* kind "canary": {"share":per cent,"sample":0 to 1,"tolerance","promote_if","abort_if","after":{"requests","ms"}}; kind
 * "shadow": the same without a share. Loads the version; the live one keeps all requests until then. A canary
 * supersedes what is pending and the canary before it, a shadow the shadow before it. ERROR_CONFLICT without a live
 * version, or if the version is that. */
int endpoint_try(struct db_tx *tx, const char *project, const char *name, const struct model_version *version,
                 const char *kind, json_t *options, const char *actor, int64_t *ret_deployment, struct error *error);

/* Whether the kind of a deployment, or a role, is one of the two. */
bool endpoint_is_trial(const char *kind);

struct endpoint_share {
    int64_t version; /* row */
    double share; /* per cent */
};
/* Divides the requests anew between the live version and the canary; one of two is enough, the other gets the
 * rest. ERROR_CONFLICT if a version that would get more has no replica that is ready. */
int endpoint_set_shares(struct db_tx *tx, const char *project, const char *name, const struct endpoint_share *shares,
                        size_t n_shares, const char *actor, int64_t *ret_deployment, struct error *error);
/* The canary (or shadow, by kind) becomes live, the live version standby; an alias that the endpoint follows goes with
 * it. decision: what a rule said (borrowed), NULL: a person did. ERROR_CONFLICT if it is not running and ready. */
int endpoint_promote(struct db_tx *tx, const char *project, const char *name, const char *kind, json_t *decision,
                     const char *actor, int64_t *ret_deployment, struct error *error);
/* The live version has all requests again; the canary (or shadow) is drained and stopped, or is the standby that it
 * was before. ERROR_CONFLICT if there is none. */
int endpoint_abort(struct db_tx *tx, const char *project, const char *name, const char *kind, const char *message,
                   json_t *decision, const char *actor, int64_t *ret_deployment, struct error *error);
/* Why the rules of a deployment cannot be evaluated; NULL: they can. Nothing happens if that is known. */
int endpoint_set_problem(struct db_tx *tx, int64_t deployment, const char *problem, struct error *error);

/* A deployment whose replica is ready: next becomes live, live becomes standby, an older standby goes; a canary gets
 * its share, a shadow its copies. */
int endpoint_switch(struct db_tx *tx, int64_t deployment, struct error *error);
/* switch_us: how long the gateway took to take the new table. */
int endpoint_switched(struct db_tx *tx, int64_t deployment, int64_t switch_us, struct error *error);
int endpoint_deployment_failed(struct db_tx *tx, int64_t deployment, const char *message, struct error *error);

/* -- scaling -- */
/* Stores how many replicas a version is to have, and the decision that said so; the caller appends its event. What
 * is known of versions that are not served any more is forgotten. */
int endpoint_scaled(struct db_tx *tx, int64_t endpoint, int64_t version, int64_t wished, const json_t *decision,
                    struct error *error);
/* Counts a start of the first replica that a request waited for. */
int endpoint_cold_started(struct db_tx *tx, int64_t endpoint, int64_t version, int64_t ms, struct error *error);

/* -- replicas -- */
int replica_create(struct db_tx *tx, int64_t endpoint, int64_t version, const char *id, const char *secret,
                   struct error *error);
/* The one setter: checks the transition and appends slipway.replica.<state>. Setting the present state
 * again changes nothing. */
int replica_set_state(struct db_tx *tx, const char *id, enum replica_state state, const char *reason,
                      const char *message, struct error *error);
int replica_delete(struct db_tx *tx, const char *id, struct error *error);

/* -- views -- */
/* {"name","project","model","follow","options":{…},"state":"ready|starting|failed|draining","live":{"version",
 * "code_weights","share"}|null,"standby":…,"next":…,"canary":…,"shadow":…,
 * "batch":{"size","delay_ms","reason"},"cache":{"size","reason"},"replicas":[{"id","version","state","reason","message","since"}],
 * "scaling":{"version","wished","decision":{…}|null,"cold_starts","cold_start_ms","cold_start_mean_ms"}|null,
 * "created_at","created_by"}; project NULL: any. A live version that may do without replicas and does is ready. */
json_t *endpoint_describe(struct db_tx *tx, const char *project, const char *name, struct error *error);
/* What its versions did, from the gateway's status (core/traffic.h): {"since","seconds","beside":"canary|shadow"|null,
 * "versions":[{"version","code_weights","role","share",…}]}, since the canary (else the shadow) began that runs, else
 * since the gateway was started. */
json_t *endpoint_statistics(struct db_tx *tx, const char *project, const char *name, const json_t *status,
                            struct error *error);
json_t *endpoint_list(struct db_tx *tx, const char *project, const char *after, int limit, struct error *error);
/* Newest first. */
json_t *endpoint_deployments(struct db_tx *tx, const char *project, const char *name, int64_t before, int limit,
                             struct error *error);
json_t *endpoint_deployment(struct db_tx *tx, const char *project, int64_t id, struct error *error);
