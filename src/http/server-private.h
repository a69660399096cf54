/*
 * What the files of the server share: server.c (listeners, threads, life cycle), server-call.c (one request),
 * server-reply.c (answers as libmicrohttpd wants them). These are the only files that see microhttpd.h.
 */
#pragma once

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include "http/exchange.h"
#include "http/server.h"
#include "util/list.h"

struct listener {
    struct http_server *server;
    struct MHD_Daemon *daemon;
    bool is_local, is_tls;
    int fd;    /* -1 while libmicrohttpd has it */
    char *url;
    char *certificate, *key; /* PEM texts, until the start */
    char *unix_path; /* removed at the end; NULL: TCP */
    pthread_t starter; /* who starts it: what libmicrohttpd says there is why it did not */
    char message[256];
};

/* One accepted socket, from accept to close. */
struct connection {
    struct list link; /* in server->connections */
    struct listener *listener;
    int fd;
    struct http_peer peer;
    /* While bytes of a request are awaited: until when (CLOCK_MONOTONIC, ns; INT64_MAX: for ever), else 0. The
     * sweeper shuts the socket down afterwards, or when the other side has left. libmicrohttpd's own time-out
     * does not catch somebody who sends a byte now and then. */
    _Atomic int64_t deadline_ns;
};

struct route_counters {
    _Atomic uint64_t by_class[6];
    _Atomic uint64_t duration_count[HTTP_DURATION_BUCKETS + 1];
    _Atomic uint64_t duration_ns;
};

/*
 *   CALL_NEW ──► CALL_BODY ──► (CALL_WORKING ──►) CALL_ANSWERED     the usual way
 *      │            │
 *      ├────────────┴──► CALL_REFUSED     the answer is an error; the rest of the body is read and dropped
 *      └───────────────► CALL_LINGERING   the error was sent past libmicrohttpd while the body still comes
 */
enum call_phase { CALL_NEW, CALL_BODY, CALL_WORKING, CALL_WORKED, CALL_REFUSED, CALL_LINGERING, CALL_ANSWERED };

/* One request; libmicrohttpd's per-request pointer. */
struct call {
    struct exchange *exchange;
    struct http_server *server;
    struct connection *connection;
    struct MHD_Connection *mhd;
    enum call_phase phase;
    struct strbuf body;    /* JSON and forms */
    uint64_t discarded;    /* bytes dropped in CALL_REFUSED and CALL_LINGERING */
    int64_t begun_ns;
    struct websocket *websocket; /* accepted, and not upgraded yet */
    struct list link;      /* in server->work */
    bool slow;
};

struct http_server {
    struct http_server_options options;
    char *spool_directory;
    struct router *router;
    struct route_counters *counters; /* by index of the route */
    _Atomic uint64_t unrouted, received_bytes, n_connections, n_websockets;

    struct listener **listeners;
    size_t n_listeners;

    pthread_mutex_t lock; /* of connections, work, n_slow, stopping, sockets */
    struct list connections;
    struct list work;
    pthread_cond_t work_ready;
    pthread_t *workers;
    int n_workers;
    int n_slow; /* workers with a slow request */
    bool stopping;

    struct loop *loop; /* streaming */
    pthread_t streamer;
    bool streaming; /* the thread runs */
    struct list sockets; /* websockets; the streaming thread's */
};

/* -- server-call.c -- */
struct call *call_new(struct http_server *server, struct connection *connection, const char *target);
struct call *call_free(struct call *call);
/* Runs the handler and leaves its reply, or its error, in the exchange. */
void call_run(struct call *call);
enum MHD_Result call_step(struct call *call, struct MHD_Connection *mhd, const char *method, const char *data,
                          size_t *size);
void call_count(struct call *call, int status);

/* -- server-reply.c -- */
/* Queues the exchange's answer. */
enum MHD_Result reply_queue(struct call *call);

/* -- websocket.c -- */
/* Takes the accepted WebSocket out of the exchange. Ends in websocket_upgraded() or websocket_abandon(). */
struct websocket *websocket_prepare(struct http_server *server, struct exchange *exchange);
struct websocket *websocket_abandon(struct websocket *ws);
void websocket_upgraded(void *userdata, struct MHD_Connection *connection, void *call, const char *extra,
                        size_t extra_length, MHD_socket fd, struct MHD_UpgradeResponseHandle *handle);
/* Streaming thread: tells all of them to go away (1001); `now` cuts those that did not. */
void websocket_close_all(struct http_server *server, bool now);
