#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "engine/nodes.h"
#include "engine/spare.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/map.h"
#include "util/proc.h"
#include "util/xalloc.h"

#define SPEC_MAX      (64 * MIB)
#define POLL_INTERVAL (1 * NS_PER_SEC) /* of the intake's size, where inotify is not to be had */
#define KILL_INTERVAL (20 * NS_PER_MS) /* until a lost node's processes are gone */
#define KILL_ROUNDS   500
#define SPARE_DELAY   (200 * NS_PER_MS) /* the node that has just been launched comes first */
#define START_WAIT    (50 * NS_PER_MS) /* for a monitor that has its lock but not yet told who it is */

struct node {
    struct nodes *nodes;
    char *key, *directory;
    json_t *document; /* spec.json */
    pid_t child;      /* monitor that is our child; 0: not */
    int pidfd;        /* of the monitor; -1: none (ended, or not found yet) */
    struct loop_source *pidfd_source;
    int watch;                 /* inotify; -1: none */
    off_t intake_size;         /* polling: what was told */
    struct loop_source *timer; /* attach or kill */
    int rounds;
    bool ended; /* ENGINE_EXITED or ENGINE_LOST was told */
};

struct nodes {
    struct engine *engine;
    const struct cgroups *cgroups;
    char *program;
    struct spare *spare;
    struct loop_source *spare_timer; /* until another one is prepared */
    struct map by_key;   /* owns */
    struct map by_watch; /* decimal watch descriptor → node */
    int inotify_fd;      /* -1: polling */
    struct loop_source *inotify_source, *poll_source;
};

static void seek_monitor(void *userdata);

static void node_free(void *p)
{
    struct node *node = p;
    struct nodes *nodes = node->nodes;
    char text[16];

    loop_remove(node->pidfd_source);
    loop_remove(node->timer);
    if (node->pidfd >= 0)
        close(node->pidfd);
    if (node->watch >= 0) {
        snprintf(text, sizeof(text), "%d", node->watch);
        map_take(&nodes->by_watch, text);
        inotify_rm_watch(nodes->inotify_fd, node->watch);
    }
    json_decref(node->document);
    free(node->key);
    free(node->directory);
    free(node);
}

static struct node *node_new(struct nodes *nodes, const char *key, const char *directory, json_t *document)
{
    struct node *node = xnew0(struct node);

    node->nodes = nodes;
    node->key = xstrdup(key);
    node->directory = xstrdup(directory);
    node->document = document;
    node->pidfd = node->watch = -1;
    map_put(&nodes->by_key, key, node);
    return node;
}

/* The listener may forget the node: it must not be used afterwards. */
static void tell(struct node *node, enum engine_event event)
{
    struct engine *engine = node->nodes->engine;

    engine->on_event(engine->userdata, node->key, node->directory, event);
}

static void tell_ended(struct node *node, enum engine_event event)
{
    node->ended = true;
    node->pidfd_source = loop_remove(node->pidfd_source);
    if (node->pidfd >= 0)
        close(steal_fd(&node->pidfd));
    tell(node, event);
}

static bool has_file(const struct node *node, const char *name)
{
    cleanup_free char *path = fs_join(node->directory, name);

    return fs_exists(path);
}

/* -- what a node leaves outside its directory -- */

static void remove_remains(struct node *node)
{
    static const char *const suffixes[] = {"", ".pid", ".log"}; /* the runtime's state, and what it told a monitor */
    const char *cgroup = json_get_string(node->document, "cgroup", NULL);
    const json_t *runtime = json_object_get(node->document, "runtime");
    const char *root = json_get_string(runtime, "root", NULL), *name = json_get_string(runtime, "container", NULL);

    if (cgroup)
        cgroup_remove(node->nodes->cgroups, cgroup);
    for (size_t i = 0; root && name && i < ARRAY_SIZE(suffixes); i++) {
        cleanup_free char *path = xasprintf("%s/%s%s", root, name, suffixes[i]);

        fs_remove_all(path, NULL);
    }
}

/* init ends by itself when its monitor is gone; this makes sure, and waits. */
static void on_kill(void *userdata)
{
    struct node *node = userdata;
    const char *cgroup = json_get_string(node->document, "cgroup", NULL);

    node->timer = NULL;
    if (cgroup && cgroup_kill(node->nodes->cgroups, cgroup) > 0 && node->rounds++ < KILL_ROUNDS) {
        node->timer = loop_add_timer(node->nodes->engine->loop, KILL_INTERVAL, on_kill, node);
        return;
    }
    remove_remains(node);
    tell_ended(node, ENGINE_LOST);
}

/* -- the monitor's end -- */

static void on_monitor_end(void *userdata, uint32_t events)
{
    struct node *node = userdata;

    if (node->child)
        waitpid(node->child, NULL, WNOHANG);
    node->child = 0;
    node->pidfd_source = loop_remove(node->pidfd_source);
    if (has_file(node, "exit.json"))
        tell_ended(node, ENGINE_EXITED);
    else
        on_kill(node);
}

static void watch_monitor(struct node *node, int pidfd_take)
{
    node->pidfd = pidfd_take;
    node->pidfd_source = loop_add_fd(node->nodes->engine->loop, node->pidfd, EPOLLIN, on_monitor_end, node);
}

/* -- the intake -- */

static void on_inotify(void *userdata, uint32_t events)
{
    struct nodes *nodes = userdata;
    char buffer[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n = read(nodes->inotify_fd, buffer, sizeof(buffer));

    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *event = (const struct inotify_event *)(buffer + at);
        struct node *node;
        char text[16];

        at += (ssize_t)(sizeof(*event) + event->len);
        snprintf(text, sizeof(text), "%d", event->wd);
        node = map_get(&nodes->by_watch, text);
        if (event->mask & IN_Q_OVERFLOW) {
            struct map_iterator it = {0};

            while (map_next(&nodes->by_key, &it)) {
                node = it.value;
                if (!node->ended)
                    tell(node, ENGINE_INTAKE);
            }
        } else if (node && !node->ended && event->len && strcmp(event->name, "intake.jsonl") == 0) {
            tell(node, ENGINE_INTAKE);
        }
    }
}

static void on_poll(void *userdata)
{
    struct nodes *nodes = userdata;
    struct map_iterator it = {0};

    while (map_next(&nodes->by_key, &it)) {
        struct node *node = it.value;
        cleanup_free char *path = NULL;
        struct stat st;

        if (node->ended || node->watch >= 0)
            continue;
        path = fs_join(node->directory, "intake.jsonl");
        if (stat(path, &st) < 0 || st.st_size == node->intake_size)
            continue;
        node->intake_size = st.st_size;
        tell(node, ENGINE_INTAKE);
    }
}

/* The monitor touches intake.jsonl after each sync. */
static void watch_directory(struct node *node)
{
    struct nodes *nodes = node->nodes;
    char text[16];

    if (nodes->inotify_fd >= 0)
        node->watch = inotify_add_watch(nodes->inotify_fd, node->directory, IN_ATTRIB | IN_ONLYDIR);
    if (node->watch >= 0) {
        snprintf(text, sizeof(text), "%d", node->watch);
        map_put(&nodes->by_watch, text, node);
    } else if (!nodes->poll_source) {
        nodes->poll_source = loop_add_interval(nodes->engine->loop, POLL_INTERVAL, on_poll, nodes);
    }
}

/* -- all nodes -- */

static void on_spare(void *userdata)
{
    struct nodes *nodes = userdata;

    nodes->spare_timer = NULL;
    spare_prepare(nodes->spare);
}

static void spare_soon(struct nodes *nodes)
{
    if (!nodes->spare_timer)
        nodes->spare_timer = loop_add_timer(nodes->engine->loop, SPARE_DELAY, on_spare, nodes);
}

struct nodes *nodes_new(struct engine *engine, const struct cgroups *cgroups, const char *program)
{
    struct nodes *nodes = xnew0(struct nodes);

    nodes->engine = engine;
    nodes->cgroups = cgroups;
    nodes->program = program ? xstrdup(program) : proc_self_path();
    nodes->spare = spare_new(nodes->program, engine->data_directory);
    nodes->by_key.destroy = node_free;
    spare_soon(nodes);
    nodes->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (nodes->inotify_fd >= 0)
        nodes->inotify_source = loop_add_fd(engine->loop, nodes->inotify_fd, EPOLLIN, on_inotify, nodes);
    return nodes;
}

struct nodes *nodes_free(struct nodes *nodes)
{
    if (!nodes)
        return NULL;
    map_release(&nodes->by_key);
    map_release(&nodes->by_watch);
    loop_remove(nodes->inotify_source);
    loop_remove(nodes->poll_source);
    loop_remove(nodes->spare_timer);
    spare_free(nodes->spare);
    if (nodes->inotify_fd >= 0)
        close(nodes->inotify_fd);
    free(nodes->program);
    free(nodes);
    return NULL;
}

bool nodes_use_uid(struct nodes *nodes, uid_t uid)
{
    struct map_iterator it = {0};

    while (map_next(&nodes->by_key, &it)) {
        const struct node *node = it.value;
        const json_t *owner = json_object_get(node->document, "owner");

        if (owner && json_get_int(owner, "uid", -1) == (int64_t)uid)
            return true;
    }
    return false;
}

const char *nodes_text(struct nodes *nodes, const char *key, const char *name)
{
    const struct node *node = map_get(&nodes->by_key, key);

    return node ? json_get_string(node->document, name, NULL) : NULL;
}

bool nodes_have_text(struct nodes *nodes, const char *name, const char *text)
{
    struct map_iterator it = {0};

    while (map_next(&nodes->by_key, &it)) {
        const struct node *node = it.value;

        if (strcmp(json_get_string(node->document, name, ""), text) == 0)
            return true;
    }
    return false;
}

/* -- launching -- */

/* Not synced: after a power loss the node is lost, whatever its spec was. */
static int write_file(const char *directory, const char *name, const char *text, struct error *error)
{
    cleanup_free char *path = fs_join(directory, name);
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_set_errno(error, errno, "cannot create %s", path);
    if (fs_write_all(fd, text, strlen(text), error) < 0)
        return error_wrap(error, "%s", path);
    return 0;
}

static int start_monitor(struct nodes *nodes, const char *directory, pid_t *ret_pid, struct error *error)
{
    pid_t spare = spare_take(nodes->spare, directory);
    cleanup_free char *log = fs_join(directory, "monitor.log");
    cleanup_close int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const char *argv[] = {nodes->program, "monitor", directory, NULL};
    struct proc_spawn spawn = {
        .argv = argv,
        .stdin_fd = -1,
        .stdout_fd = fd,
        .stderr_fd = fd,
        .directory = "/", /* it holds no file system by its working directory */
        .new_session = true,
    };

    spare_soon(nodes);
    if (spare) {
        *ret_pid = spare;
        return 0;
    }
    if (fd < 0)
        return error_set_errno(error, errno, "cannot create %s", log);
    return proc_spawn(&spawn, ret_pid, error);
}

int nodes_launch(struct nodes *nodes, const char *key, const char *directory, json_t *document, struct error *error)
{
    cleanup_json json_t *owned = document;
    cleanup_free char *text = NULL;
    struct node *node;
    pid_t pid;
    int pidfd;

    if (map_get(&nodes->by_key, key))
        return error_set(error, ERROR_EXISTS, "node %s is launched already", key);
    text = json_text(document);
    if (write_file(directory, "spec.json", text, error) < 0 || start_monitor(nodes, directory, &pid, error) < 0)
        return error_wrap(error, "cannot launch node %s", key);
    /* Our child: its pid is its own until we wait for it. */
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        error_set_errno(error, errno, "cannot watch the monitor of node %s", key);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return -1;
    }
    fcntl(pidfd, F_SETFD, FD_CLOEXEC);
    node = node_new(nodes, key, directory, json_incref(owned));
    node->child = pid;
    watch_directory(node);
    watch_monitor(node, pidfd);
    return 0;
}

/* -- reattaching -- */

static void on_attached_ended(void *userdata)
{
    struct node *node = userdata;

    node->timer = NULL;
    tell_ended(node, ENGINE_EXITED);
}

static void later(struct node *node, int64_t delay_ns, loop_fn fn)
{
    node->timer = loop_add_timer(node->nodes->engine->loop, delay_ns, fn, node);
}

static int open_monitor(const struct node *node)
{
    cleanup_free char *path = fs_join(node->directory, "monitor.json");
    cleanup_json json_t *json = json_parse_file(path, LIMIT_CONFIG_FILE, NULL);
    struct proc_id id = {(pid_t)json_get_int(json, "pid", 0), (uint64_t)json_get_int(json, "start_time", 0)};

    return json ? proc_open(&id, NULL) : -1;
}

/* No monitor answers to its name. Whoever has the lock decides: a monitor that is just starting, or we, and
 * then none may start any more. */
static bool give_up(struct node *node)
{
    cleanup_free char *lock = fs_join(node->directory, "lock");
    cleanup_close int fd = -1;

    if (fs_lock(lock, &fd, NULL) < 0 && fs_exists(lock))
        return false;
    write_file(node->directory, "lost", "", NULL);
    return true;
}

static void seek_monitor(void *userdata)
{
    struct node *node = userdata;
    int pidfd = open_monitor(node);

    node->timer = NULL;
    if (pidfd >= 0) {
        watch_monitor(node, pidfd);
        tell(node, ENGINE_INTAKE);
    } else if (has_file(node, "exit.json")) {
        tell_ended(node, ENGINE_EXITED);
    } else if (give_up(node)) {
        on_kill(node);
    } else {
        later(node, START_WAIT, seek_monitor);
    }
}

int nodes_attach(struct nodes *nodes, const char *key, const char *directory, struct error *error)
{
    cleanup_free char *spec = fs_join(directory, "spec.json");
    struct node *node;

    if (map_get(&nodes->by_key, key))
        return error_set(error, ERROR_EXISTS, "node %s is attached already", key);
    /* Without a readable spec there is no monitor either; it will be told as lost. */
    node = node_new(nodes, key, directory, json_parse_file(spec, SPEC_MAX, NULL));
    if (has_file(node, "exit.json")) {
        later(node, 0, on_attached_ended);
    } else {
        watch_directory(node);
        later(node, 0, seek_monitor);
    }
    return 0;
}

/* -- the rest -- */

int nodes_signal(struct nodes *nodes, const char *key, int signal, const char *reason, struct error *error)
{
    struct node *node = map_get(&nodes->by_key, key);
    cleanup_free char *stop = NULL, *control = NULL, *text = NULL;
    cleanup_json json_t *request = NULL;
    cleanup_close int fd = -1;

    if (!node || node->ended)
        return 0;
    stop = fs_join(node->directory, "stop.json");
    control = fs_join(node->directory, "control");
    request = json_build("{s:i, s:s}", "signal", signal, "reason", reason ? reason : "stopped");
    text = json_text(request);
    if (fs_write_atomic(stop, text, strlen(text), 0600, error) < 0)
        return error_wrap(error, "cannot ask node %s to stop", key);
    /* A monitor that has not opened it yet finds stop.json when it has. */
    fd = open(control, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && write(fd, "s", 1) < 0) {
        /* Full of requests: it will look. */
    }
    return 0;
}

int nodes_forget(struct nodes *nodes, const char *key, struct error *error)
{
    struct node *node = map_get(&nodes->by_key, key);

    if (!node)
        return 0;
    if (node->ended)
        remove_remains(node);
    map_remove(&nodes->by_key, key);
    return 0;
}

int nodes_weigh(struct nodes *nodes, const char *key, double part, struct error *error)
{
    struct node *node = map_get(&nodes->by_key, key);
    const char *cgroup = node ? json_get_string(node->document, "cgroup", NULL) : NULL;
    double cpus = node ? json_get_number(json_object_get(node->document, "limits"), "cpus", 0) : 0;

    if (!node)
        return error_set(error, ERROR_NOT_FOUND, "node %s is not known", key);
    if (!cgroup)
        return error_set(error, ERROR_UNSUPPORTED, "node %s has no control group", key);
    return cgroup_set_shares(nodes->cgroups, cgroup, (uint64_t)(1024 * (cpus > 0 ? cpus : 1) * part), error);
}

json_t *nodes_stats(struct nodes *nodes, const char *key, struct error *error)
{
    struct node *node = map_get(&nodes->by_key, key);
    const char *cgroup = node ? json_get_string(node->document, "cgroup", NULL) : NULL;
    struct cgroup_stats stats;
    json_t *json;

    if (!node) {
        error_set(error, ERROR_NOT_FOUND, "node %s is not known", key);
        return NULL;
    }
    if (!cgroup) {
        error_set(error, ERROR_UNSUPPORTED, "this machine counts no resources of node %s", key);
        return NULL;
    }
    cgroup_read(nodes->cgroups, cgroup, &stats);
    json = json_object();
    if (stats.cpu_ns != CGROUP_UNKNOWN)
        json_set_number(json, "cpu_seconds", (double)stats.cpu_ns / NS_PER_SEC);
    if (stats.memory != CGROUP_UNKNOWN)
        json_set_int(json, "memory_bytes", (int64_t)stats.memory);
    if (stats.memory_peak != CGROUP_UNKNOWN)
        json_set_int(json, "memory_peak_bytes", (int64_t)stats.memory_peak);
    if (stats.pids != CGROUP_UNKNOWN)
        json_set_int(json, "pids", (int64_t)stats.pids);
    return json;
}
