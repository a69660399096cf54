/*
 * HTTP/1.1 as the gateway reads it, from the socket to the handlers: the first byte says how the rest is cut into
 * pieces. Whatever comes, every request ends in exactly one of a reply and on_gone, its parts are what head.h
 * promises, and no connection stays behind. And a chunked body is the same in one piece and byte by byte.
 */
#include "fuzz-socket.h"
#include "http/exchange.h"
#include "http/head.h"
#include "http/server-loop.h"
#include "util/map.h"

#define BODY_LIMIT 1000
#define PENDING    16

struct server {
    struct loop *loop;
    struct loop_server *server;
    char *path;
    struct loop_request *pending[PENDING]; /* to be answered later */
    size_t n_pending;
};

static uint64_t on_head(void *context, struct loop_request *request)
{
    const char *path = loop_request_path(request);

    if (!loop_request_method(request) || *path != '/')
        abort();
    if (!strncmp(path, "/no", 3))
        loop_request_reply(request, 403, "text/plain", "no", 2);
    return BODY_LIMIT;
}

static void look_at(struct loop_request *request)
{
    cleanup_map struct map form = MAP_INIT(free);
    cleanup_free char *copy = NULL;
    const char *body, *header;
    size_t length;

    body = loop_request_body(request, &length);
    if (length > BODY_LIMIT)
        abort();
    copy = xstrndup(body, length);
    http_parse_form(copy, &form, NULL);
    loop_request_query(request, "a");
    header = loop_request_header(request, "X");
    if (header && strpbrk(header, "\r\n"))
        abort();
    if (loop_request_authorization(request) != loop_request_header(request, "Authorization"))
        abort();
}

static void on_request(void *context, struct loop_request *request)
{
    struct server *server = context;

    look_at(request);
    if (!strncmp(loop_request_path(request), "/later", 6) && server->n_pending < PENDING) {
        server->pending[server->n_pending++] = request;
        return;
    }
    loop_request_add_header(request, "X-Fuzz", "1");
    loop_request_reply(request, 200, loop_request_content_type(request), "ok", 2);
}

/* The request is no longer to be answered. */
static void on_gone(void *context, struct loop_request *request)
{
    struct server *server = context;

    for (size_t i = 0; i < server->n_pending; i++) {
        if (server->pending[i] == request) {
            server->pending[i] = server->pending[--server->n_pending];
            return;
        }
    }
    abort();
}

static void on_oversize(void *context, struct loop_request *request, uint64_t limit)
{
    loop_request_reply(request, 413, "text/plain", "large", 5);
}

static const char *on_malformed(void *context, const char *message, char *text, size_t size)
{
    snprintf(text, size, "%s", message);
    return "text/plain";
}

static struct server *server_start(void)
{
    static const struct loop_server_handlers handlers = {on_head, on_request, on_gone, on_oversize, on_malformed};
    struct server *server = xnew0(struct server);

    server->loop = loop_new();
    server->server = loop_server_new(server->loop, &handlers, server, 10);
    server->path = fs_join(fuzz_directory(), "http.sock");
    if (loop_server_listen(server->server, &(struct loop_listen){.unix_path = server->path}, NULL, NULL) < 0)
        abort();
    return server;
}

static void answer_pending(struct server *server)
{
    while (server->n_pending) {
        struct loop_request *request = server->pending[--server->n_pending];

        loop_request_reply_take(request, 200, NULL, xstrdup("later"), 5);
    }
}

static void talk(struct server *server, uint8_t mode, const uint8_t *data, size_t size)
{
    size_t piece = mode & 1 ? 1 + (mode >> 3) : size + 1;
    int fd = fuzz_connect(server->path);
    bool open = true;

    for (size_t at = 0; open && at < size; at += piece) {
        open = fuzz_send(server->loop, fd, data + at, piece < size - at ? piece : size - at);
        if (mode & 2)
            answer_pending(server);
    }
    if (open) {
        loop_run_once(server->loop, 0);
        if (mode & 4)
            answer_pending(server);
        loop_run_once(server->loop, 0);
        fuzz_drain(fd);
    }
    close(fd);
    for (int i = 0; i < 20 && loop_server_connections(server->server); i++)
        loop_run_once(server->loop, 0);
    if (loop_server_connections(server->server) || loop_server_pending(server->server) || server->n_pending)
        abort();
}

static void check_chunks(const uint8_t *data, size_t size)
{
    cleanup_free char *whole = xmemdup(data, size), *pieces = xmemdup(data, size);
    struct chunks first = {0}, second = {0};
    size_t length = size, used = 0, out = 0, at = 0;
    int r = chunks_decode(&first, whole, &length, &used), s = 0;

    while (s == 0 && at < size && !second.done) {
        size_t n = 1, taken;
        char byte = pieces[at];

        s = chunks_decode(&second, &byte, &n, &taken);
        if (s == 0 && n)
            pieces[out++] = byte;
        at++;
    }
    if (r != s || (r == 0 && (length != out || used != at || first.done != second.done || memcmp(whole, pieces, out))))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct server *server;

    if (!size)
        return 0;
    if (!server)
        server = server_start();
    talk(server, data[0], data + 1, size - 1);
    check_chunks(data, size);
    return 0;
}
