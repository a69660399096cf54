/*
 * How far a long action is, on standard error.
 *
 *     cleanup_progress struct progress *progress = progress_new("import digits.csv", PROGRESS_BYTES, size);
 *     while (...)
 *         progress_update(progress, done);
 *     progress_finish(progress);
 *
 * On a terminal it is one line that is redrawn at most ten times a second, with share, rate and time left:
 *
 *     import digits.csv  [########--------]  52 %  1.20 GiB of 2.31 GiB  310 MiB/s  3.7 s left
 *
 * In a pipe it is a plain line every five seconds and one at the end. An action that ends within half a
 * second prints nothing in a pipe. All functions accept NULL, so that a caller may go without.
 */
#pragma once

#include <stdint.h>
#include "util/cleanup.h"

enum progress_unit {
    PROGRESS_BYTES,
    PROGRESS_COUNT,
};

struct progress;

/* total 0: not known (yet); see progress_set_total. */
struct progress *progress_new(const char *label, enum progress_unit unit, uint64_t total);
void progress_set_total(struct progress *progress, uint64_t total);
void progress_update(struct progress *progress, uint64_t done);
/* Draws the final state and ends the line. */
void progress_finish(struct progress *progress);
/* Ends the line if it is still open. Accepts NULL; returns NULL. */
struct progress *progress_free(struct progress *progress);
DEFINE_CLEANUP(struct progress *, progress_free)
#define cleanup_progress CLEANUP(progress_free_cleanup)
