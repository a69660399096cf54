/*
 * The route table: what the gateway is to serve, as one configuration (gateway/control.h), read from the database and
 * sent when it differs from what the gateway has. Deployments end when the table that brings them about is in force.
 */
#include <string.h>
#include "schedule/serving-internal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/xalloc.h"

static json_t *replicas_of(struct serving *s, int64_t endpoint, int64_t version)
{
    json_t *replicas = json_array();
    struct map_iterator it = {0};

    while (map_next(&s->replicas, &it)) {
        const struct replica *r = it.value;

        if (r->endpoint == endpoint && r->version == version && replica_is_active(r))
            json_array_append_new(replicas, json_build("{s:s, s:s}", "id", r->id, "key", r->secret));
    }
    return replicas;
}

/* Copies of requests: none before the version is ready, and only of what the live one answered. */
static int add_copies(struct db_rows *rows, json_t *route, struct error *error)
{
    cleanup_json json_t *options = db_is_null(rows, 12) ? json_object() : db_json(rows, 12, error);
    cleanup_free char *live = xasprintf("%lld", (long long)db_int(rows, 13));

    if (!options)
        return -1;
    json_set_number(route, "sample", json_get_number(options, "sample", 0));
    json_set_number(route, "tolerance", json_get_number(options, "tolerance", 0));
    json_set_string(route, "against", live);
    return 0;
}

/* The route of one row; the package says the signature. */
static json_t *route_json(struct serving *s, struct db_rows *rows, const struct endpoint_options *options,
                          const json_t *package)
{
    const char *role = db_text(rows, 7);
    /* The first version of all gets requests before it is ready: they wait for it. */
    double weight = strcmp(role, "next") == 0 && db_int(rows, 10) == 0 ? 100 : db_real(rows, 11);
    cleanup_free char *number = xasprintf("%lld", (long long)db_int(rows, 5));
    int64_t size, delay_us;
    json_t *route = json_build(
        "{s:s, s:s, s:f, s:b, s:s, s:I, s:o}", "version", number, "code_weights", db_text(rows, 6), "weight", weight,
        "shadow", strcmp(role, "shadow") == 0, "platform", json_get_string(package, "runtime", "python"), "concurrency",
        (json_int_t)(options->concurrency ? options->concurrency : json_get_int(package, "concurrency", 1)), "replicas",
        replicas_of(s, db_int(rows, 8), db_int(rows, 9)));

    if (endpoint_options_scale(options) && strcmp(role, "shadow") != 0)
        json_object_set_new(route, "scale",
                            json_build("{s:I, s:b}", "queue_time_ms", (json_int_t)options->scale_queue_time_ms,
                                       "to_zero", options->min_replicas == 0));
    if (json_get_bool(package, "deterministic", false))
        json_set_bool(route, "deterministic", true);
    if (endpoint_batch(options, package, &size, &delay_us))
        json_object_set_new(route, "batch",
                            json_build("{s:I, s:I}", "size", (json_int_t)size, "delay_us", (json_int_t)delay_us));
    if (json_array_size(json_object_get(package, "inputs")))
        json_object_set(route, "inputs", json_object_get(package, "inputs"));
    if (json_array_size(json_object_get(package, "outputs")))
        json_object_set(route, "outputs", json_object_get(package, "outputs"));
    return route;
}

static json_t *endpoint_json(struct db_rows *rows, const struct endpoint_options *options)
{
    const double rate = options->rate_per_second, burst = options->rate_burst;
    json_t *endpoint = json_build("{s:s, s:s, s:s, s:I, s:I, s:b, s:s?, s:[]}", "name", db_text(rows, 0), "project",
                                  db_text(rows, 1), "model", db_text(rows, 2), "timeout_ms",
                                  (json_int_t)options->timeout_ms, "queue", (json_int_t)options->queue, "public",
                                  options->is_public, "sticky", *options->sticky ? options->sticky : NULL, "routes");

    if (options->cache)
        json_set_int(endpoint, "cache", (int64_t)options->cache);
    if (options->log_sample > 0)
        json_object_set_new(
            endpoint, "log",
            json_build("{s:f, s:I}", "sample", options->log_sample, "body", (json_int_t)options->log_body));
    if (rate > 0)
        json_object_set_new(endpoint, "rate",
                            json_build("{s:f, s:f}", "per_second", rate, "burst",
                                       burst > 0  ? burst
                                       : rate > 1 ? rate
                                                  : 1.0));
    return endpoint;
}

static json_t *last_route(const json_t *endpoint)
{
    const json_t *routes = json_object_get(endpoint, "routes");

    return json_array_get(routes, json_array_size(routes) - 1);
}

static json_t *build_table(struct serving *s, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *endpoints = json_array();
    json_t *endpoint = NULL;
    int r;

    if (db_begin_read(s->store->db, &tx, error) < 0 ||
        db_query(
            &tx, &rows, error,
            "SELECT e.name, e.project, m.name, e.options, c.package, v.number, v.code || ifnull('.' || v.weights, ''), "
            "r.role, e.id, v.id, "
            "(SELECT count(*) FROM endpoint_routes l WHERE l.endpoint = e.id AND l.role = 'live'), r.weight, "
            "(SELECT d.options FROM deployments d WHERE d.endpoint = e.id AND d.kind = r.role AND d.version = v.number "
            "AND d.state IN ('pending', 'running') AND d.ready_at IS NOT NULL ORDER BY d.id DESC LIMIT 1), "
            "(SELECT o.number FROM endpoint_routes l JOIN model_versions o ON o.id = l.version "
            "WHERE l.endpoint = e.id AND l.role = 'live') "
            "FROM endpoints e JOIN models m ON m.id = e.model JOIN endpoint_routes r ON r.endpoint = e.id "
            "JOIN model_versions v ON v.id = r.version "
            "JOIN model_code c ON c.model = v.model AND c.number = v.code "
            "WHERE e.desired = 'serving' ORDER BY e.name, v.number",
            "") < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        cleanup_json json_t *json = db_json(&rows, 3, error), *package = NULL;
        struct endpoint_options options;

        if (!json || (!db_is_null(&rows, 4) && !(package = db_json(&rows, 4, error))))
            return NULL;
        endpoint_options_read(json, &options);
        if (!endpoint || strcmp(json_get_string(endpoint, "name", ""), db_text(&rows, 0)) != 0) {
            endpoint = endpoint_json(&rows, &options);
            json_array_append_new(endpoints, endpoint);
        }
        json_array_append_new(json_object_get(endpoint, "routes"), route_json(s, &rows, &options, package));
        if (endpoint_is_trial(db_text(&rows, 7)) && add_copies(&rows, last_route(endpoint), error) < 0)
            return NULL;
    }
    return r < 0 ? NULL : steal_ptr(endpoints);
}

/* A table on its way, and the deployments that it brings about. */
struct sending {
    struct serving *serving;
    int64_t sent_ns;
    size_t count;
    int64_t deployments[];
};

static void record_switched(struct serving *s, int64_t deployment, int64_t switch_us)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_write(s->store->db, &tx, &error) < 0 || endpoint_switched(&tx, deployment, switch_us, &error) < 0 ||
        db_commit(&tx, &error) < 0) {
        if (error.code != ERROR_CONFLICT) /* superseded meanwhile */
            log_error("cannot store the end of a deployment", "error", error.message);
    }
}

static void on_configured(void *userdata, const json_t *reply)
{
    struct sending *sending = userdata;
    struct serving *s = sending->serving;
    const json_t *failure = json_object_get(reply, "error");
    int64_t switch_us = (clock_monotonic_ns() - sending->sent_ns) / NS_PER_US;

    if (atomic_load(&s->is_closing) || !reply) {
        /* The next connection begins with a table of its own. */
    } else if (failure) {
        log_error("the gateway refuses the routes", "error", json_get_string(failure, "message", ""));
    } else {
        for (size_t i = 0; i < sending->count; i++)
            serving_finished(s, sending->deployments[i], switch_us);
        for (size_t i = 0; i < sending->count; i++)
            record_switched(s, sending->deployments[i], switch_us);
        if (sending->count)
            serving_reconcile(s);
    }
    free(sending);
}

/* Deployments that are done as soon as the present routes are in force. */
static int find_due(struct serving *s, struct sending **ret, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_free struct sending *due = xcalloc(1, sizeof(*due) + LIMIT_ENDPOINTS * sizeof(due->deployments[0]));
    int r = 0;

    due->serving = s;
    if (db_begin_read(s->store->db, &tx, error) < 0 ||
        db_query(&tx, &rows, error,
                 "SELECT d.id FROM deployments d JOIN endpoint_routes r ON r.endpoint = d.endpoint "
                 "JOIN model_versions v ON v.id = r.version AND v.number = d.version WHERE d.state = 'pending' "
                 "AND ((r.role = 'live' AND d.kind NOT IN ('canary', 'shadow')) "
                 "OR (r.role = d.kind AND d.ready_at IS NOT NULL))",
                 "") < 0)
        return -1;
    while (due->count < LIMIT_ENDPOINTS && (r = db_next(&rows, error)) > 0)
        due->deployments[due->count++] = db_int(&rows, 0);
    if (r < 0)
        return -1;
    *ret = steal_ptr(due);
    return 0;
}

int serving_push_table(struct serving *s, struct error *error)
{
    cleanup_json json_t *table = build_table(s, error);
    cleanup_free char *text = table ? json_text(table) : NULL;
    cleanup_free struct sending *sending = NULL;

    if (!table || find_due(s, &sending, error) < 0)
        return -1;
    if (!gateway_link_is_up(s->link) || (s->sent && strcmp(s->sent, text) == 0 && sending->count == 0))
        return 0;
    serving_trials_begin(s);
    free(s->sent);
    s->sent = steal_ptr(text);
    sending->sent_ns = clock_monotonic_ns();
    gateway_link_call(s->link, json_build("{s:s, s:O}", "op", "configure", "endpoints", table), on_configured, sending);
    sending = NULL;
    return 0;
}
