/*
 * The HTTP server: listeners, limits, authentication, and the way from a request to its route.
 *
 *     http_server_new(&options, &server, error);
 *     http_server_listen(server, &(struct http_listen){.unix_path = "/data/slipway.sock"}, NULL, error);
 *     http_server_listen(server, &(struct http_listen){.address = "127.0.0.1:8470"}, &url, error);
 *     http_server_start(server, error);
 *     ...
 *     http_server_free(server);       no handler runs any more when it returns
 *
 * Threads. Each listener has a few polling threads (epoll). A GET runs on one of them and holds up the other
 * connections of that thread, so it is short. Whatever else runs on a worker thread while its connection is
 * suspended: what writes waits for the disk, and those that wait at once share one sync. A route that is `slow`,
 * or has received more than LIMIT_HTTP_INLINE_BODY bytes, runs there, too, but only a few of these at once.
 * WebSockets live on one streaming thread (http_server_loop).
 *
 * What a stranger can do is bounded by util/limits.h: bytes of a header, bytes of a body (answered with 413
 * as soon as it is known, not after reading it), connections, seconds for a header and between two bytes.
 * Every failure is answered with {"error":{"code","message"}}. The only exceptions are bytes that are not
 * HTTP at all or a header many times over the limit: libmicrohttpd answers those itself and closes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "http/router.h"
#include "util/cleanup.h"
#include "util/error.h"
#include "util/loop.h"

struct http_server;

/* The other end of a connection. */
struct http_peer {
    bool is_local; /* came through the Unix socket: uid and pid are the kernel's word */
    uid_t uid;
    pid_t pid;
};

/* Says who asks. `token` is NULL without an Authorization header. Fills *ret (strings are taken over by the
 * server) or fails: ERROR_UNAUTHENTICATED becomes 401, anything else its own status. Called on every
 * request to a route with a scope; any thread. */
typedef int (*http_authenticate_fn)(void *context, const char *token, const struct http_peer *peer,
                                    struct http_principal *ret, struct error *error);

struct http_server_options {
    const struct http_route *const *routes; /* tables, ended by NULL; they must outlive the server */
    void *context;                          /* request->context, and of authenticate */
    http_authenticate_fn authenticate;
    const char *spool_directory; /* bodies that are files are kept here, unlinked, while they arrive */
    int threads;                 /* per listener; 0: 2 */
    int slow;                    /* slow requests at once; 0: 2 */
    int writers;                 /* other requests at once that are no GET; 0: 14 */
    int header_seconds;          /* for a header to arrive; 0: LIMIT_HTTP_HEADER_SECONDS */
    int body_seconds;            /* for a body in JSON to arrive; 0: LIMIT_HTTP_BODY_SECONDS */
};

/* Two rows that match the same requests are a bug and abort. */
int http_server_new(const struct http_server_options *options, struct http_server **ret_server, struct error *error);
/* Stops in order: no new connections, running handlers end, WebSockets are closed with 1001. */
struct http_server *http_server_free(struct http_server *server);
DEFINE_CLEANUP(struct http_server *, http_server_free)
#define cleanup_http_server CLEANUP(http_server_free_cleanup)

struct http_listen {
    const char *unix_path; /* mode 0600; what was there is replaced. Else: */
    const char *address;   /* "127.0.0.1:8470", "[::1]:0"; port 0 takes a free one */
    const char *certificate, *key; /* PEM files; both or neither */
};
/* Before the start. Opens the socket: who connects from here on waits for the start. *ret_url ("http://127.0.0.1:8470",
 * "unix:/data/slipway.sock"; to be freed) may be NULL. */
int http_server_listen(struct http_server *server, const struct http_listen *listen, char **ret_url,
                       struct error *error);

/* Starts to answer on all listeners. */
int http_server_start(struct http_server *server, struct error *error);

/* The loop of the streaming thread; loop_post() to it from anywhere. */
struct loop *http_server_loop(struct http_server *server);

/* -- what the server knows about itself -- */

/* Upper bounds of the duration histogram in seconds; the last bucket is unbounded. */
#define HTTP_DURATION_BUCKETS 9
extern const double http_duration_bounds[HTTP_DURATION_BUCKETS];

struct http_route_stats {
    const struct http_route *route;
    uint64_t by_class[6]; /* [2]: answers 200 to 299, and so on */
    uint64_t duration_count[HTTP_DURATION_BUCKETS + 1];
    double duration_seconds; /* sum */
};
struct http_server_stats {
    uint64_t connections; /* open now */
    uint64_t websockets; /* open now */
    uint64_t unrouted; /* answered 404 or 405 */
    uint64_t received_bytes; /* of bodies */
};
void http_server_stats(struct http_server *server, struct http_server_stats *ret_stats);
typedef void (*http_route_stats_fn)(void *userdata, const struct http_route_stats *stats);
void http_server_each_route(struct http_server *server, http_route_stats_fn fn, void *userdata);
