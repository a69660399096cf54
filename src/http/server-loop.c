#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include "http/exchange.h"
#include "http/head.h"
#include "http/server-loop.h"
#include "http/tls.h"
#include "util/limits.h"
#include "util/list.h"
#include "util/net.h"
#include "util/parse.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define INPUT_FIRST    4096        /* bytes of a connection's buffer at first */
#define BODY_FIRST     (64 * KIB)  /* allocated for a body at first, whatever length was announced */
#define ACCEPT_AT_ONCE 64

struct listener {
    struct list link;
    struct loop_server *server;
    struct loop_source *source;
    struct tls_context *tls;
    char *unix_path;
    int fd;
};

struct loop_server {
    struct loop *loop;
    struct loop_server_handlers handlers;
    void *context;
    struct loop_source *prepare, *sweep;
    struct list listeners, connections;
    struct list again; /* connections with input that waited for a reply */
    struct list dead;  /* freed before the loop waits next */
    size_t n_pending, n_connections, max_connections;
    uint32_t now_s;    /* seconds since the start, for time-outs */
    bool draining;
    time_t date_second;
    char date[40];
};

/*
 *            ┌──────────────────────── kept ───────────────────────┐
 *            ▼                                                     │
 *     READ_HEAD ──▶ READ_BODY ──▶ WAITING (for the reply) ──▶ WRITING ──▶ (closed)
 *            │          │                                      ▲   │
 *            └──────────┴────── refused ───────────────────────┘   ├──▶ DISCARD (rest of a refused body) ─▶ READ_HEAD
 *                                                                  └──▶ LINGER (the same, too much of it) ─▶ (closed)
 */
enum phase { READ_HEAD, READ_BODY, WAITING, WRITING, DISCARD, LINGER };

struct loop_request {
    struct head head;
    char *body; /* owned, or inside the connection's input */
    size_t body_length, body_capacity; /* capacity 0: not owned */
    uint64_t limit;
    struct chunks chunks;
    void *data;
    loop_reply_fn on_reply; /* NULL: nobody looks */
    void *on_reply_data;
    bool replied; /* until the next head is read */
    char *query_value;
    struct strbuf headers; /* of the reply */
};

struct connection {
    struct list link;       /* in server->connections, or server->dead */
    struct list again_link; /* in server->again */
    struct loop_server *server;
    struct loop_source *source;
    struct tls_stream *tls;
    int fd;
    enum phase phase;
    bool readable;     /* edge-triggered: there may be more to read */
    bool keep, closed, processing;
    uint32_t due_s;    /* now_s at which it is closed */
    char *input;
    size_t input_length, input_capacity, scanned;
    size_t consumed;   /* bytes of input that belong to the present request */
    uint64_t discard;  /* bytes of a refused body that are still to come */
    char *output;      /* what the socket did not take at once; owned */
    size_t output_length, output_sent;
    struct loop_request request;
};

#define connection_of(request_) container_of((struct loop_request *)(uintptr_t)(request_), struct connection, request)

static void process(struct connection *connection);

/* -- life of a connection -- */

static void request_reset(struct loop_request *request)
{
    if (request->body_capacity)
        free(request->body);
    free(request->query_value);
    strbuf_release(&request->headers);
    request->body = request->query_value = NULL;
    request->body_length = request->body_capacity = 0;
    request->chunks = (struct chunks){0};
    request->data = NULL;
    request->on_reply = NULL;
}

static void connection_close(struct connection *connection)
{
    struct loop_server *server = connection->server;

    if (connection->closed)
        return;
    connection->closed = true;
    if (connection->phase == WAITING) {
        connection->phase = WRITING;
        server->n_pending--;
        server->handlers.on_gone(server->context, &connection->request);
    }
    loop_remove(connection->source);
    connection->tls = tls_stream_free(connection->tls);
    close(connection->fd);
    list_unlink(&connection->again_link);
    list_unlink(&connection->link);
    list_append(&server->dead, &connection->link);
    server->n_connections--;
}

static void connection_free(struct connection *connection)
{
    list_unlink(&connection->link);
    request_reset(&connection->request);
    free(connection->input);
    free(connection->output);
    free(connection);
}

static void set_due(struct connection *connection, uint32_t seconds)
{
    connection->due_s = connection->server->now_s + seconds + 1;
}

static ssize_t read_some(struct connection *connection, void *data, size_t length)
{
    ssize_t n;

    if (connection->tls)
        n = tls_stream_read(connection->tls, data, length);
    else
        do {
            n = recv(connection->fd, data, length, MSG_DONTWAIT);
        } while (n < 0 && errno == EINTR);
    /* A socket that gave less than was asked for is empty; the next bytes come with a new event. */
    if (n < 0 ? errno == EAGAIN : !connection->tls && (size_t)n < length)
        connection->readable = false;
    return n;
}

static ssize_t write_some(struct connection *connection, struct iovec *parts, int count)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    ssize_t n;

    if (connection->tls)
        return tls_stream_write(connection->tls, parts[0].iov_base, parts[0].iov_len);
    do {
        n = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* -- writing -- */

/* The reply is out: what comes next on this connection. */
static void finish_reply(struct connection *connection)
{
    free(connection->output);
    connection->output = NULL;
    connection->output_length = connection->output_sent = 0;

    if (!connection->keep && connection->discard) {
        connection->phase = LINGER;
        if (!connection->tls)
            shutdown(connection->fd, SHUT_WR);
        set_due(connection, LIMIT_GATEWAY_LINGER_SECONDS);
    } else if (!connection->keep) {
        connection_close(connection);
        return;
    } else {
        connection->phase = connection->discard ? DISCARD : READ_HEAD;
        set_due(connection, LIMIT_HTTP_IDLE_SECONDS);
    }
    request_reset(&connection->request);
    connection->input_length -= connection->consumed;
    memmove(connection->input, connection->input + connection->consumed, connection->input_length);
    connection->consumed = connection->scanned = 0;
    if ((connection->readable || connection->input_length) && !connection->processing &&
        list_is_empty(&connection->again_link))
        list_append(&connection->server->again, &connection->again_link);
}

static void flush(struct connection *connection)
{
    while (connection->output_sent < connection->output_length) {
        struct iovec part = {connection->output + connection->output_sent,
                             connection->output_length - connection->output_sent};
        ssize_t n = write_some(connection, &part, 1);

        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            connection_close(connection);
            return;
        }
        connection->output_sent += (size_t)n;
        set_due(connection, LIMIT_HTTP_IDLE_SECONDS);
    }
    finish_reply(connection);
}

/* Sends head and body; what the socket does not take is kept. `owned` (may be NULL) is body's memory. */
static void start_writing(struct connection *connection, const struct strbuf *head, const void *body, size_t length,
                          void *owned)
{
    struct iovec parts[2] = {{head->data, head->length}, {(void *)(uintptr_t)body, length}};
    size_t total = head->length + length, sent = 0;
    cleanup_free void *release = owned;

    connection->phase = WRITING;
    if (!connection->tls) {
        ssize_t n = write_some(connection, parts, length ? 2 : 1);

        if (n < 0 && errno != EAGAIN) {
            connection_close(connection);
            return;
        }
        sent = n > 0 ? (size_t)n : 0;
    }
    if (sent == total) {
        finish_reply(connection);
        return;
    }
    connection->output = xmalloc(total - sent);
    connection->output_length = total - sent;
    connection->output_sent = 0;
    if (sent < head->length) {
        memcpy(connection->output, head->data + sent, head->length - sent);
        memcpy(connection->output + head->length - sent, body, length);
    } else {
        memcpy(connection->output, (const char *)body + (sent - head->length), total - sent);
    }
    set_due(connection, LIMIT_HTTP_IDLE_SECONDS);
    if (connection->tls)
        flush(connection);
}

static const char *reason(int status)
{
    static const char *const reasons[] = {
        [200] = "OK",
        [201] = "Created",
        [202] = "Accepted",
        [204] = "No Content",
        [400] = "Bad Request",
        [401] = "Unauthorized",
        [403] = "Forbidden",
        [404] = "Not Found",
        [405] = "Method Not Allowed",
        [409] = "Conflict",
        [411] = "Length Required",
        [413] = "Content Too Large",
        [415] = "Unsupported Media Type",
        [429] = "Too Many Requests",
        [431] = "Request Header Fields Too Large",
        [499] = "Client Closed Request",
        [500] = "Internal Server Error",
        [501] = "Not Implemented",
        [502] = "Bad Gateway",
        [503] = "Service Unavailable",
        [504] = "Gateway Timeout",
        [507] = "Insufficient Storage",
    };

    return status < (int)ARRAY_SIZE(reasons) && reasons[status] ? reasons[status] : "Status";
}

static const char *date_now(struct loop_server *server)
{
    struct timespec now;
    struct tm tm;

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != server->date_second) {
        server->date_second = now.tv_sec;
        gmtime_r(&now.tv_sec, &tm);
        strftime(server->date, sizeof(server->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
    return server->date;
}

static void add_field(struct strbuf *head, const char *name, const char *value)
{
    strbuf_adds(head, name);
    strbuf_add(head, ": ", 2);
    strbuf_adds(head, value);
    strbuf_add(head, "\r\n", 2);
}

static void add_number(struct strbuf *head, uint64_t value)
{
    char digits[24], *at = digits + sizeof(digits);

    do {
        *--at = (char)('0' + value % 10);
    } while (value /= 10);
    strbuf_add(head, at, (size_t)(digits + sizeof(digits) - at));
}

static void reply(struct loop_request *request, int status, const char *content_type, const void *data, size_t length,
                  void *owned)
{
    struct connection *connection = connection_of(request);
    struct loop_server *server = connection->server;
    cleanup_strbuf struct strbuf head = STRBUF_INIT(LIMIT_HTTP_HEADER);
    bool is_head = request->head.method && !strcmp(request->head.method, "HEAD");

    assert(!request->replied);
    if (request->on_reply)
        request->on_reply(request->on_reply_data, status, content_type, data, length);
    request->replied = true;
    if (connection->phase == WAITING)
        server->n_pending--;
    if (server->draining)
        connection->keep = false;

    strbuf_reserve(&head, 512);
    strbuf_adds(&head, "HTTP/1.1 ");
    add_number(&head, (uint64_t)status);
    strbuf_addc(&head, ' ');
    strbuf_adds(&head, reason(status));
    strbuf_add(&head, "\r\n", 2);
    add_field(&head, "Date", date_now(server));
    if (content_type)
        add_field(&head, "Content-Type", content_type);
    strbuf_add(&head, request->headers.data, request->headers.length);
    if (!connection->keep)
        add_field(&head, "Connection", "close");
    strbuf_adds(&head, "Content-Length: ");
    add_number(&head, length);
    strbuf_add(&head, "\r\n\r\n", 4);
    start_writing(connection, &head, data, is_head ? 0 : length, owned);
}

/* -- reading -- */

static void reply_malformed(struct connection *connection, int status, const char *message)
{
    struct loop_server *server = connection->server;
    char text[1024] = "";
    const char *type = server->handlers.on_malformed(server->context, message, text, sizeof(text));

    connection->keep = false;
    connection->discard = UINT64_MAX;
    connection->request.head.method = NULL;
    reply(&connection->request, status, type, text, strlen(text), NULL);
}

static int status_of(enum error_code code)
{
    return code == ERROR_UNSUPPORTED ? 501 : code == ERROR_TOO_LARGE ? 431 : 400;
}

/* The head is there: asks whether the body may come. False if the reply went out. */
static bool begin_request(struct connection *connection)
{
    struct loop_server *server = connection->server;
    struct loop_request *request = &connection->request;
    size_t have = connection->input_length - connection->consumed;
    uint64_t length = request->head.content_length;

    connection->keep = request->head.keep_alive;
    /* In case of a refusal: what is still to come of the body. */
    connection->discard = request->head.chunked ? UINT64_MAX : length;
    if (request->head.chunked || length > LIMIT_HTTP_DISCARD)
        request->head.keep_alive = false;
    else if (have >= length)
        connection->discard = 0;
    else
        connection->discard = length - have;
    if (!request->head.keep_alive && connection->discard) {
        bool keep = connection->keep;

        connection->keep = false; /* should it be refused */
        request->limit = server->handlers.on_head(server->context, request);
        if (!request->replied && !request->head.chunked && length > request->limit)
            server->handlers.on_oversize(server->context, request, request->limit);
        if (!request->replied)
            connection->keep = keep;
    } else {
        size_t in_input = length > have ? have : (size_t)length;

        connection->consumed += in_input; /* a refusal drops it with the head */
        request->limit = server->handlers.on_head(server->context, request);
        if (!request->replied && length > request->limit)
            server->handlers.on_oversize(server->context, request, request->limit);
        if (!request->replied)
            connection->consumed -= in_input;
    }
    if (request->replied)
        return false;
    connection->discard = 0;
    if (request->head.expects_continue && (request->head.chunked || have < length)) {
        static char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        struct iovec part = {go_on, sizeof(go_on) - 1};

        write_some(connection, &part, 1); /* a client that waits for more than this sends anyway */
    }
    return true;
}

/* Room for more of the body. */
static size_t grow_body(struct loop_request *request, uint64_t wanted)
{
    size_t capacity = request->body_capacity;

    if (capacity == request->body_length) {
        capacity = capacity ? capacity * 2 : BODY_FIRST;
        if (wanted < capacity)
            capacity = wanted ? (size_t)wanted : 1;
        request->body = xrealloc(request->body_capacity ? request->body : NULL, capacity);
        request->body_capacity = capacity;
    }
    return capacity - request->body_length;
}

static void body_complete(struct connection *connection)
{
    struct loop_server *server = connection->server;

    connection->phase = WAITING;
    set_due(connection, UINT32_MAX / 4); /* the handler has its own deadline */
    server->n_pending++;
    server->handlers.on_request(server->context, &connection->request);
}

/* Bytes of the next request that were read with a chunked body. */
static void push_input(struct connection *connection, const char *data, size_t n)
{
    if (connection->input_length + n > connection->input_capacity) {
        connection->input_capacity = connection->input_length + n;
        connection->input = xrealloc(connection->input, connection->input_capacity);
    }
    memcpy(connection->input + connection->input_length, data, n);
    connection->input_length += n;
}

/* New bytes lie behind body_length: content, or its chunked form. False: wait, or it was refused. */
static bool take_body(struct connection *connection, size_t n)
{
    struct loop_server *server = connection->server;
    struct loop_request *request = &connection->request;
    size_t content = n, used = n;

    if (!request->head.chunked) {
        request->body_length += n;
        return request->body_length == request->head.content_length;
    }
    if (chunks_decode(&request->chunks, request->body + request->body_length, &content, &used) < 0) {
        reply_malformed(connection, 400, "the chunked body is malformed");
        return false;
    }
    if (used < n)
        push_input(connection, request->body + request->body_length + used, n - used);
    request->body_length += content;
    if (request->body_length > request->limit) {
        connection->keep = false;
        connection->discard = UINT64_MAX;
        server->handlers.on_oversize(server->context, request, request->limit);
        return false;
    }
    return request->chunks.done;
}

/* Takes what came with the head. */
static bool body_from_input(struct connection *connection)
{
    struct loop_request *request = &connection->request;
    size_t have = connection->input_length - connection->consumed;
    char *from = connection->input + connection->consumed;
    uint64_t length = request->head.content_length;

    if (!request->head.chunked && have >= length) {
        request->body = from;
        request->body_length = (size_t)length;
        connection->consumed += (size_t)length;
        return true;
    }
    if (request->head.chunked) {
        size_t used = have, content = have;

        if (chunks_decode(&request->chunks, from, &content, &used) < 0) {
            reply_malformed(connection, 400, "the chunked body is malformed");
            return false;
        }
        connection->consumed += used;
        have = content;
    } else {
        connection->consumed += have;
    }
    if (have > request->limit) {
        connection->keep = false;
        connection->discard = UINT64_MAX;
        connection->server->handlers.on_oversize(connection->server->context, request, request->limit);
        return false;
    }
    request->body_capacity = have > BODY_FIRST ? have : BODY_FIRST;
    if (!request->head.chunked && length < request->body_capacity)
        request->body_capacity = (size_t)length;
    request->body = xmalloc(request->body_capacity ? request->body_capacity : 1);
    memcpy(request->body, from, have);
    request->body_length = have;
    return request->head.chunked && request->chunks.done;
}

/* Reads into the input buffer. False if nothing came. */
static bool fill_input(struct connection *connection)
{
    ssize_t n;

    if (connection->input_length == connection->input_capacity) {
        connection->input_capacity = connection->input_capacity ? connection->input_capacity * 2 : INPUT_FIRST;
        connection->input = xrealloc(connection->input, connection->input_capacity);
    }
    n = read_some(connection, connection->input + connection->input_length,
                  connection->input_capacity - connection->input_length);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) {
        connection_close(connection);
        return false;
    }
    connection->input_length += (size_t)n;
    return true;
}

/* All three: false when the connection has to wait, or is closed. */

static bool read_head(struct connection *connection)
{
    cleanup_error struct error error = ERROR_INIT;
    struct loop_request *request = &connection->request;
    size_t end;

    request->replied = false;
    /* Empty lines before a request are ignored (RFC 9112, 2.2). */
    while (connection->input_length >= 2 && !memcmp(connection->input, "\r\n", 2)) {
        connection->input_length -= 2;
        memmove(connection->input, connection->input + 2, connection->input_length);
    }
    end = connection->input_length ? head_end(connection->input, connection->input_length, connection->scanned) : 0;
    if (!end && connection->input_length >= LIMIT_HTTP_HEADER) {
        reply_malformed(connection, 431, "the head of the request is too long");
        return false;
    }
    if (!end) {
        bool fresh = !connection->input_length;

        connection->scanned = connection->input_length;
        if (!connection->readable || !fill_input(connection))
            return false;
        if (fresh)
            set_due(connection, LIMIT_HTTP_HEADER_SECONDS);
        return true;
    }
    connection->consumed = end;
    strbuf_init(&request->headers, LIMIT_HTTP_HEADER);
    if (head_parse(connection->input, end, &request->head, &error) < 0) {
        reply_malformed(connection, status_of(error.code), error.message);
        return false;
    }
    if (!begin_request(connection))
        return !connection->closed;
    connection->phase = READ_BODY;
    set_due(connection, LIMIT_HTTP_BODY_SECONDS + (uint32_t)(request->head.content_length / MIB));
    if (body_from_input(connection))
        body_complete(connection);
    return !connection->closed;
}

static bool read_body(struct connection *connection)
{
    struct loop_request *request = &connection->request;
    uint64_t wanted = request->head.chunked ? request->limit + 4096 : request->head.content_length;
    size_t room = grow_body(request, wanted);
    ssize_t n;

    if (!connection->readable)
        return false;
    if (request->head.chunked)
        set_due(connection, LIMIT_HTTP_BODY_SECONDS);
    n = read_some(connection, request->body + request->body_length, room);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) {
        connection_close(connection);
        return false;
    }
    if (take_body(connection, (size_t)n))
        body_complete(connection);
    return !connection->closed;
}

static bool read_and_drop(struct connection *connection)
{
    size_t n = connection->input_length;

    if (n > connection->discard)
        n = (size_t)connection->discard;
    connection->input_length -= n;
    memmove(connection->input, connection->input + n, connection->input_length);
    if (connection->discard != UINT64_MAX)
        connection->discard -= n;
    if (connection->phase == DISCARD && !connection->discard) {
        connection->phase = READ_HEAD;
        return true;
    }
    return connection->readable && fill_input(connection);
}

static void process(struct connection *connection)
{
    bool more = true;

    list_unlink(&connection->again_link);
    connection->processing = true;
    while (more && !connection->closed) {
        switch (connection->phase) {
        case READ_HEAD: more = read_head(connection); break;
        case READ_BODY: more = read_body(connection); break;
        case DISCARD:
        case LINGER: more = read_and_drop(connection); break;
        case WAITING:
        case WRITING: more = false; break;
        }
    }
    connection->processing = false;
}

static void on_event(void *userdata, uint32_t events)
{
    struct connection *connection = userdata;

    if (events & EPOLLIN)
        connection->readable = true;
    if (connection->phase == WAITING && events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        connection_close(connection);
        return;
    }
    /* After a hang-up the next read tells; TLS may have waited to write before it can read. */
    if (events & (EPOLLHUP | EPOLLERR) || connection->tls)
        connection->readable = true;
    if (connection->phase == WRITING && (events & EPOLLOUT || connection->tls))
        flush(connection);
    if (!connection->closed)
        process(connection);
}

/* -- listening -- */

static void on_listen_again(void *userdata)
{
    struct listener *listener = userdata;

    if (listener->source)
        loop_update_fd(listener->source, EPOLLIN);
}

static void add_connection(struct listener *listener, int fd)
{
    struct loop_server *server = listener->server;
    struct connection *connection = xnew0(struct connection);

    connection->server = server;
    connection->fd = fd;
    connection->keep = true;
    connection->tls = listener->tls ? tls_stream_new(listener->tls, fd) : NULL;
    list_init(&connection->again_link);
    strbuf_init(&connection->request.headers, LIMIT_HTTP_HEADER);
    list_append(&server->connections, &connection->link);
    server->n_connections++;
    set_due(connection, LIMIT_HTTP_HEADER_SECONDS);
    connection->source = loop_add_fd(server->loop, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, on_event, connection);
}

static void on_acceptable(void *userdata, uint32_t events)
{
    struct listener *listener = userdata;
    struct loop_server *server = listener->server;

    for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
            /* They wait in the backlog until others have gone. */
            loop_update_fd(listener->source, 0);
            loop_add_timer(server->loop, INT64_C(100000000), on_listen_again, listener);
            return;
        }
        if (fd < 0)
            return;
        if (server->n_connections >= server->max_connections)
            close(fd);
        else
            add_connection(listener, fd);
    }
}

/* Input that waited for a reply, and connections to be freed. */
static int on_prepare(void *userdata)
{
    struct loop_server *server = userdata;
    struct connection *connection;

    while ((connection = list_first(&server->again, struct connection, again_link)))
        process(connection);
    while ((connection = list_first(&server->dead, struct connection, link)))
        connection_free(connection);
    return -1;
}

static void on_sweep(void *userdata)
{
    struct loop_server *server = userdata;
    struct connection *connection, *next;

    server->now_s++;
    list_for_each_safe(connection, next, &server->connections, link) {
        if (connection->phase != WAITING && (int32_t)(server->now_s - connection->due_s) >= 0)
            connection_close(connection);
    }
}

struct loop_server *loop_server_new(struct loop *loop, const struct loop_server_handlers *handlers, void *context,
                                    int max_connections)
{
    struct loop_server *server = xnew0(struct loop_server);

    server->loop = loop;
    server->handlers = *handlers;
    server->context = context;
    server->max_connections = (size_t)max_connections;
    list_init(&server->listeners);
    list_init(&server->connections);
    list_init(&server->again);
    list_init(&server->dead);
    server->prepare = loop_add_prepare(loop, on_prepare, server);
    server->sweep = loop_add_interval(loop, INT64_C(1000000000), on_sweep, server);
    return server;
}

static void listener_close(struct listener *listener)
{
    listener->source = loop_remove(listener->source);
    cleanup_close_(&listener->fd);
    listener->fd = -1;
    if (listener->unix_path)
        unlink(listener->unix_path);
    free(listener->unix_path);
    listener->unix_path = NULL;
}

struct loop_server *loop_server_free(struct loop_server *server)
{
    struct connection *connection, *next_connection;
    struct listener *listener, *next;

    if (!server)
        return NULL;
    list_for_each_safe(connection, next_connection, &server->connections, link)
        connection_close(connection);
    list_for_each_safe(connection, next_connection, &server->dead, link)
        connection_free(connection);
    list_for_each_safe(listener, next, &server->listeners, link) {
        listener_close(listener);
        tls_context_free(listener->tls);
        list_unlink(&listener->link);
        free(listener);
    }
    loop_remove(server->prepare);
    loop_remove(server->sweep);
    free(server);
    return NULL;
}

/* Whoever started us keeps a copy: who connects while nobody accepts waits for our successor. */
static int take_socket(const char *text, int *ret_fd, struct net_address *ret_bound, struct error *error)
{
    struct net_address bound = {.length = sizeof(bound.storage)};
    int64_t fd;

    if (parse_int(text, 3, INT32_MAX, &fd, error) < 0)
        return -1;
    if (getsockname((int)fd, (struct sockaddr *)&bound.storage, &bound.length) < 0 ||
        fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl((int)fd, F_SETFL, O_NONBLOCK) < 0)
        return error_set_errno(error, errno, "descriptor %s is no listening socket", text);
    *ret_bound = bound;
    *ret_fd = (int)fd;
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
    if (strncmp(listen->address, "fd:", 3) == 0) {
        if (take_socket(listen->address + 3, ret_fd, &bound, error) < 0)
            return -1;
    } else if (net_parse(listen->address, &address, error) < 0 ||
               net_listen(&address, SOMAXCONN, ret_fd, &bound, error) < 0) {
        return -1;
    }
    setsockopt(*ret_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* accepted sockets inherit it */
    *ret_url = xasprintf("%s://%s", scheme, net_format(&bound, text));
    return 0;
}

int loop_server_listen(struct loop_server *server, const struct loop_listen *listen, char **ret_url,
                       struct error *error)
{
    struct tls_context *tls = NULL;
    cleanup_free char *url = NULL;
    struct listener *listener;
    int fd = -1;

    if (!listen->certificate != !listen->key)
        return error_set(error, ERROR_INVALID, "a certificate and its key belong together");
    if (listen->key && tls_context_new(listen->certificate, listen->key, &tls, error) < 0)
        return -1;
    if (open_socket(listen, tls ? "https" : "http", &fd, &url, error) < 0) {
        tls_context_free(tls);
        return -1;
    }
    listener = xnew0(struct listener);
    listener->server = server;
    listener->tls = tls;
    listener->fd = fd;
    listener->unix_path = xstrdup_null(listen->unix_path);
    listener->source = loop_add_fd(server->loop, fd, EPOLLIN, on_acceptable, listener);
    list_append(&server->listeners, &listener->link);
    if (ret_url)
        *ret_url = steal_ptr(url);
    return 0;
}

int loop_server_listener(const struct loop_server *server)
{
    const struct listener *listener = list_first(&server->listeners, struct listener, link);

    return listener ? listener->fd : -1;
}

void loop_server_hold(struct loop_server *server, bool hold)
{
    struct listener *listener;

    list_for_each(listener, &server->listeners, link)
        if (listener->source)
            loop_update_fd(listener->source, hold ? 0 : EPOLLIN);
}

void loop_server_drain(struct loop_server *server)
{
    struct connection *connection, *next;
    struct listener *listener;

    server->draining = true;
    list_for_each(listener, &server->listeners, link)
        listener_close(listener);
    list_for_each_safe(connection, next, &server->connections, link) {
        if (connection->phase == READ_HEAD && !connection->input_length)
            connection_close(connection);
    }
}

size_t loop_server_pending(const struct loop_server *server)
{
    const struct connection *connection;
    size_t n = server->n_pending;

    list_for_each(connection, &server->connections, link)
        n += connection->phase == WRITING || connection->phase == READ_BODY;
    return n;
}

size_t loop_server_connections(const struct loop_server *server)
{
    return server->n_connections;
}

/* -- a request -- */

const char *loop_request_method(const struct loop_request *request)
{
    return request->head.method;
}

const char *loop_request_path(const struct loop_request *request)
{
    return request->head.path;
}

const char *loop_request_authorization(const struct loop_request *request)
{
    return request->head.authorization;
}

const char *loop_request_content_type(const struct loop_request *request)
{
    return request->head.content_type;
}

const char *loop_request_header(const struct loop_request *request, const char *name)
{
    return head_get(&request->head, name);
}

const char *loop_request_query(struct loop_request *request, const char *name)
{
    const char *at = request->head.query;
    size_t n = strlen(name);

    while (at && *at) {
        size_t length = strcspn(at, "&");

        if (length > n && at[n] == '=' && !strncmp(at, name, n)) {
            free(request->query_value);
            request->query_value = NULL;
            if (http_percent_decode(at + n + 1, length - n - 1, true, &request->query_value, NULL) < 0)
                return NULL;
            return request->query_value;
        }
        at += length + (at[length] == '&');
    }
    return NULL;
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

void loop_request_on_reply(struct loop_request *request, loop_reply_fn fn, void *userdata)
{
    request->on_reply = fn;
    request->on_reply_data = userdata;
}

void loop_request_add_header(struct loop_request *request, const char *name, const char *value)
{
    add_field(&request->headers, name, value);
}

void loop_request_reply(struct loop_request *request, int status, const char *content_type, const void *data,
                        size_t length)
{
    reply(request, status, content_type, data, length, NULL);
}

void loop_request_reply_take(struct loop_request *request, int status, const char *content_type, void *data,
                             size_t length)
{
    reply(request, status, content_type, data, length, data);
}
