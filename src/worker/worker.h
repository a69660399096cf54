/*
 * libslipway-worker.so: the model worker's side of the gateway, for any language. libc only.
 *
 *     struct slipway_worker *worker = slipway_worker_open(NULL);         socket, id and key from the environment
 *     slipway_worker_hello(worker, "python 3.11.2", functions, 1);
 *     … init(), warm-up …
 *     slipway_worker_ready(worker);                                      or slipway_worker_failed(worker, why)
 *     slipway_worker_run(worker, answer, userdata);                      calls answer() for each request
 *     slipway_worker_close(worker);
 *
 * run() returns 0 when the gateway or SIGTERM told the worker to end, -1 for good. If the gateway dies it
 * connects again, as often as needed, and says ready at once: the model stays loaded.
 *
 * One thread at a time, except slipway_worker_stop(). Failing functions return -1 and
 * slipway_worker_error() says why.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SLIPWAY_API __attribute__((visibility("default")))

struct slipway_worker;
struct slipway_request;

/* One request, and where its answer goes. `body` is read-only memory and valid until answer() returns. */
struct slipway_request {
    uint32_t kind;   /* enum wire_kind: 1 predict, 2 tensors */
    uint32_t status; /* enum wire_status; 0 (OK) at first */
    const char *body;
    uint64_t length;
    char *answer;    /* room for the answer or an error's message, written by the callback */
    uint64_t answer_max; /* bytes there; slipway_request_reserve() finds room for more */
    uint64_t answer_length;
    int64_t deadline_ns; /* CLOCK_MONOTONIC */
    unsigned char trace[24];
    struct slipway_worker *worker;
    uint32_t slot, generation, batch; /* of struct wire_submission */
    int64_t begun_ns;                 /* when it was taken; CLOCK_MONOTONIC */
};

/* Makes room for a long answer: answer and answer_max change. NULL if it is more than can be sent. */
SLIPWAY_API char *slipway_request_reserve(struct slipway_request *request, uint64_t length);

/* Answers one request; called one at a time. */
typedef void (*slipway_answer_fn)(void *userdata, struct slipway_request *request);

/* NULL: SLIPWAY_GATEWAY_SOCKET, else /slipway/gateway/worker.sock. Never fails; connects at hello(). */
SLIPWAY_API struct slipway_worker *slipway_worker_open(const char *socket_path);
/* Connects (waiting for the gateway as long as needed) and says who we are: SLIPWAY_REPLICA_ID and
 * SLIPWAY_REPLICA_KEY. `functions` are bits of enum wire_function. */
SLIPWAY_API int slipway_worker_hello(struct slipway_worker *worker, const char *runtime, uint32_t functions,
                                     uint32_t concurrency);
/* init() is done; the functions that the package turned out to have. */
SLIPWAY_API int slipway_worker_ready(struct slipway_worker *worker, uint32_t functions);
SLIPWAY_API int slipway_worker_failed(struct slipway_worker *worker, const char *message);
SLIPWAY_API int slipway_worker_run(struct slipway_worker *worker, slipway_answer_fn answer, void *userdata);
/* The loop of run() by hand, for languages that cannot be called from C: take() waits for the next request, 1,
 * or says that it is time to end, 0; after each one answer(). */
SLIPWAY_API int slipway_worker_take(struct slipway_worker *worker, struct slipway_request *ret_request);
SLIPWAY_API void slipway_worker_answer(struct slipway_worker *worker, const struct slipway_request *request);
/* Makes run() return after the request that it is in. Any thread, any signal handler. */
SLIPWAY_API void slipway_worker_stop(struct slipway_worker *worker);
/* Where a signal handler writes the number of its signal, one byte (Python's signal.set_wakeup_fd() does just that):
 * the worker wakes up, and SIGTERM stops it. Non-blocking; the worker's. */
SLIPWAY_API int slipway_worker_signal_fd(const struct slipway_worker *worker);
SLIPWAY_API void slipway_worker_close(struct slipway_worker *worker);
SLIPWAY_API const char *slipway_worker_error(const struct slipway_worker *worker);

/* The same as run() for a Python interpreter, whose lock is held: see python.c and slipway_worker.py. */
struct object;
SLIPWAY_API int slipway_worker_run_python(struct slipway_worker *worker, struct object *predict, struct object *answer,
                                          struct object *failed);
