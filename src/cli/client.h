/*
 * Requests to the daemon, for commands.
 *
 * The daemon is found by --url (or SLIPWAY_URL) with --token (or SLIPWAY_TOKEN); without a URL by the
 * Unix socket of the data directory, where the kernel says who asks and SLIPWAY_TOKEN does not count.
 * Nothing is connected before the first request.
 *
 *     cleanup_free char *path = http_path("/api/v1/datasets/%s", name); (http/client.h)
 *     cleanup_json json_t *dataset = NULL;
 *     if (client_get(client, path, NULL, &dataset, error) < 0)
 *         return -1;
 *
 * Every function returns 0, or -1 with the error that the daemon answered: its code and its message.
 * Where no daemon answers it is ERROR_UNAVAILABLE, and client_hint() says what to do about it.
 * `query` and `body` may be NULL and are stolen: client_get(client, path, json_build("{s:i}", "limit", 5),
 * …). Values of `query` are strings, numbers or booleans; an array repeats the parameter; null ones are left
 * out. --project is added as the parameter `project` by itself. ret_reply may be NULL.
 */
#pragma once

#include "util/error.h"
#include "util/json.h"

struct client;
struct progress;

struct client_options {
    const char *url;            /* http(s)://host:port or unix:/path; NULL: the socket of data_directory */
    const char *token;          /* NULL: none */
    const char *data_directory; /* used where url is NULL */
    const char *project;        /* NULL: none */
};

/* Copies the options. */
struct client *client_new(const struct client_options *options);
struct client *client_free(struct client *client);
DEFINE_CLEANUP(struct client *, client_free)
#define cleanup_client CLEANUP(client_free_cleanup)

int client_get(struct client *client, const char *path, json_t *query, json_t **ret_reply, struct error *error);
int client_post(struct client *client, const char *path, json_t *query, json_t *body, json_t **ret_reply,
                struct error *error);
int client_put(struct client *client, const char *path, json_t *query, json_t *body, json_t **ret_reply,
               struct error *error);
int client_patch(struct client *client, const char *path, json_t *query, json_t *body, json_t **ret_reply,
                 struct error *error);
int client_delete(struct client *client, const char *path, json_t *query, json_t **ret_reply, struct error *error);

/* Walks the pages of a list until `max` items (0: all) are there: an array. */
int client_list(struct client *client, const char *path, json_t *query, size_t max, json_t **ret_items,
                struct error *error);

/* Sends the file from the descriptor's position to its end as the raw body of a POST. */
int client_upload(struct client *client, const char *path, json_t *query, int fd, struct progress *progress,
                  json_t **ret_reply, struct error *error);
/* Writes the body of a GET to the descriptor. */
int client_download(struct client *client, const char *path, json_t *query, int fd, struct progress *progress,
                    struct error *error);

/* Called for every message of a stream; a non-zero value ends it and becomes client_follow's result. */
typedef int (*client_message_fn)(void *userdata, json_t *message);
/* Opens a WebSocket and hands every JSON message to fn until the daemon closes it (0). */
int client_follow(struct client *client, const char *path, json_t *query, client_message_fn fn, void *userdata,
                  struct error *error);

/* The connection itself, for what is not covered here; NULL before the first request. */
struct http_client;
struct http_client *client_http(struct client *client);

/* What to do about the last failure to reach the daemon; NULL: it was reached. */
const char *client_hint(const struct client *client);
