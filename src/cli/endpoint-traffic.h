/*
 * Versions beside the live one, as `slipway endpoint` asks for them and shows them.
 */
#pragma once

#include "cli/command.h"

/* Adds to the body of a deployment what makes of it a canary or a shadow. */
int traffic_read_options(const struct invocation *invocation, json_t *body, struct error *error);
#define TRAFFIC_OPTIONS                                                                                                \
    {"canary", 0, "PERCENT", "give it a part of the requests, beside the live version"},                               \
        {"shadow", 0, NULL, "give it copies of requests, and compare its answers with the live version's"},            \
        {"sample", 0, "PART", "part of the requests that is copied and compared, 0 to 1 (shadow: 1, canary: 0)"},      \
        {"tolerance", 0, "X", "numbers of compared answers agree within it, absolutely or relatively (0.000001)"},     \
        {"promote-if", 0, "RULE", "jq rule that makes it live"},                                                       \
        {"abort-if", 0, "RULE", "jq rule that ends it (a canary: it fails 5 % more often than the live version)"},     \
        {"after", 0, "REQUESTS/T", "--promote-if waits for so many requests and so long (100/60s)"},                   \
        {"sticky", 0, "HEADER", "from now on equal values of this header stay on the same version"}

/* What the versions did, below an endpoint that is shown; nothing while the gateway does not answer. With --json it is
 * added to the endpoint. */
int traffic_show(struct invocation *invocation, json_t *endpoint, struct error *error);
/* slipway endpoint compare */
int traffic_compare(struct invocation *invocation, struct error *error);
