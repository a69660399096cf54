/* What the files of the worker library share. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include "format/wire.h"
#include "worker/worker.h"

enum wake { WAKE_SIGNAL, WAKE_RING, WAKE_SOCKET };

struct slipway_worker {
    char path[4096];
    char runtime[64];
    char message[WIRE_TEXT + 64];
    uint32_t functions, concurrency;
    int socket, wake_worker, wake_gateway, epoll;
    int signals[2]; /* pipe of signal numbers, one byte each */
    bool connected, is_ready;
    volatile sig_atomic_t stopping;
    struct wire_requests *requests; /* kept mapped while disconnected: the model may hold views of it */
    struct wire_answers *answers;
    uint64_t requests_size, answers_size;
    struct wire_message layout;     /* the WELCOME */
    uint32_t head, tail;            /* submissions taken, completions made */
    uint32_t naps, woken;           /* number of our last sleep, and of the gateway's that we ended */
    uint32_t big_index;             /* completion that used the big place last */
    bool big_used;
    /* Called around sleeps, so that an interpreter can let go of its lock. */
    void *(*before_sleep)(void);
    void (*after_sleep)(void *state);
    void *sleep_state;
    int (*check_signals)(void); /* after a sleep; < 0 stops */
};

/* Waits for the next request, or for all requests of the next batch (at most WIRE_SLOTS). Returns how many there
 * are; 0: it is time to end. Those whose deadline has passed are answered and not among them. */
int slipway_worker_take_batch(struct slipway_worker *worker, struct slipway_request *requests);

/* Sets the message; returns -1. */
int slipway_worker_fail(struct slipway_worker *worker, const char *format, ...) __attribute__((format(printf, 2, 3)));
