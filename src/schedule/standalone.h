/*
 * One version of one model, without a control plane: what runs in an image that `slipway model package` made.
 *
 *     supervisor ──┬── slipway gateway     the same program, the same protocols
 *                  └── worker              the same program as a replica's
 *
 * It starts both, gives the gateway its one route, and starts again what dies: the gateway at once, the worker
 * after 0, 1, 5, 15 s. A model whose init() fails before it was ever ready ends the program, so that whoever
 * started the container sees it. SIGTERM drains the gateway, then ends the worker.
 */
#pragma once

#include "util/error.h"
#include "util/json.h"

struct standalone_options {
    const char *state;  /* directory for sockets, is made */
    const char *listen; /* "*:8480" */
    const char *certificate, *key;
    const char *introspect, *introspect_token; /* where tokens are checked (gateway/gateway.h); NULL: nowhere */
    bool is_public;                            /* needs no token */
    const char *program;                       /* NULL: this executable */
};

/* `model` is what the image says:
 *   {"name","model","version","code_weights","platform","concurrency","batch","timeout_ms","queue","inputs",
 *    "outputs","command":["python3","/slipway/lib/slipway_worker.py"],"directory":"/slipway/code","environment":{name:value}}
 * Runs until SIGTERM or SIGINT. ERROR_INVALID: neither introspection nor public. */
int standalone_run(const struct standalone_options *options, const json_t *model, struct error *error);
