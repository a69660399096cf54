/*
 * Connected workers: the hello on worker.sock, their shared memory, their death.
 *
 *     connected ──HELLO──▶ greeted ──READY──▶ ready
 *         │                   │                 │
 *         └───────────────────┴─────────────────┴──▶ gone (socket closed, process dead, or killed by us)
 *
 * The process is known by a pidfd from the moment it connected (SO_PEERPIDFD, or SO_PEERCRED and pidfd_open
 * with a check that it is still the same), so that a kill never hits another. A worker that breaks the protocol
 * is killed; it never gets a second chance on the same connection.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "gateway/ring.h"
#include "util/error.h"
#include "util/loop.h"

struct gateway;
struct replica;
struct workers;

struct worker {
    struct list link; /* in workers->all */
    struct gateway *gateway;
    struct replica *replica; /* NULL before HELLO */
    int socket, pidfd;
    pid_t pid;
    struct loop_source *on_socket, *on_death, *on_answers, *hang_timer, *hello_timer;
    struct ring *ring;       /* NULL before HELLO */
    uint32_t functions;
    char runtime[64];
    double run_ns;           /* moving average of how long a request, or its batch, runs; 0: unknown */
    uint32_t batch;          /* number of the last batch that it got */
    bool stirred; /* its eventfd was written since the last time that we took answers */
    bool closing;
};

int workers_open(struct gateway *gateway, const char *path, struct workers **ret_workers, struct error *error);
struct workers *workers_close(struct workers *workers);

/* Kills the process (if we may) and drops the connection; `why` goes to log, control and the calls. */
void worker_kill(struct worker *worker, const char *why);
/* Asks it to finish and end. */
void worker_exit(struct worker *worker);
/* The ring has new submissions. */
void worker_wake(struct worker *worker);
