/*
 * From words on the command line to what is submitted: code that is packed and uploaded, and the definition
 * of a run or a job.
 */
#pragma once

#include "cli/command.h"

/* Rows that `run`, `job create` and `job run` have in common. */
#define SUBMIT_OPTIONS                                                                                                 \
    {"data", 'd', "DATASET", "dataset to see at /slipway/data/NAME", true},                                            \
        {"param", 'p', "KEY=VALUE", "parameter; the value is JSON, or text if it is none", true},                      \
        {"cpus", 'c', "CORES", "CPU cores, fractions allowed (1)"},                                                    \
        {"memory", 'm', "BYTES", "memory, e.g. 1500M, 8G (not limited)"}, {"gpus", 'g', "N", "GPUs (0)"},              \
        {"gpu-memory", 0, "BYTES", "memory that each GPU must have"},                                                  \
        {"env", 'e', "ENVIRONMENT", "what the code runs in (host)"}, {"priority", 0, "N", "higher runs first (0)"},    \
        {"timeout", 't', "TIME", "longest run time, e.g. 90m"},                                                        \
        {"grace", 0, "TIME", "between SIGTERM and SIGKILL (10s)"},                                                     \
        {"retries", 'r', "N", "further attempts after a failure (0)"},                                                 \
        {"network", 0, NULL, "the host's network instead of loopback only"},                                           \
        {"nodes", 0, "ROLE=N,…", "several nodes, e.g. chief=1,worker=3,ps=1"},                                         \
        {"model", 0, "TYPE/NAME", "model whose versions the weights become"},                                          \
        {"gate", 0, "RULE", "accept what was made only if this holds, e.g. 'accuracy >= 0.95'"},                       \
        {"alias", 0, "NAME", "alias that an accepted model gets (production)"},                                        \
        {"label", 0, "KEY=VALUE", "word to find the run by", true},                                                    \
        {"with", 'w', "DIR", "pack this directory, which the script is in"},                                           \
        {"entry", 0, "COMMAND", "program and arguments, instead of what the name implies"}

/* Fills `body` from the options above. */
int submit_options(const struct invocation *invocation, json_t *body, struct error *error);

/* Packs what `path` names (a script, a directory or a zip), uploads it, and sets "code" and, unless it is
 * there already, "entry" in the body. */
int submit_code(const struct invocation *invocation, const char *path, json_t *body, struct error *error);
