/*
 * The monitor of one node: `slipway monitor DIRECTORY`, or `slipway monitor --wait DATA`, which is told the directory
 * later, by a line on its standard input.
 *
 * It owns the node from start to exit record (docs/RUN_CONTRACT.md) and outlives the daemon. One thread.
 *
 *     spec.json    read first
 *     lock         held (flock) while the monitor lives
 *     lost         made by the engine, holding the lock, when it finds no monitor: too late to start
 *     monitor.json written before anything else happens
 *     control      FIFO; a byte in it means: look at stop.json
 *     stop.json    {"signal": 15 or 9, "reason": "stopped"}; written atomically before the byte, and looked
 *                  for after the FIFO is open: a request is seen whenever it comes
 */
#pragma once

#include "util/error.h"

/* Waits for the line, and has monitor.log in that directory as its output then. *ret_directory is NULL if the other
 * side ended without one. */
int monitor_wait(char **ret_directory, struct error *error);

/* Returns after the exit record is written; an error only if there is no directory or another monitor. */
int monitor_run(const char *directory, struct error *error);
