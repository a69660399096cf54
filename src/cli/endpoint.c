/*
 * slipway endpoint: what is served.
 */
#include <string.h>
#include <time.h>
#include "cli/client.h"
#include "cli/command.h"
#include "cli/endpoint-requests.h"
#include "cli/endpoint-traffic.h"
#include "cli/error.h"
#include "http/client.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

static char *route_text(const json_t *endpoint, const char *role)
{
    const json_t *route = json_object_get(endpoint, role);

    if (!json_is_object(route))
        return NULL;
    return xasprintf("@%lld (%s)", (long long)json_get_int(route, "version", 0),
                     json_get_string(route, "code_weights", ""));
}

/* "@8 (3.6), 10 %": of the versions that share the traffic. */
static char *shared_text(const json_t *endpoint, const char *role)
{
    cleanup_free char *route = route_text(endpoint, role);

    if (!route || !json_is_object(json_object_get(endpoint, "canary")))
        return steal_ptr(route);
    return xasprintf("%s, %g %%", route, json_get_number(json_object_get(endpoint, role), "share", 0));
}

static char *share_text(const json_t *endpoint)
{
    return shared_text(endpoint, "live");
}

static char *canary_text(const json_t *endpoint)
{
    return shared_text(endpoint, "canary");
}

static char *shadow_text(const json_t *endpoint)
{
    return route_text(endpoint, "shadow");
}

static char *live_text(const json_t *endpoint)
{
    return route_text(endpoint, "live");
}

static char *standby_text(const json_t *endpoint)
{
    return route_text(endpoint, "standby");
}

static char *next_text(const json_t *endpoint)
{
    return route_text(endpoint, "next");
}

static char *state_text(const json_t *endpoint)
{
    const json_t *scaling = json_object_get(endpoint, "scaling");
    const char *state = json_get_string(endpoint, "state", "");
    bool is_idle = strcmp(state, "ready") == 0 && json_get_int(scaling, "wished", -1) == 0;

    return is_idle ? xstrdup("ready (idle)") : xstrdup(state);
}

/* "1 to 4, another after 50 ms in the queue, …" */
static char *scaling_text(const json_t *endpoint)
{
    const json_t *options = json_object_get(endpoint, "options");
    int64_t min = json_get_int(options, "min_replicas", -1);
    char queue[FORMAT_SIZE], down[FORMAT_SIZE], idle[FORMAT_SIZE];
    cleanup_free char *none = NULL;

    if (min < 0)
        return NULL;
    if (min == 0)
        none = xasprintf(", none after %s without a request",
                         format_duration_ms(json_get_int(options, "idle_ms", 0), idle));
    return xasprintf("%lld to %lld; one more after %s in the queue, one fewer after %s of slack%s", (long long)min,
                     (long long)json_get_int(options, "max_replicas", 0),
                     format_duration_ms(json_get_int(options, "scale_queue_time_ms", 0), queue),
                     format_duration_ms(json_get_int(options, "scale_down_after_ms", 0), down), none ? none : "");
}

/* "1 to 2 (queue_time): 81.0 ms in the queue, 7 waited, 0.98 of 1 busy" */
static char *decision_text(const json_t *endpoint)
{
    const json_t *decision = json_object_get(json_object_get(endpoint, "scaling"), "decision");
    cleanup_free char *seen = NULL;

    if (!json_is_object(decision))
        return NULL;
    if (json_object_get(decision, "ready"))
        seen = xasprintf(": %.1f ms in the queue, %lld waited, %.2f of %lld busy",
                         json_get_number(decision, "queue_time_ms", 0), (long long)json_get_int(decision, "queued", 0),
                         json_get_number(decision, "busy", 0), (long long)json_get_int(decision, "ready", 0));
    return xasprintf("%lld to %lld (%s)%s", (long long)json_get_int(decision, "from", 0),
                     (long long)json_get_int(decision, "to", 0), json_get_string(decision, "reason", ""),
                     seen ? seen : "");
}

static char *cold_starts_text(const json_t *endpoint)
{
    const json_t *scaling = json_object_get(endpoint, "scaling");
    int64_t count = json_get_int(scaling, "cold_starts", 0);

    if (count == 0)
        return NULL;
    return xasprintf("%lld, the last %lld ms, the mean %.1f ms", (long long)count,
                     (long long)json_get_int(scaling, "cold_start_ms", 0),
                     json_get_number(scaling, "cold_start_mean_ms", 0));
}

static char *replicas_text(const json_t *endpoint)
{
    const json_t *replicas = json_object_get(endpoint, "replicas");
    int ready = 0, total = 0;
    json_t *replica;
    size_t i;

    json_array_foreach(replicas, i, replica) {
        const char *state = json_get_string(replica, "state", "");

        ready += strcmp(state, "ready") == 0;
        total += strcmp(state, "stopped") != 0 && strcmp(state, "failed") != 0;
    }
    return xasprintf("%d of %d ready", ready, total);
}

static char *cache_text(const json_t *endpoint)
{
    const json_t *cache = json_object_get(endpoint, "cache");
    const char *reason = json_get_string(cache, "reason", NULL);
    char text[FORMAT_SIZE];

    if (reason)
        return xasprintf("off: %s", reason);
    if (json_get_int(cache, "size", 0) == 0)
        return xstrdup("off");
    return xstrdup(format_bytes((uint64_t)json_get_int(cache, "size", 0), text));
}

static char *batch_text(const json_t *endpoint)
{
    const json_t *batch = json_object_get(endpoint, "batch");
    const char *reason = json_get_string(batch, "reason", NULL);
    double delay_ms = json_get_number(batch, "delay_ms", 0);

    if (json_get_int(batch, "size", 1) == 1)
        return reason ? xasprintf("none: %s", reason) : xstrdup("none");
    if (delay_ms > 0)
        return xasprintf("up to %lld, waiting %g ms", (long long)json_get_int(batch, "size", 1), delay_ms);
    return xasprintf("up to %lld", (long long)json_get_int(batch, "size", 1));
}

static const struct table_column endpoint_columns[] = {
    {"ENDPOINT", "name"},
    {"STATE", NULL, TABLE_STATE, .text = state_text},
    {"MODEL", "model"},
    {"LIVE", .text = share_text},
    {"CANARY", .text = canary_text},
    {"STANDBY", .text = standby_text},
    {"FOLLOWS", "follow"},
    {"REPLICAS", .text = replicas_text},
    {"URL", "url", .shrink = true},
    {},
};

/* "50 a second with a token, 100 at once" */
static char *rate_text(const json_t *endpoint)
{
    const json_t *options = json_object_get(endpoint, "options");
    double rate = json_get_number(options, "rate_per_second", 0), burst = json_get_number(options, "rate_burst", 0);

    if (rate <= 0)
        return NULL;
    return xasprintf("%g a second with a token, %g at once", rate, burst > 0 ? burst : rate > 1 ? rate : 1);
}

static const struct table_column show_columns[] = {
    {"Endpoint", "name"},
    {"State", NULL, TABLE_STATE, .text = state_text},
    {"URL", "url"},
    {"Problem", "problem"},
    {"Model", "model"},
    {"Live", .text = share_text},
    {"Canary", .text = canary_text},
    {"Shadow", .text = shadow_text},
    {"Standby", .text = standby_text},
    {"Next", .text = next_text},
    {"Follows", "follow"},
    {"Replicas", .text = replicas_text},
    {"Scaling", .text = scaling_text},
    {"Last change", .text = decision_text},
    {"Decided", "scaling.decision.time", TABLE_TIME},
    {"Cold starts", .text = cold_starts_text},
    {"Time-out", "options.timeout_ms", TABLE_DURATION},
    {"Queue", "options.queue", TABLE_NUMBER},
    {"Rate", .text = rate_text},
    {"Batches", .text = batch_text},
    {"Cache", .text = cache_text},
    {"Logs", .text = log_text},
    {"Public", "options.public"},
    {"Sticky", "options.sticky"},
    {"Created", "created_at", TABLE_TIME},
    {"By", "created_by"},
    {},
};

static const struct table_column replica_columns[] = {
    {"REPLICA", "id"},    {"VERSION", "version", TABLE_NUMBER},   {"STATE", "state", TABLE_STATE},
    {"REASON", "reason"}, {"MESSAGE", "message", .shrink = true}, {},
};

/* Why it ended, or why its rules cannot be evaluated. */
static char *outcome_text(const json_t *deployment)
{
    const char *problem = json_get_string(deployment, "problem", NULL);

    if (json_get_string(deployment, "message", NULL) || !problem)
        return xstrdup_null(json_get_string(deployment, "message", NULL));
    return xasprintf("a rule fails: %s", problem);
}

static const struct table_column deployment_columns[] = {
    {"TIME", "created_at", TABLE_TIME},
    {"KIND", "kind"},
    {"VERSION", "version", TABLE_NUMBER},
    {"BEFORE", "previous", TABLE_NUMBER},
    {"STATE", "state", TABLE_STATE},
    {"SWITCH µs", "switch_us", TABLE_NUMBER},
    {"BY", "actor"},
    {"MESSAGE", .text = outcome_text, .shrink = true},
    {},
};

static int endpoint_ls(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *items = NULL;

    if (client_list(invocation->client, "/api/v1/endpoints", NULL, 0, &items, error) < 0)
        return -1;
    print_items(invocation, endpoint_columns, items, "there are no endpoints yet");
    return 0;
}

static int endpoint_show(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/endpoints/%s", invocation->arguments[0]);
    cleanup_free char *history_path = http_path("/api/v1/endpoints/%s/deployments", invocation->arguments[0]);
    cleanup_json json_t *endpoint = NULL, *deployments = NULL;

    if (client_get(invocation->client, path, NULL, &endpoint, error) < 0 ||
        client_list(invocation->client, history_path, NULL, 10, &deployments, error) < 0)
        return -1;
    if (invocation->json) {
        json_object_set(endpoint, "deployments", deployments);
        if (traffic_show(invocation, endpoint, error) < 0)
            return -1;
        print_json(endpoint);
        return 0;
    }
    print_object(invocation, show_columns, endpoint);
    if (traffic_show(invocation, endpoint, error) < 0)
        return -1;
    printf("\n");
    table_print(stdout, replica_columns, json_object_get(endpoint, "replicas"));
    printf("\n");
    table_print(stdout, deployment_columns, deployments);
    return 0;
}

/* -- waiting for a deployment -- */

/* Polls until the deployment is not pending. *ret_deployment is a new reference. */
static int wait_for(struct invocation *invocation, int64_t id, int64_t timeout_ms, json_t **ret_deployment,
                    struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/deployments/%d", id);
    int64_t until = clock_monotonic_ns() + timeout_ms * NS_PER_MS;

    for (;;) {
        const struct timespec pause = {0, 30 * NS_PER_MS};
        cleanup_json json_t *deployment = NULL;
        const char *state;

        if (client_get(invocation->client, path, NULL, &deployment, error) < 0)
            return -1;
        state = json_get_string(deployment, "state", "");
        if (strcmp(state, "failed") == 0)
            return error_set(error, ERROR_CONFLICT, "version %lld could not be deployed: %s",
                             (long long)json_get_int(deployment, "version", 0),
                             json_get_string(deployment, "message", "its replica failed"));
        if (strcmp(state, "pending") != 0) {
            *ret_deployment = steal_ptr(deployment);
            return 0;
        }
        if (clock_monotonic_ns() > until)
            return error_set(error, ERROR_TIMEOUT,
                             "the version is not ready after %lld ms; see `slipway endpoint show "
                             "%s`",
                             (long long)timeout_ms, invocation->arguments[0]);
        nanosleep(&pause, NULL);
    }
}

static int finish(struct invocation *invocation, int64_t id, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/endpoints/%s", invocation->arguments[0]);
    cleanup_json json_t *deployment = NULL, *endpoint = NULL;
    cleanup_free char *live = NULL;
    int64_t timeout_ms = 60000;
    const char *state;

    if (option_duration_ms(invocation, "timeout", &timeout_ms, error) < 0 ||
        wait_for(invocation, id, timeout_ms, &deployment, error) < 0 ||
        client_get(invocation->client, path, NULL, &endpoint, error) < 0)
        return -1;
    state = json_get_string(deployment, "state", "");
    live = live_text(endpoint);
    json_object_set(endpoint, "deployment", deployment);
    if (strcmp(state, "aborted") == 0)
        return error_set(
            error, ERROR_CONFLICT, "version %lld was aborted%s%s", (long long)json_get_int(deployment, "version", 0),
            json_get_string(deployment, "message", NULL) ? ": " : "", json_get_string(deployment, "message", ""));
    if (strcmp(state, "superseded") == 0)
        print_done(invocation, endpoint, "superseded by a newer deployment; %s serves %s", invocation->arguments[0],
                   live ? live : "nothing yet");
    else if (strcmp(state, "running") == 0)
        print_done(invocation, endpoint, "version %lld is the %s of %s; live is %s",
                   (long long)json_get_int(deployment, "version", 0), json_get_string(deployment, "kind", ""),
                   invocation->arguments[0], live ? live : "nothing");
    else
        print_done(invocation, endpoint, "%s serves %s%s at %s (routes switched in %.2f ms)", invocation->arguments[0],
                   json_get_string(endpoint, "model", ""), live ? live : "", json_get_string(endpoint, "url", ""),
                   (double)json_get_int(deployment, "switch_us", 0) / 1000);
    return 0;
}

static int add_number(const struct invocation *invocation, const char *option, const char *key, int64_t max,
                      json_t *options, struct error *error)
{
    int64_t value = -1;

    if (option_int(invocation, option, 0, max, &value, error) < 0)
        return -1;
    if (value >= 0)
        json_set_int(options, key, value);
    return 0;
}

static int add_duration(const struct invocation *invocation, const char *option, const char *key, json_t *options,
                        struct error *error)
{
    int64_t ms = -1;

    if (option_duration_ms(invocation, option, &ms, error) < 0)
        return -1;
    if (ms >= 0)
        json_set_int(options, key, ms);
    return 0;
}

/* "3", or "1..4". */
static int add_replicas(const struct invocation *invocation, json_t *options, struct error *error)
{
    const char *text = option_value(invocation, "replicas"), *dots = text ? strstr(text, "..") : NULL;
    cleanup_free char *first = NULL;
    int64_t min, max;

    if (!dots)
        return add_number(invocation, "replicas", "replicas", LIMIT_REPLICAS, options, error);
    first = xstrndup(text, (size_t)(dots - text));
    if (parse_int(first, 0, LIMIT_REPLICAS, &min, error) < 0 || parse_int(dots + 2, 1, LIMIT_REPLICAS, &max, error) < 0)
        return error_wrap(error, "option --replicas");
    json_set_int(options, "min_replicas", min);
    json_set_int(options, "max_replicas", max);
    return 0;
}

/* "50/s", "600/m"; "none" ends it. */
static int add_rate(const struct invocation *invocation, json_t *options, struct error *error)
{
    const char *text = option_value(invocation, "rate");
    double count = 0, burst = -1;
    int64_t ms = 1000;

    if (text && strcmp(text, "none") != 0 && parse_per(text, &count, &ms, error) < 0)
        return error_wrap(error, "option --rate");
    if (option_number(invocation, "burst", 1, 1e6, &burst, error) < 0)
        return -1;
    if (text)
        json_set_number(options, "rate_per_second", count * 1000 / (double)ms);
    if (burst > 0 || (text && count <= 0))
        json_set_number(options, "rate_burst", burst > 0 ? burst : 0);
    return 0;
}

static int read_options(const struct invocation *invocation, json_t *options, struct error *error)
{
    int64_t deadline = -1, batch_delay_us = -1;
    const char *batch_delay = option_value(invocation, "batch-delay"), *cache = option_value(invocation, "cache");
    uint64_t memory = 0, cache_size = 0;
    double cpus = 0;

    if (add_replicas(invocation, options, error) < 0 || add_rate(invocation, options, error) < 0 ||
        log_read_options(invocation, options, error) < 0 ||
        add_number(invocation, "min-replicas", "min_replicas", LIMIT_REPLICAS, options, error) < 0 ||
        add_number(invocation, "max-replicas", "max_replicas", LIMIT_REPLICAS, options, error) < 0 ||
        add_duration(invocation, "scale-queue-time", "scale_queue_time_ms", options, error) < 0 ||
        add_duration(invocation, "scale-down-after", "scale_down_after_ms", options, error) < 0 ||
        add_duration(invocation, "idle", "idle_ms", options, error) < 0 ||
        add_number(invocation, "queue", "queue", 100000, options, error) < 0 ||
        add_number(invocation, "concurrency", "concurrency", 64, options, error) < 0 ||
        add_number(invocation, "batch-size", "batch_size", LIMIT_BATCH, options, error) < 0 ||
        option_duration_ms(invocation, "deadline", &deadline, error) < 0 ||
        option_bytes(invocation, "memory", &memory, error) < 0 ||
        option_number(invocation, "cpus", 0, 4096, &cpus, error) < 0)
        return -1;
    if (cache && parse_bytes(cache, &cache_size, error) < 0)
        return error_wrap(error, "--cache");
    if (cache)
        json_set_int(options, "cache", (int64_t)cache_size);
    if (batch_delay && parse_duration_us(batch_delay, &batch_delay_us, error) < 0)
        return error_wrap(error, "--batch-delay");
    if (batch_delay)
        json_set_number(options, "batch_delay_ms", (double)batch_delay_us / 1000);
    if (deadline >= 0)
        json_set_int(options, "timeout_ms", deadline);
    if (memory)
        json_set_int(options, "memory", (int64_t)memory);
    if (cpus > 0)
        json_set_number(options, "cpus", cpus);
    if (option_flag(invocation, "public"))
        json_set_bool(options, "public", true);
    if (option_value(invocation, "sticky"))
        json_set_string(options, "sticky", option_value(invocation, "sticky"));
    return 0;
}

static int endpoint_create(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *options = json_object(), *endpoint = NULL;

    if (read_options(invocation, options, error) < 0 ||
        client_post(invocation->client, "/api/v1/endpoints", NULL,
                    json_build("{s:s, s:s, s:O}", "name", invocation->arguments[0], "model", invocation->arguments[1],
                               "options", options),
                    &endpoint, error) < 0)
        return -1;
    if (option_flag(invocation, "no-wait")) {
        print_done(invocation, endpoint, "%s will answer at %s", invocation->arguments[0],
                   json_get_string(endpoint, "url", ""));
        return 0;
    }
    return finish(invocation, json_get_int(json_object_get(endpoint, "deployment"), "id", 0), error);
}

static int endpoint_set(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/endpoints/%s", invocation->arguments[0]);
    cleanup_json json_t *options = json_object(), *endpoint = NULL;

    if (read_options(invocation, options, error) < 0)
        return -1;
    if (option_flag(invocation, "private"))
        json_set_bool(options, "public", false);
    if (json_object_size(options) == 0)
        return error_set(error, ERROR_INVALID,
                         "say what is to change; `slipway endpoint set --help` lists the options");
    if (client_patch(invocation->client, path, NULL, json_incref(options), &endpoint, error) < 0)
        return -1;
    print_done(invocation, endpoint, "changed endpoint %s; requests go on being answered", invocation->arguments[0]);
    return 0;
}

static int endpoint_deploy(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/endpoints/%s/deploy", invocation->arguments[0]);
    const char *version = invocation->n_arguments > 1 ? invocation->arguments[1] : "newest";
    cleanup_json json_t *deployment = NULL, *body = json_build("{s:s}", "version", version);

    if (traffic_read_options(invocation, body, error) < 0 ||
        client_post(invocation->client, path, NULL, json_incref(body), &deployment, error) < 0)
        return -1;
    if (option_flag(invocation, "no-wait")) {
        print_done(invocation, deployment, "version %lld is being deployed",
                   (long long)json_get_int(deployment, "version", 0));
        return 0;
    }
    return finish(invocation, json_get_int(deployment, "id", 0), error);
}

/* -- changes of what is loaded already: the answer comes when the routes are in force -- */

/* "…: 4.20 ms, of which the routes took 0.15 ms"; to be freed. */
static char *timing_text(const json_t *deployment)
{
    return xasprintf("%.2f ms, of which the routes took %.2f ms",
                     (double)json_get_int(deployment, "total_us", 0) / 1000,
                     (double)json_get_int(deployment, "switch_us", 0) / 1000);
}

static int print_change(struct invocation *invocation, const json_t *deployment, struct error *error)
{
    const char *kind = json_get_string(deployment, "kind", ""), *name = invocation->arguments[0];
    long long version = json_get_int(deployment, "version", 0), previous = json_get_int(deployment, "previous", 0);
    cleanup_free char *timing = timing_text(deployment);

    if (strcmp(json_get_string(deployment, "state", ""), "live") != 0)
        return finish(invocation, json_get_int(deployment, "id", 0), error);
    if (strcmp(kind, "abort") == 0)
        print_done(invocation, deployment, "%s serves version %lld alone, version %lld has ended: %s", name, version,
                   previous, timing);
    else if (strcmp(kind, "traffic") == 0)
        print_done(invocation, deployment, "the shares of %s are changed: %s", name, timing);
    else if (strcmp(kind, "promote") == 0)
        print_done(invocation, deployment, "%s serves version %lld (was %lld): %s", name, version, previous, timing);
    else
        print_done(invocation, deployment, "%s serves version %lld again (was %lld): %s", name, version, previous,
                   timing);
    return 0;
}

static int change(struct invocation *invocation, const char *what, json_t *query, json_t *body, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/endpoints/%s/%s", invocation->arguments[0], what);
    cleanup_json json_t *deployment = NULL;

    if (client_post(invocation->client, path, query, body, &deployment, error) < 0)
        return -1;
    return print_change(invocation, deployment, error);
}

static json_t *kind_query(const struct invocation *invocation)
{
    return option_flag(invocation, "shadow") ? json_build("{s:s}", "kind", "shadow") : NULL;
}

static int endpoint_rollback(struct invocation *invocation, struct error *error)
{
    return change(invocation, "rollback", NULL, NULL, error);
}

static int endpoint_promote(struct invocation *invocation, struct error *error)
{
    return change(invocation, "promote", kind_query(invocation), NULL, error);
}

static int endpoint_abort(struct invocation *invocation, struct error *error)
{
    return change(invocation, "abort", kind_query(invocation), NULL, error);
}

static int endpoint_traffic(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *shares = json_object();

    for (int i = 1; i < invocation->n_arguments; i++) {
        const char *text = invocation->arguments[i], *sign = strchr(text, '=');
        cleanup_free char *version = sign ? xstrndup(text, (size_t)(sign - text)) : NULL;
        double share;

        if (!version || !*version)
            return error_set(error, ERROR_INVALID, "'%s' is not VERSION=PERCENT, such as 8=10", text);
        if (parse_number(sign + 1, 0, 100, &share, error) < 0)
            return error_wrap(error, "share of version %s", version);
        json_set_number(shares, version, share);
    }
    return change(invocation, "traffic", NULL, json_build("{s:O}", "shares", shares), error);
}

static int endpoint_rm(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/endpoints/%s", invocation->arguments[0]);

    if (client_delete(invocation->client, path, NULL, NULL, error) < 0)
        return -1;
    print_done(invocation, NULL, "removed endpoint %s; requests in flight are answered", invocation->arguments[0]);
    return 0;
}

static int endpoint_logs(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/endpoints/%s/logs", invocation->arguments[0]);
    json_t *query = json_object(), *line;
    cleanup_json json_t *lines = NULL;
    int64_t count = 100;
    size_t i;

    if (option_int(invocation, "lines", 1, 10000, &count, error) < 0) {
        json_decref(query);
        return -1;
    }
    json_set_int(query, "lines", count);
    if (option_value(invocation, "replica"))
        json_set_string(query, "replica", option_value(invocation, "replica"));
    if (client_list(invocation->client, path, query, 0, &lines, error) < 0)
        return -1;
    if (invocation->json) {
        print_json(lines);
        return 0;
    }
    json_array_foreach(lines, i, line)
        printf("@%lld %.6s | %s\n", (long long)json_get_int(line, "version", 0),
               json_get_string(line, "replica", "") + 26, json_get_string(line, "text", ""));
    return 0;
}

#define WAIT_OPTIONS                                                                                                   \
    {"no-wait", 0, NULL, "do not wait until it is ready"}, {"timeout", 0, "T", "how long to wait (60s)"}

#define SERVE_OPTIONS                                                                                                  \
    {"replicas", 0, "N|MIN..MAX", "processes of a version: so many, or as many as the load needs (1)"},                \
        {"min-replicas", 0, "N", "at least so many; 0: none while nobody asks"},                                       \
        {"max-replicas", 0, "N", "at most so many"},                                                                   \
        {"scale-queue-time", 0, "T", "requests that wait longer bring another replica (50ms)"},                        \
        {"scale-down-after", 0, "T", "one fewer would have done so long before there is one fewer (60s)"},             \
        {"idle", 0, "T", "time without a request before the last replica ends (10m)"},                                 \
        {"queue", 0, "N", "requests that may wait (256)"}, {"deadline", 0, "T", "longest time of a request (30s)"},    \
        {"concurrency", 0, "N", "requests at a time per replica (as the package says)"},                               \
        {"batch-size", 0, "N", "requests that one call of predict_batch() takes (as the package says)"},               \
        {"batch-delay", 0, "T", "how long a request may wait for more, as 2ms (as the package says)"},                 \
        {"cache", 0, "BYTES", "answers to remember, if the package is deterministic; 0: none (0)"}, LOG_OPTIONS,       \
        {"cpus", 0, "N", "cores of a replica (no limit)"}, {"memory", 0, "BYTES", "memory of a replica (no limit)"},   \
        {"rate", 0, "N/TIME", "requests of one token, e.g. 50/s; none: no limit (no limit)"},                          \
        {"burst", 0, "N", "of them at once (as many as in a second)"}, {"public", 0, NULL, "no token is needed"},      \
        {"sticky", 0, "HEADER", "equal values of this header stay on the same version"}

static const struct option create_options[] = {
    SERVE_OPTIONS,
    WAIT_OPTIONS,
    {},
};
static const struct option set_options[] = {
    SERVE_OPTIONS,
    {"private", 0, NULL, "a token is needed"},
    {},
};
static const struct option deploy_options[] = {
    TRAFFIC_OPTIONS,
    WAIT_OPTIONS,
    {},
};
static const struct option end_options[] = {
    {"shadow", 0, NULL, "the shadow, not the canary"},
    {},
};
static const struct option logs_options[] = {
    {"lines", 'n', "N", "newest lines of each replica (100)"},
    {"replica", 0, "ID", "only of this replica"},
    {},
};

const struct command endpoint_commands[] = {
    {"endpoint create", "ENDPOINT MODEL", "serve a version under a name", create_options, endpoint_create,
     .details = "With an alias (vision/digits@production) the endpoint follows it: every promotion is deployed, every "
                "rollback undone. With a number it stays until `endpoint deploy`.",
     .examples = "slipway endpoint create digits vision/digits@production\nslipway endpoint create digits "
                 "vision/digits@7 --replicas 2 --deadline 5s\nslipway endpoint create digits vision/digits@7 "
                 "--replicas 0..4 --idle "
                 "5m"},
    {"endpoint set", "ENDPOINT", "change how a living endpoint serves", set_options, endpoint_set,
     .details = "What is not named stays as it is, and no request is lost. For other processors or memory the replicas "
                "are replaced one by one, each when its successor is ready.",
     .examples = "slipway endpoint set digits --replicas 1..8 --scale-queue-time 20ms\nslipway endpoint set digits "
                 "--deadline 5s --queue 1000"},
    {"endpoint ls", NULL, "list endpoints", NULL, endpoint_ls},
    {"endpoint show", "ENDPOINT", "show an endpoint, its replicas and deployments", NULL, endpoint_show},
    {"endpoint deploy", "ENDPOINT [VERSION]", "load a version and make it live when it is ready", deploy_options,
     endpoint_deploy,
     .details =
         "The version before stays loaded for a rollback; the one before that is drained and stopped. With "
         "--canary the live version stays, and the new one gets its share of the requests once it is loaded and "
         "warm; one that cannot start fails the deployment and never gets a request. With --shadow it gets copies of "
         "requests that the live version has answered; nobody sees its answers, `endpoint compare` shows those that "
         "differ. Rules see .seconds, and of .canary and of .live: requests, errors, error_rate, p50_ms, p99_ms and "
         "disagreement; --abort-if wins.",
     .examples = "slipway endpoint deploy digits 8\nslipway endpoint deploy digits vision/digits@production\n"
                 "slipway endpoint deploy digits 8 --canary 10 --sticky X-User\n"
                 "slipway endpoint deploy digits 8 --canary 10 --promote-if '.canary.p99_ms < 2 * .live.p99_ms' "
                 "--after 1000/10m\n"
                 "slipway endpoint deploy digits 8 --shadow --sample 0.1 --tolerance 0.01"},
    {"endpoint compare", "ENDPOINT", "show requests that the shadow answered otherwise than the live version", NULL,
     traffic_compare,
     .details =
         "At most 20, each as likely as any other; requests and answers are cut to 4 KiB. They are forgotten with "
         "the shadow, and when the gateway is started again."},
    {"endpoint traffic", "ENDPOINT VERSION=PERCENT…", "change the shares of the live version and the canary", NULL,
     endpoint_traffic, .details = "One of two is enough: the other gets the rest.",
     .examples = "slipway endpoint traffic digits 7=50 8=50\nslipway endpoint traffic digits 8=25"},
    {"endpoint promote", "ENDPOINT", "make the canary live, at once", end_options, endpoint_promote,
     .details =
         "The version that was live becomes the standby. An endpoint that follows an alias moves the alias too."},
    {"endpoint abort", "ENDPOINT", "end the canary: the live version has all requests again, at once", end_options,
     endpoint_abort},
    {"endpoint rollback", "ENDPOINT", "make the version before live again, at once", NULL, endpoint_rollback,
     .details = "With a canary, ends that, as `endpoint abort` does. Else goes back to the version before: it is still "
                "loaded, so that this is only a change of routes. An endpoint that follows an alias moves "
                "the alias back too. A second rollback goes forth again."},
    {"endpoint rm", "ENDPOINT", "drain and remove an endpoint", NULL, endpoint_rm},
    {"endpoint logs", "ENDPOINT", "show what the replicas printed", logs_options, endpoint_logs},
    {"endpoint requests", "ENDPOINT", "show logged requests and their answers", requests_options, endpoint_requests,
     .details = "Of an endpoint with --log-sample, newest last. Each is a CloudEvent 1.0 in JSON.",
     .examples = "slipway endpoint set digits --log-sample 0.01\nslipway endpoint requests digits --outcome timeout\n"
                 "slipway endpoint requests digits --output requests.jsonl"},
    {},
};
