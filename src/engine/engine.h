/*
 * Engines start nodes (processes in containers) on some machine or cluster. One vtable per kind, rows in
 * engine.c: local, process (local without containers), fake, disabled; docker, swarm and kubernetes later.
 *
 * A node is launched from a spec and from then on known by its key "<run>/<attempt>/<node>". What it
 * produces (log, metrics, weights, exit) lands in its directory as docs/RUN_CONTRACT.md says, written by
 * the node's monitor, which outlives this process. The engine only tells that there is something new; who
 * reads it (schedule/intake.c) remembers how far it came in the same transaction that stores the content.
 *
 *     DATA/runs/<run>/<node>/           one directory a node and attempt ("0", "1"; attempts: "0.a2", …)
 *         spec.json      what to run, written by the engine before the monitor starts
 *         config.json    local: the OCI runtime's configuration
 *         monitor.json   {"pid","start_time"} of the monitor, written by it first of all
 *         log            CRI log format
 *         intake.jsonl   append-only: one JSON object a line, see RUN_CONTRACT.md
 *         weights/       finished generations, numbered, named by intake lines
 *         out/           artifacts (there when the node has ended)
 *         exit.json      written atomically, last, after the log is drained and synced
 *         view/ work/    what the program sees as /slipway and its working directory, while it runs
 *         lock control stop.json runtime.*   between the engine and the monitor
 *
 * The files that others read are log, intake.jsonl, weights/, out/ and exit.json. ENGINE_INTAKE comes after
 * the lines are synced to disk; the file only grows, so that an offset once stored stays valid.
 *
 * All calls belong to the orchestrator's thread and return soon; callbacks come on its loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "util/error.h"
#include "util/json.h"
#include "util/loop.h"
#include "util/strvec.h"

struct engine;

/* PATH of programs that have no environment of their own. */
#define ENGINE_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct engine_mount {
    const char *source; /* absolute path on the host */
    const char *target; /* absolute path in the container */
    bool writable;
};

/* Everything is borrowed for the call. */
struct engine_spec {
    const char *run_id;    /* 32 hex digits; of an endpoint's replica: its id */
    int attempt;           /* 1, 2, … */
    int node;              /* index, from 0 */
    const char *role;      /* main, chief, worker, ps, replica */
    const char *directory; /* created by the caller, empty, mode 0700 */

    const char *const *argv;        /* NULL-terminated; a name without slash is searched in PATH inside */
    const char *const *environment; /* NULL-terminated, complete */
    const char *code; /* directory to be seen at /slipway/code, read-only; NULL: none. What is in
                       * it must be readable by anybody (a+rX; the way to it need not be); where
                       * it is writable by anybody too, the program may change its own copy */
    const struct engine_mount *mounts; /* datasets, weights, sockets */
    size_t n_mounts;
    const char *params; /* JSON text for /slipway/params.json */
    const char *resume; /* host path of a weights file for /slipway/resume/; NULL: none */
    const char *root;   /* root file system on the host; NULL: the host's own, seen read-only:
                       * /usr /etc /opt and the like; not /root, /home, /var, /run, /srv, /mnt */

    double cpus;        /* cores; 0: no limit */
    double part; /* of its right to processors when they are short, until weigh(); 0: all. In containers only */
    uint64_t memory; /* bytes; 0: no limit */
    uint64_t pids; /* processes; 0: default 1024 */
    const char *gpus; /* "0,1": devices that were assigned; NULL: none visible */
    bool network; /* the host's network; otherwise loopback only */
    const char *group; /* file name; without the host's network, nodes of the same group share one loopback;
                        * NULL: alone */
    int64_t timeout_ms; /* 0: none */
    int64_t grace_ms; /* between SIGTERM and SIGKILL */
    bool restart; /* replicas: start again when it ends, back-off 0, 1, 5, 15 s */
};

struct engine_capacity {
    double cpus; /* cores */
    uint64_t memory; /* bytes */
    int gpus;
    uint64_t *gpu_memory; /* bytes, per device; owned by the engine */
    const char *runtime; /* "runc 1.1.5", "process", "fake" */
    const char *note; /* why this runtime was chosen and what is missing; NULL: nothing to say */
};

enum engine_event {
    ENGINE_INTAKE, /* intake.jsonl grew */
    ENGINE_EXITED, /* exit.json is there */
    ENGINE_LOST, /* monitor and node are gone without an exit record */
};

/* key is "<run>/<attempt>/<node>"; directory as launched. */
typedef void (*engine_event_fn)(void *userdata, const char *key, const char *directory, enum engine_event event);

/* One driver. Every callback may be called at any time between open and close. */
struct engine_driver {
    const char *name;
    const char *summary;
    /* ERROR_UNSUPPORTED if this machine cannot do it; the message says what is missing. `options` is the
     * engine's configuration object, may be NULL. */
    int (*open)(struct engine *engine, const json_t *options, struct error *error);
    void (*close)(struct engine *engine);
    int (*probe)(struct engine *engine, struct engine_capacity *ret_capacity, struct error *error);
    /* Starts the node or fails having left nothing behind. Launching a key twice is ERROR_EXISTS. */
    int (*launch)(struct engine *engine, const struct engine_spec *spec, struct error *error);
    /* SIGTERM asks (grace, then SIGKILL by the monitor); SIGKILL ends at once. A node that is gone: 0.
     * The exit record carries `reason` if the signal ended it. */
    int (*signal)(struct engine *engine, const char *key, int signal, const char *reason, struct error *error);
    /* Reattaches to a node that an earlier process launched; an ENGINE_EXITED, ENGINE_LOST or ENGINE_INTAKE
     * follows if there is anything to tell. */
    int (*attach)(struct engine *engine, const char *key, const char *directory, struct error *error);
    /* Gives the node only this part (above 0, at most 1) of its right to processors when they are short.
     * Where nothing can do that: ERROR_UNSUPPORTED. */
    int (*weigh)(struct engine *engine, const char *key, double part, struct error *error);
    /* Stops watching and removes what is left of it outside its directory (cgroup, mounts). */
    int (*forget)(struct engine *engine, const char *key, struct error *error);
    /* {"cpu_seconds","memory_bytes","memory_peak_bytes","pids"}; NULL if unknown. */
    json_t *(*stats)(struct engine *engine, const char *key, struct error *error);
};

struct engine {
    const struct engine_driver *driver;
    struct loop *loop;
    const char *data_directory;
    engine_event_fn on_event;
    void *userdata;
    void *state; /* the driver's own */
    char *fallback; /* why "auto" passed over the drivers before this one; NULL: it did not */
    char *note; /* capacity.note with that */
};

/* "<run>/<attempt>/<node>"; to be freed by the caller. */
char *engine_key(const char *run_id, int attempt, int node);

/* Finds the driver by name; "auto" takes the first of local, process that opens. */
int engine_open(const char *name, const json_t *options, struct loop *loop, const char *data_directory,
                engine_event_fn on_event, void *userdata, struct engine **ret_engine, struct error *error);
struct engine *engine_close(struct engine *engine);

/* All drivers in the order of the table, NULL past the end. */
const struct engine_driver *engine_driver_at(size_t index);

int engine_probe(struct engine *engine, struct engine_capacity *ret_capacity, struct error *error);
int engine_launch(struct engine *engine, const struct engine_spec *spec, struct error *error);
int engine_signal(struct engine *engine, const char *key, int signal, const char *reason, struct error *error);
int engine_attach(struct engine *engine, const char *key, const char *directory, struct error *error);
int engine_weigh(struct engine *engine, const char *key, double part, struct error *error);
int engine_forget(struct engine *engine, const char *key, struct error *error);
json_t *engine_stats(struct engine *engine, const char *key, struct error *error);
