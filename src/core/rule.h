/*
 * Rules: jq programs over one JSON document, for gates, rules and conditions.
 *
 * A program comes from a user and may be endless, huge or hostile. It runs in a child process of this
 * executable, started as `slipway rule`, that has no environment, can open no file, and has limits of time
 * (LIMIT_RULE_TIME_MS), memory (LIMIT_RULE_MEMORY) and output (LIMIT_RULE_OUTPUT). Starting it takes a few
 * milliseconds; the call blocks for at most the time limit.
 */
#pragma once

#include "util/json.h"

/* Compiles only. ERROR_INVALID with the compiler's message and its line. */
int rule_check(const char *program, struct error *error);

/* Runs the program over the document. Returns an array of all values it gave, or NULL: ERROR_INVALID (does
 * not compile, or raised an error), ERROR_TIMEOUT, ERROR_TOO_LARGE (output or memory). */
json_t *rule_run(const char *program, const json_t *document, struct error *error);

/* The child: reads {"program","document"|absent} from standard input, writes {"values":[…]} or
 * {"error":{"code","message"}}. Every executable that calls rule_run() must call this first of all in
 * main() when argv[1] is "rule". Returns the exit status. */
int rule_child(void);
