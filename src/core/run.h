/*
 * A run: one execution of code, with one or more nodes (processes).
 *
 *                    ┌────────────── retry: a new attempt ──────────────┐
 *                    ▼                                                  │
 *     submit ──▶ queued ──▶ starting ──▶ running ──▶ succeeded          │
 *                  │           │            ├──────▶ failed ────────────┤
 *                  │           │            ├──────▶ lost ──────────────┤
 *                  └───────────┴────────────┴──────▶ stopped ───────────┘
 *
 * queued    no resources are held; `reason` says why it waits (submitted, retry, daemon_restarted)
 * starting  resources are held, nodes are being prepared and launched
 * running   the program of at least one node was started
 * lost      a node and its monitor vanished without an exit record
 *
 * run_set_state() is the only setter: it checks the transition, writes state, reason and event in the
 * caller's transaction. What a run was asked to do is decided once, at submission, and kept in `spec`.
 */
#pragma once

#include "store/db.h"
#include "util/hash.h"
#include "util/schema.h"
#include "util/state.h"

enum run_state {
    RUN_QUEUED,
    RUN_STARTING,
    RUN_RUNNING,
    RUN_SUCCEEDED,
    RUN_FAILED,
    RUN_STOPPED,
    RUN_LOST,
    RUN_STATE_COUNT_,
};

enum node_state {
    NODE_LAUNCHING,
    NODE_RUNNING,
    NODE_EXITED,
    NODE_LOST,
    NODE_STATE_COUNT_,
};

extern const struct state_machine run_states;
extern const struct state_machine node_states;

static inline bool run_is_final(enum run_state state)
{
    return state >= RUN_SUCCEEDED;
}

/* Per node. */
struct run_resources {
    double cpus;
    uint64_t memory; /* bytes; 0: not limited */
    int gpus;
    uint64_t gpu_memory; /* bytes that each device must have; 0: any */
};

struct run {
    char id[ID_SIZE];
    char *project;
    char *name; /* may be NULL, as job, code, model and message */
    char *job;
    int job_code; /* 0: none */
    char *code;   /* digest of the code archive, as text */
    char *model;  /* "vision/digits" */
    enum run_state state;
    char *reason;
    char *message;
    int attempt; /* from 1 */
    int failures, retries;
    int priority; /* higher runs first */
    int nodes;
    struct run_resources resources;
    int64_t timeout_ms; /* 0: none */
    bool stop_requested;
    int64_t not_before; /* queued: wall ms; 0: at once */
    bool has_exit_code;
    int exit_code;
    json_t *spec;
    json_t *labels;                           /* may be NULL */
    int64_t created_at, started_at, ended_at; /* wall ms */
    char *created_by;
};

/* How long it holds resources at the most: time-out and grace. 0: nobody knows. */
static inline int64_t run_lasts_ms(const struct run *run)
{
    return run->timeout_ms ? run->timeout_ms + json_get_int(run->spec, "grace_ms", 0) : 0;
}

struct run *run_free(struct run *run);
DEFINE_CLEANUP(struct run *, run_free)
#define cleanup_run CLEANUP(run_free_cleanup)

/* The body of POST /api/v1/runs, and what remains of it as `spec`. */
extern const struct schema run_request_schema;
extern const struct schema run_schema; /* what run_to_json() returns */

/*
 * Submits a run. `request` was checked against run_request_schema. Fields that are absent come from the
 * job, if one is named, then from the defaults. Addresses are resolved here (digits → digits@3, an
 * environment to its version), so that a retry repeats exactly the same. Writes slipway.run.queued.
 */
int run_create(struct db_tx *tx, const char *project, const char *actor, const json_t *request, char ret_id[ID_SIZE],
               struct error *error);

/* ERROR_NOT_FOUND. project may be NULL: any. */
int run_load(struct db_tx *tx, const char *project, const char *id, struct run **ret_run, struct error *error);
/* Accepts also a prefix of at least 8 digits, or "last", the project's newest. */
int run_find(struct db_tx *tx, const char *project, const char *text, struct run **ret_run, struct error *error);

struct run_change {
    enum run_state state;
    const char *reason;   /* snake_case */
    const char *message;  /* for people, may be NULL */
    const char *actor;    /* NULL: "system" */
    const int *exit_code; /* NULL: leave */
    bool new_attempt;     /* to RUN_QUEUED: the next attempt */
    bool failure;         /* to RUN_QUEUED: the attempt counts against `retries` */
    int64_t not_before;   /* to RUN_QUEUED: wall ms; 0: at once */
};
/* ERROR_CONFLICT if the state in the database does not allow it. Updates *run. */
int run_set_state(struct db_tx *tx, struct run *run, const struct run_change *change, struct error *error);

/* Asks for the end of a run: a queued one is stopped at once, of the others the orchestrator ends the nodes.
 * ERROR_CONFLICT for one that has ended. Updates *run. */
int run_request_stop(struct db_tx *tx, struct run *run, const char *actor, struct error *error);
/* A new attempt of a run that failed, was stopped or lost. */
int run_retry(struct db_tx *tx, struct run *run, const char *actor, struct error *error);
int run_set_priority(struct db_tx *tx, struct run *run, int priority, const char *reason, const char *actor,
                     struct error *error);
/* Removes an ended run with its metrics; ERROR_CONFLICT while it lives or a model version stems from it.
 * The caller removes the directory. */
int run_delete(struct db_tx *tx, const struct run *run, const char *actor, struct error *error);

json_t *run_to_json(const struct run *run);

struct run_filter {
    const char *project;
    int state;       /* -1: all */
    const char *job; /* NULL: all */
    const char *model;
    const char *label;  /* "key=value" or "key" */
    const char *before; /* cursor: runs older than this id */
    int limit;
};
/* Newest first, as run_to_json(). NULL on failure. ret_next: id for `before` of the next page, or empty. */
json_t *run_list(struct db_tx *tx, const struct run_filter *filter, char ret_next[ID_SIZE], struct error *error);

/* -- nodes -- */

struct run_node {
    int attempt, node;
    char role[16];
    enum node_state state;
    int64_t intake_offset, intake_sequence;
};

int run_add_node(struct db_tx *tx, const struct run *run, int node, const char *role, const char *gpus,
                 struct error *error);
int run_set_node_state(struct db_tx *tx, const char *run_id, int attempt, int node, enum node_state state,
                       const json_t *exit, struct error *error);
int run_load_node(struct db_tx *tx, const char *run_id, int attempt, int node, struct run_node *ret_node,
                  struct error *error);
/* The exit record of a node; NULL with ERROR_NOT_FOUND before it has ended. */
json_t *run_node_exit(struct db_tx *tx, const char *run_id, int attempt, int node, struct error *error);
/* All nodes of all attempts, in order: [{"attempt","node","role","state","gpus","started_at",…,"exit"}]. */
json_t *run_nodes(struct db_tx *tx, const char *run_id, struct error *error);

/* Name of a node's directory below DATA/runs/<run>/: "0", of later attempts "0.a2". */
#define RUN_NODE_DIRECTORY_SIZE 32
char *run_node_directory(int attempt, int node, char buffer[RUN_NODE_DIRECTORY_SIZE]);
/* The role of a node by its index: the roles of spec.nodes in the order chief, main, worker, ps. */
const char *run_node_role(const struct run *run, int node, int *ret_index_in_role);

/* -- weights generations -- */

struct run_weights {
    int attempt, node, node_generation;
    const char *name;
    struct digest digest;
    uint64_t size;
    int64_t created_at;
};
/* Stores the next generation of the run, once: a repeated (attempt, node, node_generation) gives the number
 * that it got the first time and writes nothing. Writes slipway.run.weights. *ret_new may be NULL. */
int run_add_weights(struct db_tx *tx, const struct run *run, const struct run_weights *weights, int *ret_generation,
                    bool *ret_new, struct error *error);
/* [{"generation","digest","size","step","name","created_at","attempt","node"}] in order. */
json_t *run_weights_list(struct db_tx *tx, const char *run_id, struct error *error);
/* The newest generation's digest; ERROR_NOT_FOUND without one. */
int run_newest_weights(struct db_tx *tx, const char *run_id, struct digest *ret_digest, int *ret_generation,
                       struct error *error);
