/*
 * Protocols as rows: how a request becomes what a worker takes, and its answer a reply.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "http/server-loop.h"
#include "util/error.h"

struct call;

struct codec {
    const char *name;
    /* Not NULL: the gateway itself answers, once the token is checked; the call is freed afterwards. */
    void (*local)(struct call *call);
    /* Sets call->kind and, unless the body goes as it is, call->encoded; or call->parts (parts.h). */
    int (*decode)(struct call *call, const char *body, size_t length, struct error *error);
    /* Replies 200 to call->request with the worker's answer, which is in shared memory: it may change while it
     * is read; where there are call->parts, with theirs, and body is NULL. An error here becomes a 502: the worker's
     * answer makes no sense. */
    int (*encode)(struct call *call, const char *body, size_t length, struct error *error);
    /* Replies with an error. */
    void (*fail)(struct loop_request *request, int status, enum error_code code, const char *message);
    /* Frees call->codec_state; NULL: there is none. */
    void (*release)(struct call *call);
};

extern const struct codec predict_codec;
extern const struct codec oip_codec;         /* infer */
extern const struct codec oip_metadata_codec; /* GET of a model */
extern const struct codec oip_stats_codec;
extern const struct codec oip_config_codec;
extern const struct codec tfs_codec; /* :predict */
extern const struct codec tfs_status_codec;
extern const struct codec mlflow_codec; /* /invocations */
