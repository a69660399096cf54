/*
 * Turns finished safetensors files that appear in the program's weights directory into numbered generations
 * in ours.
 *
 * A file that was renamed into place is first moved out of the program's reach, then checked, synced to disk
 * (by a child process, so that gigabytes do not hold up the log), and only then announced in the intake. One
 * that does not pass goes back under <name>.invalid with a warning.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "monitor/intake.h"

struct weights;

/* Both directories must exist. `from` is the program's, `to` is <directory>/weights. */
int weights_open(const char *from, const char *to, struct intake *intake, struct weights **ret_weights,
                 struct error *error);
/* Kills a sync that is under way. */
struct weights *weights_close(struct weights *weights);
DEFINE_CLEANUP(struct weights *, weights_close)

/* A file of this name was renamed into place. */
void weights_found(struct weights *weights, const char *name);
/* Looks through the directory, oldest file first. `last`: the program has ended, so that files that were
 * not renamed count too; otherwise only complete ones that did not change since the scan before. */
void weights_scan(struct weights *weights, bool last);
/* A child of ours ended; true if it was the one that syncs. */
bool weights_child(struct weights *weights, pid_t pid, int status);
/* True while a sync is under way or files wait for one. */
bool weights_busy(const struct weights *weights);
int weights_generations(const struct weights *weights);
