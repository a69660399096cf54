/*
 * Captures the program's output as a log in the CRI format.
 *
 * The program never waits for us longer than a write to the log takes: what does not fit (the log's limit, a
 * full disk) is counted and dropped. The file only ever grows by whole entries.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "util/error.h"
#include "util/loop.h"

struct capture;

/* Opens (creates) the log. `limit` in bytes. on_truncated is called once, when something is dropped for the
 * first time; `full` tells a full disk from the limit. */
typedef void (*capture_truncated_fn)(void *userdata, bool full);
int capture_open(const char *path, uint64_t limit, struct loop *loop, capture_truncated_fn on_truncated, void *userdata,
                 struct capture **ret_capture, struct error *error);
struct capture *capture_close(struct capture *capture);
DEFINE_CLEANUP(struct capture *, capture_close)

/* Makes the two pipes of a program that is about to start; the returned ends are for its descriptors 1 and 2
 * and to be closed by the caller. */
int capture_attach(struct capture *capture, int ret_fds[2], struct error *error);
/* After the program and all its children have ended: reads what is left in the pipes and closes them. */
void capture_drain(struct capture *capture);
int capture_sync(struct capture *capture, struct error *error);

/* Bytes of the program's output that are in the log, and that are not. */
uint64_t capture_bytes(const struct capture *capture);
uint64_t capture_dropped(const struct capture *capture);
