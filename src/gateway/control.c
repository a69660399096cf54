#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "gateway/control.h"
#include "gateway/gateway.h"
#include "gateway/shadow.h"
#include "util/clock.h"
#include "util/json.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/net.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

struct control {
    struct gateway *gateway;
    char *path;
    int listen_fd;
    struct loop_source *listening;
    int fd; /* the client; -1: none */
    struct loop_source *source;
    uint32_t events;
    struct strbuf input, output;
    int gift; /* descriptor that goes with the next bytes; -1: none */
};

static void on_client(void *userdata, uint32_t events);

static void hang_up(struct control *control, const char *why)
{
    if (control->fd < 0)
        return;
    log_info("control connection closed", "why", why);
    control->source = loop_remove(control->source);
    close(control->fd);
    control->fd = -1;
    strbuf_release(&control->input);
    strbuf_release(&control->output);
}

static void flush(struct control *control)
{
    uint32_t events;

    while (control->output.length) {
        ssize_t n = net_send_fd(control->fd, control->output.data, control->output.length, control->gift);

        if (n > 0) {
            control->gift = -1;
            strbuf_consume(&control->output, (size_t)n);
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            hang_up(control, strerror(errno));
            return;
        }
    }
    events = EPOLLIN | (control->output.length ? EPOLLOUT : 0);
    if (events != control->events)
        loop_update_fd(control->source, control->events = events);
}

/* Steals the reference. */
static void send_line(struct control *control, json_t *value)
{
    cleanup_json json_t *owned = value;
    cleanup_free char *text = json_text(value);

    if (control->fd < 0)
        return;
    strbuf_adds(&control->output, text);
    strbuf_addc(&control->output, '\n');
    if (control->output.overflowed)
        hang_up(control, "the client does not read");
    else
        flush(control);
}

bool control_is_connected(const struct control *control)
{
    return control && control->fd >= 0;
}

void control_send(struct control *control, json_t *event)
{
    if (control)
        send_line(control, event);
    else
        json_decref(event);
}

void control_replica_event(struct control *control, const char *id, const char *state, const char *message, bool killed)
{
    json_t *event;

    if (!control || control->fd < 0)
        return;
    event = json_build("{s:s, s:s, s:s}", "event", "replica", "id", id, "state", state);
    json_set_string(event, "message", message);
    if (!strcmp(state, "failed"))
        json_set_bool(event, "killed", killed);
    send_line(control, event);
}

/* -- requests -- */

typedef int (*op_fn)(struct control *control, const json_t *request, json_t *reply, struct error *error);

static int op_configure(struct control *control, const json_t *request, json_t *reply, struct error *error)
{
    int64_t begun = clock_monotonic_ns();

    if (routes_check(request, error) < 0)
        return -1;
    routes_apply(&control->gateway->routes, control->gateway, request);
    loop_server_hold(control->gateway->server, false);
    json_set_int(reply, "switch_us", (clock_monotonic_ns() - begun) / NS_PER_US);
    return 0;
}

static json_t *describe_replica(const struct replica *replica)
{
    json_t *value = json_build("{s:s, s:s}", "id", replica->id, "state", replica_phase_name(replica->phase));

    json_set_int(value, "requests", (int64_t)replica->requests);
    json_set_int(value, "errors", (int64_t)replica->errors);
    json_set_int(value, "bad_answers", (int64_t)replica->bad_answers);
    if (replica->worker) {
        json_set_int(value, "pid", replica->worker->pid);
        json_set_int(value, "running", replica->worker->ring ? replica->worker->ring->n_used : 0);
        json_set_string(value, "runtime", replica->worker->runtime);
    }
    return value;
}

/* Counts by slots where the caller will subtract what it saw before, else what they mean. */
static json_t *describe_durations(const struct duration_stats *stats, bool detail)
{
    json_t *value = json_build("{s:I}", "count", (json_int_t)stats->count);

    if (detail)
        json_object_set_new(value, "slots", durations_to_json(&stats->fine));
    json_set_number(value, "p50_ms", durations_quantile_ms(&stats->fine, 0.5));
    json_set_number(value, "p99_ms", durations_quantile_ms(&stats->fine, 0.99));
    return value;
}

static json_t *describe_route(const struct route *route, bool detail)
{
    json_t *value = json_object(), *replicas = json_array(), *outcomes = json_object();
    const struct replica *replica;
    uint64_t requests = 0;

    list_for_each(replica, &route->replicas, link)
        json_array_append_new(replicas, describe_replica(replica));
    for (int i = 0; i < OUTCOME_COUNT_; i++) {
        requests += route->stats.outcomes[i];
        json_set_int(outcomes, outcome_name(i), (int64_t)route->stats.outcomes[i]);
    }
    json_set_string(value, "version", route->version);
    json_set_string(value, "code_weights", route->code_weights);
    json_set_number(value, "weight", route->weight);
    json_set_bool(value, "ready", route_is_ready(route));
    json_set_int(value, "queued", (int64_t)route->queue.count);
    json_set_int(value, "running", (int64_t)route->n_running);
    json_set_int(value, "requests", (int64_t)requests);
    json_set_int(value, "errors", (int64_t)(requests - route->stats.outcomes[OUTCOME_OK]));
    json_object_set_new(value, "outcomes", outcomes);
    json_object_set_new(value, "latency", describe_durations(&route->stats.latency, detail));
    json_object_set_new(value, "queue_time", describe_durations(&route->stats.queue, detail));
    json_object_set_new(value, "shadow", shadow_describe(route));
    json_object_set_new(value, "cache",
                        json_build("{s:I, s:I}", "hits", (json_int_t)route->stats.cache_hits, "misses",
                                   (json_int_t)route->stats.cache_misses));
    json_object_set_new(value, "batches",
                        json_build("{s:I, s:I}", "count", (json_int_t)route->stats.batches, "requests",
                                   (json_int_t)route->stats.batched));
    json_object_set_new(value, "replicas", replicas);
    return value;
}

static json_t *describe_auth(const struct auth_stats *stats)
{
    json_t *value = json_object();

    json_set_int(value, "requests", (int64_t)stats->requests);
    json_set_int(value, "no_token", (int64_t)stats->no_token);
    json_set_int(value, "bad_token", (int64_t)stats->bad_token);
    json_set_int(value, "forbidden", (int64_t)stats->forbidden);
    json_set_int(value, "cache_hits", (int64_t)stats->cache_hits);
    json_set_int(value, "introspections", (int64_t)stats->introspections);
    json_set_int(value, "introspection_failures", (int64_t)stats->introspection_failures);
    json_set_int(value, "reached_model", (int64_t)stats->reached_model);
    return value;
}

static json_t *describe_cache(const struct answers_share *cache)
{
    if (!cache)
        return json_null();
    return json_build("{s:I, s:I, s:I}", "max", (json_int_t)cache->max, "size", (json_int_t)cache->size, "answers",
                      (json_int_t)cache->count);
}

static json_t *describe_log(const struct request_log *log)
{
    if (log->sample <= 0 && !log->written && !log->dropped)
        return json_null();
    return json_build("{s:f, s:I, s:I}", "sample", log->sample, "written", (json_int_t)log->written, "dropped",
                      (json_int_t)log->dropped);
}

static int op_status(struct control *control, const json_t *request, json_t *reply, struct error *error)
{
    struct gateway *gateway = control->gateway;
    bool detail = json_is_true(json_object_get(request, "detail"));
    struct map_iterator it = {0};
    json_t *endpoints = json_array();

    while (map_next(&gateway->routes.endpoints, &it)) {
        const struct endpoint *endpoint = it.value;
        const struct route *route;
        json_t *routes = json_array();

        list_for_each(route, &endpoint->routes, link)
            json_array_append_new(routes, describe_route(route, detail));
        json_array_append_new(endpoints,
                              json_build("{s:s, s:b, s:I, s:o, s:o, s:o}", "name", endpoint->name, "ready",
                                         endpoint_is_ready(endpoint), "requests", (json_int_t)endpoint->stats.requests,
                                         "cache", describe_cache(endpoint->cache), "log", describe_log(&endpoint->log),
                                         "routes", routes));
    }
    json_set_string(reply, "instance", gateway->instance);
    json_set_int(reply, "started_ms", gateway->started_ms);
    json_object_set_new(reply, "endpoints", endpoints);
    json_object_set_new(reply, "auth", describe_auth(&gateway->auth_stats));
    json_set_int(reply, "connections", (int64_t)loop_server_connections(gateway->server));
    return 0;
}

static int op_revoke(struct control *control, const json_t *request, json_t *reply, struct error *error)
{
    json_t *digest = json_object_get(request, "sha256");

    if (digest && !json_is_string(digest))
        return error_set(error, ERROR_INVALID, "'sha256' is a string of 64 hex digits");
    json_set_int(reply, "revoked", (int64_t)bearer_revoke(control->gateway->auth, json_string_value(digest)));
    return 0;
}

static int op_compare(struct control *control, const json_t *request, json_t *reply, struct error *error)
{
    const char *name = json_string_value(json_object_get(request, "endpoint"));
    const struct endpoint *endpoint = name ? routes_find(&control->gateway->routes, name) : NULL;
    json_t *shadows = json_array();
    const struct route *route;

    if (!endpoint)
        return error_set(error, ERROR_NOT_FOUND, "there is no such endpoint");
    list_for_each(route, &endpoint->routes, link) {
        if (route->shadow)
            json_array_append_new(shadows, json_build("{s:s, s:o, s:o}", "version", route->version, "shadow",
                                                      shadow_describe(route), "samples", shadow_samples(route)));
    }
    json_object_set_new(reply, "shadows", shadows);
    return 0;
}

static int op_flush_requests(struct control *control, const json_t *request, json_t *reply, struct error *error)
{
    const char *name = json_string_value(json_object_get(request, "endpoint"));
    struct endpoint *endpoint = name ? map_get(&control->gateway->routes.endpoints, name) : NULL;

    if (name && !endpoint)
        return error_set(error, ERROR_NOT_FOUND, "there is no such endpoint");
    json_set_int(reply, "closed",
                 (int64_t)recorder_flush(control->gateway->recorder, endpoint ? &endpoint->log : NULL));
    return 0;
}

/* The daemon keeps a copy of the listening socket: it hands it to our successor. */
static int op_listener(struct control *control, const json_t *request, json_t *reply, struct error *error)
{
    control->gift = loop_server_listener(control->gateway->server);
    json_set_bool(reply, "attached", control->gift >= 0);
    return 0;
}

static const struct {
    const char *name;
    op_fn fn;
} ops[] = {
    {"listener", op_listener},
    {"configure", op_configure},
    {"status", op_status},
    {"revoke", op_revoke},
    {"flush", op_revoke},
    {"compare", op_compare},
    {"flush-requests", op_flush_requests},
};

static int run_op(struct control *control, const json_t *request, json_t *reply, struct error *error)
{
    const char *name = json_string_value(json_object_get(request, "op"));

    if (!name)
        return error_set(error, ERROR_INVALID, "a request is an object with 'op'");
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        if (!strcmp(ops[i].name, name))
            return ops[i].fn(control, request, reply, error);
    }
    return error_set(error, ERROR_INVALID, "there is no op '%s'", name);
}

static void take_line(struct control *control, const char *line, size_t length)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *request = json_parse(line, length, &error);
    json_t *reply = json_object(), *id = json_object_get(request, "id");

    if (id)
        json_object_set(reply, "id", id);
    if (request && run_op(control, request, reply, &error) == 0)
        json_set_bool(reply, "ok", true);
    else
        json_object_set_new(reply, "error",
                            json_build("{s:s, s:s}", "code", error_code_name(error.code), "message", error.message));
    send_line(control, reply);
}

static void take_lines(struct control *control)
{
    char *end;

    while (control->fd >= 0 && (end = memchr(control->input.data, '\n', control->input.length))) {
        size_t length = (size_t)(end - control->input.data);
        cleanup_free char *line = xstrndup(control->input.data, length);

        strbuf_consume(&control->input, length + 1);
        if (length)
            take_line(control, line, length);
    }
}

static void on_client(void *userdata, uint32_t events)
{
    struct control *control = userdata;
    char chunk[16 * KIB];
    ssize_t n;

    if (events & EPOLLOUT)
        flush(control);
    if (control->fd < 0 || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    n = recv(control->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        hang_up(control, n ? strerror(errno) : "the daemon left");
        return;
    }
    if (n > 0)
        strbuf_add(&control->input, chunk, (size_t)n);
    if (control->input.overflowed)
        hang_up(control, "a line is too long");
    else
        take_lines(control);
}

static bool is_trusted(int fd)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && (peer.uid == 0 || peer.uid == getuid());
}

/* A daemon that was started again learns what is connected. */
static void tell_replicas(struct control *control)
{
    struct map_iterator it = {0};

    while (map_next(&control->gateway->routes.endpoints, &it)) {
        const struct endpoint *endpoint = it.value;
        const struct route *route;
        const struct replica *replica;

        list_for_each(route, &endpoint->routes, link) {
            list_for_each(replica, &route->replicas, link) {
                if (replica->worker)
                    control_replica_event(control, replica->id, replica_phase_name(replica->phase), NULL, false);
            }
        }
    }
}

static void on_connect(void *userdata, uint32_t events)
{
    struct control *control = userdata;
    int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    if (!is_trusted(fd)) {
        log_warning("control connection refused", "why", "not root nor our own user");
        close(fd);
        return;
    }
    hang_up(control, "a newer one came");
    control->fd = fd;
    control->gift = -1;
    control->events = EPOLLIN;
    strbuf_init(&control->input, LIMIT_CONTROL_LINE);
    strbuf_init(&control->output, LIMIT_CONTROL_LINE);
    control->source = loop_add_fd(control->gateway->loop, fd, EPOLLIN, on_client, control);
    tell_replicas(control);
    load_tell_all(control->gateway);
}

int control_open(struct gateway *gateway, const char *path, struct control **ret_control, struct error *error)
{
    struct control *control;
    int fd;

    if (net_listen_unix(path, 0600, 8, &fd, error) < 0)
        return -1;
    control = xnew0(struct control);
    control->gateway = gateway;
    control->path = xstrdup(path);
    control->listen_fd = fd;
    control->fd = -1;
    control->listening = loop_add_fd(gateway->loop, fd, EPOLLIN, on_connect, control);
    *ret_control = control;
    return 0;
}

struct control *control_close(struct control *control)
{
    if (!control)
        return NULL;
    hang_up(control, "the gateway ends");
    loop_remove(control->listening);
    close(control->listen_fd);
    unlink(control->path);
    free(control->path);
    free(control);
    return NULL;
}
