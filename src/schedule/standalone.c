#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "schedule/gateway-link.h"
#include "schedule/standalone.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/proc.h"
#include "util/strvec.h"
#include "util/xalloc.h"

#define TICK     (50 * NS_PER_MS)  /* how often ends of processes are looked for */
#define STEADY   (10 * NS_PER_SEC) /* a worker that lived so long is started again at once */
#define GRACE    (2 * NS_PER_SEC)  /* for the worker, after SIGTERM */
#define PATIENCE (35 * NS_PER_SEC) /* with requests in flight at SIGTERM; the gateway's own is 30 s */

struct standalone {
    const struct standalone_options *options;
    const json_t *model;
    struct loop *loop;
    struct gateway_link *link;
    char id[ID_SIZE], secret[ID_SIZE];
    struct strvec argv, environment;
    pid_t worker, gateway; /* 0: none; gateway: only while it drains */
    int64_t worker_started_ns, worker_due_ns, stop_until_ns;
    int failures;
    bool was_ready, is_stopping;
    char *failure; /* why it gives up */
};

/* -- the worker -- */

static void start_worker(struct standalone *s)
{
    cleanup_error struct error error = ERROR_INIT;
    const struct proc_spawn spawn = {
        .argv = (const char *const *)s->argv.items,
        .environment = (const char *const *)s->environment.items,
        .directory = json_get_string(s->model, "directory", "/"),
        .stdin_fd = -1,
        .stdout_fd = STDOUT_FILENO,
        .stderr_fd = STDERR_FILENO,
    };

    s->worker_started_ns = clock_monotonic_ns();
    if (proc_spawn(&spawn, &s->worker, &error) < 0) {
        s->worker = 0;
        s->failure = xstrdup(error.message);
        loop_stop(s->loop);
    }
}

static void worker_ended(struct standalone *s, int status)
{
    static const int64_t delays[] = {0, NS_PER_SEC, 5 * NS_PER_SEC, 15 * NS_PER_SEC};
    int64_t now = clock_monotonic_ns();
    char text[32];

    s->worker = 0;
    if (s->is_stopping)
        return;
    snprintf(text, sizeof(text), "%s %d", WIFSIGNALED(status) ? "signal" : "status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    log_warning("worker ended", "how", text);
    if (now - s->worker_started_ns > STEADY)
        s->failures = 0;
    s->worker_due_ns = now + delays[s->failures < (int)ARRAY_SIZE(delays) ? s->failures : (int)ARRAY_SIZE(delays) - 1];
    s->failures++;
}

/* -- the gateway -- */

static json_t *route_of(const struct standalone *s)
{
    const json_t *m = s->model;
    json_t *route = json_build(
        "{s:s, s:s, s:i, s:s, s:I, s:[{s:s, s:s}]}", "version", json_get_string(m, "version", "1"), "code_weights",
        json_get_string(m, "code_weights", "1"), "weight", 100, "platform", json_get_string(m, "platform", "python"),
        "concurrency", (json_int_t)json_get_int(m, "concurrency", 1), "replicas", "id", s->id, "key", s->secret);

    if (json_is_object(json_object_get(m, "batch")))
        json_object_set(route, "batch", json_object_get(m, "batch"));
    if (json_array_size(json_object_get(m, "inputs")))
        json_object_set(route, "inputs", json_object_get(m, "inputs"));
    if (json_array_size(json_object_get(m, "outputs")))
        json_object_set(route, "outputs", json_object_get(m, "outputs"));
    return route;
}

static void on_configured(void *userdata, const json_t *reply)
{
    struct standalone *s = userdata;
    const json_t *failure = json_object_get(reply, "error");

    if (!failure)
        return;
    s->failure = xasprintf("the gateway refuses the model: %s", json_get_string(failure, "message", ""));
    loop_stop(s->loop);
}

static void on_up(void *userdata)
{
    struct standalone *s = userdata;
    const json_t *m = s->model;
    json_t *endpoint = json_build("{s:s, s:s, s:s, s:I, s:I, s:b, s:[o]}", "name", json_get_string(m, "name", "model"),
                                  "project", json_get_string(m, "project", "default"), "model",
                                  json_get_string(m, "model", ""), "timeout_ms",
                                  (json_int_t)json_get_int(m, "timeout_ms", LIMIT_PREDICT_TIMEOUT_MS), "queue",
                                  (json_int_t)json_get_int(m, "queue", LIMIT_PREDICT_QUEUE), "public",
                                  s->options->is_public, "routes", route_of(s));

    gateway_link_call(s->link, json_build("{s:s, s:[o]}", "op", "configure", "endpoints", endpoint), on_configured, s);
}

static void on_replica(void *userdata, const char *id, const char *state, const char *message, bool killed)
{
    struct standalone *s = userdata;

    log_info("model", "state", state, "message", message);
    if (strcmp(state, "ready") == 0)
        s->was_ready = true;
    if (strcmp(state, "failed") != 0)
        return;
    if (!s->was_ready) {
        s->failure = xasprintf("the model %s", message ? message : "failed to start");
        loop_stop(s->loop);
    } else if (!killed && s->worker) {
        kill(s->worker, SIGKILL);
    }
}

/* After it was drained: nobody asks the worker any more. */
static void gateway_ended(struct standalone *s)
{
    s->gateway = 0;
    s->stop_until_ns = clock_monotonic_ns() + GRACE;
    if (s->worker)
        kill(s->worker, SIGTERM);
}

/* -- time and signals -- */

/* Ends of the worker, of a gateway that drains, and, as the first process of a container, of orphans. A gateway
 * that runs is its link's. */
static void reap(struct standalone *s)
{
    cleanup_json json_t *gateway = s->link ? gateway_link_describe(s->link) : NULL;
    pid_t other = (pid_t)json_get_int(gateway, "pid", 0);
    siginfo_t info = {0};

    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid && info.si_pid != other) {
        int status = 0;

        waitpid(info.si_pid, &status, 0);
        if (info.si_pid == s->worker)
            worker_ended(s, status);
        else if (info.si_pid == s->gateway)
            gateway_ended(s);
        info.si_pid = 0;
    }
}

static void go_on_stopping(struct standalone *s)
{
    bool is_late = clock_monotonic_ns() >= s->stop_until_ns;

    if (s->gateway) {
        if (is_late)
            kill(s->gateway, SIGKILL);
        return;
    }
    if (!s->worker)
        loop_stop(s->loop);
    else if (is_late)
        kill(s->worker, SIGKILL);
}

static void on_tick(void *userdata)
{
    struct standalone *s = userdata;

    reap(s);
    if (s->is_stopping)
        go_on_stopping(s);
    else if (!s->worker && clock_monotonic_ns() >= s->worker_due_ns)
        start_worker(s);
}

static void on_stop(void *userdata, int signal)
{
    struct standalone *s = userdata;
    cleanup_json json_t *gateway = NULL;

    if (s->is_stopping)
        return;
    log_info("stopping", "signal", strsignal(signal));
    s->is_stopping = true;
    s->stop_until_ns = clock_monotonic_ns() + PATIENCE;
    gateway = gateway_link_describe(s->link);
    s->gateway = (pid_t)json_get_int(gateway, "pid", 0);
    s->link = gateway_link_free(s->link);
    if (s->gateway)
        kill(s->gateway, SIGTERM);
    else
        gateway_ended(s);
}

/* -- life -- */

static int fill(struct standalone *s, struct error *error)
{
    const json_t *command = json_object_get(s->model, "command"), *item;
    const char *name;
    json_t *value;
    size_t i;

    json_array_foreach((json_t *)command, i, item)
        strvec_push(&s->argv, json_string_value(item) ?: "");
    if (s->argv.count == 0)
        return error_set(error, ERROR_INVALID, "the model's description has no command");
    json_object_foreach(json_object_get(s->model, "environment"), name, value)
        strvec_pushf(&s->environment, "%s=%s", name, json_string_value(value) ?: "");
    id_new(s->id);
    {
        uint8_t bytes[(ID_SIZE - 1) / 2];

        random_bytes(bytes, sizeof(bytes));
        hex_encode(bytes, sizeof(bytes), s->secret);
    }
    strvec_pushf(&s->environment, "SLIPWAY_REPLICA_ID=%s", s->id);
    strvec_pushf(&s->environment, "SLIPWAY_REPLICA_KEY=%s", s->secret);
    strvec_pushf(&s->environment, "SLIPWAY_GATEWAY_SOCKET=%s/gateway/worker.sock", s->options->state);
    return 0;
}

static int start(struct standalone *s, struct error *error)
{
    const struct standalone_options *o = s->options;
    const struct gateway_link_options link = {
        .data_directory = o->state,
        .listen = o->listen,
        .certificate = o->certificate,
        .key = o->key,
        .program = o->program,
        .introspect = o->introspect ? o->introspect : "",
        .introspect_token = o->introspect_token,
        .on_up = on_up,
        .on_replica = on_replica,
        .userdata = s,
    };

    if (!o->introspect && !o->is_public)
        return error_set(error, ERROR_INVALID,
                         "say who may ask: SLIPWAY_INTROSPECT=URL of a server that knows what tokens are worth, or "
                         "SLIPWAY_PUBLIC=1 for anybody");
    if (fill(s, error) < 0 || fs_mkdir_all(o->state, 0755, error) < 0)
        return -1;
    loop_add_signal(s->loop, SIGTERM, on_stop, s);
    loop_add_signal(s->loop, SIGINT, on_stop, s);
    loop_add_interval(s->loop, TICK, on_tick, s);
    return gateway_link_new(s->loop, &link, &s->link, error);
}

static void end_processes(struct standalone *s)
{
    cleanup_json json_t *gateway = s->link ? gateway_link_describe(s->link) : NULL;
    pid_t pid = (pid_t)json_get_int(gateway, "pid", 0);

    s->link = gateway_link_free(s->link);
    if (pid && kill(pid, SIGKILL) == 0)
        waitpid(pid, NULL, 0);
    if (s->worker && kill(s->worker, SIGKILL) == 0)
        waitpid(s->worker, NULL, 0);
}

int standalone_run(const struct standalone_options *options, const json_t *model, struct error *error)
{
    struct standalone s = {
        .options = options, .model = model, .loop = loop_new(), .argv = STRVEC_INIT, .environment = STRVEC_INIT};
    int r = start(&s, error);

    if (r == 0) {
        log_info("serving", "model", json_get_string(model, "model", ""), "url", gateway_link_url(s.link));
        loop_run(s.loop);
        if (s.failure)
            r = error_set(error, ERROR_CONFLICT, "%s", s.failure);
    }
    end_processes(&s);
    strvec_release(&s.argv);
    strvec_release(&s.environment);
    free(s.failure);
    loop_free(s.loop);
    return r;
}
