#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include "http/frames.h"
#include "http/server-private.h"
#include "http/websocket.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define PING_NS    (30 * NS_PER_SEC)
#define SILENCE_NS (90 * NS_PER_SEC)
#define GOODBYE_NS (5 * NS_PER_SEC) /* for the other side to answer a close */
#define HIGH_WATER (LIMIT_WEBSOCKET_BACKLOG / 4)

/*
 * References: one for the connection, dropped by ws_destroy(), and one for every wake-up that was posted and
 * has not run. A wake-up may run after the end; it finds `fd` closed then and only drops its reference.
 */
struct websocket {
    struct http_server *server;
    const struct websocket_handler *handler;
    void *userdata;
    struct MHD_UpgradeResponseHandle *upgrade;
    struct list link; /* in server->sockets */
    struct loop_source *source, *timer;
    struct frames *frames;
    char *extra; /* bytes that came behind the handshake */
    size_t extra_length, extra_taken;
    int fd;
    int64_t heard_ns; /* last time anything came */
    int64_t closing_ns; /* when websocket_close() was called; 0: open */
    bool has_more; /* the pump wants to be called again */
    bool posted;   /* work_again() is on its way */
    atomic_bool woken;
    atomic_int references;
};

static void ws_unref(struct websocket *ws)
{
    if (atomic_fetch_sub(&ws->references, 1) == 1)
        free(ws);
}

/* -- handshake -- */

static bool header_has_word(const struct http_request *request, const char *name, const char *word)
{
    const char *p = http_header(request, name);
    size_t length = strlen(word);

    while (p && *p) {
        p += strspn(p, " ,\t");
        if (strncasecmp(p, word, length) == 0 && (p[length] == '\0' || strchr(" ,\t", p[length])))
            return true;
        p += strcspn(p, ",");
    }
    return false;
}

static int check_handshake(const struct http_request *request, struct http_response *response, struct error *error)
{
    const char *version = http_header(request, "Sec-WebSocket-Version"),
               *key = http_header(request, "Sec-WebSocket-Key");

    if (!header_has_word(request, "Upgrade", "websocket") || !header_has_word(request, "Connection", "upgrade"))
        return error_set(error, ERROR_INVALID, "%s is a WebSocket; connect with 'Upgrade: websocket'", request->path);
    if (!version || strcmp(version, "13") != 0) {
        http_reply_header(response, "Sec-WebSocket-Version", "13");
        return error_set(error, ERROR_INVALID, "Sec-WebSocket-Version must be 13");
    }
    if (!key || strlen(key) != 24)
        return error_set(error, ERROR_INVALID, "Sec-WebSocket-Key must be 16 bytes in base64");
    return 0;
}

int http_websocket_accept(struct http_request *request, struct http_response *response,
                          const struct websocket_handler *handler, void *userdata, struct error *error)
{
    struct exchange *exchange = request->implementation_;
    char accept[FRAMES_ACCEPT_SIZE];

    if (check_handshake(request, response, error) < 0) {
        handler->close(userdata);
        return -1;
    }
    http_reply_header(response, "Upgrade", "websocket");
    http_reply_header(response, "Sec-WebSocket-Accept",
                      frames_accept_key(http_header(request, "Sec-WebSocket-Key"), accept));
    exchange->reply = HTTP_REPLY_WEBSOCKET;
    exchange->websocket = handler;
    exchange->websocket_userdata = userdata;
    return 0;
}

struct websocket *websocket_prepare(struct http_server *server, struct exchange *exchange)
{
    struct websocket *ws = xnew0(struct websocket);

    ws->server = server;
    ws->handler = exchange->websocket;
    ws->userdata = exchange->websocket_userdata;
    ws->fd = -1;
    ws->references = 1;
    list_init(&ws->link);
    exchange->websocket = NULL;
    return ws;
}

struct websocket *websocket_abandon(struct websocket *ws)
{
    if (!ws)
        return NULL;
    ws->handler->close(ws->userdata);
    ws_unref(ws);
    return NULL;
}

/* -- bytes -- */

static ssize_t read_bytes(void *userdata, void *buffer, size_t length)
{
    struct websocket *ws = userdata;
    size_t left = ws->extra_length - ws->extra_taken;
    ssize_t n;

    if (left > 0) {
        length = length < left ? length : left;
        memcpy(buffer, ws->extra + ws->extra_taken, length);
        ws->extra_taken += length;
        return (ssize_t)length;
    }
    n = recv(ws->fd, buffer, length, MSG_DONTWAIT);
    if (n > 0)
        ws->heard_ns = clock_monotonic_ns();
    return n;
}

static ssize_t write_bytes(void *userdata, const void *buffer, size_t length)
{
    struct websocket *ws = userdata;

    return send(ws->fd, buffer, length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void take_message(void *userdata, const char *text, size_t length)
{
    struct websocket *ws = userdata;

    if (ws->handler->message && !ws->closing_ns)
        ws->handler->message(ws, ws->userdata, text, length);
}

static const struct frames_callbacks frames_callbacks = {read_bytes, write_bytes, take_message};

/* -- the streaming thread -- */

static void ws_destroy(struct websocket *ws)
{
    list_unlink(&ws->link);
    ws->source = loop_remove(ws->source);
    ws->timer = loop_remove(ws->timer);
    ws->handler->close(ws->userdata);
    ws->frames = frames_free(ws->frames);
    free(ws->extra);
    ws->extra = NULL;
    ws->fd = -1;
    MHD_upgrade_action(ws->upgrade, MHD_UPGRADE_ACTION_CLOSE);
    atomic_fetch_sub(&ws->server->n_websockets, 1);
    ws_unref(ws);
}

static void run_pump(struct websocket *ws)
{
    cleanup_error struct error error = ERROR_INIT;
    int r;

    if (ws->closing_ns || frames_backlog(ws->frames) > HIGH_WATER)
        return;
    r = ws->handler->pump(ws, ws->userdata, &error);
    ws->has_more = r > 0;
    if (r < 0)
        websocket_close(ws, WEBSOCKET_INTERNAL, error.message);
}

static void ws_work(struct websocket *ws);

static void work_again(void *userdata)
{
    struct websocket *ws = userdata;

    ws->posted = false;
    if (ws->fd >= 0)
        ws_work(ws);
    ws_unref(ws);
}

/* Writes, produces more where there is room, and arranges to be called when the socket is ready. Others get
 * their turn between two calls of the pump. May destroy ws. */
static void ws_work(struct websocket *ws)
{
    if (ws->has_more)
        run_pump(ws);
    if (frames_write(ws->frames) < 0 || frames_is_done(ws->frames)) {
        ws_destroy(ws);
        return;
    }
    loop_update_fd(ws->source,
                   (frames_wants_read(ws->frames) ? EPOLLIN : 0) | (frames_wants_write(ws->frames) ? EPOLLOUT : 0));
    if (ws->has_more && !ws->posted && frames_backlog(ws->frames) <= HIGH_WATER) {
        ws->posted = true;
        atomic_fetch_add(&ws->references, 1);
        loop_post(ws->server->loop, work_again, ws);
    }
}

static void on_ready(void *userdata, uint32_t events)
{
    struct websocket *ws = userdata;

    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && frames_read(ws->frames) < 0) {
        /* A broken protocol has queued its close frame; a broken connection cannot take it. */
        frames_write(ws->frames);
        ws_destroy(ws);
        return;
    }
    ws_work(ws);
}

static void on_tick(void *userdata)
{
    struct websocket *ws = userdata;
    int64_t now = clock_monotonic_ns();

    if (now - ws->heard_ns > SILENCE_NS || (ws->closing_ns && now - ws->closing_ns > GOODBYE_NS)) {
        ws_destroy(ws);
        return;
    }
    if (!ws->closing_ns && now - ws->heard_ns > PING_NS)
        frames_ping(ws->frames);
    ws_work(ws);
}

static void start(void *userdata)
{
    struct websocket *ws = userdata;
    struct http_server *server = ws->server;

    ws->heard_ns = clock_monotonic_ns();
    ws->frames = frames_new(true, &frames_callbacks, ws);
    ws->source = loop_add_fd(server->loop, ws->fd, EPOLLIN, on_ready, ws);
    ws->timer = loop_add_interval(server->loop, GOODBYE_NS, on_tick, ws);
    list_append(&server->sockets, &ws->link);
    if (ws->handler->open)
        ws->handler->open(ws, ws->userdata);
    ws->has_more = true;
    if (ws->extra_length > 0)
        on_ready(ws, EPOLLIN);
    else
        ws_work(ws);
}

void websocket_upgraded(void *userdata, struct MHD_Connection *connection, void *call_pointer, const char *extra,
                        size_t extra_length, MHD_socket fd, struct MHD_UpgradeResponseHandle *handle)
{
    struct websocket *ws = userdata;
    struct call *call = call_pointer;
    struct http_server *server = ws->server;
    bool stopping;

    call->websocket = NULL;
    ws->upgrade = handle;
    ws->fd = fd;
    ws->extra_length = extra_length;
    ws->extra = extra_length ? xmemdup(extra, extra_length) : NULL;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    atomic_store(&call->connection->deadline_ns, 0);

    pthread_mutex_lock(&server->lock);
    stopping = server->stopping;
    if (!stopping) {
        atomic_fetch_add(&server->n_websockets, 1);
        loop_post(server->loop, start, ws);
    }
    pthread_mutex_unlock(&server->lock);
    if (stopping) {
        MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
        free(ws->extra);
        websocket_abandon(ws);
    }
}

void websocket_close_all(struct http_server *server, bool now)
{
    struct websocket *ws, *tmp;

    list_for_each_safe(ws, tmp, &server->sockets, link) {
        if (now) {
            ws_destroy(ws);
        } else {
            websocket_close(ws, WEBSOCKET_GOING_AWAY, "the server stops");
            ws_work(ws);
        }
    }
}

/* -- for handlers -- */

static void run_wake(void *userdata)
{
    struct websocket *ws = userdata;

    atomic_store(&ws->woken, false);
    if (ws->fd >= 0) {
        ws->has_more = true;
        ws_work(ws);
    }
    ws_unref(ws);
}

void websocket_wake(struct websocket *ws)
{
    if (atomic_exchange(&ws->woken, true))
        return;
    atomic_fetch_add(&ws->references, 1);
    loop_post(ws->server->loop, run_wake, ws);
}

struct loop *websocket_loop(struct websocket *ws)
{
    return ws->server->loop;
}

size_t websocket_backlog(const struct websocket *ws)
{
    return frames_backlog(ws->frames);
}

void websocket_send(struct websocket *ws, const char *text, size_t length)
{
    if (ws->closing_ns)
        return;
    if (frames_backlog(ws->frames) + length > LIMIT_WEBSOCKET_BACKLOG) {
        websocket_close(ws, WEBSOCKET_TRY_LATER, "too much is unread; come back with ?after=");
        return;
    }
    frames_send(ws->frames, text, length);
}

void websocket_send_json(struct websocket *ws, json_t *value)
{
    cleanup_free char *text = json_text(value);

    websocket_send(ws, text, strlen(text));
    json_decref(value);
}

void websocket_close(struct websocket *ws, int code, const char *reason)
{
    if (ws->closing_ns)
        return;
    ws->closing_ns = clock_monotonic_ns();
    ws->has_more = false;
    frames_close(ws->frames, code, reason);
}
