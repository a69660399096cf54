/*
 * slipway endpoint: what is served.
 */
#include <string.h>
#include <time.h>
#include "cli/client.h"
#include "cli/command.h"
#include "cli/error.h"
#include "http/client.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/xalloc.h"

static char *route_text(const json_t *endpoint, const char *role)
{
    const json_t *route = json_object_get(endpoint, role);

    if (!json_is_object(route))
        return NULL;
    return xasprintf("@%lld (%s)", (long long)json_get_int(route, "version", 0),
                     json_get_string(route, "code_weights", ""));
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

static const struct table_column endpoint_columns[] = {
    {"ENDPOINT", "name"},
    {"STATE", "state", TABLE_STATE},
    {"MODEL", "model"},
    {"LIVE", .text = live_text},
    {"STANDBY", .text = standby_text},
    {"FOLLOWS", "follow"},
    {"REPLICAS", .text = replicas_text},
    {"URL", "url", .shrink = true},
    {},
};

static const struct table_column show_columns[] = {
    {"Endpoint", "name"},
    {"State", "state", TABLE_STATE},
    {"URL", "url"},
    {"Problem", "problem"},
    {"Model", "model"},
    {"Live", .text = live_text},
    {"Standby", .text = standby_text},
    {"Next", .text = next_text},
    {"Follows", "follow"},
    {"Replicas", .text = replicas_text},
    {"Time-out", "options.timeout_ms", TABLE_DURATION},
    {"Queue", "options.queue", TABLE_NUMBER},
    {"Public", "options.public"},
    {"Created", "created_at", TABLE_TIME},
    {"By", "created_by"},
    {},
};

static const struct table_column replica_columns[] = {
    {"REPLICA", "id"},    {"VERSION", "version", TABLE_NUMBER},   {"STATE", "state", TABLE_STATE},
    {"REASON", "reason"}, {"MESSAGE", "message", .shrink = true}, {},
};

static const struct table_column deployment_columns[] = {
    {"TIME", "created_at", TABLE_TIME},
    {"KIND", "kind"},
    {"VERSION", "version", TABLE_NUMBER},
    {"BEFORE", "previous", TABLE_NUMBER},
    {"STATE", "state", TABLE_STATE},
    {"SWITCH µs", "switch_us", TABLE_NUMBER},
    {"BY", "actor"},
    {"MESSAGE", "message", .shrink = true},
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
        print_json(endpoint);
        return 0;
    }
    print_object(invocation, show_columns, endpoint);
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
    if (strcmp(state, "superseded") == 0)
        print_done(invocation, endpoint, "superseded by a newer deployment; %s serves %s", invocation->arguments[0],
                   live ? live : "nothing yet");
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

static int read_options(const struct invocation *invocation, json_t *options, struct error *error)
{
    int64_t deadline = -1;
    uint64_t memory = 0;
    double cpus = 0;

    if (add_number(invocation, "replicas", "replicas", LIMIT_REPLICAS, options, error) < 0 ||
        add_number(invocation, "queue", "queue", 100000, options, error) < 0 ||
        add_number(invocation, "concurrency", "concurrency", 64, options, error) < 0 ||
        option_duration_ms(invocation, "deadline", &deadline, error) < 0 ||
        option_bytes(invocation, "memory", &memory, error) < 0 ||
        option_number(invocation, "cpus", 0, 4096, &cpus, error) < 0)
        return -1;
    if (deadline >= 0)
        json_set_int(options, "timeout_ms", deadline);
    if (memory)
        json_set_int(options, "memory", (int64_t)memory);
    if (cpus > 0)
        json_set_number(options, "cpus", cpus);
    if (option_flag(invocation, "public"))
        json_set_bool(options, "public", true);
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

static int endpoint_deploy(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/endpoints/%s/deploy", invocation->arguments[0]);
    const char *version = invocation->n_arguments > 1 ? invocation->arguments[1] : "newest";
    cleanup_json json_t *deployment = NULL;

    if (client_post(invocation->client, path, NULL, json_build("{s:s}", "version", version), &deployment, error) < 0)
        return -1;
    if (option_flag(invocation, "no-wait")) {
        print_done(invocation, deployment, "version %lld is being deployed",
                   (long long)json_get_int(deployment, "version", 0));
        return 0;
    }
    return finish(invocation, json_get_int(deployment, "id", 0), error);
}

static int endpoint_rollback(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/endpoints/%s/rollback", invocation->arguments[0]);
    cleanup_json json_t *deployment = NULL;

    if (client_post(invocation->client, path, NULL, NULL, &deployment, error) < 0)
        return -1;
    if (strcmp(json_get_string(deployment, "state", ""), "live") != 0)
        return finish(invocation, json_get_int(deployment, "id", 0), error);
    print_done(
        invocation, deployment, "%s serves version %lld again (was %lld): %.2f ms, of which the routes took %.2f ms",
        invocation->arguments[0], (long long)json_get_int(deployment, "version", 0),
        (long long)json_get_int(deployment, "previous", 0), (double)json_get_int(deployment, "total_us", 0) / 1000,
        (double)json_get_int(deployment, "switch_us", 0) / 1000);
    return 0;
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

static const struct option create_options[] = {
    {"replicas", 0, "N", "processes of a version (1)"},
    {"queue", 0, "N", "requests that may wait (256)"},
    {"deadline", 0, "T", "longest time of a request (30s)"},
    {"concurrency", 0, "N", "requests at a time per replica (as the package says)"},
    {"cpus", 0, "N", "cores of a replica (no limit)"},
    {"memory", 0, "BYTES", "memory of a replica (no limit)"},
    {"public", 0, NULL, "no token is needed"},
    WAIT_OPTIONS,
    {},
};
static const struct option deploy_options[] = {
    WAIT_OPTIONS,
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
                 "vision/digits@7 --replicas 2 --deadline 5s"},
    {"endpoint ls", NULL, "list endpoints", NULL, endpoint_ls},
    {"endpoint show", "ENDPOINT", "show an endpoint, its replicas and deployments", NULL, endpoint_show},
    {"endpoint deploy", "ENDPOINT [VERSION]", "load a version and make it live when it is ready", deploy_options,
     endpoint_deploy,
     .details = "The version before stays loaded for a rollback; the one before that is drained and stopped.",
     .examples = "slipway endpoint deploy digits 8\nslipway endpoint deploy digits vision/digits@production"},
    {"endpoint rollback", "ENDPOINT", "make the version before live again, at once", NULL, endpoint_rollback,
     .details = "It is still loaded, so that this is only a change of routes. An endpoint that follows an alias moves "
                "the alias back too. A second rollback goes forth again."},
    {"endpoint rm", "ENDPOINT", "drain and remove an endpoint", NULL, endpoint_rm},
    {"endpoint logs", "ENDPOINT", "show what the replicas printed", logs_options, endpoint_logs},
    {},
};
