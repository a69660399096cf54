/*
 * The gateway program: takes inference requests from the network and has them answered by workers.
 *
 *     gateway.c   life cycle: sockets, start, drain      listener.c  HTTP: which call is it, is it allowed
 *     route.c     endpoints, versions, replicas          call.c      one request from arrival to answer
 *     auth.c      tokens; cache.c remembers them         balance.c   who runs what; queue.c who waits
 *     predict.c, oip.c, tfs.c, mlflow.c  protocols       worker.c    one connected worker; ring.c its memory
 *     surface.h, describe.c, bodies.c  the port as rows, and its OpenAPI document
 *     tensors.c, instances.c  their values               parts.c     one request that is several
 *     shadow.c    copies of requests, compared           difference.c  two answers
 *     answers.c   answers that are given again
 *     control.c   the daemon's orders                    stats.c     counters
 *     load.c      how loaded each route is, for scaling
 *     record.c    a logged request as a line           recorder.c  the files that the lines go to
 *
 * One thread owns everything and never blocks: no lock anywhere. DIRECTORY holds control.sock (mode 0600) and
 * worker.sock; the directory is seen by every replica. DIRECTORY/requests is the gateway's alone.
 */
#pragma once

#include <sys/types.h>
#include "gateway/auth.h"
#include "gateway/control.h"
#include "gateway/recorder.h"
#include "gateway/route.h"
#include "gateway/stats.h"
#include "gateway/worker.h"
#include "http/server-loop.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/loop.h"

struct gateway_options {
    const char *directory;
    const char *const *listen;  /* addresses, ended by NULL; "fd:7": a listening socket that was
                                * inherited; it is served from the first configure on */
    const char *unix_path;      /* also listen there; NULL: not */
    const char *certificate, *key;
    const char *introspect;     /* "unix:/path", "http://host:port/path"; NULL: only public endpoints work */
    const char *introspect_path; /* of a Unix socket; NULL: /api/v1/oauth2/introspect */
    const char *introspect_token; /* bearer token for an external server; NULL: none */
    uid_t user;                 /* becomes this user when everything is open; 0: stays what it is */
    int64_t token_ttl_ms;       /* most time that a good token is remembered */
    int64_t grace_ms;           /* for running requests at SIGTERM */
};
#define GATEWAY_OPTIONS_INIT {.token_ttl_ms = LIMIT_TOKEN_TTL_MS, .grace_ms = LIMIT_GATEWAY_GRACE_MS}

struct gateway {
    const struct gateway_options *options;
    struct loop *loop;
    struct loop_server *server;
    struct routes routes;
    struct bearer *auth;
    struct auth_stats auth_stats;
    struct control *control;
    struct workers *workers;
    struct recorder *recorder;
    struct answers *answers; /* NULL: nobody wished that answers be remembered */
    struct list copies;  /* requests that run on shadows: shadow.c */
    size_t copied_bytes; /* of all of them */
    char instance[ID_SIZE]; /* counters of another one begin at 0 */
    int64_t started_ms;     /* wall clock */
    bool draining;
    int64_t drain_until_ns;
    int directory_fd;
};

/* Runs until SIGTERM or SIGINT and the drain after it. Prints "listening on URL" lines to standard error's log. */
int gateway_run(const struct gateway_options *options, struct error *error);
