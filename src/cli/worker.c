/*
 * slipway worker: the process of a model that needs no code of the user. Started for a replica, not by people.
 */
#include "cli/command.h"
#include "worker/native-program.h"

static int run_worker(struct invocation *invocation, struct error *error)
{
    return native_program(invocation->arguments[0], option_value(invocation, "environment"), invocation->arguments[1],
                          error);
}

static const struct option worker_options[] = {
    {"environment", 0, "DIR", "Python environment to look for the runtime's library in"},
    {},
};

const struct command worker_commands[] = {
    {"worker", "RUNTIME FILE", "serve a native model (onnx, xgboost) to the gateway", worker_options, run_worker,
     .offline = true, .hidden = true},
    {},
};
