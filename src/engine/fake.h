/*
 * An engine in memory, for tests of what is built on engines. It writes the same files as a monitor does
 * (intake.jsonl, log, exit.json), but runs nothing.
 *
 * By itself a node starts after `start_ms`, runs `run_ms` and ends with `exit_code`. Options:
 *
 *     cpus memory gpus gpu_memory   capacity (8 cores, 16 GiB, no GPUs)
 *     start_ms run_ms exit_code     as said (0, 0, 0)
 *     manual: true                  nodes neither start nor end by themselves: use the functions below
 *     stubborn: true                nodes ignore SIGTERM
 *     lossy: true                   ENGINE_INTAKE is never told
 *     refuse: n                     the first n launches fail with ERROR_UNAVAILABLE
 *     dying: n                      every n-th node is lost instead of ending
 */
#pragma once

#include "engine/engine.h"

/* All tell their events before they return; ERROR_NOT_FOUND for a node that is not there or has ended. */
int fake_start(struct engine *engine, const char *key, struct error *error);
/* A line of the intake with these fields (steals; may be NULL). */
int fake_intake(struct engine *engine, const char *key, const char *type, json_t *fields, struct error *error);
/* exit_code is negative if a signal ended it. */
int fake_end(struct engine *engine, const char *key, int exit_code, int signal, const char *reason,
             struct error *error);
int fake_lose(struct engine *engine, const char *key, struct error *error);
/* Nodes that live. */
size_t fake_count(const struct engine *engine);
