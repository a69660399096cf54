/*
 * slipway endpoint requests: what was asked of an endpoint and answered, as far as it was logged.
 */
#pragma once

#include "cli/command.h"

int endpoint_requests(struct invocation *invocation, struct error *error);
extern const struct option requests_options[];

/* Of create and set. */
int log_read_options(const struct invocation *invocation, json_t *options, struct error *error);
#define LOG_OPTIONS                                                                                                    \
    {"log-sample", 0, "PART", "part of the requests to log, 0 to 1 (0)"},                                              \
        {"log-body", 0, "BYTES", "bytes to keep of each and of its answer, at most 64K (16K)"}

/* "a part of 0.01, 16.0 KiB of each"; NULL: nothing is logged. */
char *log_text(const json_t *endpoint);
