/*
 * A few threads for work that blocks on disk, so that a loop's thread never does.
 *
 * work(userdata) runs on a worker, in the order of asking, several at a time; then done(userdata) runs on the
 * loop. Work that must not overlap is kept apart by who asks (schedule/orchestrator.c has at most one intake
 * a node in flight).
 */
#pragma once

#include "util/loop.h"

struct workers;

struct workers *workers_new(struct loop *loop, int threads);
/* Waits for work in progress; what has not begun, and what is added later, waits for workers_free(). */
void workers_stop(struct workers *workers);
/* Stops if needed. Work whose end is told to the loop is dropped, and so is what would be told; work that nobody
 * waits for (done is NULL) is done now. Accepts NULL; returns NULL. */
struct workers *workers_free(struct workers *workers);
/* done may be NULL: then `work` owns userdata. Any thread. */
void workers_add(struct workers *workers, loop_fn work, loop_fn done, void *userdata);
