#include <string.h>
#include "core/endpoint.h"
#include "core/package.h"
#include "util/xalloc.h"

/* One version of a route: {"version","code_weights","share"}. */
#define ROUTE(role)                                                                                                    \
    "(SELECT json_object('version', v.number, 'code_weights', v.code || ifnull('.' || v.weights, ''), "                \
    "'share', r.weight) FROM endpoint_routes r JOIN model_versions v ON v.id = r.version "                             \
    "WHERE r.endpoint = e.id AND r.role = '" role "')"

#define REPLICAS                                                                                                       \
    "(SELECT json_group_array(json_object('id', r.id, 'version', v.number, 'code_weights', "                           \
    "v.code || ifnull('.' || v.weights, ''), 'state', r.state, 'reason', r.reason, 'message', r.message)) "            \
    "FROM replicas r JOIN model_versions v ON v.id = r.version WHERE r.endpoint = e.id)"

#define NEWEST_DEPLOYMENT                                                                                              \
    "(SELECT json_object('id', d.id, 'kind', d.kind, 'version', d.version, 'state', d.state, 'message', d.message) "   \
    "FROM deployments d WHERE d.endpoint = e.id ORDER BY d.id DESC LIMIT 1)"

#define SCALING                                                                                                        \
    "(SELECT json_object('version', v.number, 'wished', s.wished, 'decision', json(s.decision), 'cold_starts', "       \
    "s.cold_starts, 'cold_start_ms', s.cold_start_ms, 'cold_start_mean_ms', "                                          \
    "round(s.cold_total_ms * 1.0 / nullif(s.cold_starts, 0), 1)) "                                                     \
    "FROM endpoint_scaling s JOIN model_versions v ON v.id = s.version "                                               \
    "JOIN endpoint_routes r ON r.endpoint = e.id AND r.version = s.version "                                           \
    "WHERE s.endpoint = e.id AND r.role = 'live')"

/* Of the live version, or the first that will be. */
#define PACKAGE                                                                                                        \
    "(SELECT c.package FROM endpoint_routes r JOIN model_versions v ON v.id = r.version "                              \
    "JOIN model_code c ON c.model = v.model AND c.number = v.code "                                                    \
    "WHERE r.endpoint = e.id AND r.role IN ('live', 'next') ORDER BY r.role LIMIT 1)"

#define ENDPOINT_SELECT                                                                                                \
    "SELECT e.name, e.project, m.name, e.follow, e.options, e.desired, " ROUTE("live") ", " ROUTE(                     \
        "standby") ", " ROUTE("next") ", " REPLICAS ", " NEWEST_DEPLOYMENT ", e.created_at, e.created_by, " SCALING    \
                                      ", " ROUTE("canary") ", " ROUTE(                                                 \
                                          "shadow") ", " PACKAGE " FROM endpoints e JOIN models m ON m.id = e.model "

/* What there is to say in one word, from the replicas of the live version and the newest deployment. */
static const char *state_of(const char *desired, const json_t *live, const json_t *next, const json_t *replicas,
                            const json_t *scaling)
{
    int64_t number = json_get_int(live, "version", 0);
    bool failed = false;
    json_t *replica;
    size_t i;

    if (strcmp(desired, "removed") == 0)
        return "draining";
    if (json_get_int(scaling, "version", -1) == number && json_get_int(scaling, "wished", -1) == 0)
        return "ready"; /* it starts when somebody asks */
    json_array_foreach(replicas, i, replica) {
        const char *state = json_get_string(replica, "state", "");

        if (json_get_int(replica, "version", -1) != number)
            continue;
        if (strcmp(state, "ready") == 0)
            return "ready";
        failed = failed || strcmp(state, "failed") == 0;
    }
    if (json_is_null(live) && json_is_null(next))
        return "failed";
    return failed ? "failed" : "starting";
}

/* What requests to the live version (or the first that will be) come to: {"size","delay_ms","reason"}. */
static json_t *batch_of(const json_t *options, const json_t *package)
{
    bool is_possible, is_wished = json_get_int(options, "batch_size", 0) > 1;
    struct endpoint_options o;
    int64_t size, delay_us;
    json_t *batch;

    endpoint_options_read(options, &o);
    is_possible = package_batch(package, &size, &delay_us);
    if (!endpoint_batch(&o, package, &size, &delay_us))
        delay_us = 0;
    batch = json_build("{s:I, s:f}", "size", (json_int_t)size, "delay_ms", (double)delay_us / 1000);
    json_set_string(batch, "reason", is_wished && !is_possible ? "its package defines no predict_batch()" : NULL);
    return batch;
}

/* Whether its answers are remembered: {"size","reason"}. */
static json_t *cache_of(const json_t *options, const json_t *package)
{
    int64_t size = json_get_int(options, "cache", 0);
    bool is_possible = json_get_bool(package, "deterministic", false);

    return json_build("{s:I, s:s?}", "size", (json_int_t)(is_possible ? size : 0), "reason",
                      size && !is_possible ? "its slipway.yaml does not say 'deterministic: true'" : NULL);
}

static json_t *json_or_null(struct db_rows *rows, int column, struct error *error)
{
    return db_is_null(rows, column) ? json_null() : db_json(rows, column, error);
}

static json_t *read_endpoint(struct db_rows *rows, struct error *error)
{
    static const struct {
        const char *name;
        int column;
    } columns[] = {{"options", 4}, {"live", 6},    {"standby", 7},  {"next", 8},       {"scaling", 13},
                   {"canary", 14}, {"shadow", 15}, {"replicas", 9}, {"deployment", 10}};
    cleanup_json json_t *package = json_or_null(rows, 16, error);
    cleanup_json json_t *endpoint = json_build("{s:s, s:s, s:s, s:s?}", "name", db_text(rows, 0), "project",
                                               db_text(rows, 1), "model", db_text(rows, 2), "follow", db_text(rows, 3));

    if (!package)
        return NULL;
    for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
        json_t *value = json_or_null(rows, columns[i].column, error);

        if (!value)
            return NULL;
        json_object_set_new(endpoint, columns[i].name, value);
    }
    json_set_string(endpoint, "state",
                    state_of(db_text(rows, 5), json_object_get(endpoint, "live"), json_object_get(endpoint, "next"),
                             json_object_get(endpoint, "replicas"), json_object_get(endpoint, "scaling")));
    json_object_set_new(endpoint, "cache", cache_of(json_object_get(endpoint, "options"), package));
    json_object_set_new(endpoint, "batch", batch_of(json_object_get(endpoint, "options"), package));
    json_set_time_ms(endpoint, "created_at", db_int(rows, 11));
    json_set_string(endpoint, "created_by", db_text(rows, 12));
    return steal_ptr(endpoint);
}

json_t *endpoint_describe(struct db_tx *tx, const char *project, const char *name, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error, ENDPOINT_SELECT "WHERE e.name = ?1 AND (?2 IS NULL OR e.project = ?2)", "ss", name,
                 project) < 0)
        return NULL;
    r = db_next(&rows, error);
    if (r == 0)
        error_set(error, ERROR_NOT_FOUND, "there is no endpoint '%.80s'%s%s", name, project ? " in project " : "",
                  project ? project : "");
    return r > 0 ? read_endpoint(&rows, error) : NULL;
}

json_t *endpoint_list(struct db_tx *tx, const char *project, const char *after, int limit, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *endpoints = json_array();
    int r;

    if (db_query(tx, &rows, error,
                 ENDPOINT_SELECT "WHERE (?1 IS NULL OR e.project = ?1) AND (?2 IS NULL OR e.name > ?2) "
                                 "ORDER BY e.name LIMIT ?3",
                 "ssi", project, after, (int64_t)limit) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        json_t *endpoint = read_endpoint(&rows, error);

        if (!endpoint)
            return NULL;
        json_array_append_new(endpoints, endpoint);
    }
    return r < 0 ? NULL : steal_ptr(endpoints);
}

#define DEPLOYMENT_SELECT                                                                                              \
    "SELECT d.id, e.name, d.kind, d.version, d.previous, d.state, d.message, d.actor, d.created_at, d.ready_at, "      \
    "d.switched_at, d.switch_us, d.ended_at, d.options, d.decision, d.problem "                                        \
    "FROM deployments d JOIN endpoints e ON e.id = d.endpoint "

static void set_time_or_null(json_t *object, const char *key, struct db_rows *rows, int column)
{
    json_set_time_ms(object, key, db_is_null(rows, column) ? 0 : db_int(rows, column));
}

static json_t *read_deployment(struct db_rows *rows, struct error *error)
{
    cleanup_json json_t *options = json_or_null(rows, 13, error);
    cleanup_json json_t *decision = options ? json_or_null(rows, 14, error) : NULL;
    json_t *d;

    if (!decision)
        return NULL;
    d = json_build("{s:I, s:s, s:s, s:I, s:s, s:s?, s:s, s:O, s:O, s:s?}", "id", (json_int_t)db_int(rows, 0),
                   "endpoint", db_text(rows, 1), "kind", db_text(rows, 2), "version", (json_int_t)db_int(rows, 3),
                   "state", db_text(rows, 5), "message", db_text(rows, 6), "actor", db_text(rows, 7), "options",
                   options, "decision", decision, "problem", db_text(rows, 15));
    json_object_set_new(d, "previous", db_is_null(rows, 4) ? json_null() : json_integer(db_int(rows, 4)));
    set_time_or_null(d, "created_at", rows, 8);
    set_time_or_null(d, "ready_at", rows, 9);
    set_time_or_null(d, "switched_at", rows, 10);
    set_time_or_null(d, "ended_at", rows, 12);
    json_object_set_new(d, "switch_us", db_is_null(rows, 11) ? json_null() : json_integer(db_int(rows, 11)));
    return d;
}

json_t *endpoint_deployments(struct db_tx *tx, const char *project, const char *name, int64_t before, int limit,
                             struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *deployments = json_array(), *endpoint = endpoint_describe(tx, project, name, error);
    int r;

    if (!endpoint ||
        db_query(tx, &rows, error,
                 DEPLOYMENT_SELECT "WHERE e.name = ?1 AND (?2 = 0 OR d.id < ?2) ORDER BY d.id DESC LIMIT ?3", "sii",
                 name, before, (int64_t)limit) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        json_t *deployment = read_deployment(&rows, error);

        if (!deployment)
            return NULL;
        json_array_append_new(deployments, deployment);
    }
    return r < 0 ? NULL : steal_ptr(deployments);
}

json_t *endpoint_deployment(struct db_tx *tx, const char *project, int64_t id, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error, DEPLOYMENT_SELECT "WHERE d.id = ?1 AND (?2 IS NULL OR e.project = ?2)", "is", id,
                 project) < 0)
        return NULL;
    r = db_next(&rows, error);
    if (r == 0)
        error_set(error, ERROR_NOT_FOUND, "there is no deployment %lld", (long long)id);
    return r > 0 ? read_deployment(&rows, error) : NULL;
}
