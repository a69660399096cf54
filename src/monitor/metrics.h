/*
 * Carries metrics.jsonl on into the intake: whole lines, in order, each once.
 *
 * The program's file is the buffer: nothing is read while the intake has no room, and the position moves
 * only with lines that the intake took. What is wrong with a line becomes a warning, never a failure.
 */
#pragma once

#include <stdbool.h>
#include "monitor/intake.h"

struct metrics;

/* Follows an open file (takes the descriptor). */
struct metrics *metrics_new(int fd, struct intake *intake);
struct metrics *metrics_free(struct metrics *metrics);
DEFINE_CLEANUP(struct metrics *, metrics_free)

/* Takes what is new, up to some MiB; true if there is more to take (call again soon). `last`: the program has
 * ended, so that a last line without newline counts too. */
bool metrics_read(struct metrics *metrics, bool last);

/* One line → object of name → number or null. NULL with the reason in error. *ret_odd (may be NULL) is set to
 * a text, to be freed, if something was left out or replaced. */
json_t *metrics_parse(const char *line, size_t length, char **ret_odd, struct error *error);
