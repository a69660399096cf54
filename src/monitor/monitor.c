#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "monitor/capture.h"
#include "monitor/intake.h"
#include "monitor/metrics.h"
#include "monitor/monitor.h"
#include "monitor/program.h"
#include "monitor/spec.h"
#include "monitor/view.h"
#include "monitor/weights.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/proc.h"
#include "util/xalloc.h"

#define STATS_INTERVAL (10 * NS_PER_SEC)
#define POLL_INTERVAL  (1 * NS_PER_SEC)  /* where inotify is not to be had */
#define RETRY_DELAY    (1 * NS_PER_SEC)  /* of the exit record, while the disk is full */
#define METRICS_DELAY  (20 * NS_PER_MS)  /* gathers the lines of a busy program */
#define STABLE_NS      (60 * NS_PER_SEC) /* a replica that ran this long has recovered */

/* Delays before the restarts of a replica that keeps ending; after the last one it is given up. */
static const int restart_delays_s[] = {0, 1, 5, 15};

/*
 *     STARTING ──▶ RUNNING ──▶ (WAITING ──▶ STARTING …) ──▶ SETTLING ──▶ FINISHED
 *
 * WAITING   a replica between two starts
 * SETTLING  the program is gone; what it left is carried on and made safe
 */
enum phase { PHASE_STARTING, PHASE_RUNNING, PHASE_WAITING, PHASE_SETTLING, PHASE_FINISHED };

/* How it ended. */
struct ending {
    int exit_code; /* -1: none */
    int signal;    /* 0: none */
    bool oom_killed;
    const char *reason;
    char *message;
};

struct monitor {
    char *directory;
    struct loop *loop;
    struct monitor_spec *spec;
    struct intake *intake;
    struct capture *capture;
    struct metrics *metrics;
    struct weights *weights;
    struct program *program;
    struct cgroups *cgroups;

    enum phase phase;
    int control_fd, inotify_fd, view_watch, weights_watch;
    struct loop_source *kill_timer, *timeout_timer, *restart_timer, *metrics_timer, *settle_timer;

    char *stop_reason; /* somebody asked to stop; NULL: nobody */
    bool timed_out;
    int stop_signal; /* the strongest that was sent: 0, SIGTERM, SIGKILL */
    int64_t started_ms, ended_ms, start_ns;
    int restarts, failures_in_row;
    struct ending ending;
    double cpu_seconds; /* of earlier starts whose group is gone */
    uint64_t memory_peak;
    json_t *exit_record;
    bool record_in_intake;
};

static void start(struct monitor *monitor);
static void settle(void *userdata);

static char *path_of(const struct monitor *monitor, const char *name)
{
    return fs_join(monitor->directory, name);
}

/* -- usage -- */

static void read_usage(struct monitor *monitor, struct cgroup_stats *ret_stats)
{
    struct rusage usage;

    *ret_stats = (struct cgroup_stats){CGROUP_UNKNOWN, CGROUP_UNKNOWN, CGROUP_UNKNOWN, CGROUP_UNKNOWN, CGROUP_UNKNOWN};
    if (monitor->spec->cgroup)
        cgroup_read(monitor->cgroups, monitor->spec->cgroup, ret_stats);
    if (ret_stats->cpu_ns == CGROUP_UNKNOWN && monitor->phase != PHASE_RUNNING &&
        monitor->spec->kind == MONITOR_PROCESS && getrusage(RUSAGE_CHILDREN, &usage) == 0) {
        /* Children that were waited for; so it is known at the end only. */
        ret_stats->cpu_ns = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_SEC +
                            (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
        ret_stats->memory_peak = (uint64_t)usage.ru_maxrss * 1024;
        monitor->cpu_seconds = 0;
    }
    if (ret_stats->memory_peak != CGROUP_UNKNOWN && ret_stats->memory_peak > monitor->memory_peak)
        monitor->memory_peak = ret_stats->memory_peak;
    else if (ret_stats->memory_peak == CGROUP_UNKNOWN && ret_stats->memory != CGROUP_UNKNOWN &&
             ret_stats->memory > monitor->memory_peak)
        monitor->memory_peak = ret_stats->memory; /* kernels before 5.19 keep no peak in version 2 */
}

static void on_stats(void *userdata)
{
    struct monitor *monitor = userdata;
    struct cgroup_stats stats;
    json_t *fields;

    if (monitor->phase != PHASE_RUNNING || !monitor->spec->cgroup)
        return;
    read_usage(monitor, &stats);
    fields = json_object();
    if (stats.cpu_ns != CGROUP_UNKNOWN)
        json_set_number(fields, "cpu_seconds", monitor->cpu_seconds + (double)stats.cpu_ns / NS_PER_SEC);
    if (stats.memory != CGROUP_UNKNOWN)
        json_set_int(fields, "memory_bytes", (int64_t)stats.memory);
    if (monitor->memory_peak)
        json_set_int(fields, "memory_peak_bytes", (int64_t)monitor->memory_peak);
    if (stats.pids != CGROUP_UNKNOWN)
        json_set_int(fields, "pids", (int64_t)stats.pids);
    intake_add(monitor->intake, "stats", fields);
}

/* -- stopping -- */

static void set_ending(struct monitor *monitor, const char *reason, char *message_take)
{
    free(monitor->ending.message);
    monitor->ending.reason = reason;
    monitor->ending.message = message_take;
}

static void on_kill(void *userdata)
{
    struct monitor *monitor = userdata;

    monitor->kill_timer = NULL;
    monitor->stop_signal = SIGKILL;
    program_signal(monitor->program, SIGKILL);
}

/* SIGTERM, and SIGKILL after the grace period; or SIGKILL at once. */
static void end_program(struct monitor *monitor, int signal)
{
    if (signal == SIGKILL) {
        monitor->kill_timer = loop_remove(monitor->kill_timer);
        on_kill(monitor);
    } else if (!monitor->stop_signal) {
        monitor->stop_signal = SIGTERM;
        program_signal(monitor->program, SIGTERM);
        monitor->kill_timer = loop_add_timer(monitor->loop, monitor->spec->grace_ms * NS_PER_MS, on_kill, monitor);
    }
}

static void stop(struct monitor *monitor, int signal, const char *reason)
{
    if (monitor->phase >= PHASE_SETTLING)
        return;
    if (!monitor->stop_reason)
        monitor->stop_reason = xstrdup(reason);
    if (monitor->phase == PHASE_WAITING) {
        monitor->restart_timer = loop_remove(monitor->restart_timer);
        set_ending(monitor, monitor->stop_reason, xasprintf("not started again (%s)", monitor->stop_reason));
        monitor->phase = PHASE_SETTLING;
        settle(monitor);
    } else {
        end_program(monitor, signal);
    }
}

static void check_stop_request(struct monitor *monitor)
{
    cleanup_free char *path = path_of(monitor, "stop.json");
    cleanup_json json_t *request = NULL;

    if (!fs_exists(path))
        return;
    request = json_parse_file(path, LIMIT_CONFIG_FILE, NULL);
    stop(monitor, json_get_int(request, "signal", SIGTERM) == SIGKILL ? SIGKILL : SIGTERM,
         json_get_string(request, "reason", "stopped"));
}

static void on_control(void *userdata, uint32_t events)
{
    struct monitor *monitor = userdata;
    char buffer[64];

    while (read(monitor->control_fd, buffer, sizeof(buffer)) > 0)
        ;
    check_stop_request(monitor);
}

/* The machine goes down, or somebody means us: the node ends as if it was stopped. */
static void on_terminate(void *userdata, int signal)
{
    stop(userdata, SIGTERM, "stopped");
}

/* Somebody removed the data directory: there is nobody who would stop this node. */
static void end_if_orphaned(void *userdata)
{
    struct monitor *monitor = userdata;

    if (!fs_exists(monitor->directory))
        stop(monitor, SIGTERM, "removed");
}

static void on_timeout(void *userdata)
{
    struct monitor *monitor = userdata;

    monitor->timeout_timer = NULL;
    if (monitor->phase != PHASE_RUNNING || monitor->stop_signal)
        return;
    monitor->timed_out = true;
    end_program(monitor, SIGTERM);
}

/* -- metrics and weights -- */

static void on_metrics(void *userdata)
{
    struct monitor *monitor = userdata;

    monitor->metrics_timer = NULL;
    if (monitor->phase < PHASE_SETTLING && metrics_read(monitor->metrics, false)) {
        if (!intake_has_room(monitor->intake))
            intake_flush(monitor->intake, NULL);
        monitor->metrics_timer = loop_add_timer(monitor->loop, 0, on_metrics, monitor);
    }
}

static void metrics_changed(struct monitor *monitor)
{
    if (!monitor->metrics_timer)
        monitor->metrics_timer = loop_add_timer(monitor->loop, METRICS_DELAY, on_metrics, monitor);
}

/* What the program wrote before it renamed a file comes before that file: a generation is known by the
 * metrics that led to it. On a full disk what is left keeps its place in the program's file. */
static void drain_metrics(struct monitor *monitor)
{
    while (metrics_read(monitor->metrics, false))
        if (intake_flush(monitor->intake, NULL) < 0)
            return;
}

static void take_event(struct monitor *monitor, const struct inotify_event *event)
{
    if (event->mask & IN_Q_OVERFLOW) {
        drain_metrics(monitor);
        weights_scan(monitor->weights, false);
        metrics_changed(monitor);
    } else if (event->wd == monitor->weights_watch && event->len) {
        drain_metrics(monitor);
        weights_found(monitor->weights, event->name);
    } else if (event->wd == monitor->view_watch) {
        metrics_changed(monitor);
    }
}

static void on_inotify(void *userdata, uint32_t events)
{
    struct monitor *monitor = userdata;
    char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n = read(monitor->inotify_fd, buffer, sizeof(buffer));

    if (monitor->phase >= PHASE_SETTLING)
        return;
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *event = (const struct inotify_event *)(buffer + at);

        take_event(monitor, event);
        at += (ssize_t)(sizeof(*event) + event->len);
    }
}

static void on_poll(void *userdata)
{
    struct monitor *monitor = userdata;

    if (monitor->phase != PHASE_RUNNING)
        return;
    drain_metrics(monitor);
    weights_scan(monitor->weights, false);
}

/* Watches the program's files; by polling where the kernel has no more inotify instances for us. */
static void watch_view(struct monitor *monitor)
{
    cleanup_free char *metrics = path_of(monitor, "view/metrics.jsonl"), *weights = path_of(monitor, "view/weights");

    monitor->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (monitor->inotify_fd >= 0) {
        monitor->view_watch = inotify_add_watch(monitor->inotify_fd, metrics, IN_MODIFY);
        monitor->weights_watch = inotify_add_watch(monitor->inotify_fd, weights, IN_MOVED_TO | IN_ONLYDIR);
        if (monitor->view_watch >= 0 && monitor->weights_watch >= 0) {
            loop_add_fd(monitor->loop, monitor->inotify_fd, EPOLLIN, on_inotify, monitor);
            return;
        }
        close(steal_fd(&monitor->inotify_fd));
    }
    loop_add_interval(monitor->loop, POLL_INTERVAL, on_poll, monitor);
}

static void on_child(void *userdata, int signal)
{
    struct monitor *monitor = userdata;
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (!weights_child(monitor->weights, pid, status))
            program_child(monitor->program, pid, status);
    }
}

static void on_truncated(void *userdata, bool full)
{
    struct monitor *monitor = userdata;

    if (full)
        intake_warn(monitor->intake, "log_incomplete", "the disk is full: output is missing from the log");
    else
        intake_warn(monitor->intake, "log_truncated",
                    "the log has reached %llu bytes; further output is counted and dropped",
                    (unsigned long long)monitor->spec->log_limit);
}

/* -- the end of the program -- */

static void classify(struct monitor *monitor, const struct program_end *end, bool oom_killed)
{
    struct ending *ending = &monitor->ending;

    ending->exit_code = !end->failure && WIFEXITED(end->status) ? WEXITSTATUS(end->status) : -1;
    ending->signal = !end->failure && WIFSIGNALED(end->status) ? WTERMSIG(end->status) : 0;
    ending->oom_killed = oom_killed;
    if (end->failure && !monitor->stop_reason)
        set_ending(monitor, "start_failed", xstrdup(end->failure));
    else if (monitor->stop_reason)
        set_ending(monitor, monitor->stop_reason,
                   xasprintf(monitor->stop_signal == SIGKILL ? "ended by force (%s)" : "ended on request (%s)",
                             monitor->stop_reason));
    else if (monitor->timed_out)
        set_ending(monitor, "timeout",
                   xasprintf("did not finish within %lld ms", (long long)monitor->spec->timeout_ms));
    else if (oom_killed && (ending->signal || ending->exit_code))
        set_ending(
            monitor, "oom",
            xasprintf("passed its memory limit of %llu bytes", (unsigned long long)monitor->spec->limits.memory));
    else if (ending->signal)
        set_ending(monitor, "signaled",
                   xasprintf("killed by signal %d (%s)", ending->signal, strsignal(ending->signal)));
    else
        set_ending(monitor, "exited", xasprintf("exited with status %d", ending->exit_code));
}

/* What a runtime and the kernel keep of a container that is gone. */
static void remove_remains(struct monitor *monitor)
{
    if (monitor->spec->kind == MONITOR_OCI) {
        cleanup_free char *state = fs_join(monitor->spec->runtime_root, monitor->spec->container);

        fs_remove_all(state, NULL);
    }
    if (monitor->spec->cgroup)
        cgroup_remove(monitor->cgroups, monitor->spec->cgroup);
}

static void on_restart(void *userdata)
{
    struct monitor *monitor = userdata;

    monitor->restart_timer = NULL;
    start(monitor);
}

static json_t *ending_json(const struct ending *ending)
{
    json_t *json = json_object();

    json_object_set_new(json, "exit_code", ending->exit_code >= 0 ? json_integer(ending->exit_code) : json_null());
    json_object_set_new(json, "signal", ending->signal ? json_integer(ending->signal) : json_null());
    json_set_bool(json, "oom_killed", ending->oom_killed);
    return json;
}

/* True if a replica shall start again. */
static bool plan_restart(struct monitor *monitor)
{
    json_t *fields;
    int delay_s;

    if (!monitor->spec->restart || monitor->stop_reason)
        return false;
    if (monitor->start_ns && clock_monotonic_ns() - monitor->start_ns >= STABLE_NS)
        monitor->failures_in_row = 0;
    if (monitor->failures_in_row == ARRAY_SIZE(restart_delays_s)) {
        set_ending(monitor, "crash_loop",
                   xasprintf("ended %d times in a row; the last time: %s", monitor->failures_in_row + 1,
                             monitor->ending.message));
        return false;
    }
    delay_s = restart_delays_s[monitor->failures_in_row++];
    monitor->restarts++;
    fields = ending_json(&monitor->ending);
    json_set_int(fields, "restarts", monitor->restarts);
    json_set_int(fields, "delay_ms", delay_s * 1000);
    intake_add(monitor->intake, "restarted", fields);
    monitor->phase = PHASE_WAITING;
    monitor->restart_timer = loop_add_timer(monitor->loop, delay_s * NS_PER_SEC, on_restart, monitor);
    return true;
}

static void on_ended(void *userdata, const struct program_end *end)
{
    struct monitor *monitor = userdata;
    struct cgroup_stats stats;

    monitor->phase = PHASE_SETTLING;
    monitor->ended_ms = clock_wall_ms();
    monitor->kill_timer = loop_remove(monitor->kill_timer);
    monitor->timeout_timer = loop_remove(monitor->timeout_timer);
    capture_drain(monitor->capture);
    read_usage(monitor, &stats);
    if (stats.cpu_ns != CGROUP_UNKNOWN)
        monitor->cpu_seconds += (double)stats.cpu_ns / NS_PER_SEC;
    classify(monitor, end, stats.oom_kills != CGROUP_UNKNOWN && stats.oom_kills > 0);
    remove_remains(monitor);
    if (!plan_restart(monitor))
        settle(monitor);
}

static void on_started(void *userdata, pid_t pid)
{
    struct monitor *monitor = userdata;

    monitor->phase = PHASE_RUNNING;
    monitor->start_ns = clock_monotonic_ns();
    if (!monitor->started_ms)
        monitor->started_ms = clock_wall_ms();
    intake_add(monitor->intake, "started", json_build("{s:i}", "pid", (int)pid));
    intake_flush(monitor->intake, NULL);
    if (monitor->spec->timeout_ms > 0 && !monitor->timeout_timer)
        monitor->timeout_timer = loop_add_timer(monitor->loop, monitor->spec->timeout_ms * NS_PER_MS, on_timeout,
                                                monitor);
}

static const struct program_callbacks program_callbacks = {on_started, on_ended};

/* -- settling -- */

static json_t *build_record(struct monitor *monitor)
{
    cleanup_json json_t *output = view_collect_output(monitor->directory, monitor->spec, monitor->intake);
    json_t *record = ending_json(&monitor->ending);
    bool known = monitor->spec->cgroup || monitor->spec->kind == MONITOR_PROCESS;

    json_set_string(record, "reason", monitor->ending.reason);
    json_object_set_new(record, "message", json_string_lossy(monitor->ending.message));
    json_set_time_ms(record, "started_at", monitor->started_ms);
    json_set_time_ms(record, "ended_at", monitor->ended_ms);
    json_object_set_new(record, "cpu_seconds", known ? json_real(monitor->cpu_seconds) : json_null());
    json_object_set_new(record, "memory_peak_bytes",
                        monitor->memory_peak ? json_integer((json_int_t)monitor->memory_peak) : json_null());
    json_set_int(record, "log_bytes", (int64_t)capture_bytes(monitor->capture));
    json_set_int(record, "log_dropped_bytes", (int64_t)capture_dropped(monitor->capture));
    json_set_int(record, "generations", weights_generations(monitor->weights));
    json_set_int(record, "restarts", monitor->restarts);
    json_object_update(record, output);
    return record;
}

/* Everything that the program left, then the record, each step once; steps that fail are tried again. */
static int settle_step(struct monitor *monitor, struct error *error)
{
    cleanup_free char *path = path_of(monitor, "exit.json"), *view = path_of(monitor, "view"), *text = NULL;

    view_remove_work(monitor->directory); /* on a full disk this is what makes room for the record */
    while (metrics_read(monitor->metrics, true))
        if (intake_flush(monitor->intake, error) < 0)
            return -1;
    if (!monitor->exit_record) {
        weights_scan(monitor->weights, true);
        if (weights_busy(monitor->weights))
            return 1; /* on_child comes back */
        monitor->exit_record = build_record(monitor);
        intake_add_dropped(monitor->intake);
    }
    if (!monitor->record_in_intake) {
        intake_add(monitor->intake, "exited", json_deep_copy(monitor->exit_record));
        monitor->record_in_intake = true;
    }
    if (intake_flush(monitor->intake, error) < 0 || capture_sync(monitor->capture, error) < 0)
        return -1;
    text = json_text(monitor->exit_record);
    if (fs_write_atomic(path, text, strlen(text), 0600, error) < 0)
        return -1;
    fs_remove_all(view, NULL);
    return 0;
}

static void settle(void *userdata)
{
    struct monitor *monitor = userdata;
    cleanup_error struct error error = ERROR_INIT;
    int r;

    monitor->settle_timer = NULL;
    monitor->metrics_timer = loop_remove(monitor->metrics_timer);
    r = settle_step(monitor, &error);
    /* Somebody removed the directory: there is no place for a record, and nobody who would read it. */
    if (r == 0 || !fs_exists(monitor->directory)) {
        monitor->phase = PHASE_FINISHED;
        loop_stop(monitor->loop);
    } else {
        /* The disk is full, or weights are being synced. */
        monitor->settle_timer = loop_add_timer(monitor->loop, r < 0 ? RETRY_DELAY : 5 * NS_PER_MS, settle, monitor);
    }
}

/* -- the start -- */

static void start_failed(struct monitor *monitor, const struct error *error)
{
    struct program_end end = {.failure = error->message};

    on_ended(monitor, &end);
}

static void start(struct monitor *monitor)
{
    cleanup_error struct error error = ERROR_INIT;
    int fds[2], r;

    monitor->phase = PHASE_STARTING;
    monitor->start_ns = 0;
    monitor->stop_signal = 0;
    if (view_create_work(monitor->directory, monitor->spec, &error) < 0 ||
        capture_attach(monitor->capture, fds, &error) < 0) {
        start_failed(monitor, &error);
        return;
    }
    r = program_start(monitor->program, fds, &error);
    close(fds[0]);
    close(fds[1]);
    if (r < 0)
        start_failed(monitor, &error);
}

/* Appears whole; not synced, because it is worth nothing after a power loss and the program waits for it. */
static int write_identity(struct monitor *monitor, struct error *error)
{
    cleanup_free char *path = path_of(monitor, "monitor.json"), *new_path = path_of(monitor, "monitor.json.tmp"),
                      *text = NULL;
    cleanup_json json_t *json = NULL;
    cleanup_close int fd = -1;
    struct proc_id id;

    if (proc_identify(getpid(), &id, error) < 0)
        return -1;
    json = json_build("{s:i, s:I}", "pid", (int)id.pid, "start_time", (json_int_t)id.start_time);
    text = json_text(json);
    fd = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot create %s", new_path);
    if (fs_write_all(fd, text, strlen(text), error) < 0)
        return error_wrap(error, "%s", new_path);
    if (rename(new_path, path) < 0)
        return error_set_errno(error, errno, "cannot rename %s", new_path);
    return 0;
}

static int open_control(struct monitor *monitor, struct error *error)
{
    cleanup_free char *path = path_of(monitor, "control");

    if (mkfifo(path, 0600) < 0 && errno != EEXIST)
        return error_set_errno(error, errno, "cannot create %s", path);
    /* Also for writing, so that it never is at its end. */
    monitor->control_fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (monitor->control_fd < 0)
        return error_set_errno(error, errno, "cannot open %s", path);
    loop_add_fd(monitor->loop, monitor->control_fd, EPOLLIN, on_control, monitor);
    return 0;
}

static int open_view(struct monitor *monitor, struct error *error)
{
    cleanup_free char *metrics_path = path_of(monitor, "view/metrics.jsonl"), *from = path_of(monitor, "view/weights"),
                      *to = path_of(monitor, "weights");
    int fd;

    if (view_create(monitor->directory, monitor->spec, error) < 0)
        return -1;
    fd = open(metrics_path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot open %s", metrics_path);
    monitor->metrics = metrics_new(fd, monitor->intake);
    if (weights_open(from, to, monitor->intake, &monitor->weights, error) < 0)
        return -1;
    /* A replica reports neither metrics nor weights, and the kernel has few inotify instances: 128 of a user. */
    if (!monitor->spec->restart)
        watch_view(monitor);
    return 0;
}

static int set_up(struct monitor *monitor, struct error *error)
{
    cleanup_free char *spec = path_of(monitor, "spec.json"), *log = path_of(monitor, "log");

    monitor->cgroups = cgroups_open(NULL);
    loop_add_signal(monitor->loop, SIGCHLD, on_child, monitor);
    loop_add_signal(monitor->loop, SIGTERM, on_terminate, monitor);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if (monitor_spec_load(spec, &monitor->spec, error) < 0)
        return -1;
    monitor->program = program_new(monitor->directory, monitor->spec, monitor->loop, &program_callbacks, monitor);
    if (open_control(monitor, error) < 0 ||
        capture_open(log, monitor->spec->log_limit, monitor->loop, on_truncated, monitor, &monitor->capture, error) <
            0 ||
        open_view(monitor, error) < 0)
        return -1;
    loop_add_interval(monitor->loop, LIMIT_ORPHAN_MS * NS_PER_MS, end_if_orphaned, monitor);
    /* A replica's usage is asked for when somebody wants to see it; it has no end that its record could wait for. */
    if (monitor->spec->cgroup && !monitor->spec->restart)
        loop_add_interval(monitor->loop, STATS_INTERVAL, on_stats, monitor);
    return 0;
}

/* The node cannot even be prepared: a record all the same, if the disk takes it. */
static int record_failure(struct monitor *monitor, const struct error *why, struct error *error)
{
    cleanup_free char *path = path_of(monitor, "exit.json"), *text = NULL;
    cleanup_json json_t *record = NULL;

    monitor->ending.exit_code = -1;
    record = ending_json(&monitor->ending);
    json_set_string(record, "reason", "start_failed");
    json_object_set_new(record, "message", json_string_lossy(why->message));
    json_set_time_ms(record, "started_at", 0);
    json_set_time_ms(record, "ended_at", clock_wall_ms());
    json_object_set_new(record, "artifacts", json_array());
    intake_add(monitor->intake, "exited", json_deep_copy(record));
    text = json_text(record);
    if (intake_flush(monitor->intake, error) < 0)
        return -1;
    return fs_write_atomic(path, text, strlen(text), 0600, error);
}

static void release(struct monitor *monitor)
{
    program_free(monitor->program);
    weights_close(monitor->weights);
    metrics_free(monitor->metrics);
    capture_close(monitor->capture);
    intake_close(monitor->intake);
    cgroups_close(monitor->cgroups);
    monitor_spec_free(monitor->spec);
    loop_free(monitor->loop);
    json_decref(monitor->exit_record);
    if (monitor->control_fd >= 0)
        close(monitor->control_fd);
    if (monitor->inotify_fd >= 0)
        close(monitor->inotify_fd);
    free(monitor->ending.message);
    free(monitor->stop_reason);
    free(monitor->directory);
}
#define cleanup_monitor CLEANUP(release)

int monitor_run(const char *directory, struct error *error)
{
    cleanup_monitor struct monitor monitor = {.control_fd = -1, .inotify_fd = -1};
    cleanup_error struct error why = ERROR_INIT;
    cleanup_free char *lock = NULL, *lost = NULL, *intake = NULL;
    cleanup_close int lock_fd = -1;

    monitor.directory = realpath(directory, NULL);
    if (!monitor.directory)
        return error_set_errno(error, errno, "cannot open the directory %s", directory);
    umask(022);
    lock = path_of(&monitor, "lock");
    lost = path_of(&monitor, "lost");
    intake = path_of(&monitor, "intake.jsonl");
    monitor.loop = loop_new();
    if (fs_lock(lock, &lock_fd, error) < 0)
        return -1;
    if (fs_exists(lost))
        return error_set(error, ERROR_CONFLICT, "%s was given up before its monitor started", monitor.directory);
    if (write_identity(&monitor, error) < 0 || intake_open(intake, monitor.loop, &monitor.intake, error) < 0)
        return -1;
    if (set_up(&monitor, &why) < 0)
        return record_failure(&monitor, &why, error);

    check_stop_request(&monitor);
    if (monitor.stop_reason)
        set_ending(&monitor, monitor.stop_reason, xstrdup("stopped before it started"));
    if (monitor.stop_reason) {
        monitor.ending.exit_code = -1;
        monitor.ended_ms = clock_wall_ms();
        monitor.phase = PHASE_SETTLING;
        settle(&monitor);
    } else {
        start(&monitor);
    }
    loop_run(monitor.loop);
    return 0;
}
