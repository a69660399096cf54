#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "http/server-loop.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/list.h"
#include "util/net.h"
#include "util/parse.h"
#include "util/xalloc.h"

#define BODY_FIRST (16 * KIB) /* allocated for a body at first, whatever length was announced */

struct listener {
    struct list link;
    struct loop_server *server;
    struct MHD_Daemon *daemon;
    struct loop_source *source;
    char *unix_path;
    char message[256]; /* why libmicrohttpd did not start */
    bool quiesced;
};

struct loop_server {
    struct loop *loop;
    struct loop_server_handlers handlers;
    void *context;
    struct loop_source *prepare;
    struct list listeners, requests;
    size_t n_pending, n_connections;
    int max_connections;
    bool draining, resumed;
};

/* One accepted socket. The hang-up watch costs nothing while the client stays: it is edge-triggered and asks
 * for no readable event. */
struct connection {
    struct loop_server *server;
    struct loop_source *watch;
    struct loop_request *request; /* the one that is being served */
};

/*
 *   REQUEST_HEAD ──► REQUEST_BODY ──► REQUEST_WAITING ──► REQUEST_REPLIED
 *        │                │                  │
 *        └─── refused ────┴► REQUEST_REFUSED └──► REQUEST_GONE
 */
enum phase { REQUEST_HEAD, REQUEST_BODY, REQUEST_REFUSED, REQUEST_WAITING, REQUEST_REPLIED, REQUEST_GONE };

struct loop_request {
    struct list link; /* in server->requests, from REQUEST_WAITING to the reply */
    struct loop_server *server;
    struct connection *connection;
    struct MHD_Connection *mhd;
    enum phase phase;
    bool in_handler;   /* libmicrohttpd is calling us: reply without resuming */
    bool suspended;
    const char *method, *path;
    uint64_t limit;
    char *body;
    size_t body_length, body_capacity;
    uint64_t discarded;
    void *data;
    struct MHD_Response *response;
    int status;
    struct {
        char *name, *value;
    } *headers;
    size_t n_headers;
};

static void keep_message(void *userdata, const char *format, va_list args)
{
    struct listener *listener = userdata;

    vsnprintf(listener->message, sizeof(listener->message), format, args);
}

/* Paths are decoded by who splits them: libmicrohttpd would turn %2F into a separator. */
static size_t keep_encoded(void *userdata, struct MHD_Connection *connection, char *text)
{
    return strlen(text);
}

static void on_hangup(void *userdata, uint32_t events)
{
    struct connection *connection = userdata;
    struct loop_request *request = connection->request;

    if (!request || request->phase != REQUEST_WAITING)
        return;
    request->phase = REQUEST_GONE;
    list_unlink(&request->link);
    request->server->n_pending--;
    request->server->handlers.on_gone(request->server->context, request);
    if (request->suspended) {
        request->suspended = false;
        request->server->resumed = true;
        MHD_resume_connection(request->mhd);
    }
}

static void on_connection(void *userdata, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct listener *listener = userdata;
    struct connection *connection = *context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);

        connection = xnew0(struct connection);
        connection->server = listener->server;
        connection->watch = loop_add_fd(listener->server->loop, info->connect_fd, EPOLLRDHUP | EPOLLET, on_hangup,
                                        connection);
        listener->server->n_connections++;
        *context = connection;
    } else if (connection) {
        loop_remove(connection->watch);
        listener->server->n_connections--;
        free(connection);
        *context = NULL;
    }
}

static void request_free(struct loop_request *request)
{
    if (request->response)
        MHD_destroy_response(request->response);
    for (size_t i = 0; i < request->n_headers; i++) {
        free(request->headers[i].name);
        free(request->headers[i].value);
    }
    free(request->headers);
    free(request->body);
    free(request);
}

static void on_completed(void *userdata, struct MHD_Connection *mhd, void **slot,
                         enum MHD_RequestTerminationCode code)
{
    struct loop_request *request = *slot;

    if (!request)
        return;
    *slot = NULL;
    if (request->phase == REQUEST_WAITING) {
        list_unlink(&request->link);
        request->server->n_pending--;
        request->server->handlers.on_gone(request->server->context, request);
    }
    if (request->connection && request->connection->request == request)
        request->connection->request = NULL;
    request_free(request);
}

static struct loop_request *request_new(struct listener *listener, struct MHD_Connection *mhd, const char *method,
                                        const char *path)
{
    struct loop_request *request = xnew0(struct loop_request);
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    list_init(&request->link);
    request->server = listener->server;
    request->mhd = mhd;
    request->method = method;
    request->path = path;
    request->connection = info ? info->socket_context : NULL;
    if (request->connection)
        request->connection->request = request;
    return request;
}

static enum MHD_Result send_reply(struct loop_request *request)
{
    request->phase = REQUEST_REPLIED;
    return MHD_queue_response(request->mhd, (unsigned)request->status, request->response);
}

/* The length that the client announced; UINT64_MAX for a chunked body. */
static uint64_t announced_length(struct loop_request *request)
{
    const char *text = loop_request_header(request, "Content-Length");
    int64_t length = 0;

    if (loop_request_header(request, "Transfer-Encoding"))
        return UINT64_MAX;
    if (!text || parse_int(text, 0, INT64_MAX, &length, NULL) < 0)
        return 0;
    return (uint64_t)length;
}

static void refuse_oversize(struct loop_request *request)
{
    request->server->handlers.on_oversize(request->server->context, request, request->limit);
    request->phase = REQUEST_REFUSED;
}

static enum MHD_Result begin(struct loop_request *request)
{
    uint64_t length = announced_length(request);

    request->in_handler = true;
    request->phase = REQUEST_BODY;
    request->limit = request->server->handlers.on_head(request->server->context, request);
    if (request->response)
        request->phase = REQUEST_REFUSED;
    else if (length != UINT64_MAX && length > request->limit)
        refuse_oversize(request);
    request->in_handler = false;

    if (request->phase == REQUEST_REFUSED && length > LIMIT_HTTP_DISCARD && length != UINT64_MAX)
        return send_reply(request);
    return MHD_YES;
}

static enum MHD_Result take_body(struct loop_request *request, const char *data, size_t *length)
{
    size_t n = *length;

    *length = 0;
    if (request->phase == REQUEST_BODY && request->body_length + n > request->limit) {
        request->in_handler = true;
        refuse_oversize(request);
        request->in_handler = false;
    }
    if (request->phase == REQUEST_REFUSED) {
        request->discarded += n;
        return request->discarded > LIMIT_HTTP_DISCARD ? MHD_NO : MHD_YES;
    }
    if (request->body_length + n + 1 > request->body_capacity) {
        size_t wanted = request->body_capacity ? request->body_capacity * 2 : BODY_FIRST;

        if (!request->body_capacity && n < 1024)
            wanted = n + 1;
        while (wanted < request->body_length + n + 1)
            wanted *= 2;
        request->body = xrealloc(request->body, wanted);
        request->body_capacity = wanted;
    }
    memcpy(request->body + request->body_length, data, n);
    request->body_length += n;
    request->body[request->body_length] = '\0';
    return MHD_YES;
}

static enum MHD_Result complete(struct loop_request *request)
{
    struct loop_server *server = request->server;

    if (request->phase == REQUEST_REFUSED)
        return send_reply(request);
    request->phase = REQUEST_WAITING;
    list_append(&server->requests, &request->link);
    server->n_pending++;
    request->in_handler = true;
    server->handlers.on_request(server->context, request);
    request->in_handler = false;
    if (request->response)
        return send_reply(request);
    request->suspended = true;
    MHD_suspend_connection(request->mhd);
    return MHD_YES;
}

static enum MHD_Result on_access(void *userdata, struct MHD_Connection *mhd, const char *path, const char *method,
                                 const char *version, const char *data, size_t *length, void **slot)
{
    struct loop_request *request = *slot;

    if (!request) {
        request = *slot = request_new(userdata, mhd, method, path);
        return begin(request);
    }
    if (request->phase == REQUEST_GONE)
        return MHD_NO;
    if (*length)
        return take_body(request, data, length);
    if (request->phase == REQUEST_REPLIED)
        return MHD_queue_response(mhd, (unsigned)request->status, request->response);
    return complete(request);
}

static void run(struct loop_server *server)
{
    struct listener *listener;

    server->resumed = false;
    list_for_each(listener, &server->listeners, link)
        MHD_run(listener->daemon);
}

static int on_prepare(void *userdata)
{
    struct loop_server *server = userdata;
    struct listener *listener;
    int most = -1;

    if (server->resumed)
        run(server);
    list_for_each(listener, &server->listeners, link) {
        MHD_UNSIGNED_LONG_LONG timeout;

        if (MHD_get_timeout(listener->daemon, &timeout) == MHD_YES && (most < 0 || timeout < (unsigned)most)) {
            most = timeout > 1000 ? 1000 : (int)timeout;
            if (most == 0)
                server->resumed = true;
        }
    }
    return server->resumed ? 0 : most;
}

static void on_ready(void *userdata, uint32_t events)
{
    struct listener *listener = userdata;

    MHD_run(listener->daemon);
}

struct loop_server *loop_server_new(struct loop *loop, const struct loop_server_handlers *handlers, void *context,
                                    int max_connections)
{
    struct loop_server *server = xnew0(struct loop_server);

    server->loop = loop;
    server->handlers = *handlers;
    server->context = context;
    server->max_connections = max_connections;
    list_init(&server->listeners);
    list_init(&server->requests);
    server->prepare = loop_add_prepare(loop, on_prepare, server);
    return server;
}

static void listener_free(struct listener *listener)
{
    list_unlink(&listener->link);
    loop_remove(listener->source);
    if (listener->daemon)
        MHD_stop_daemon(listener->daemon);
    if (listener->unix_path)
        unlink(listener->unix_path);
    free(listener->unix_path);
    free(listener);
}

struct loop_server *loop_server_free(struct loop_server *server)
{
    struct loop_request *request, *next_request;
    struct listener *listener, *next;

    if (!server)
        return NULL;
    list_for_each_safe(request, next_request, &server->requests, link) {
        list_unlink(&request->link);
        server->n_pending--;
        request->phase = REQUEST_GONE;
        server->handlers.on_gone(server->context, request);
        if (request->suspended)
            MHD_resume_connection(request->mhd);
        request->suspended = false;
    }
    list_for_each_safe(listener, next, &server->listeners, link)
        listener_free(listener);
    loop_remove(server->prepare);
    free(server);
    return NULL;
}

static int start_daemon(struct listener *listener, int fd, char *certificate, char *key, struct error *error)
{
    struct MHD_OptionItem items[] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)keep_message, listener},
        {MHD_OPTION_LISTEN_SOCKET, fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, listener->server->max_connections, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, LIMIT_HTTP_IDLE_SECONDS, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, LIMIT_HTTP_HEADER, NULL},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, listener},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, listener},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)keep_encoded, listener},
        {key ? MHD_OPTION_HTTPS_MEM_CERT : MHD_OPTION_END, 0, certificate},
        {key ? MHD_OPTION_HTTPS_MEM_KEY : MHD_OPTION_END, 0, key},
        {MHD_OPTION_END, 0, NULL},
    };
    unsigned flags = MHD_USE_EPOLL | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME | (key ? MHD_USE_TLS : 0);

    listener->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_access, listener, MHD_OPTION_ARRAY, items,
                                        MHD_OPTION_END);
    if (!listener->daemon)
        return error_set(error, ERROR_INVALID, "%s", *listener->message ? listener->message : "libmicrohttpd failed");
    return 0;
}

static int open_socket(const struct loop_listen *listen, const char *scheme, int *ret_fd, char **ret_url,
                       struct error *error)
{
    struct net_address address, bound;
    char text[NET_TEXT_SIZE];
    int one = 1;

    if (listen->unix_path) {
        *ret_url = xasprintf("unix:%s", listen->unix_path);
        return net_listen_unix(listen->unix_path, 0666, SOMAXCONN, ret_fd, error);
    }
    if (net_parse(listen->address, &address, error) < 0 ||
        net_listen(&address, SOMAXCONN, ret_fd, &bound, error) < 0)
        return -1;
    setsockopt(*ret_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    *ret_url = xasprintf("%s://%s", scheme, net_format(&bound, text));
    return 0;
}

int loop_server_listen(struct loop_server *server, const struct loop_listen *listen, char **ret_url,
                       struct error *error)
{
    cleanup_free char *certificate = NULL, *key = NULL, *url = NULL;
    const union MHD_DaemonInfo *info;
    struct listener *listener;
    int fd = -1;

    if (!listen->certificate != !listen->key)
        return error_set(error, ERROR_INVALID, "a certificate and its key belong together");
    if (listen->key && (fs_read(listen->certificate, LIMIT_CONFIG_FILE, &certificate, NULL, error) < 0 ||
                        fs_read(listen->key, LIMIT_CONFIG_FILE, &key, NULL, error) < 0))
        return -1;
    if (open_socket(listen, key ? "https" : "http", &fd, &url, error) < 0)
        return -1;

    listener = xnew0(struct listener);
    list_init(&listener->link);
    listener->server = server;
    listener->unix_path = xstrdup_null(listen->unix_path);
    if (start_daemon(listener, fd, certificate, key, error) < 0) {
        listener_free(listener);
        close(fd);
        return error_wrap(error, "cannot serve on %s", url);
    }
    info = MHD_get_daemon_info(listener->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    listener->source = loop_add_fd(server->loop, info->epoll_fd, EPOLLIN, on_ready, listener);
    list_append(&server->listeners, &listener->link);
    if (ret_url)
        *ret_url = steal_ptr(url);
    return 0;
}

void loop_server_drain(struct loop_server *server)
{
    struct listener *listener;

    server->draining = true;
    list_for_each(listener, &server->listeners, link) {
        int fd;

        if (listener->quiesced)
            continue;
        listener->quiesced = true;
        fd = MHD_quiesce_daemon(listener->daemon);
        if (fd >= 0)
            close(fd);
    }
}

size_t loop_server_pending(const struct loop_server *server)
{
    return server->n_pending;
}

size_t loop_server_connections(const struct loop_server *server)
{
    return server->n_connections;
}

const char *loop_request_method(const struct loop_request *request)
{
    return request->method;
}

const char *loop_request_path(const struct loop_request *request)
{
    return request->path;
}

const char *loop_request_header(const struct loop_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->mhd, MHD_HEADER_KIND, name);
}

const char *loop_request_query(const struct loop_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->mhd, MHD_GET_ARGUMENT_KIND, name);
}

const char *loop_request_body(const struct loop_request *request, size_t *ret_length)
{
    *ret_length = request->body_length;
    return request->body ? request->body : "";
}

void loop_request_set_data(struct loop_request *request, void *data)
{
    request->data = data;
}

void *loop_request_data(const struct loop_request *request)
{
    return request->data;
}

void loop_request_add_header(struct loop_request *request, const char *name, const char *value)
{
    request->headers = xreallocarray(request->headers, request->n_headers + 1, sizeof(*request->headers));
    request->headers[request->n_headers].name = xstrdup(name);
    request->headers[request->n_headers++].value = xstrdup(value);
}

static void reply(struct loop_request *request, int status, const char *content_type, struct MHD_Response *response)
{
    struct loop_server *server = request->server;

    request->response = response;
    request->status = status;
    if (content_type)
        MHD_add_response_header(response, "Content-Type", content_type);
    for (size_t i = 0; i < request->n_headers; i++)
        MHD_add_response_header(response, request->headers[i].name, request->headers[i].value);
    if (server->draining)
        MHD_add_response_header(response, "Connection", "close");
    if (request->phase == REQUEST_WAITING) {
        list_unlink(&request->link);
        server->n_pending--;
    }
    if (request->suspended) {
        request->phase = REQUEST_REPLIED;
        request->suspended = false;
        server->resumed = true;
        MHD_resume_connection(request->mhd);
    }
}

void loop_request_reply(struct loop_request *request, int status, const char *content_type, const void *data,
                        size_t length)
{
    reply(request, status, content_type,
          MHD_create_response_from_buffer(length, (void *)(uintptr_t)data, MHD_RESPMEM_MUST_COPY));
}

void loop_request_reply_take(struct loop_request *request, int status, const char *content_type, void *data,
                             size_t length)
{
    reply(request, status, content_type, MHD_create_response_from_buffer(length, data, MHD_RESPMEM_MUST_FREE));
}
