/* What the files of the orchestrator share. Everything belongs to its thread. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include "core/run.h"
#include "schedule/builder.h"
#include "schedule/launch.h"
#include "schedule/orchestrator.h"
#include "schedule/placement.h"
#include "schedule/queue.h"
#include "schedule/workers.h"
#include "util/map.h"

struct active_node {
    struct active *active;
    int index;
    bool launched;
    bool over; /* no more events: exit record stored, or lost */
    bool is_lost;
    bool gone;  /* the engine says that it has ended: the next intake is the last */
    bool busy;  /* an intake is in flight */
    bool again; /* something came meanwhile */
    char *directory;
    json_t *exit;  /* the exit record, once it is stored */
    char *corrupt; /* its intake cannot be read on: it is killed, and lost */
    /* of the intake in flight */
    struct orchestrator *orchestrator;
    char run_id[ID_SIZE];
    int attempt;
    bool final;
    bool started, ended, more, failed;
    int failures;
};

/* A run that holds resources: starting or running. */
struct active {
    struct orchestrator *orchestrator;
    struct run *run;
    struct launch *launch; /* while it is prepared */
    bool preparing;
    bool ending; /* its end is being written */
    bool stop_sent;
    bool reattached; /* launched by an earlier process */
    bool requeue;    /* its launch was cut short by a restart: goes back to the queue */
    char *prepare_error;
    enum error_code prepare_code;
    int n_nodes;
    int culprit; /* node whose failure ended the others; -1: none */
    struct active_node *nodes;
};

struct orchestrator {
    struct store *store;
    struct loop *loop;
    struct workers *workers;
    struct engine *engine;
    struct builder *builder;
    struct engine_capacity capacity;
    struct pool pool;
    struct queue *queue;
    struct map active;  /* run id → struct active, borrowed */
    struct map waiting; /* digest of a build → struct strvec of run ids */
    char *url;
    int64_t long_run_ms;
    engine_event_fn engine_listener;
    void *engine_listener_userdata;
    orchestrator_run_ended_fn run_ended;
    void *run_ended_userdata;
    struct loop_source *resume; /* timer: the next pause between attempts is over */
    bool placing;               /* a placement is due in this turn */
    bool has_queue;             /* what waited at the start is in the queue; nothing is placed before */
    bool gates_busy, gates_again;
    pthread_t thread;
    bool started;
    atomic_bool stopping;
};

/* orchestrator.c */
void orchestrator_place_soon(struct orchestrator *o);
int orchestrator_enqueue(struct orchestrator *o, const struct run *run, struct error *error);

/* active.c */
/* A queued run got its resources. */
void active_begin(struct orchestrator *o, const char *run_id);
/* A run that an earlier process began. */
int active_reattach(struct orchestrator *o, const char *run_id, struct error *error);
void active_stop(struct active *active);
void active_engine_event(struct orchestrator *o, const char *key, enum engine_event event, bool *ret_known);
void active_free_all(struct orchestrator *o);
void active_decide_gates(struct orchestrator *o);
