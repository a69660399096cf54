/*
 * An HTTP server on the caller's own event loop, whose requests may be answered later: for the gateway, where
 * one thread carries everything and the answer comes from another process. It costs one recv() and one send() a
 * request; libmicrohttpd, which server.h uses, needs six system calls to suspend and resume one, which comes to twice
 * the processor time (bench/serving.py measures the whole against other servers). (Handlers that answer at once and may
 * block have server.h.) HTTP/1.1 and 1.0, kept connections, pipelining, chunked bodies, Expect, TLS; head.h says how
 * strict.
 *
 *     loop_server_new(loop, &handlers, context, &server)
 *     loop_server_listen(server, &listen, &url, error)        as often as there are addresses
 *
 *     on_head(context, request)      header is there: refuse with loop_request_reply(), or return
 *     on_request(context, request)   body is there: reply now, or keep the pointer and reply later
 *     on_gone(context, request)      the client left before the reply: forget the pointer
 *
 * A request is valid until it was replied to, or on_gone returned. All calls belong to the loop's thread.
 *
 * A refusal of on_head is sent at once; the body is then read and dropped, and where it is large the connection
 * is closed behind the reply. A client that shuts down its sending side counts as gone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/cleanup.h"
#include "util/error.h"
#include "util/loop.h"

struct loop_server;
struct loop_request;

struct loop_server_handlers {
    /* Returns the most bytes that the body may have; more is answered with 413 by on_oversize. */
    uint64_t (*on_head)(void *context, struct loop_request *request);
    void (*on_request)(void *context, struct loop_request *request);
    void (*on_gone)(void *context, struct loop_request *request);
    void (*on_oversize)(void *context, struct loop_request *request, uint64_t limit);
    /* The body of the answer to what is not HTTP: fills text, returns its content type. */
    const char *(*on_malformed)(void *context, const char *message, char *text, size_t size);
};

struct loop_server *loop_server_new(struct loop *loop, const struct loop_server_handlers *handlers, void *context,
                                    int max_connections);
/* Ends all listeners. Requests that are not answered are dropped, with on_gone. */
struct loop_server *loop_server_free(struct loop_server *server);

struct loop_listen {
    const char *unix_path; /* what was there is replaced; mode 0666: who may connect is the directory's matter */
    const char *address;   /* "127.0.0.1:8480", "[::1]:0", or "fd:7": a socket that listens already; it is taken */
    const char *certificate, *key; /* PEM files; both or neither */
};
/* *ret_url is to be freed; may be NULL. */
int loop_server_listen(struct loop_server *server, const struct loop_listen *listen, char **ret_url,
                       struct error *error);
/* The descriptor of the first listener, for who wants a copy; -1: there is none. */
int loop_server_listener(const struct loop_server *server);
/* Who connects waits, or waits no more. */
void loop_server_hold(struct loop_server *server, bool hold);
/* Accepts no new connection; open ones are closed after their next reply. */
void loop_server_drain(struct loop_server *server);
/* Requests that were received and are not answered. */
size_t loop_server_pending(const struct loop_server *server);
size_t loop_server_connections(const struct loop_server *server);

/* -- a request -- */
const char *loop_request_method(const struct loop_request *request);
/* As sent: percent-encoded, without the query. */
const char *loop_request_path(const struct loop_request *request);
/* The two headers that every request is asked for; NULL if absent. */
const char *loop_request_authorization(const struct loop_request *request);
const char *loop_request_content_type(const struct loop_request *request);
/* NULL if absent. */
const char *loop_request_header(const struct loop_request *request, const char *name);
/* Decoded; NULL if absent. */
const char *loop_request_query(struct loop_request *request, const char *name);
/* Valid as the request is. */
const char *loop_request_body(const struct loop_request *request, size_t *ret_length);
/* The caller's own word about a request; NULL at first. */
void loop_request_set_data(struct loop_request *request, void *data);
void *loop_request_data(const struct loop_request *request);

/* fn sees the reply before it goes out; the request is still whole then. At most one. */
typedef void (*loop_reply_fn)(void *userdata, int status, const char *content_type, const void *data, size_t length);
void loop_request_on_reply(struct loop_request *request, loop_reply_fn fn, void *userdata);

/* Headers of the reply; before it. The strings are copied. */
void loop_request_add_header(struct loop_request *request, const char *name, const char *value);
/* Copies. content_type may be NULL. */
void loop_request_reply(struct loop_request *request, int status, const char *content_type, const void *data,
                        size_t length);
/* Takes data, which free() will release. */
void loop_request_reply_take(struct loop_request *request, int status, const char *content_type, void *data,
                             size_t length);
