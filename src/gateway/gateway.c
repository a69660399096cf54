#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include "gateway/call.h"
#include "gateway/gateway.h"
#include "gateway/shadow.h"
#include "gateway/listener.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/slice.h"

/* A worker that makes its eventfd blocking and fills it could hold up our write to it. The signal ends the
 * write with EINTR; ring.c then takes it for what it is. */
#define WATCHDOG_MS 250

static void on_alarm(int signal)
{
}

static void start_watchdog(void)
{
    struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART: that is the point */
    struct itimerval interval = {.it_interval = {.tv_usec = WATCHDOG_MS * 1000},
                                 .it_value = {.tv_usec = WATCHDOG_MS * 1000}};

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &interval, NULL);
}

static void on_drain_tick(void *userdata)
{
    struct gateway *gateway = userdata;

    if (!loop_server_pending(gateway->server) || clock_monotonic_ns() >= gateway->drain_until_ns)
        loop_stop(gateway->loop);
}

static void on_stop_signal(void *userdata, int signal)
{
    struct gateway *gateway = userdata;

    if (gateway->draining) {
        loop_stop(gateway->loop);
        return;
    }
    log_info("draining", "signal", strsignal(signal));
    gateway->draining = true;
    gateway->drain_until_ns = clock_monotonic_ns() + gateway->options->grace_ms * NS_PER_MS;
    loop_server_drain(gateway->server);
    loop_add_interval(gateway->loop, 20 * NS_PER_MS, on_drain_tick, gateway);
}

static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Somebody removed the data directory while its daemon was not there: a port that nobody can free by a command. */
static void end_if_orphaned(void *userdata)
{
    struct gateway *gateway = userdata;
    struct stat status;

    if (fstat(gateway->directory_fd, &status) < 0 || status.st_nlink > 0)
        return;
    log_warning("the gateway's directory was removed", "directory", gateway->options->directory);
    loop_stop(gateway->loop);
}

static int watch_directory(struct gateway *gateway, struct error *error)
{
    gateway->directory_fd = open(gateway->options->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (gateway->directory_fd < 0)
        return error_set_errno(error, errno, "cannot open %s", gateway->options->directory);
    loop_add_interval(gateway->loop, LIMIT_ORPHAN_MS * NS_PER_MS, end_if_orphaned, gateway);
    return 0;
}

static int open_all(struct gateway *gateway, struct error *error)
{
    cleanup_free char *control = fs_join(gateway->options->directory, "control.sock");
    cleanup_free char *workers = fs_join(gateway->options->directory, "worker.sock");

    /* The workers' preparation for a wait comes first: it may free connections to be read again. */
    if (fs_mkdir_all(gateway->options->directory, 0755, error) < 0 || watch_directory(gateway, error) < 0 ||
        bearer_new(gateway, &gateway->auth, error) < 0 ||
        workers_open(gateway, workers, &gateway->workers, error) < 0 || listener_open(gateway, error) < 0)
        return -1;
    /* A successor knows nothing yet: who waited through the change goes on waiting for the routes. */
    if (gateway->options->listen && gateway->options->listen[0] && strncmp(gateway->options->listen[0], "fd:", 3) == 0)
        loop_server_hold(gateway->server, true);
    gateway->recorder = recorder_open(gateway, gateway->options->directory, gateway->options->user);
    /* Last: who can connect here finds everything in place. */
    return control_open(gateway, control, &gateway->control, error);
}

/* From here on a mistake in what strangers reach cannot cost more than the gateway itself. Sockets are then named
 * relative to its directory, because the ones above may be closed to the new user. */
static int drop_privileges(uid_t user, const char *directory, struct error *error)
{
    if (!user)
        return 0;
    if (chdir(directory) < 0)
        return error_set_errno(error, errno, "cannot enter %s", directory);
    if (setgroups(0, NULL) < 0 || setresgid(user, user, user) < 0 || setresuid(user, user, user) < 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_set_errno(error, errno, "cannot become the user %u", (unsigned)user);
    return 0;
}

static void close_all(struct gateway *gateway)
{
    loop_server_free(gateway->server);
    shadows_close(gateway);
    gateway->workers = workers_close(gateway->workers);
    gateway->auth = bearer_free(gateway->auth);
    gateway->answers = answers_free(gateway->answers);
    gateway->recorder = recorder_close(gateway->recorder);
    routes_release(&gateway->routes);
    gateway->control = control_close(gateway->control);
    loop_free(gateway->loop);
    if (gateway->directory_fd >= 0)
        close(gateway->directory_fd);
}

int gateway_run(const struct gateway_options *options, struct error *error)
{
    struct gateway gateway = {.options = options, .loop = loop_new(), .directory_fd = -1};
    int result;

    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    routes_init(&gateway.routes);
    list_init(&gateway.copies);
    id_new(gateway.instance);
    gateway.started_ms = clock_wall_ms();
    loop_add_signal(gateway.loop, SIGTERM, on_stop_signal, &gateway);
    loop_add_signal(gateway.loop, SIGINT, on_stop_signal, &gateway);
    result = open_all(&gateway, error);
    if (result == 0)
        result = drop_privileges(options->user, options->directory, error);
    if (result == 0) {
        slice_short();
        start_watchdog();
        loop_run(gateway.loop);
        log_info("stopped", "requests", "answered");
    }
    close_all(&gateway);
    return result;
}
