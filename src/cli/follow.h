/*
 * Follows a run until it has ended: its log on standard output, its metrics as a small chart below it on a
 * terminal, as plain lines in a pipe. Connections that break are taken up where they were.
 */
#pragma once

#include "cli/command.h"

/* The exit status that the run's end means: 0 succeeded (and its gate accepted), 1 failed, 7 the gate
 * rejected, 8 timed out, 130 stopped. -1 with error. */
int follow_run(struct invocation *invocation, const char *run_id, struct error *error);
/* Log only, of one node, beginning with the last `tail` lines (-1: all). */
int follow_log(struct invocation *invocation, const char *run_id, int node, int64_t tail, bool timestamps,
               struct error *error);
/* Metrics only, as lines. */
int follow_metrics(struct invocation *invocation, const char *run_id, struct error *error);
