/*
 * The orchestrator: one thread with a loop that owns the queue, the engine and the runs that are alive.
 *
 *     orchestrator_new   loads queued and live runs, opens the engine, reattaches to every node
 *     orchestrator_start starts the thread
 *     orchestrator_stop  stops and joins it and its workers; nodes go on by themselves
 *
 * The database is the truth: requests of other threads are first written there (run_create,
 * run_request_stop), then told to the orchestrator with one of the notify functions, which only post. If
 * the daemon dies in between, loading finds the same. What may block (unpacking code, pinning datasets,
 * storing metrics and weights) is done by a few worker threads.
 */
#pragma once

#include "engine/engine.h"
#include "store/store.h"
#include "util/loop.h"

struct orchestrator;

/* Called on the orchestrator's thread after a run has ended and its end is committed (the serving plane and
 * tests use it). */
typedef void (*orchestrator_run_ended_fn)(void *userdata, const char *run_id);

struct orchestrator_options {
    const char *engine;           /* "auto", "local", "process", "fake", "disabled" */
    const json_t *engine_options; /* may be NULL */
    const char *url;              /* SLIPWAY_URL for runs with network; NULL: none */
    const char *python;  /* base interpreter of environments; NULL: /usr/bin/python3 or the first in PATH */
    int64_t long_run_ms; /* running time after which a run gives way to others; 0: 5 hours */
    int workers;         /* worker threads; 0: 4 */
};

int orchestrator_new(struct store *store, const struct orchestrator_options *options,
                     struct orchestrator **ret_orchestrator, struct error *error);
int orchestrator_start(struct orchestrator *orchestrator, struct error *error);
/* Started or not: afterwards nobody uses what was given to it. */
void orchestrator_stop(struct orchestrator *orchestrator);
/* Stops if needed. Accepts NULL; returns NULL. */
struct orchestrator *orchestrator_free(struct orchestrator *orchestrator);
DEFINE_CLEANUP(struct orchestrator *, orchestrator_free)

/* Other parts that live on the same thread (serving). Between new and start, or on the thread. */
struct loop *orchestrator_loop(struct orchestrator *orchestrator);
struct engine *orchestrator_engine(struct orchestrator *orchestrator);
/* Nodes that are not runs: events of keys whose run id the orchestrator does not know go to this function
 * (serving's replicas). */
void orchestrator_set_engine_listener(struct orchestrator *orchestrator, engine_event_fn fn, void *userdata);
/* Resources that something else on this machine takes (replicas of endpoints); replaces what `owner` held.
 * gpus: devices needed; their indices come back in ret_gpus ("0,1", to be freed; NULL without gpus).
 * All zero releases. ERROR_UNAVAILABLE if it does not fit now. On the thread. */
int orchestrator_reserve(struct orchestrator *orchestrator, const char *owner, double cpus, uint64_t memory, int gpus,
                         char **ret_gpus, struct error *error);
/* A content-addressed directory with the unpacked archive, read-only, to be freed. Blocks on disk: worker
 * threads and HTTP threads. */
int code_unpack(struct store *store, const char *digest, char **ret_directory, struct error *error);
/* Runs work() on a worker thread, then done() on the loop. */
void orchestrator_work(struct orchestrator *orchestrator, loop_fn work, loop_fn done, void *userdata);
void orchestrator_set_run_ended(struct orchestrator *orchestrator, orchestrator_run_ended_fn fn, void *userdata);

/* -- any thread -- */
void orchestrator_run_queued(struct orchestrator *orchestrator, const char *run_id);
/* After run_request_stop or a change of priority. */
void orchestrator_run_changed(struct orchestrator *orchestrator, const char *run_id);
/* Makes sure that an environment's variant is built (again, if it failed). */
void orchestrator_build(struct orchestrator *orchestrator, const char *digest);
/* Identity of the interpreter that environments are made with, for environment_create(). Blocks. */
int orchestrator_identify_python(struct orchestrator *orchestrator, char **ret_identity, struct error *error);
/* Runs fn on the orchestrator's thread and waits for it. Not from that thread. ERROR_UNAVAILABLE when it
 * is stopping. */
int orchestrator_call(struct orchestrator *orchestrator, void (*fn)(struct orchestrator *, void *), void *userdata,
                      struct error *error);

/* {"state","position","ahead","reason","message","missing":[…],"holders":[…],"expected_at"}; NULL on failure.
 */
json_t *orchestrator_why(struct orchestrator *orchestrator, const char *run_id, struct error *error);
/* Capacity and use: {"engine","runtime","note","cpus":{"total","used"},…,"gpus":[…],"queued","running"}. */
json_t *orchestrator_capacity(struct orchestrator *orchestrator, struct error *error);
