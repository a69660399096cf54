/*
 * The HTTP client: for the CLI, and for the daemon where it talks to somebody (libcurl underneath; this is
 * the only place that sees it).
 *
 *     cleanup_http_client struct http_client *client = NULL;
 *     if (http_client_new(&(struct http_client_options){.url = "unix:/data/slipway.sock"}, &client, error) < 0)
 *         return -1;
 *     if (http_client_request(client, "GET", "/api/v1/runs?limit=10", NULL, &reply, error) < 0)
 *         return -1;
 *
 * An answer with a status of 400 or more becomes the error that the server sent, code and message; one
 * without our error object gets the code that fits its status. Nobody listening is ERROR_UNAVAILABLE with
 * the URL in the message.
 *
 * A client has one connection, kept alive, and belongs to one thread at a time; only http_client_cancel()
 * may be called from anywhere, also from a signal handler.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "util/cleanup.h"
#include "util/error.h"
#include "util/json.h"

struct http_client;

struct http_client_options {
    const char *url;     /* "unix:/path/to/socket", "http://host:port", "https://host:port[/prefix]" */
    const char *token;   /* bearer token; NULL: none */
    const char *ca_file; /* PEM; NULL: the system's */
    bool insecure;       /* does not check the certificate */
    int timeout_ms;      /* without a byte in either direction; 0: 600,000, because a handler may work for long */
};

int http_client_new(const struct http_client_options *options, struct http_client **ret_client, struct error *error);
struct http_client *http_client_free(struct http_client *client);
DEFINE_CLEANUP(struct http_client *, http_client_free)
#define cleanup_http_client CLEANUP(http_client_free_cleanup)

/* Ends what the client is doing with ERROR_CANCELLED, and everything after. Async-signal-safe. */
void http_client_cancel(struct http_client *client);

/* `path` begins with '/', may have a query and is percent-encoded already (http_path()). `body` is borrowed;
 * NULL: none. *ret_reply is a new reference (NULL for an empty answer); ret_reply may be NULL.
 * At most LIMIT_HTTP_REPLY bytes. */
int http_client_request(struct http_client *client, const char *method, const char *path, const json_t *body,
                        json_t **ret_reply, struct error *error);
/* The same for a POST of a form, whose text is percent-encoded already (http_path() helps). */
int http_client_form(struct http_client *client, const char *path, const char *form, json_t **ret_reply,
                     struct error *error);
/* The same for an answer that is text. To be freed. */
int http_client_text(struct http_client *client, const char *method, const char *path, char **ret_text,
                     size_t *ret_length, struct error *error);

/* done and total in bytes; total is 0 while it is not known. Called a few times a second at most. */
typedef void (*http_progress_fn)(void *userdata, uint64_t done, uint64_t total);

/* Sends `size` bytes from the descriptor's current position as the body (UINT64_MAX: to its end, chunked, for
 * a pipe). Answers like http_client_request. `progress` may be NULL. */
int http_client_upload(struct http_client *client, const char *method, const char *path, int fd, uint64_t size,
                       http_progress_fn progress, void *userdata, json_t **ret_reply, struct error *error);
/* Writes the body of the answer to the descriptor. ret_size may be NULL. */
int http_client_download(struct http_client *client, const char *path, int fd, http_progress_fn progress,
                         void *userdata, uint64_t *ret_size, struct error *error);

/* Follows a WebSocket until the server closes it normally (0), on_message returns non-zero (0), or a failure
 * (-1): ERROR_UNAVAILABLE if the connection broke, so that the caller resumes with `after`; the server's
 * error if it refused. Text is NUL-terminated. */
typedef int (*http_message_fn)(void *userdata, const char *text, size_t length);
int http_client_follow(struct http_client *client, const char *path, http_message_fn on_message, void *userdata,
                       struct error *error);

/* Builds a path: "%s" parts are percent-encoded, '/' too; "%p" parts keep their slashes; "%d" takes an
 * int64_t. To be freed.
 *     http_path("/api/v1/datasets/%s?limit=%d", name, (int64_t)10)                                        */
char *http_path(const char *format, ...);
