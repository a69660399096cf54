/*
 * WebSockets for following something: events, a log, metrics.
 *
 * A route with `websocket` set calls http_websocket_accept() in its handler and returns 0. From then on the
 * connection lives on the server's streaming thread, where all callbacks run, and is fed by its pump:
 *
 *     static int pump(struct websocket *ws, void *userdata, struct error *error)
 *     {
 *         struct follow *follow = userdata;
 *         read a page of what comes after follow->cursor; websocket_send_json() each; advance the cursor;
 *         if it is the end for ever: websocket_close(ws, WEBSOCKET_NORMAL, "end");
 *         return there may be more at once ? 1 : 0;
 *     }
 *
 * The pump is called after the opening, after every websocket_wake() (which a journal listener calls, from
 * any thread) and again while it returns 1; it is not called while a slow reader has more than a quarter of
 * LIMIT_WEBSOCKET_BACKLOG unread, so nothing is lost and nothing piles up. A sender that ignores that and
 * passes the whole backlog loses its connection with 1013. Streams carry a position in every message, and
 * start behind the query parameter `after`, so that a client resumes where it was.
 *
 * Pings every 30 s; a peer that is silent for 90 s is dropped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "http/router.h"
#include "util/loop.h"

struct websocket;

#define WEBSOCKET_NORMAL     1000
#define WEBSOCKET_GOING_AWAY 1001
#define WEBSOCKET_POLICY     1008
#define WEBSOCKET_TOO_BIG    1009
#define WEBSOCKET_INTERNAL   1011
#define WEBSOCKET_TRY_LATER  1013

struct websocket_handler {
    /* May be NULL. Once, before the first pump: the place to register a listener. */
    void (*open)(struct websocket *ws, void *userdata);
    /* 1: call me again; 0: nothing more now; -1: the error's message is sent as close reason with 1011. */
    int (*pump)(struct websocket *ws, void *userdata, struct error *error);
    /* A message of the peer; NUL-terminated. NULL: messages are ignored. */
    void (*message)(struct websocket *ws, void *userdata, const char *text, size_t length);
    /* Exactly once, also if the connection never came up: unregister listeners, free userdata. `ws` is not
     * valid afterwards. */
    void (*close)(void *userdata);
};

/* From the handler of a route. Takes over userdata, also on failure. ERROR_INVALID if the request is no
 * WebSocket handshake. */
int http_websocket_accept(struct http_request *request, struct http_response *response,
                          const struct websocket_handler *handler, void *userdata, struct error *error);

/* Any thread, as long as close() has not returned: calls the pump soon. Calls are merged. */
void websocket_wake(struct websocket *ws);

/* The rest on the streaming thread only. */
struct loop *websocket_loop(struct websocket *ws);
void websocket_send(struct websocket *ws, const char *text, size_t length);
/* Steals the reference. */
void websocket_send_json(struct websocket *ws, json_t *value);
/* Bytes that wait to be read by the peer. */
size_t websocket_backlog(const struct websocket *ws);
/* Sends what is queued, then the close frame; the pump is not called any more. Reasons are cut at 123
 * bytes. */
void websocket_close(struct websocket *ws, int code, const char *reason);
