#include <math.h>
#include <string.h>
#include "core/endpoint-private.h"
#include "core/package.h"
#include "store/journal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

static const struct state_row replica_rows[] = {
    [REPLICA_STARTING] = {"starting", STATE_BIT(REPLICA_WARMING) | STATE_BIT(REPLICA_READY) |
                                          STATE_BIT(REPLICA_DRAINING) | STATE_BIT(REPLICA_STOPPED) |
                                          STATE_BIT(REPLICA_FAILED)},
    [REPLICA_WARMING] = {"warming", STATE_BIT(REPLICA_READY) | STATE_BIT(REPLICA_STARTING) |
                                        STATE_BIT(REPLICA_DRAINING) | STATE_BIT(REPLICA_STOPPED) |
                                        STATE_BIT(REPLICA_FAILED)},
    [REPLICA_READY] = {"ready", STATE_BIT(REPLICA_DRAINING) | STATE_BIT(REPLICA_STARTING) | STATE_BIT(REPLICA_STOPPED) |
                                    STATE_BIT(REPLICA_FAILED)},
    [REPLICA_DRAINING] = {"draining", STATE_BIT(REPLICA_STOPPED) | STATE_BIT(REPLICA_FAILED)},
    [REPLICA_STOPPED] = {"stopped", 0},
    [REPLICA_FAILED] = {"failed", 0},
};
const struct state_machine replica_states = {"replica", replica_rows, ARRAY_SIZE(replica_rows)};
_Static_assert(ARRAY_SIZE(replica_rows) == REPLICA_STATE_COUNT_, "a row for each state");

void endpoint_row_release(struct endpoint_row *e)
{
    free(e->project);
    free(e->name);
    free(e->model_name);
    free(e->follow);
}

int endpoint_row_load(struct db_tx *tx, const char *project, const char *name, struct endpoint_row *ret,
                      struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT e.id, e.model, e.project, e.name, m.name, e.follow FROM endpoints e "
                 "JOIN models m ON m.id = e.model WHERE e.name = ?1 AND (?2 IS NULL OR e.project = ?2) "
                 "AND e.desired = 'serving'",
                 "ss", name, project) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r == 0)
        return error_set(error, ERROR_NOT_FOUND, "there is no endpoint '%.80s'%s%s", name,
                         project ? " in project " : "", project ? project : "");
    if (r < 0)
        return -1;
    *ret = (struct endpoint_row){
        .id = db_int(&rows, 0),
        .model = db_int(&rows, 1),
        .project = xstrdup(db_text(&rows, 2)),
        .name = xstrdup(db_text(&rows, 3)),
        .model_name = xstrdup(db_text(&rows, 4)),
        .follow = xstrdup_null(db_text(&rows, 5)),
    };
    return 0;
}

int endpoint_announce(struct db_tx *tx, const char *type, const struct endpoint_row *e, const char *actor, json_t *data,
                      struct error *error)
{
    cleanup_json json_t *owned = data;
    cleanup_free char *subject = xasprintf("endpoint/%s", e->name);
    const struct journal_event event = {
        .type = type, .subject = subject, .project = e->project, .actor = actor, .data = data};

    return journal_append(tx, &event, NULL, error);
}

/* -- desired state -- */

int endpoint_role(struct db_tx *tx, int64_t endpoint, const char *role, int64_t *ret_version, struct error *error)
{
    return db_query_int(tx, ret_version, error,
                        "SELECT ifnull((SELECT version FROM endpoint_routes WHERE endpoint = ? AND role = ?), 0)", "is",
                        endpoint, role);
}

int endpoint_set_role(struct db_tx *tx, int64_t endpoint, int64_t version, const char *role, double weight,
                      struct error *error)
{
    return db_exec(tx, error,
                   "INSERT INTO endpoint_routes (endpoint, version, role, weight) VALUES (?, ?, ?, ?) "
                   "ON CONFLICT (endpoint, version) DO UPDATE SET role = excluded.role, weight = excluded.weight",
                   "iisd", endpoint, version, role, weight);
}

int endpoint_version_number(struct db_tx *tx, int64_t version, int64_t *ret_number, struct error *error)
{
    return db_query_int(tx, ret_number, error, "SELECT ifnull((SELECT number FROM model_versions WHERE id = ?), 0)",
                        "i", version);
}

bool endpoint_is_trial(const char *kind)
{
    return strcmp(kind, "canary") == 0 || strcmp(kind, "shadow") == 0;
}

int endpoint_end_trial(struct db_tx *tx, int64_t endpoint, const char *role, struct error *error)
{
    if (db_exec(tx, error,
                "UPDATE endpoint_routes SET role = 'standby', weight = 0 WHERE endpoint = ?1 AND role = ?2 "
                "AND NOT EXISTS (SELECT 1 FROM endpoint_routes WHERE endpoint = ?1 AND role = 'standby') "
                "AND (SELECT was FROM deployments WHERE endpoint = ?1 AND kind = ?2 ORDER BY id DESC LIMIT 1) = "
                "'standby'",
                "is", endpoint, role) < 0 ||
        db_exec(tx, error, "DELETE FROM endpoint_routes WHERE endpoint = ? AND role = ?", "is", endpoint, role) < 0)
        return -1;
    if (strcmp(role, "canary") != 0)
        return 0;
    return db_exec(tx, error, "UPDATE endpoint_routes SET weight = 100 WHERE endpoint = ? AND role = 'live'", "i",
                   endpoint);
}

int endpoint_supersede(struct db_tx *tx, int64_t endpoint, struct error *error)
{
    if (endpoint_end_trial(tx, endpoint, "canary", error) < 0 ||
        db_exec(tx, error,
                "UPDATE deployments SET state = 'superseded', ended_at = ? WHERE endpoint = ? AND kind != 'shadow' "
                "AND state IN ('pending', 'running')",
                "ii", clock_wall_ms(), endpoint) < 0)
        return -1;
    return db_exec(tx, error, "DELETE FROM endpoint_routes WHERE endpoint = ? AND role = 'next'", "i", endpoint);
}

int endpoint_add_deployment(struct db_tx *tx, int64_t endpoint, const char *kind, int64_t number, int64_t previous,
                            const char *actor, int64_t *ret_id, struct error *error)
{
    if (db_exec(tx, error,
                "INSERT INTO deployments (endpoint, kind, version, previous, state, actor, created_at) "
                "VALUES (?, ?, ?, nullif(?, 0), 'pending', ?, ?)",
                "isiisi", endpoint, kind, number, previous, actor ? actor : "system", clock_wall_ms()) < 0)
        return -1;
    *ret_id = db_last_id(tx);
    return 0;
}

static json_t *options_json(const struct endpoint_options *o)
{
    json_t *json = json_build("{s:I, s:I, s:b, s:f, s:I, s:I}", "timeout_ms", (json_int_t)o->timeout_ms, "queue",
                              (json_int_t)o->queue, "public", o->is_public, "cpus", o->cpus, "memory",
                              (json_int_t)o->memory, "concurrency", (json_int_t)o->concurrency);

    if (*o->sticky)
        json_set_string(json, "sticky", o->sticky);
    if (o->rate_per_second > 0) {
        json_set_number(json, "rate_per_second", o->rate_per_second);
        json_set_number(json, "rate_burst", o->rate_burst);
    }
    json_set_int(json, "cache", (int64_t)o->cache);
    json_set_number(json, "log_sample", o->log_sample);
    json_set_int(json, "log_body", (int64_t)o->log_body);
    json_set_int(json, "batch_size", o->batch_size);
    if (o->batch_delay_us >= 0)
        json_set_number(json, "batch_delay_ms", (double)o->batch_delay_us / 1000);
    if (!endpoint_options_scale(o)) {
        json_set_int(json, "replicas", o->min_replicas);
        return json;
    }
    json_set_int(json, "min_replicas", o->min_replicas);
    json_set_int(json, "max_replicas", o->max_replicas);
    json_set_int(json, "scale_queue_time_ms", o->scale_queue_time_ms);
    json_set_int(json, "scale_down_after_ms", o->scale_down_after_ms);
    json_set_int(json, "idle_ms", o->idle_ms);
    return json;
}

bool endpoint_options_scale(const struct endpoint_options *o)
{
    return o->min_replicas != o->max_replicas;
}

int endpoint_options_check(const struct endpoint_options *o, struct error *error)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

    if (o->sticky[strspn(o->sticky, token)])
        return error_set(error, ERROR_INVALID, "'%s' is not the name of a header", o->sticky);
    if (o->min_replicas > o->max_replicas)
        return error_set(error, ERROR_INVALID, "min_replicas is %lld, but max_replicas %lld",
                         (long long)o->min_replicas, (long long)o->max_replicas);
    if (o->rate_burst > 0 && o->rate_per_second <= 0)
        return error_set(error, ERROR_INVALID, "rate_burst is of a rate, and there is no rate_per_second");
    if (o->rate_burst > 0 && o->rate_burst < 1)
        return error_set(error, ERROR_INVALID, "rate_burst is at least 1, or 0 for as many as in a second");
    if (o->rate_per_second > 0 && o->rate_per_second < 0.001)
        return error_set(error, ERROR_INVALID, "rate_per_second is at least 0.001, or 0 for no limit");
    return 0;
}

void endpoint_options_read(const json_t *json, struct endpoint_options *ret)
{
    const struct endpoint_options defaults = ENDPOINT_OPTIONS_INIT;
    int64_t replicas = json_get_int(json, "replicas", 1);

    ret->timeout_ms = json_get_int(json, "timeout_ms", defaults.timeout_ms);
    ret->queue = json_get_int(json, "queue", defaults.queue);
    ret->min_replicas = json_get_int(json, "min_replicas", replicas);
    ret->max_replicas = json_get_int(json, "max_replicas", ret->min_replicas > replicas ? ret->min_replicas : replicas);
    ret->scale_queue_time_ms = json_get_int(json, "scale_queue_time_ms", defaults.scale_queue_time_ms);
    ret->scale_down_after_ms = json_get_int(json, "scale_down_after_ms", defaults.scale_down_after_ms);
    ret->idle_ms = json_get_int(json, "idle_ms", defaults.idle_ms);
    ret->is_public = json_get_bool(json, "public", false);
    ret->cpus = json_get_number(json, "cpus", 0);
    ret->memory = (uint64_t)json_get_int(json, "memory", 0);
    ret->concurrency = json_get_int(json, "concurrency", 0);
    snprintf(ret->sticky, sizeof(ret->sticky), "%s", json_get_string(json, "sticky", ""));
    ret->rate_per_second = json_get_number(json, "rate_per_second", 0);
    ret->rate_burst = json_get_number(json, "rate_burst", 0);
    ret->cache = (uint64_t)json_get_int(json, "cache", 0);
    ret->log_sample = json_get_number(json, "log_sample", defaults.log_sample);
    ret->log_body = (uint64_t)json_get_int(json, "log_body", (int64_t)defaults.log_body);
    ret->batch_size = json_get_int(json, "batch_size", 0);
    ret->batch_delay_us = llround(json_get_number(json, "batch_delay_ms", -0.001) * 1000);
}

bool endpoint_batch(const struct endpoint_options *options, const json_t *package, int64_t *ret_size,
                    int64_t *ret_delay_us)
{
    if (!package_batch(package, ret_size, ret_delay_us))
        return false;
    if (options->batch_size)
        *ret_size = options->batch_size;
    if (options->batch_delay_us >= 0)
        *ret_delay_us = options->batch_delay_us;
    return *ret_size > 1;
}

/* The name may be taken in a project that the caller cannot see; that much it is told. */
static int check_free(struct db_tx *tx, const char *name, struct error *error)
{
    int64_t count;

    if (db_query_int(tx, &count, error, "SELECT count(*) FROM endpoints WHERE name = ?", "s", name) < 0)
        return -1;
    if (count)
        return error_set(error, ERROR_EXISTS,
                         "an endpoint '%s' exists already (names are shared by all projects, as "
                         "they are part of a URL), or is just being removed",
                         name);
    if (db_query_int(tx, &count, error, "SELECT count(*) FROM endpoints", "") < 0)
        return -1;
    if (count >= LIMIT_ENDPOINTS)
        return error_set(error, ERROR_TOO_LARGE, "there are %d endpoints; more are not possible", LIMIT_ENDPOINTS);
    return 0;
}

int endpoint_create(struct db_tx *tx, const char *project, const char *name, const struct model_version *version,
                    const struct endpoint_options *options, const char *actor, int64_t *ret_deployment,
                    struct error *error)
{
    cleanup_json json_t *json = options_json(options);
    struct endpoint_row e = {.project = (char *)project, .name = (char *)name};

    if (parse_name(name, "endpoint", error) < 0 || endpoint_options_check(options, error) < 0 ||
        check_free(tx, name, error) < 0)
        return -1;
    if (db_exec(tx, error,
                "INSERT INTO endpoints (project, name, model, follow, options, desired, created_at, created_by) "
                "VALUES (?, ?, ?, ?, ?, 'serving', ?, ?)",
                "ssisjis", project, name, version->model_id, version->alias, json, clock_wall_ms(),
                actor ? actor : "system") < 0)
        return -1;
    e.id = db_last_id(tx);
    if (endpoint_set_role(tx, e.id, version->id, "next", 0, error) < 0 ||
        endpoint_add_deployment(tx, e.id, "deploy", version->number, 0, actor, ret_deployment, error) < 0)
        return -1;
    return endpoint_announce(tx, "slipway.endpoint.created", &e, actor,
                             json_build("{s:s, s:I, s:s, s:s?}", "model", version->model, "version",
                                        (json_int_t)version->number, "code_weights", version->code_weights, "follow",
                                        version->alias),
                             error);
}

/* The stored options with the changes in them. Both ways to say how many replicas there are stand for each other. */
static int merge_options(struct db_tx *tx, int64_t endpoint, const json_t *changes, json_t **ret, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *json = NULL;

    if (db_query(tx, &rows, error, "SELECT options FROM endpoints WHERE id = ?", "i", endpoint) < 0 ||
        db_next(&rows, error) <= 0 || !(json = db_json(&rows, 0, error)))
        return -1;
    if (json_object_get(changes, "replicas")) {
        json_object_del(json, "min_replicas");
        json_object_del(json, "max_replicas");
    } else if (json_object_get(changes, "min_replicas") || json_object_get(changes, "max_replicas")) {
        struct endpoint_options before;

        endpoint_options_read(json, &before);
        json_object_del(json, "replicas");
        json_set_int(json, "min_replicas", before.min_replicas);
        json_set_int(json, "max_replicas", before.max_replicas);
    }
    json_object_update(json, (json_t *)changes);
    *ret = steal_ptr(json);
    return 0;
}

int endpoint_set_options(struct db_tx *tx, const char *project, const char *name, const json_t *changes,
                         const char *actor, struct error *error)
{
    cleanup_endpoint_row struct endpoint_row e = {0};
    cleanup_json json_t *merged = NULL, *json = NULL;
    struct endpoint_options options;

    if (endpoint_row_load(tx, project, name, &e, error) < 0 || merge_options(tx, e.id, changes, &merged, error) < 0)
        return -1;
    endpoint_options_read(merged, &options);
    json = options_json(&options);
    if (endpoint_options_check(&options, error) < 0 ||
        db_exec(tx, error, "UPDATE endpoints SET options = ? WHERE id = ?", "ji", json, e.id) < 0)
        return -1;
    return endpoint_announce(tx, "slipway.endpoint.changed", &e, actor, json_build("{s:O}", "options", json), error);
}

/* It is live, or on its way: the deployment that made or makes it so. */
static int deploy_again(struct db_tx *tx, int64_t endpoint, const struct model_version *version, const char *kind,
                        int64_t *ret_deployment, struct error *error)
{
    if (db_query_int(tx, ret_deployment, error,
                     "SELECT max(id) FROM deployments WHERE endpoint = ? AND version = ? "
                     "AND kind IN ('deploy', 'follow', 'rollback', 'promote') AND state IN ('pending', 'live')",
                     "ii", endpoint, version->number) < 0)
        return -1;
    if (strcmp(kind, "deploy") != 0)
        return 0;
    return db_exec(tx, error, "UPDATE endpoints SET follow = ? WHERE id = ?", "si", version->alias, endpoint);
}

int endpoint_deploy(struct db_tx *tx, const char *project, const char *name, const struct model_version *version,
                    const char *kind, const char *actor, int64_t *ret_deployment, struct error *error)
{
    cleanup_endpoint_row struct endpoint_row e = {0};
    int64_t live, next, canary, shadow, previous;

    if (endpoint_row_load(tx, project, name, &e, error) < 0)
        return -1;
    if (version->model_id != e.model)
        return error_set(error, ERROR_INVALID, "endpoint %s serves %s, not %s", name, e.model_name, version->model);
    if (endpoint_role(tx, e.id, "live", &live, error) < 0 || endpoint_role(tx, e.id, "next", &next, error) < 0 ||
        endpoint_role(tx, e.id, "canary", &canary, error) < 0 || endpoint_role(tx, e.id, "shadow", &shadow, error) < 0)
        return -1;
    if (next == version->id || (live == version->id && !next && !canary))
        return deploy_again(tx, e.id, version, kind, ret_deployment, error);
    if (endpoint_version_number(tx, live, &previous, error) < 0 || endpoint_supersede(tx, e.id, error) < 0)
        return -1;
    if (shadow == version->id &&
        db_exec(tx, error,
                "UPDATE deployments SET state = 'superseded', ended_at = ? WHERE endpoint = ? AND kind = 'shadow' "
                "AND state IN ('pending', 'running')",
                "ii", clock_wall_ms(), e.id) < 0)
        return -1;
    /* Back to what is live while another was being deployed: the swap is one of a version with itself. */
    if (live != version->id && endpoint_set_role(tx, e.id, version->id, "next", 0, error) < 0)
        return -1;
    if (endpoint_add_deployment(tx, e.id, kind, version->number, previous, actor, ret_deployment, error) < 0)
        return -1;
    /* Deployed by number, it does not follow any more; by an alias, it follows that one. */
    if (strcmp(kind, "deploy") == 0 &&
        db_exec(tx, error, "UPDATE endpoints SET follow = ? WHERE id = ?", "si", version->alias, e.id) < 0)
        return -1;
    return endpoint_announce(tx, "slipway.endpoint.deploying", &e, actor,
                             json_build("{s:s, s:I, s:I, s:s, s:s?}", "kind", kind, "deployment",
                                        (json_int_t)*ret_deployment, "version", (json_int_t)version->number,
                                        "code_weights", version->code_weights, "follow", version->alias),
                             error);
}

int endpoint_rollback(struct db_tx *tx, const char *project, const char *name, const char *actor,
                      int64_t *ret_deployment, struct error *error)
{
    cleanup_model_version struct model_version back = MODEL_VERSION_INIT;
    cleanup_endpoint_row struct endpoint_row e = {0};
    int64_t live, standby, canary, previous;

    if (endpoint_row_load(tx, project, name, &e, error) < 0 || endpoint_role(tx, e.id, "live", &live, error) < 0 ||
        endpoint_role(tx, e.id, "standby", &standby, error) < 0 ||
        endpoint_role(tx, e.id, "canary", &canary, error) < 0)
        return -1;
    if (canary)
        return endpoint_abort(tx, project, name, "canary", NULL, NULL, actor, ret_deployment, error);
    if (!live || !standby)
        return error_set(error, ERROR_CONFLICT, "endpoint %s has no earlier version to go back to", name);
    if (model_resolve_id(tx, standby, &back, error) < 0 || endpoint_version_number(tx, live, &previous, error) < 0 ||
        endpoint_supersede(tx, e.id, error) < 0 || endpoint_set_role(tx, e.id, standby, "live", 100, error) < 0 ||
        endpoint_set_role(tx, e.id, live, "standby", 0, error) < 0 ||
        endpoint_add_deployment(tx, e.id, "rollback", back.number, previous, actor, ret_deployment, error) < 0)
        return -1;
    if (e.follow && model_promote(tx, &back, e.follow, "endpoint_rollback", actor, error) < 0)
        return -1;
    return endpoint_announce(tx, "slipway.endpoint.rolled_back", &e, actor,
                             json_build("{s:I, s:I, s:s, s:I}", "deployment", (json_int_t)*ret_deployment, "version",
                                        (json_int_t)back.number, "code_weights", back.code_weights, "previous",
                                        (json_int_t)previous),
                             error);
}

int endpoint_remove(struct db_tx *tx, const char *project, const char *name, const char *actor, struct error *error)
{
    cleanup_endpoint_row struct endpoint_row e = {0};

    if (endpoint_row_load(tx, project, name, &e, error) < 0 || endpoint_supersede(tx, e.id, error) < 0 ||
        db_exec(tx, error, "UPDATE endpoints SET desired = 'removed' WHERE id = ?", "i", e.id) < 0 ||
        db_exec(tx, error, "DELETE FROM endpoint_routes WHERE endpoint = ?", "i", e.id) < 0)
        return -1;
    return endpoint_announce(tx, "slipway.endpoint.removed", &e, actor, NULL, error);
}

int endpoint_delete(struct db_tx *tx, int64_t id, struct error *error)
{
    return db_exec(tx, error, "DELETE FROM endpoints WHERE id = ? AND desired = 'removed'", "i", id);
}

/* -- a deployment's way -- */

#define KIND_SIZE 16

static int load_deployment(struct db_tx *tx, int64_t deployment, struct endpoint_row *ret, int64_t *ret_number,
                           char ret_kind[KIND_SIZE], struct error *error)
{
    cleanup_free char *name = NULL;

    {
        cleanup_rows struct db_rows rows = DB_ROWS_INIT;
        int r;

        if (db_query(tx, &rows, error,
                     "SELECT e.name, d.version, d.kind FROM deployments d JOIN endpoints e ON e.id = d.endpoint "
                     "WHERE d.id = ? AND d.state = 'pending'",
                     "i", deployment) < 0)
            return -1;
        r = db_next(&rows, error);
        if (r == 0)
            return error_set(error, ERROR_CONFLICT, "deployment %lld is not pending any more", (long long)deployment);
        if (r < 0)
            return -1;
        name = xstrdup(db_text(&rows, 0));
        *ret_number = db_int(&rows, 1);
        snprintf(ret_kind, KIND_SIZE, "%s", db_text(&rows, 2));
    }
    return endpoint_row_load(tx, NULL, name, ret, error);
}

/* A canary that is ready gets its share, from the live version's. */
static int give_share(struct db_tx *tx, int64_t endpoint, int64_t deployment, struct error *error)
{
    return db_exec(tx, error,
                   "UPDATE endpoint_routes SET weight = CASE role WHEN 'canary' THEN t.share ELSE 100 - t.share END "
                   "FROM (SELECT json_extract(options, '$.share') AS share FROM deployments WHERE id = ?) AS t "
                   "WHERE endpoint = ? AND role IN ('live', 'canary')",
                   "ii", deployment, endpoint);
}

static int swap(struct db_tx *tx, int64_t endpoint, struct error *error)
{
    int64_t live, next;

    if (endpoint_role(tx, endpoint, "live", &live, error) < 0 || endpoint_role(tx, endpoint, "next", &next, error) < 0)
        return -1;
    if (!next)
        return 0;
    if (db_exec(tx, error, "DELETE FROM endpoint_routes WHERE endpoint = ? AND role = 'standby'", "i", endpoint) < 0 ||
        (live && endpoint_set_role(tx, endpoint, live, "standby", 0, error) < 0))
        return -1;
    return endpoint_set_role(tx, endpoint, next, "live", 100, error);
}

int endpoint_switch(struct db_tx *tx, int64_t deployment, struct error *error)
{
    cleanup_endpoint_row struct endpoint_row e = {0};
    char kind[KIND_SIZE];
    int64_t number;
    int r = 0;

    if (load_deployment(tx, deployment, &e, &number, kind, error) < 0)
        return -1;
    if (strcmp(kind, "canary") == 0)
        r = give_share(tx, e.id, deployment, error);
    else if (strcmp(kind, "shadow") != 0)
        r = swap(tx, e.id, error);
    if (r < 0)
        return -1;
    return db_exec(tx, error, "UPDATE deployments SET ready_at = ? WHERE id = ?", "ii", clock_wall_ms(), deployment);
}

int endpoint_switched(struct db_tx *tx, int64_t deployment, int64_t switch_us, struct error *error)
{
    cleanup_endpoint_row struct endpoint_row e = {0};
    char kind[KIND_SIZE];
    int64_t number;

    if (load_deployment(tx, deployment, &e, &number, kind, error) < 0 ||
        db_exec(tx, error,
                "UPDATE deployments SET state = ?1, ready_at = ifnull(ready_at, ?2), switched_at = ?2, "
                "switch_us = ?3 WHERE id = ?4",
                "siii", endpoint_is_trial(kind) ? "running" : "live", clock_wall_ms(), switch_us, deployment) < 0)
        return -1;
    return endpoint_announce(tx, "slipway.endpoint.switched", &e, NULL,
                             json_build("{s:I, s:s, s:I, s:I}", "deployment", (json_int_t)deployment, "kind", kind,
                                        "version", (json_int_t)number, "switch_us", (json_int_t)switch_us),
                             error);
}

int endpoint_deployment_failed(struct db_tx *tx, int64_t deployment, const char *message, struct error *error)
{
    cleanup_endpoint_row struct endpoint_row e = {0};
    char kind[KIND_SIZE];
    int64_t number;
    int r;

    if (load_deployment(tx, deployment, &e, &number, kind, error) < 0)
        return -1;
    r = endpoint_is_trial(kind) ? endpoint_end_trial(tx, e.id, kind, error) : endpoint_supersede(tx, e.id, error);
    if (r < 0 || db_exec(tx, error, "UPDATE deployments SET state = 'failed', message = ?, ended_at = ? WHERE id = ?",
                         "sii", message, clock_wall_ms(), deployment) < 0)
        return -1;
    return endpoint_announce(tx, "slipway.endpoint.deployment_failed", &e, NULL,
                             json_build("{s:I, s:s, s:I, s:s}", "deployment", (json_int_t)deployment, "kind", kind,
                                        "version", (json_int_t)number, "message", message),
                             error);
}

/* -- scaling -- */

int endpoint_scaled(struct db_tx *tx, int64_t endpoint, int64_t version, int64_t wished, const json_t *decision,
                    struct error *error)
{
    cleanup_json json_t *dated = json_copy((json_t *)decision);

    json_set_time_ms(dated, "time", clock_wall_ms());
    if (db_exec(tx, error,
                "INSERT INTO endpoint_scaling (endpoint, version, wished, decision) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (endpoint, version) DO UPDATE SET wished = excluded.wished, decision = excluded.decision",
                "iiij", endpoint, version, wished, dated) < 0)
        return -1;
    return db_exec(tx, error,
                   "DELETE FROM endpoint_scaling WHERE endpoint = ? AND NOT EXISTS (SELECT 1 FROM endpoint_routes r "
                   "WHERE r.endpoint = endpoint_scaling.endpoint AND r.version = endpoint_scaling.version)",
                   "i", endpoint);
}

int endpoint_cold_started(struct db_tx *tx, int64_t endpoint, int64_t version, int64_t ms, struct error *error)
{
    return db_exec(tx, error,
                   "UPDATE endpoint_scaling SET cold_starts = cold_starts + 1, cold_start_ms = ?1, "
                   "cold_total_ms = cold_total_ms + ?1 WHERE endpoint = ?2 AND version = ?3",
                   "iii", ms, endpoint, version);
}

/* -- replicas -- */

int replica_create(struct db_tx *tx, int64_t endpoint, int64_t version, const char *id, const char *secret,
                   struct error *error)
{
    return db_exec(tx, error,
                   "INSERT INTO replicas (id, endpoint, version, secret, state, created_at, updated_at) "
                   "VALUES (?1, ?2, ?3, ?4, 'starting', ?5, ?5)",
                   "siisi", id, endpoint, version, secret, clock_wall_ms());
}

static int announce_replica(struct db_tx *tx, const char *id, enum replica_state state, const char *reason,
                            const char *message, struct error *error)
{
    cleanup_free char *type = xasprintf("slipway.replica.%s", state_name(&replica_states, state));
    cleanup_free char *subject = NULL, *project = NULL;
    cleanup_json json_t *data = NULL;

    {
        cleanup_rows struct db_rows rows = DB_ROWS_INIT;
        int r;

        if (db_query(tx, &rows, error,
                     "SELECT e.name, e.project, v.number FROM replicas r JOIN endpoints e ON e.id = r.endpoint "
                     "JOIN model_versions v ON v.id = r.version WHERE r.id = ?",
                     "s", id) < 0)
            return -1;
        r = db_next(&rows, error);
        if (r <= 0)
            return r < 0 ? -1 : error_set(error, ERROR_NOT_FOUND, "there is no replica %s", id);
        subject = xasprintf("endpoint/%s", db_text(&rows, 0));
        project = xstrdup(db_text(&rows, 1));
        data = json_build("{s:s, s:I, s:s?, s:s?}", "replica", id, "version", (json_int_t)db_int(&rows, 2), "reason",
                          reason, "message", message);
    }
    const struct journal_event event = {.type = type, .subject = subject, .project = project, .data = data};
    return journal_append(tx, &event, NULL, error);
}

int replica_set_state(struct db_tx *tx, const char *id, enum replica_state state, const char *reason,
                      const char *message, struct error *error)
{
    int present;

    {
        cleanup_rows struct db_rows rows = DB_ROWS_INIT;
        int r;

        if (db_query(tx, &rows, error, "SELECT state FROM replicas WHERE id = ?", "s", id) < 0)
            return -1;
        r = db_next(&rows, error);
        if (r <= 0)
            return r < 0 ? -1 : error_set(error, ERROR_NOT_FOUND, "there is no replica %s", id);
        present = state_parse(&replica_states, db_text(&rows, 0), error);
        if (present < 0)
            return -1;
    }
    if (present == (int)state)
        return 0;
    if (state_check(&replica_states, present, state, error) < 0 ||
        db_exec(tx, error, "UPDATE replicas SET state = ?, reason = ?, message = ?, updated_at = ? WHERE id = ?",
                "sssis", state_name(&replica_states, state), reason, message, clock_wall_ms(), id) < 0)
        return -1;
    return announce_replica(tx, id, state, reason, message, error);
}

int replica_delete(struct db_tx *tx, const char *id, struct error *error)
{
    return db_exec(tx, error, "DELETE FROM replicas WHERE id = ?", "s", id);
}
