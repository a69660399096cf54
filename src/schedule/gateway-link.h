/*
 * The gateway as seen from the daemon: its process and its control connection (gateway/control.h).
 *
 *             ┌──────────── ended: again after 0 to 1 s ────────────┐
 *             ▼                                                      │
 *     down ──start──▶ starting ──control.sock answers──▶ up ──ended──┤
 *       └── attach (gateway.json names a living process) ──▶ starting┘
 *
 * DATA/gateway.json holds {"pid","start_time","url","arguments"} of the process, so that the next daemon
 * finds it. The serving port's socket is ours and inherited by every gateway, so that its end refuses nobody.
 * One that was started with other arguments is ended and replaced. One that ends at once is tried again;
 * on_problem tells what it said, or that the port is taken. All functions and callbacks
 * belong to the loop's thread.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "util/error.h"
#include "util/json.h"
#include "util/loop.h"

struct gateway_link;

/* In the data directory: where a gateway with a user of its own asks what tokens are worth. */
#define INTROSPECT_SOCKET "gateway/introspect.sock" /* in the data directory */

struct gateway_link_options {
    const char *data_directory;    /* absolute */
    const char *listen;            /* port 0: a free one, kept over restarts */
    const char *certificate, *key; /* NULL: no TLS */
    const char *program;           /* NULL: this executable */
    const char *introspect;        /* where it asks what tokens are worth; NULL: the daemon; "": nowhere */
    const char *introspect_token;  /* for that server; NULL: none */
    uid_t user;                    /* what it becomes, with the socket INTROSPECT_SOCKET; 0: it stays what we are */
    /* The connection is up, for the first time or again: whatever was sent before is to be sent again. */
    void (*on_up)(void *userdata);
    /* A worker's state, as the gateway tells it; message may be NULL. */
    void (*on_replica)(void *userdata, const char *id, const char *state, const char *message, bool killed);
    /* What it tells of a route: gateway/control.h, "load" and "cold_start". May be NULL. */
    void (*on_route)(void *userdata, const char *event, const json_t *message);
    /* Why there is no gateway: the last line it wrote. NULL: it is up. Called when that changes; may be NULL. */
    void (*on_problem)(void *userdata, const char *message);
    void *userdata;
};

/* Starts or attaches. Copies the options. */
int gateway_link_new(struct loop *loop, const struct gateway_link_options *options, struct gateway_link **ret_link,
                     struct error *error);
/* The process goes on. Pending calls are answered with NULL. */
struct gateway_link *gateway_link_free(struct gateway_link *link);

bool gateway_link_is_up(const struct gateway_link *link);
const char *gateway_link_url(const struct gateway_link *link);
/* {"state":"down|starting|up","pid","url","restarts"} */
json_t *gateway_link_describe(const struct gateway_link *link);

/* reply is borrowed; NULL: the connection was lost before the answer. */
typedef void (*gateway_reply_fn)(void *userdata, const json_t *reply);
/* Steals the request and numbers it. fn may be NULL. Answers at once with NULL while the gateway is not up. */
void gateway_link_call(struct gateway_link *link, json_t *request, gateway_reply_fn fn, void *userdata);
