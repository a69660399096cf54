#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "api/api.h"
#include "api/authenticator.h"
#include "api/daemon.h"
#include "api/notify.h"
#include "schedule/gateway-link.h"
#include "schedule/orchestrator.h"
#include "schedule/serving.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/net.h"
#include "util/xalloc.h"

/* -- the process -- */

/* Many threads that allocate little: two arenas instead of eight per core keep the idle daemon small. */
static void prepare_process(void)
{
    struct rlimit files;

    mallopt(M_ARENA_MAX, 2);
    mallopt(M_TRIM_THRESHOLD, 256 * 1024);
    umask(022);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static void on_signal(void *userdata, int number)
{
    struct daemon *daemon = userdata;

    log_info("stopping", "signal", strsignal(number));
    loop_stop(daemon->loop);
}

/* -- ports -- */

/* Tokens are needed on every port; without TLS somebody on the way could read and use them. */
static int check_port(const struct daemon_options *options, const char *option, const char *text, struct error *error)
{
    struct net_address address;

    if (net_parse(text, &address, error) < 0)
        return error_wrap(error, "--%s", option);
    if (options->certificate || options->insecure || net_is_loopback(&address))
        return 0;
    return error_set(error, ERROR_INVALID,
                     "--%s %s can be reached from other machines, and without TLS tokens and data could be read on the "
                     "way; give --tls-cert and --tls-key, or --insecure if the network itself is protected",
                     option, text);
}

static int check_ports(const struct daemon_options *options, struct error *error)
{
    if (!options->certificate != !options->key)
        return error_set(error, ERROR_INVALID, "--tls-cert and --tls-key belong together");
    for (size_t i = 0; options->listen && i < options->listen->count; i++)
        if (check_port(options, "listen", options->listen->items[i], error) < 0)
            return -1;
    return options->serve ? check_port(options, "serve", options->serve, error) : 0;
}

static int listen_on(struct daemon *daemon, const struct http_listen *listen, struct error *error)
{
    char *url;

    if (http_server_listen(daemon->control, listen, &url, error) < 0)
        return -1;
    strvec_push_take(&daemon->urls, url);
    return 0;
}

/* The gateway has no privileges and cannot reach slipway.sock: it has a socket of its own, on which it may ask
 * what tokens are worth and nothing else. */
static int open_introspection(struct daemon *daemon, struct error *error)
{
    cleanup_free char *socket = store_path(daemon->store, INTROSPECT_SOCKET);
    cleanup_free char *directory = store_path(daemon->store, "gateway");
    const struct http_listen listen = {.unix_path = socket};

    if (!daemon->gateway_uid)
        return 0;
    if (fs_mkdir_all(directory, 0711, error) < 0 || http_server_listen(daemon->control, &listen, NULL, error) < 0)
        return -1;
    if (chown(socket, daemon->gateway_uid, (gid_t)-1) < 0)
        return error_set_errno(error, errno, "cannot give %s to the gateway", socket);
    return 0;
}

/* Opens the sockets, so that their URLs are known; nobody gets an answer before the start. */
static int open_control(struct daemon *daemon, const struct daemon_options *options, struct error *error)
{
    cleanup_free char *socket = store_path(daemon->store, "slipway.sock"),
                      *spool = store_path(daemon->store, "incoming");
    struct http_server_options server = {
        .routes = api_tables,
        .context = daemon,
        .authenticate = authenticator_check,
        .spool_directory = spool,
    };

    if (fs_remove_all(spool, error) < 0 || fs_mkdir_all(spool, 0700, error) < 0 ||
        http_server_new(&server, &daemon->control, error) < 0 ||
        listen_on(daemon, &(struct http_listen){.unix_path = socket}, error) < 0 ||
        open_introspection(daemon, error) < 0)
        return -1;
    for (size_t i = 0; options->listen && i < options->listen->count; i++) {
        struct http_listen listen = {
            .address = options->listen->items[i], .certificate = options->certificate, .key = options->key};

        if (listen_on(daemon, &listen, error) < 0)
            return -1;
    }
    return 0;
}

/* -- parts -- */

static int start_schedule(struct daemon *daemon, const struct daemon_options *options, struct error *error)
{
    struct orchestrator_options orchestrator = {
        .engine = options->engine ?: "auto",
        .long_run_ms = options->long_run_ms,
        .url = daemon->urls.count > 1 ? daemon->urls.items[1] : NULL,
        .python = options->python,
    };
    struct serving_options serving = {
        .serve = options->serve,
        .certificate = options->certificate,
        .key = options->key,
        .gateway_uid = daemon->gateway_uid,
    };

    if (orchestrator_new(daemon->store, &orchestrator, &daemon->orchestrator, error) < 0)
        return error_wrap(error, "cannot start the orchestrator");
    if (serving_new(daemon->store, daemon->orchestrator, &serving, &daemon->serving, error) < 0)
        return error_wrap(error, "cannot start serving");
    daemon->serve_url = xstrdup_null(serving_url(daemon->serving));
    return orchestrator_start(daemon->orchestrator, error);
}

int daemon_new(const struct daemon_options *options, struct daemon **ret_daemon, struct error *error)
{
    cleanup_daemon struct daemon *daemon = NULL;
    struct store_options store = {options->data_directory, options->hot_directory, options->hot_budget};

    if (check_ports(options, error) < 0)
        return -1;
    prepare_process();
    daemon = xnew0(struct daemon);
    daemon->started_ms = clock_wall_ms();
    daemon->notify = notify_open();
    daemon->loop = loop_new();
    /* Before any thread: they inherit the blocked signals. */
    loop_add_signal(daemon->loop, SIGTERM, on_signal, daemon);
    loop_add_signal(daemon->loop, SIGINT, on_signal, daemon);

    if (store_open(&store, &daemon->store, error) < 0)
        return -1;
    daemon->auth = authenticator_new(daemon->store);
    daemon->gateway_uid = options->serve ? serving_gateway_uid() : 0;
    if (open_control(daemon, options, error) < 0 || start_schedule(daemon, options, error) < 0 ||
        http_server_start(daemon->control, error) < 0)
        return -1;
    *ret_daemon = steal_ptr(daemon);
    return 0;
}

void daemon_run(struct daemon *daemon)
{
    notify_supervisor(daemon->notify, "READY=1");
    loop_run(daemon->loop);
    notify_supervisor(daemon->notify, "STOPPING=1");
}

struct daemon *daemon_free(struct daemon *daemon)
{
    if (!daemon)
        return NULL;
    http_server_free(daemon->control);
    if (daemon->orchestrator)
        orchestrator_stop(daemon->orchestrator);
    serving_free(daemon->serving);
    orchestrator_free(daemon->orchestrator);
    authenticator_free(daemon->auth);
    store_close(daemon->store);
    loop_free(daemon->loop);
    strvec_release(&daemon->urls);
    free(daemon->serve_url);
    free(daemon->notify);
    free(daemon);
    return NULL;
}
