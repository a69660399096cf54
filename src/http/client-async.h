/*
 * HTTP requests from an event loop: the answer comes by callback (libcurl's multi interface underneath; with
 * client.c the only places that see it). For programs that must never wait, as the gateway.
 */
#pragma once

#include <stddef.h>
#include "util/error.h"
#include "util/loop.h"

struct fetcher;

/* status 0: no answer came, `body` says why; else the answer's status and body (NUL-terminated). */
typedef void (*fetch_fn)(void *userdata, int status, const char *body, size_t length);

struct fetch_request {
    const char *url;           /* "http://host/path"; with unix_path the host does not matter */
    const char *unix_path;     /* NULL: TCP */
    const char *content_type;  /* of the body */
    const char *body;          /* sent by POST; copied */
    size_t length;
    const char *token;         /* bearer token; NULL: none */
    size_t reply_max;          /* bytes; a longer answer is a failure */
    int timeout_ms;
};

struct fetcher *fetcher_new(struct loop *loop);
/* Drops what is under way; its callbacks are not called. Accepts NULL; returns NULL. */
struct fetcher *fetcher_free(struct fetcher *fetcher);

/* fn is called once, never from within this call. */
void fetcher_post(struct fetcher *fetcher, const struct fetch_request *request, fetch_fn fn, void *userdata);
