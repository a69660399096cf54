#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/client.h"
#include "cli/progress.h"
#include "http/client.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

struct client {
    struct http_client *http; /* NULL before the first request */
    char *url, *token, *project;
    char *hint;
    bool is_local; /* the socket of a data directory */
    char *data_directory;
};

struct client *client_new(const struct client_options *options)
{
    struct client *client = xnew0(struct client);

    client->is_local = !options->url;
    client->data_directory = xstrdup_null(options->data_directory);
    client->url = options->url ? xstrdup(options->url) : xasprintf("unix:%s/slipway.sock", options->data_directory);
    client->token = xstrdup_null(options->token);
    client->project = xstrdup_null(options->project);
    return client;
}

struct client *client_free(struct client *client)
{
    if (!client)
        return NULL;
    http_client_free(client->http);
    free(client->url);
    free(client->token);
    free(client->project);
    free(client->hint);
    free(client->data_directory);
    free(client);
    return NULL;
}

struct http_client *client_http(struct client *client)
{
    return client->http;
}

const char *client_hint(const struct client *client)
{
    return client->hint;
}

static int connect_http(struct client *client, struct error *error)
{
    struct http_client_options options = {.url = client->url, .token = client->token};

    return client->http ? 0 : http_client_new(&options, &client->http, error);
}

/* An error without a reply of the daemon: says how to get one. */
static int explain(struct client *client, struct error *error)
{
    cleanup_free char *socket = NULL;

    free(client->hint);
    client->hint = NULL;
    if (!error || error->code != ERROR_UNAVAILABLE)
        return -1;
    if (!client->is_local) {
        client->hint = xasprintf("is 'slipway serve' running where %s leads to?", client->url);
        return -1;
    }
    socket = fs_join(client->data_directory, "slipway.sock");
    client->hint = xasprintf("start it with 'slipway serve --data %s', or name another with --data or --url",
                             client->data_directory);
    if (!fs_exists(socket)) {
        error_clear(error);
        error_set(error, ERROR_UNAVAILABLE, "no daemon runs on the data directory %s", client->data_directory);
    }
    return -1;
}

/* -- paths with a query -- */

static void add_encoded(struct strbuf *sb, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (strchr("-._~:/@", *p) || (*p >= '0' && *p <= '9') || ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z'))
            strbuf_addc(sb, *p);
        else
            strbuf_addf(sb, "%%%02X", (unsigned char)*p);
    }
}

static void add_parameter(struct strbuf *sb, const char *name, const json_t *value)
{
    const json_t *element;
    size_t i;

    if (json_is_array(value)) {
        json_array_foreach((json_t *)value, i, element)
            add_parameter(sb, name, element);
        return;
    }
    if (json_is_null(value))
        return;
    strbuf_addc(sb, strchr(sb->data, '?') ? '&' : '?');
    add_encoded(sb, name);
    strbuf_addc(sb, '=');
    if (json_is_string(value)) {
        add_encoded(sb, json_string_value(value));
    } else {
        cleanup_free char *text = json_text(value);

        add_encoded(sb, text);
    }
}

/* Steals query. To be freed. */
static char *path_with_query(const struct client *client, const char *path, json_t *query)
{
    struct strbuf sb = STRBUF_INIT(LIMIT_HTTP_HEADER);
    const char *name;
    json_t *value;

    strbuf_adds(&sb, path);
    json_object_foreach(query, name, value)
        add_parameter(&sb, name, value);
    if (client->project && !json_object_get(query, "project")) {
        cleanup_json json_t *project = json_string(client->project);

        add_parameter(&sb, "project", project);
    }
    json_decref(query);
    return strbuf_detach(&sb, NULL);
}

/* -- requests -- */

static int request(struct client *client, const char *method, const char *path, json_t *query, json_t *body,
                   json_t **ret_reply, struct error *error)
{
    cleanup_free char *full = path_with_query(client, path, query);
    cleanup_json json_t *owned = body;

    if (connect_http(client, error) < 0 || http_client_request(client->http, method, full, body, ret_reply, error) < 0)
        return explain(client, error);
    return 0;
}

int client_get(struct client *client, const char *path, json_t *query, json_t **ret_reply, struct error *error)
{
    return request(client, "GET", path, query, NULL, ret_reply, error);
}

int client_post(struct client *client, const char *path, json_t *query, json_t *body, json_t **ret_reply,
                struct error *error)
{
    return request(client, "POST", path, query, body, ret_reply, error);
}

int client_put(struct client *client, const char *path, json_t *query, json_t *body, json_t **ret_reply,
               struct error *error)
{
    return request(client, "PUT", path, query, body, ret_reply, error);
}

int client_patch(struct client *client, const char *path, json_t *query, json_t *body, json_t **ret_reply,
                 struct error *error)
{
    return request(client, "PATCH", path, query, body, ret_reply, error);
}

int client_delete(struct client *client, const char *path, json_t *query, json_t **ret_reply, struct error *error)
{
    return request(client, "DELETE", path, query, NULL, ret_reply, error);
}

int client_list(struct client *client, const char *path, json_t *query, size_t max, json_t **ret_items,
                struct error *error)
{
    cleanup_json json_t *items = json_array(), *parameters = query ? query : json_object();

    for (;;) {
        cleanup_json json_t *page = NULL;
        size_t left = max ? max - json_array_size(items) : LIMIT_PAGE;
        const char *next;

        json_set_int(parameters, "limit", (int64_t)(left < LIMIT_PAGE ? left : LIMIT_PAGE));
        if (client_get(client, path, json_incref(parameters), &page, error) < 0)
            return -1;
        json_array_extend(items, json_object_get(page, "items"));
        next = json_get_string(page, "next", NULL);
        if (!next || (max && json_array_size(items) >= max))
            break;
        json_set_string(parameters, "after", next);
    }
    *ret_items = steal_ptr(items);
    return 0;
}

static void on_progress(void *userdata, uint64_t done, uint64_t total)
{
    struct progress *progress = userdata;

    if (total)
        progress_set_total(progress, total);
    progress_update(progress, done);
}

int client_upload(struct client *client, const char *path, json_t *query, int fd, struct progress *progress,
                  json_t **ret_reply, struct error *error)
{
    cleanup_free char *full = path_with_query(client, path, query);
    uint64_t size = UINT64_MAX;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "cannot look at the file");
    if (S_ISREG(st.st_mode))
        size = (uint64_t)(st.st_size - lseek(fd, 0, SEEK_CUR));
    if (connect_http(client, error) < 0 ||
        http_client_upload(client->http, "POST", full, fd, size, on_progress, progress, ret_reply, error) < 0)
        return explain(client, error);
    return 0;
}

int client_download(struct client *client, const char *path, json_t *query, int fd, struct progress *progress,
                    struct error *error)
{
    cleanup_free char *full = path_with_query(client, path, query);

    if (connect_http(client, error) < 0 ||
        http_client_download(client->http, full, fd, on_progress, progress, NULL, error) < 0)
        return explain(client, error);
    return 0;
}

struct follow {
    client_message_fn fn;
    void *userdata;
    int result;
    struct error error;
};

static int on_message(void *userdata, const char *text, size_t length)
{
    struct follow *follow = userdata;
    cleanup_json json_t *message = json_parse(text, length, &follow->error);

    follow->result = message ? follow->fn(follow->userdata, message) : -1;
    return follow->result;
}

int client_follow(struct client *client, const char *path, json_t *query, client_message_fn fn, void *userdata,
                  struct error *error)
{
    cleanup_free char *full = path_with_query(client, path, query);
    struct follow follow = {fn, userdata, 0, ERROR_INIT};

    if (connect_http(client, error) < 0 || http_client_follow(client->http, full, on_message, &follow, error) < 0)
        return explain(client, error);
    if (error_is_set(&follow.error)) {
        error_move(error, &follow.error);
        return error_wrap(error, "the daemon sent a message that is no JSON");
    }
    return follow.result;
}
