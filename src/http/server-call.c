#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include "http/server-private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/xalloc.h"

#define LINGER_BYTES (64 * MIB)

static const char *find_header(void *userdata, const char *name)
{
    return MHD_lookup_connection_value(userdata, MHD_HEADER_KIND, name);
}

struct call *call_new(struct http_server *server, struct connection *connection, const char *target)
{
    struct call *call = xnew0(struct call);

    call->server = server;
    call->connection = connection;
    call->exchange = exchange_new("GET", target);
    call->exchange->request.context = server->options.context;
    strbuf_init(&call->body, 0);
    list_init(&call->link);
    call->begun_ns = clock_monotonic_ns();
    return call;
}

struct call *call_free(struct call *call)
{
    if (!call)
        return NULL;
    websocket_abandon(call->websocket);
    exchange_free(call->exchange);
    strbuf_release(&call->body);
    free(call);
    return NULL;
}

void call_count(struct call *call, int status)
{
    const struct http_route *route = call->exchange->request.route;
    double seconds = (double)(clock_monotonic_ns() - call->begun_ns) / NS_PER_SEC;
    struct route_counters *counters;
    size_t bucket = 0;

    if (!route) {
        atomic_fetch_add(&call->server->unrouted, 1);
        return;
    }
    counters = &call->server->counters[router_index(call->server->router, route)];
    while (bucket < HTTP_DURATION_BUCKETS && seconds > http_duration_bounds[bucket])
        bucket++;
    atomic_fetch_add(&counters->by_class[status / 100 < 6 ? status / 100 : 5], 1);
    atomic_fetch_add(&counters->duration_count[bucket], 1);
    atomic_fetch_add(&counters->duration_ns, (uint64_t)(seconds * NS_PER_SEC));
}

/* -- the header -- */

struct header_sum {
    size_t bytes;
};

static enum MHD_Result add_header(void *userdata, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct header_sum *sum = userdata;

    sum->bytes += strlen(name) + (value ? strlen(value) : 0) + 4;
    return MHD_YES;
}

static int check_header(struct call *call, struct error *error)
{
    struct header_sum sum = {strlen(call->exchange->target)};

    MHD_get_connection_values(call->mhd, MHD_HEADER_KIND, add_header, &sum);
    if (sum.bytes <= LIMIT_HTTP_HEADER)
        return 0;
    call->exchange->response.status = 431;
    return error_set(error, ERROR_TOO_LARGE, "the header of the request has %zu bytes; at most %d are taken", sum.bytes,
                     (int)LIMIT_HTTP_HEADER);
}

/* Points behind "Bearer "; NULL without the header. */
static int find_token(struct call *call, const char **ret_token, struct error *error)
{
    const char *value = find_header(call->mhd, "Authorization");

    *ret_token = NULL;
    if (!value)
        return 0;
    if (strncasecmp(value, "Bearer ", 7) != 0)
        return error_set(error, ERROR_UNAUTHENTICATED, "the Authorization header must be 'Bearer TOKEN'");
    value += 7 + strspn(value + 7, " ");
    if (strlen(value) > LIMIT_TOKEN)
        return error_set(error, ERROR_UNAUTHENTICATED, "the token is longer than %d bytes", LIMIT_TOKEN);
    *ret_token = value;
    return 0;
}

static const char *const scope_names[] = {
    [SCOPE_NONE] = "none",       [SCOPE_INTROSPECT] = "introspect", [SCOPE_VIEW] = "view",
    [SCOPE_DEVELOP] = "develop", [SCOPE_ADMIN] = "admin",
};

/* The token of a run opens the routes of that run, and no others. */
static int check_run(const struct exchange *exchange, struct error *error)
{
    static const char routes[] = "/api/v1/runs/{id}";
    const struct http_request *request = &exchange->request;
    const char *own = exchange->principal.run_id, *path = request->route->path;

    if (!own || (strncmp(path, routes, sizeof(routes) - 1) == 0 && strcmp(http_path_param(request, "id"), own) == 0))
        return 0;
    return error_set(error, ERROR_FORBIDDEN, "the token of run %s is for /api/v1/runs/%s only", own, own);
}

static int authorize(struct call *call, struct error *error)
{
    const struct http_server_options *options = &call->server->options;
    struct exchange *exchange = call->exchange;
    enum http_scope needed = exchange->request.route->scope;
    const char *token;

    if (needed == SCOPE_NONE) {
        exchange->principal.name = xstrdup("anonymous");
        return 0;
    }
    if (find_token(call, &token, error) < 0 ||
        options->authenticate(options->context, token, &call->connection->peer, &exchange->principal, error) < 0)
        return -1;
    if (exchange->principal.scope < needed)
        return error_set(error, ERROR_FORBIDDEN, "%s %s needs the scope '%s'; %s has '%s'", exchange->request.method,
                         exchange->path, scope_names[needed], exchange->principal.name,
                         scope_names[exchange->principal.scope]);
    return check_run(exchange, error);
}

/* -- the body -- */

static uint64_t body_limit(const struct http_route *route)
{
    return route->body_limit ?: LIMIT_JSON_BODY;
}

static enum http_body body_kind(const struct http_route *route)
{
    return route->body == HTTP_BODY_NONE && route->request ? HTTP_BODY_JSON : route->body;
}

static int too_large(const struct http_route *route, struct error *error)
{
    return error_set(error, ERROR_TOO_LARGE, "the body is larger than %llu bytes, the limit of this request",
                     (unsigned long long)body_limit(route));
}

/* Bytes that the header promises; UINT64_MAX for a chunked body. */
static uint64_t declared_body(struct call *call)
{
    const char *length = find_header(call->mhd, "Content-Length");

    if (find_header(call->mhd, "Transfer-Encoding"))
        return UINT64_MAX;
    return length ? strtoull(length, NULL, 10) : 0;
}

static int open_spool(struct http_server *server, struct error *error)
{
    cleanup_free char *path = NULL;
    int fd = open(server->spool_directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0)
        return fd;
    path = fs_join(server->spool_directory, "upload-XXXXXX");
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot keep the body in %s", server->spool_directory);
    unlink(path);
    return fd;
}

static int prepare_body(struct call *call, struct error *error)
{
    const struct http_route *route = call->exchange->request.route;
    uint64_t declared = declared_body(call);

    if (body_kind(route) == HTTP_BODY_NONE) {
        if (declared > 0)
            return error_set(error, ERROR_INVALID, "%s %s takes no body", route->method, call->exchange->path);
        return 0;
    }
    if (declared != UINT64_MAX && declared > body_limit(route))
        return too_large(route, error);
    if (body_kind(route) == HTTP_BODY_FILE) {
        int fd = open_spool(call->server, error);

        if (fd < 0)
            return -1;
        call->exchange->request.body_fd = fd;
        atomic_store(&call->connection->deadline_ns, INT64_MAX);
    } else {
        strbuf_init(&call->body, body_limit(route));
        atomic_store(&call->connection->deadline_ns,
                     clock_monotonic_ns() + call->server->options.body_seconds * NS_PER_SEC);
    }
    return 0;
}

static int take_body(struct call *call, const char *data, size_t size, struct error *error)
{
    struct http_request *request = &call->exchange->request;

    atomic_fetch_add(&call->server->received_bytes, size);
    if (body_kind(request->route) == HTTP_BODY_NONE)
        return error_set(error, ERROR_INVALID, "%s %s takes no body", request->method, request->path);
    if (request->body_size + size > body_limit(request->route))
        return too_large(request->route, error);
    request->body_size += size;
    if (request->body_fd >= 0)
        return fs_write_all(request->body_fd, data, size, error);
    strbuf_add(&call->body, data, size);
    return 0;
}

static int parse_form(struct call *call, json_t **ret, struct error *error)
{
    cleanup_map struct map fields = MAP_INIT(free);
    struct map_iterator it = {0};
    json_t *object;

    if (strlen(call->body.data) != call->body.length)
        return error_set(error, ERROR_INVALID, "a NUL byte is not allowed");
    if (http_parse_form(call->body.data, &fields, error) < 0)
        return -1;
    object = json_object();
    while (map_next(&fields, &it))
        json_set_string(object, it.key, it.value);
    *ret = object;
    return 0;
}

static int parse_body(struct call *call, struct error *error)
{
    struct http_request *request = &call->exchange->request;
    const struct http_route *route = request->route;

    switch (body_kind(route)) {
    case HTTP_BODY_NONE: return 0;
    case HTTP_BODY_FILE:
        if (lseek(request->body_fd, 0, SEEK_SET) < 0)
            return error_set_errno(error, errno, "cannot rewind the body");
        return 0;
    case HTTP_BODY_FORM:
        if (parse_form(call, &call->exchange->json, error) < 0)
            return error_wrap(error, "bad body");
        break;
    case HTTP_BODY_JSON:
        /* No body at all is an empty object: all fields may be optional. */
        call->exchange->json = call->body.length ? json_parse(call->body.data, call->body.length, error)
                                                 : json_object();
        if (!call->exchange->json)
            return error_wrap(error, "the body is not JSON");
        break;
    }
    strbuf_release(&call->body);
    request->json = call->exchange->json;
    return route->request ? schema_check(route->request, request->json, error) : 0;
}

/* -- refusing -- */

static void prepare_refusal(struct call *call, const struct error *error)
{
    exchange_reply_error(call->exchange, call->exchange->response.status, error);
    call->phase = CALL_REFUSED;
}

/* libmicrohttpd takes no answer while a body is coming, and closing a socket with unread bytes in it makes
 * the kernel destroy an answer on its way. So the answer goes straight to the socket, and what still comes
 * is read and dropped until the other side has seen it. Not possible with TLS. */
static enum MHD_Result linger(struct call *call)
{
    struct exchange *exchange = call->exchange;
    cleanup_strbuf struct strbuf head = STRBUF_INIT(LIMIT_HTTP_HEADER);
    int status = exchange->response.status, fd = call->connection->fd;

    if (call->connection->listener->is_tls)
        return MHD_NO;
    strbuf_addf(&head,
                "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: close\r\n",
                status, MHD_get_reason_phrase_for((unsigned)status), exchange->length);
    for (size_t i = 0; i + 1 < exchange->headers.count; i += 2)
        strbuf_addf(&head, "%s: %s\r\n", exchange->headers.items[i], exchange->headers.items[i + 1]);
    strbuf_adds(&head, "\r\n");
    strbuf_add(&head, exchange->data, exchange->length);
    if (send(fd, head.data, head.length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)head.length)
        return MHD_NO;
    shutdown(fd, SHUT_WR);
    call_count(call, status);
    call->phase = CALL_LINGERING;
    atomic_store(&call->connection->deadline_ns, clock_monotonic_ns() + LIMIT_HTTP_IDLE_SECONDS * NS_PER_SEC);
    return MHD_YES;
}

static enum MHD_Result refuse_early(struct call *call, const struct error *error)
{
    uint64_t declared = declared_body(call);

    prepare_refusal(call, error);
    if (find_header(call->mhd, "Expect") && declared > 0)
        return reply_queue(call); /* the client waits for our word before it sends the body */
    if (declared == UINT64_MAX || declared <= LIMIT_HTTP_DISCARD)
        return MHD_YES;
    return call->connection->listener->is_tls ? reply_queue(call) : linger(call);
}

static enum MHD_Result discard(struct call *call, size_t size)
{
    call->discarded += size;
    if (call->phase == CALL_REFUSED && call->discarded > LIMIT_HTTP_DISCARD)
        return linger(call);
    return call->discarded > LINGER_BYTES ? MHD_NO : MHD_YES;
}

/* -- the steps -- */

static enum MHD_Result begin(struct call *call, const char *method)
{
    cleanup_error struct error error = ERROR_INIT;
    struct exchange *exchange = call->exchange;

    exchange->request.method = method;
    exchange->find_header = find_header;
    exchange->header_userdata = call->mhd;
    atomic_store(&call->connection->deadline_ns,
                 clock_monotonic_ns() + call->server->options.body_seconds * NS_PER_SEC);
    call->phase = CALL_BODY;
    if (check_header(call, &error) < 0 || router_find(call->server->router, exchange, &error) < 0 ||
        authorize(call, &error) < 0 || exchange_check_query(exchange, &error) < 0 || prepare_body(call, &error) < 0)
        return refuse_early(call, &error);
    return MHD_YES;
}

void call_run(struct call *call)
{
    cleanup_error struct error error = ERROR_INIT;
    struct exchange *exchange = call->exchange;

    if (exchange->request.route->handler(&exchange->request, &exchange->response, &error) == 0)
        return;
    if (exchange->websocket)
        websocket_abandon(websocket_prepare(call->server, exchange));
    exchange_reply_error(exchange, 0, &error);
    if (exchange->response.status >= 500 && error.code != ERROR_UNAVAILABLE && error.code != ERROR_UNSUPPORTED)
        log_error("request failed", "method", exchange->request.method, "path", exchange->path, "code",
                  error_code_name(error.code), "message", error.message);
}

static bool is_slow(const struct call *call)
{
    return call->exchange->request.route->slow || call->exchange->request.body_size > LIMIT_HTTP_INLINE_BODY;
}

/* A change waits for the disk; here it would hold up others, whose changes could share its sync. */
static bool wants_worker(const struct call *call)
{
    return call->slow || strcmp(call->exchange->request.route->method, "GET") != 0;
}

/* MHD_NO: the server stops and takes no more work. */
static enum MHD_Result hand_to_worker(struct call *call)
{
    struct http_server *server = call->server;

    pthread_mutex_lock(&server->lock);
    if (server->stopping) {
        pthread_mutex_unlock(&server->lock);
        return MHD_NO;
    }
    call->phase = CALL_WORKING;
    MHD_suspend_connection(call->mhd);
    list_append(&server->work, &call->link);
    pthread_cond_signal(&server->work_ready);
    pthread_mutex_unlock(&server->lock);
    return MHD_YES;
}

static enum MHD_Result finish(struct call *call)
{
    cleanup_error struct error error = ERROR_INIT;

    atomic_store(&call->connection->deadline_ns, 0);
    if (parse_body(call, &error) < 0) {
        prepare_refusal(call, &error);
        return reply_queue(call);
    }
    call->slow = is_slow(call);
    if (wants_worker(call))
        return hand_to_worker(call);
    call_run(call);
    return reply_queue(call);
}

enum MHD_Result call_step(struct call *call, struct MHD_Connection *mhd, const char *method, const char *data,
                          size_t *size)
{
    cleanup_error struct error error = ERROR_INIT;
    size_t n = *size;

    call->mhd = mhd;
    switch (call->phase) {
    case CALL_NEW: return begin(call, method);
    case CALL_BODY:
        if (n == 0)
            return finish(call);
        *size = 0;
        if (take_body(call, data, n, &error) == 0)
            return MHD_YES;
        prepare_refusal(call, &error);
        return discard(call, n);
    case CALL_REFUSED:
        if (n == 0)
            return reply_queue(call);
        *size = 0;
        return discard(call, n);
    case CALL_LINGERING: *size = 0; return n == 0 ? MHD_NO : discard(call, n);
    case CALL_WORKED: return reply_queue(call);
    default: return MHD_YES;
    }
}
