/*
 * What the files of serving share. All of it belongs to the loop's thread.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include "core/endpoint.h"
#include "engine/engine.h"
#include "schedule/gateway-link.h"
#include "schedule/scale.h"
#include "schedule/serving.h"
#include "store/journal.h"
#include "util/hash.h"
#include "util/map.h"

#define REPLICA_SECRET_SIZE 65 /* 64 hex digits */
#define REPLICA_KEY_SIZE    40 /* "<id>/1/0" */
#define FINISHED_COUNT      64 /* deployments whose end serving_wait() can still see */

/* A process that serves one version of one endpoint. */
struct replica {
    struct serving *serving;
    char id[ID_SIZE];
    char secret[REPLICA_SECRET_SIZE];
    int64_t endpoint, version; /* rows */
    enum replica_state state;  /* as in the database */
    double cpus;               /* limits that it runs with, or is about to */
    uint64_t memory;
    struct preparation *preparation; /* a worker thread unpacks and pins; it must not be freed. NULL: none does */
    struct loop_source *retry;       /* one-shot: tries to prepare again; NULL: need not */
    bool is_running;           /* the engine has it */
    bool is_connected;         /* the gateway has it */
    bool was_ready;
    bool stop_sent;
    int init_failures;
    int64_t drain_until_ns; /* DRAINING: ended by force then */
};

/* Why a version of an endpoint waits before its next replica is launched. */
struct backoff {
    int failures;
    int64_t not_before_ns;
};

struct serving {
    struct store *store;
    struct orchestrator *orchestrator;
    struct loop *loop;
    struct engine *engine;
    struct gateway_link *link; /* NULL: there is no gateway, nothing is served */
    struct map replicas;       /* id → struct replica, owned */
    struct map backoffs;       /* "endpoint/version" → struct backoff, owned */
    struct map scalers;        /* "name/number" → what serving-scale.c knows of a version that scales, owned */
    struct map packages;       /* digest of code → json_t, what package_inspect() said and is servable, owned */
    char *sent;                /* route table that the gateway has or is about to have; NULL: none */
    struct loop_source *wake;  /* one-shot: something is due */
    int64_t wake_ns;
    bool is_deciding, decide_again; /* gates, on a worker thread */
    struct loop_source *trial_timer;    /* one-shot: the next look at running canaries; NULL: none is due */
    bool is_taking, take_again;         /* logged requests, on a worker thread */
    bool is_judging;                    /* rules of canaries, on a worker thread */
    struct judgement *judgement;        /* what that thread has to read; NULL: nothing */
    atomic_bool is_posted, is_closing;

    pthread_mutex_t requests_mutex; /* held by who takes logged requests */
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t ended;
    struct {
        int64_t deployment, switch_us; /* -1: it did not become live */
    } finished[FINISHED_COUNT];
    size_t n_finished;
    char *problem; /* why the gateway is not there; NULL: it is, or is about to be */
};

/* serving.c */
/* Asks for a reconciliation: it runs on the loop, later, once for all who asked. */
void serving_reconcile(struct serving *serving);
/* Makes sure that a reconciliation runs within the delay. */
void serving_wake_in(struct serving *serving, int64_t delay_ns);
/* A deployment is over. */
void serving_finished(struct serving *serving, int64_t deployment, int64_t switch_us);
/* Ends the pending deployment of a version that is not live yet, if there is one. */
void serving_fail_deployment(struct serving *serving, int64_t endpoint, int64_t version, const char *message);

/* Any thread but the loop's: the gateway's answer. Steals the request. */
json_t *serving_ask(struct serving *serving, json_t *request, struct error *error);

/* serving-requests.c */
/* Segments of logged requests may be there to be taken. */
void serving_requests_take(struct serving *serving);

/* serving-trial.c */
/* Asks the gateway for the counters with which canaries and shadows begin that are about to be in force. Before the
 * table that brings that about, so that nothing is missed. */
void serving_trials_begin(struct serving *serving);
/* Makes sure that the rules of those that run are looked at from time to time. */
void serving_trials_watch(struct serving *serving);
/* After the workers have ended. */
void serving_trials_release(struct serving *serving);
/* A replica of the version failed. If it was the last one of a canary or shadow that is running, that is over. */
void serving_trial_failed(struct serving *serving, int64_t endpoint, int64_t version, const char *message);

/* serving-table.c */
/* Sends the routes if they changed, or if a deployment waits for them. */
int serving_push_table(struct serving *serving, struct error *error);

/* serving-replica.c */
struct replica *replica_new(struct serving *serving, const char *id);
void replica_free(void *replica);
char *replica_key(const struct replica *replica, char buffer[REPLICA_KEY_SIZE]);
/* Makes the row and starts to launch. */
int replica_start(struct serving *serving, int64_t endpoint, int64_t version, struct error *error);
/* Gives it no more requests (the caller leaves it out of the routes), and ends it when it has none. */
void replica_drain(struct replica *replica, int64_t patience_ns);
void replica_stop(struct replica *replica, int signal, const char *reason);
/* It is over: the row, the directory, the pins. Frees it unless a worker thread still has it. */
void replica_forget(struct replica *replica);
/* State with its event in a transaction of its own; a failure is logged. */
void replica_enter(struct replica *replica, enum replica_state state, const char *reason, const char *message);
void replica_failed(struct replica *replica, const char *reason, const char *message);
/* From the gateway and from the engine. */
void replica_on_gateway(struct replica *replica, const char *state, const char *message, bool killed);
void replica_on_engine(struct replica *replica, const char *directory, enum engine_event event);
/* Rows of an earlier daemon: finds their processes. */
int replicas_load(struct serving *serving, struct error *error);
struct backoff *serving_backoff(struct serving *serving, int64_t endpoint, int64_t version);

/* serving-size.c: the replicas of one route */
struct route {
    int64_t endpoint, version; /* rows */
    bool waits;                /* a deployment is pending until a replica is ready */
    int64_t replicas;          /* wished */
    double cpus;               /* of each */
    uint64_t memory;
    int64_t timeout_ms; /* of a request */
};
/* It serves, or will. */
bool replica_is_active(const struct replica *replica);
int64_t route_count_ready(struct serving *serving, const struct route *route);
/* Starts what is missing, of what has the wished limits; drains what is too much or, once it is replaced, outdated. */
int route_start_missing(struct serving *serving, const struct route *route, struct error *error);
void route_drain_surplus(struct serving *serving, const struct route *route);

/* serving-scale.c: how many replicas a version that follows its load is to have */
struct scaling_route {
    int64_t endpoint, version; /* rows */
    const char *name, *project;
    bool waits;     /* has to show that it works before it serves: its number stays as it is */
    bool is_trial;  /* gets a share of the requests to be judged by: keeps one replica */
    bool is_standby; /* for a rollback: keeps one while the live version has any, unless it has none already */
    int64_t number; /* of the version */
    int64_t stored; /* as the database has it; -1: nothing was decided yet */
    int64_t live;   /* replicas that the live version is to have; -1: nothing was decided yet, or there is none */
};
struct map scaling_map(void);
/* As last decided, within what the options permit; those of options that do not scale are what they say. */
int64_t scaling_wished(struct serving *serving, const struct scaling_route *route,
                       const struct endpoint_options *options);
/* Around the loading of what is desired: what is not asked for by scaling_wished() in between is no longer served, and
 * forgotten. Decides anew for all the others, and stores what is another number than before. */
void scaling_begin(struct serving *serving);
int scaling_decide(struct serving *serving, struct error *error);
/* The gateway is another one, which has seen nothing yet. */
void scaling_forget_seen(struct serving *serving);
/* An event of a route (gateway/control.h). */
void scaling_on_route(struct serving *serving, const char *event, const json_t *message);
