#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include "http/server-private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/net.h"
#include "util/xalloc.h"

#define SWEEP_NS        (1 * NS_PER_SEC)
#define GOODBYE_MS      500                   /* for WebSockets to read their close frame when the server stops */
#define CONNECTION_POOL ((size_t)(96 * KIB))  /* buffers of a connection: header, and a piece of body */
#define STACK_SIZE      ((size_t)(1 * MIB))   /* address space; only what is touched is memory */

const double http_duration_bounds[HTTP_DURATION_BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10};

/* -- libmicrohttpd's callbacks -- */

static void *on_target(void *userdata, const char *target, struct MHD_Connection *mhd)
{
    struct listener *listener = userdata;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return call_new(listener->server, info->socket_context, target);
}

static enum MHD_Result on_request(void *userdata, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **state)
{
    return call_step(*state, mhd, method, data, size);
}

static void on_completed(void *userdata, struct MHD_Connection *mhd, void **state, enum MHD_RequestTerminationCode why)
{
    struct call *call = *state;

    if (!call)
        return;
    atomic_store(&call->connection->deadline_ns,
                 clock_monotonic_ns() + (LIMIT_HTTP_IDLE_SECONDS + call->server->options.header_seconds) * NS_PER_SEC);
    *state = call_free(call);
}

/* Paths and queries are decoded by the router, so that %2F is not a separator. */
static size_t keep_escapes(void *userdata, struct MHD_Connection *mhd, char *text)
{
    return strlen(text);
}

__attribute__((format(printf, 2, 0))) static void on_message(void *userdata, const char *format, va_list args)
{
    struct listener *listener = userdata;
    char text[sizeof(listener->message)];

    vsnprintf(text, sizeof(text), format, args);
    text[strcspn(text, "\n")] = '\0';
    /* The threads of the daemon may speak before it is known to have started. */
    if (pthread_equal(pthread_self(), listener->starter))
        memcpy(listener->message, text, sizeof(text));
    else
        log_debug("http", "message", text);
}

static void connection_opened(struct listener *listener, struct MHD_Connection *mhd, void **context)
{
    struct connection *connection = xnew0(struct connection);
    struct ucred peer;
    socklen_t length = sizeof(peer);

    connection->listener = listener;
    connection->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    connection->deadline_ns = clock_monotonic_ns() + listener->server->options.header_seconds * NS_PER_SEC;
    if (listener->is_local && getsockopt(connection->fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0)
        connection->peer = (struct http_peer){true, peer.uid, peer.pid};

    pthread_mutex_lock(&listener->server->lock);
    list_append(&listener->server->connections, &connection->link);
    pthread_mutex_unlock(&listener->server->lock);
    atomic_fetch_add(&listener->server->n_connections, 1);
    *context = connection;
}

static void on_connection(void *userdata, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct listener *listener = userdata;
    struct connection *connection = *context;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        connection_opened(listener, mhd, context);
    } else if (connection) {
        pthread_mutex_lock(&listener->server->lock);
        list_unlink(&connection->link);
        pthread_mutex_unlock(&listener->server->lock);
        atomic_fetch_sub(&listener->server->n_connections, 1);
        free(connection);
        *context = NULL;
    }
}

/* -- threads -- */

/* libmicrohttpd does not notice an end that arrives together with the last bytes of an unfinished request. */
static bool has_left(const struct connection *connection)
{
    char byte;

    return recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* The socket is only shut down, so that libmicrohttpd sees its end and closes it; the lock keeps it from
 * being closed, and its number reused, meanwhile. */
static void sweep(void *userdata)
{
    struct http_server *server = userdata;
    int64_t now = clock_monotonic_ns();
    struct connection *connection;

    pthread_mutex_lock(&server->lock);
    list_for_each(connection, &server->connections, link) {
        int64_t deadline = atomic_load(&connection->deadline_ns);

        if (deadline && (now > deadline || has_left(connection)))
            shutdown(connection->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&server->lock);
}

static void *stream(void *userdata)
{
    struct http_server *server = userdata;

    loop_run(server->loop);
    return NULL;
}

/* The oldest that may run now; slow ones leave most of the workers to the others. */
static struct call *next_call(struct http_server *server)
{
    struct call *call;

    list_for_each(call, &server->work, link) {
        if (!call->slow || server->n_slow < server->options.slow)
            return call;
    }
    return NULL;
}

static void *work(void *userdata)
{
    struct http_server *server = userdata;
    struct call *call;
    bool slow;

    pthread_mutex_lock(&server->lock);
    for (;;) {
        while (!(call = next_call(server)) && !(server->stopping && list_is_empty(&server->work)))
            pthread_cond_wait(&server->work_ready, &server->lock);
        if (!call)
            break;
        list_unlink(&call->link);
        slow = call->slow;
        server->n_slow += slow;
        pthread_mutex_unlock(&server->lock);

        call_run(call);
        call->phase = CALL_WORKED;
        MHD_resume_connection(call->mhd); /* from here on it is another thread's */

        pthread_mutex_lock(&server->lock);
        server->n_slow -= slow;
        if (slow || server->stopping)
            pthread_cond_broadcast(&server->work_ready);
    }
    pthread_mutex_unlock(&server->lock);
    return NULL;
}

static int start_thread(pthread_t *thread, void *(*fn)(void *), void *userdata, struct error *error)
{
    pthread_attr_t attributes;
    int r;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    r = pthread_create(thread, &attributes, fn, userdata);
    pthread_attr_destroy(&attributes);
    return r == 0 ? 0 : error_set_errno(error, r, "cannot start a thread");
}

static int start_threads(struct http_server *server, struct error *error)
{
    int wanted = server->options.slow + server->options.writers;

    server->workers = xcalloc((size_t)wanted, sizeof(*server->workers));
    while (server->n_workers < wanted) {
        if (start_thread(&server->workers[server->n_workers], work, server, error) < 0)
            return -1;
        server->n_workers++;
    }
    if (start_thread(&server->streamer, stream, server, error) < 0)
        return -1;
    server->streaming = true;
    return 0;
}

/* -- listening -- */

static void forget_key(struct listener *listener)
{
    if (listener->key)
        explicit_bzero(listener->key, strlen(listener->key));
    free(listener->key);
    free(listener->certificate);
    listener->key = NULL;
    listener->certificate = NULL;
}

static struct listener *listener_free(struct listener *listener)
{
    if (!listener)
        return NULL;
    if (listener->daemon)
        MHD_stop_daemon(listener->daemon);
    if (listener->fd >= 0)
        close(listener->fd);
    forget_key(listener);
    free(listener->unix_path);
    free(listener->url);
    free(listener);
    return NULL;
}
DEFINE_CLEANUP(struct listener *, listener_free)

static int read_tls(struct listener *listener, const struct http_listen *listen, struct error *error)
{
    if (!listen->certificate != !listen->key)
        return error_set(error, ERROR_INVALID, "TLS needs both a certificate and a key");
    if (!listen->certificate)
        return 0;
    if (MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
        return error_set(error, ERROR_UNSUPPORTED, "libmicrohttpd was built without TLS");
    if (fs_read(listen->certificate, LIMIT_CONFIG_FILE, &listener->certificate, NULL, error) < 0)
        return error_wrap(error, "cannot read the certificate");
    if (fs_read(listen->key, LIMIT_CONFIG_FILE, &listener->key, NULL, error) < 0)
        return error_wrap(error, "cannot read the key of the certificate");
    listener->is_tls = true;
    return 0;
}

static int open_socket(struct listener *listener, const struct http_listen *listen, struct error *error)
{
    struct net_address address, bound;
    char text[NET_TEXT_SIZE];

    if (listen->unix_path) {
        if (net_listen_unix(listen->unix_path, 0600, SOMAXCONN, &listener->fd, error) < 0)
            return -1;
        listener->is_local = true;
        listener->unix_path = xstrdup(listen->unix_path);
        listener->url = xasprintf("unix:%s", listen->unix_path);
        return 0;
    }
    if (net_parse(listen->address, &address, error) < 0 ||
        net_listen(&address, SOMAXCONN, &listener->fd, &bound, error) < 0)
        return -1;
    listener->url = xasprintf("%s://%s", listener->is_tls ? "https" : "http", net_format(&bound, text));
    return 0;
}

int http_server_listen(struct http_server *server, const struct http_listen *listen, char **ret_url,
                       struct error *error)
{
    __attribute__((cleanup(listener_free_cleanup))) struct listener *listener = xnew0(struct listener);

    listener->server = server;
    listener->fd = -1;
    if (read_tls(listener, listen, error) < 0 || open_socket(listener, listen, error) < 0)
        return -1;
    if (ret_url)
        *ret_url = xstrdup(listener->url);
    server->listeners = xreallocarray(server->listeners, server->n_listeners + 1, sizeof(*server->listeners));
    server->listeners[server->n_listeners++] = steal_ptr(listener);
    return 0;
}

static int start_daemon(struct listener *listener, struct error *error)
{
    int threads = listener->server->options.threads ?: 2;
    struct MHD_OptionItem items[] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_message, listener},
        {MHD_OPTION_LISTEN_SOCKET, listener->fd, NULL},
        {MHD_OPTION_THREAD_POOL_SIZE, threads, NULL},
        {MHD_OPTION_THREAD_STACK_SIZE, (intptr_t)STACK_SIZE, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, LIMIT_HTTP_CONNECTIONS, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, LIMIT_HTTP_IDLE_SECONDS, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)CONNECTION_POOL, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (intptr_t)(8 * KIB), NULL},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, listener},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, listener},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)on_target, listener},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)keep_escapes, NULL},
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
        {MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, NULL},
        {listener->is_tls ? MHD_OPTION_HTTPS_MEM_KEY : MHD_OPTION_END, 0, listener->key},
        {MHD_OPTION_HTTPS_MEM_CERT, 0, listener->certificate},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
        {MHD_OPTION_END, 0, NULL},
    };
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_ERROR_LOG | MHD_ALLOW_UPGRADE |
                     MHD_ALLOW_SUSPEND_RESUME | (listener->is_tls ? MHD_USE_TLS : 0);

    listener->starter = pthread_self();
    listener->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, listener, MHD_OPTION_ARRAY, items,
                                        MHD_OPTION_END);
    forget_key(listener);
    if (!listener->daemon)
        return error_set(error, ERROR_INVALID, "cannot serve on %s: %s", listener->url,
                         *listener->message ? listener->message : "libmicrohttpd failed");
    listener->fd = -1;
    return 0;
}

int http_server_start(struct http_server *server, struct error *error)
{
    for (size_t i = 0; i < server->n_listeners; i++)
        if (start_daemon(server->listeners[i], error) < 0)
            return -1;
    return 0;
}

/* -- life -- */

int http_server_new(const struct http_server_options *options, struct http_server **ret_server, struct error *error)
{
    cleanup_http_server struct http_server *server = xnew0(struct http_server);

    signal(SIGPIPE, SIG_IGN); /* a client that leaves is an error of the write, not the end of the program */
    server->options = *options;
    server->options.header_seconds = options->header_seconds ?: LIMIT_HTTP_HEADER_SECONDS;
    server->options.body_seconds = options->body_seconds ?: LIMIT_HTTP_BODY_SECONDS;
    server->options.slow = options->slow ?: 2;
    server->options.writers = options->writers ?: 14;
    server->spool_directory = xstrdup(options->spool_directory);
    server->router = router_new(options->routes);
    server->counters = xcalloc(router_count(server->router) + 1, sizeof(*server->counters));
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->work_ready, NULL);
    list_init(&server->connections);
    list_init(&server->work);
    list_init(&server->sockets);
    server->loop = loop_new();
    loop_add_interval(server->loop, SWEEP_NS, sweep, server);
    if (start_threads(server, error) < 0)
        return -1;
    *ret_server = steal_ptr(server);
    return 0;
}

/* Nobody can connect any more. The socket is ours again, but libmicrohttpd's threads let go of it a little later: it is
 * closed when they have ended. */
static void quiesce(struct listener *listener)
{
    if (listener->daemon)
        listener->fd = MHD_quiesce_daemon(listener->daemon);
    if (listener->fd >= 0)
        shutdown(listener->fd, SHUT_RDWR);
    if (listener->unix_path)
        unlink(listener->unix_path);
}

static void say_goodbye(void *userdata)
{
    websocket_close_all(userdata, false);
}

static void cut_and_stop(void *userdata)
{
    struct http_server *server = userdata;

    websocket_close_all(server, true);
    loop_stop(server->loop);
}

static void stop_streaming(struct http_server *server)
{
    if (!server->streaming)
        return;
    loop_post(server->loop, say_goodbye, server);
    for (int waited = 0; waited < GOODBYE_MS && atomic_load(&server->n_websockets); waited += 10) {
        struct timespec pause = {0, 10 * NS_PER_MS};

        nanosleep(&pause, NULL);
    }
    loop_post(server->loop, cut_and_stop, server);
    pthread_join(server->streamer, NULL);
}

struct http_server *http_server_free(struct http_server *server)
{
    if (!server)
        return NULL;
    for (size_t i = 0; i < server->n_listeners; i++)
        quiesce(server->listeners[i]);
    pthread_mutex_lock(&server->lock);
    server->stopping = true;
    pthread_cond_broadcast(&server->work_ready);
    pthread_mutex_unlock(&server->lock);
    for (int i = 0; i < server->n_workers; i++)
        pthread_join(server->workers[i], NULL);
    stop_streaming(server);
    for (size_t i = 0; i < server->n_listeners; i++)
        listener_free(server->listeners[i]);

    loop_free(server->loop);
    router_free(server->router);
    pthread_mutex_destroy(&server->lock);
    pthread_cond_destroy(&server->work_ready);
    free(server->listeners);
    free(server->counters);
    free(server->workers);
    free(server->spool_directory);
    free(server);
    return NULL;
}

struct loop *http_server_loop(struct http_server *server)
{
    return server->loop;
}

/* -- statistics -- */

void http_server_stats(struct http_server *server, struct http_server_stats *ret_stats)
{
    *ret_stats = (struct http_server_stats){
        .connections = atomic_load(&server->n_connections),
        .websockets = atomic_load(&server->n_websockets),
        .unrouted = atomic_load(&server->unrouted),
        .received_bytes = atomic_load(&server->received_bytes),
    };
}

void http_server_each_route(struct http_server *server, http_route_stats_fn fn, void *userdata)
{
    for (size_t i = 0; i < router_count(server->router); i++) {
        struct route_counters *counters = &server->counters[i];
        struct http_route_stats stats = {.route = router_at(server->router, i)};

        for (size_t c = 0; c < ARRAY_SIZE(stats.by_class); c++)
            stats.by_class[c] = atomic_load(&counters->by_class[c]);
        for (size_t b = 0; b <= HTTP_DURATION_BUCKETS; b++)
            stats.duration_count[b] = atomic_load(&counters->duration_count[b]);
        stats.duration_seconds = (double)atomic_load(&counters->duration_ns) / NS_PER_SEC;
        fn(userdata, &stats);
    }
}
