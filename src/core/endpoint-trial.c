/* Versions beside the live one: canaries and shadows, their shares, and how they end; see endpoint.h. */
#include <math.h>
#include <string.h>
#include "core/endpoint-private.h"
#include "core/traffic.h"
#include "store/journal.h"
#include "util/clock.h"
#include "util/xalloc.h"

#define SHARE_ERROR 0.01 /* per cent by which a sum of shares may miss 100 */

static int role_of(struct db_tx *tx, int64_t endpoint, int64_t version, char **ret_role, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error, "SELECT role FROM endpoint_routes WHERE endpoint = ? AND version = ?", "ii",
                 endpoint, version) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r > 0)
        *ret_role = xstrdup(db_text(&rows, 0));
    return r;
}

/* The newest deployment of a canary or shadow in one of the states, "pending running" say; 0: there is none. */
static int trial_of(struct db_tx *tx, int64_t endpoint, const char *kind, const char *states, int64_t *ret_id,
                    struct error *error)
{
    return db_query_int(tx, ret_id, error,
                        "SELECT ifnull((SELECT max(id) FROM deployments WHERE endpoint = ?1 AND kind = ?2 "
                        "AND instr(?3, state)), 0)",
                        "iss", endpoint, kind, states);
}

static int close_trial(struct db_tx *tx, int64_t deployment, const char *state, const char *message, json_t *decision,
                       struct error *error)
{
    return db_exec(tx, error, "UPDATE deployments SET state = ?, message = ?, decision = ?, ended_at = ? WHERE id = ?",
                   "ssjii", state, message, decision, clock_wall_ms(), deployment);
}

/* A shadow that another one, or a canary of the same version, replaces. */
static int supersede_shadow(struct db_tx *tx, int64_t endpoint, struct error *error)
{
    int64_t shadow;

    if (trial_of(tx, endpoint, "shadow", "pending running", &shadow, error) < 0)
        return -1;
    if (!shadow)
        return 0;
    return endpoint_end_trial(tx, endpoint, "shadow", error) < 0
               ? -1
               : close_trial(tx, shadow, "superseded", NULL, NULL, error);
}

/* Makes room for the version in its new role. */
static int make_room(struct db_tx *tx, const struct endpoint_row *e, int64_t version, const char *kind, char **ret_was,
                     struct error *error)
{
    cleanup_free char *role = NULL, *was = NULL;

    if (role_of(tx, e->id, version, &role, error) < 0)
        return -1;
    if (role && strcmp(role, "live") == 0)
        return error_set(error, ERROR_CONFLICT, "the version is live already");
    if (role && strcmp(kind, "shadow") == 0 && (strcmp(role, "canary") == 0 || strcmp(role, "next") == 0))
        return error_set(error, ERROR_CONFLICT, "the version is the endpoint's %s",
                         strcmp(role, "next") == 0 ? "next live one" : "canary");
    if (strcmp(kind, "shadow") == 0 || (role && strcmp(role, "shadow") == 0)) {
        if (supersede_shadow(tx, e->id, error) < 0)
            return -1;
    }
    if (strcmp(kind, "canary") == 0 && endpoint_supersede(tx, e->id, error) < 0)
        return -1;
    /* What ended may have become the standby again. */
    if (role_of(tx, e->id, version, &was, error) < 0)
        return -1;
    *ret_was = steal_ptr(was);
    return 0;
}

int endpoint_try(struct db_tx *tx, const char *project, const char *name, const struct model_version *version,
                 const char *kind, json_t *options, const char *actor, int64_t *ret_deployment, struct error *error)
{
    cleanup_endpoint_row struct endpoint_row e = {0};
    cleanup_free char *was = NULL;
    int64_t live, previous;

    if (endpoint_row_load(tx, project, name, &e, error) < 0)
        return -1;
    if (version->model_id != e.model)
        return error_set(error, ERROR_INVALID, "endpoint %s serves %s, not %s", name, e.model_name, version->model);
    if (endpoint_role(tx, e.id, "live", &live, error) < 0)
        return -1;
    if (!live)
        return error_set(error, ERROR_CONFLICT, "endpoint %s has no live version yet that a %s could stand beside",
                         name, kind);
    if (make_room(tx, &e, version->id, kind, &was, error) < 0)
        return error_wrap(error, "%s %lld of endpoint %s", kind, (long long)version->number, name);
    if (endpoint_version_number(tx, live, &previous, error) < 0 ||
        endpoint_set_role(tx, e.id, version->id, kind, 0, error) < 0 ||
        endpoint_add_deployment(tx, e.id, kind, version->number, previous, actor, ret_deployment, error) < 0 ||
        db_exec(tx, error, "UPDATE deployments SET options = ?, was = ? WHERE id = ?", "jsi", options, was,
                *ret_deployment) < 0)
        return -1;
    return endpoint_announce(tx, "slipway.endpoint.deploying", &e, actor,
                             json_build("{s:s, s:I, s:I, s:s, s:O}", "kind", kind, "deployment",
                                        (json_int_t)*ret_deployment, "version", (json_int_t)version->number,
                                        "code_weights", version->code_weights, "options", options),
                             error);
}

/* -- shares -- */

/* It must be able to answer. */
static int check_ready(struct db_tx *tx, int64_t endpoint, int64_t version, struct error *error)
{
    int64_t ready, number;

    if (db_query_int(tx, &ready, error,
                     "SELECT count(*) FROM replicas WHERE endpoint = ? AND version = ? AND state = 'ready'", "ii",
                     endpoint, version) < 0 ||
        endpoint_version_number(tx, version, &number, error) < 0)
        return -1;
    return ready ? 0
                 : error_set(error, ERROR_CONFLICT, "version %lld is not loaded and warm: no replica of it is ready",
                             (long long)number);
}

/* The canary and its deployment, which must be in force. */
static int running_trial(struct db_tx *tx, const struct endpoint_row *e, const char *kind, int64_t *ret_version,
                         int64_t *ret_deployment, struct error *error)
{
    if (endpoint_role(tx, e->id, kind, ret_version, error) < 0 ||
        trial_of(tx, e->id, kind, "running", ret_deployment, error) < 0)
        return -1;
    if (!*ret_version)
        return error_set(error, ERROR_CONFLICT, "endpoint %s has no %s", e->name, kind);
    if (!*ret_deployment)
        return error_set(error, ERROR_CONFLICT, "the %s of endpoint %s is still being loaded", kind, e->name);
    return 0;
}

/* The canary's share that the list asks for. */
static int wished_share(struct db_tx *tx, const struct endpoint_share *shares, size_t n, int64_t live, int64_t canary,
                        double *ret_share, struct error *error)
{
    double sum = 0, share = -1;

    for (size_t i = 0; i < n; i++) {
        int64_t number;

        if (shares[i].version != live && shares[i].version != canary) {
            if (endpoint_version_number(tx, shares[i].version, &number, error) < 0)
                return -1;
            return error_set(error, ERROR_CONFLICT, "version %lld is neither live nor the canary", (long long)number);
        }
        sum += shares[i].share;
        if (shares[i].version == canary)
            share = shares[i].share;
        else if (n == 1)
            share = 100 - shares[i].share;
    }
    if (n == 1)
        sum = 100;
    if (n == 0 || n > 2 || share < 0 || fabs(sum - 100) > SHARE_ERROR)
        return error_set(error, ERROR_INVALID, "the shares of the live version and the canary must add up to 100 %%");
    *ret_share = share;
    return 0;
}

int endpoint_set_shares(struct db_tx *tx, const char *project, const char *name, const struct endpoint_share *shares,
                        size_t n_shares, const char *actor, int64_t *ret_deployment, struct error *error)
{
    cleanup_endpoint_row struct endpoint_row e = {0};
    int64_t live, canary, trial, number, canary_number, more;
    double share = 0;

    if (endpoint_row_load(tx, project, name, &e, error) < 0 ||
        running_trial(tx, &e, "canary", &canary, &trial, error) < 0 ||
        endpoint_role(tx, e.id, "live", &live, error) < 0 ||
        wished_share(tx, shares, n_shares, live, canary, &share, error) < 0 ||
        db_query_int(tx, &more, error,
                     "SELECT count(*) FROM endpoint_routes WHERE endpoint = ? AND version = ? AND weight < ?", "iid",
                     e.id, canary, share) < 0 ||
        check_ready(tx, e.id, more ? canary : live, error) < 0 ||
        endpoint_set_role(tx, e.id, canary, "canary", share, error) < 0 ||
        endpoint_set_role(tx, e.id, live, "live", 100 - share, error) < 0 ||
        endpoint_version_number(tx, live, &number, error) < 0 ||
        endpoint_version_number(tx, canary, &canary_number, error) < 0 ||
        endpoint_add_deployment(tx, e.id, "traffic", number, canary_number, actor, ret_deployment, error) < 0)
        return -1;
    return endpoint_announce(tx, "slipway.endpoint.traffic", &e, actor,
                             json_build("{s:I, s:I, s:I, s:f}", "deployment", (json_int_t)*ret_deployment, "live",
                                        (json_int_t)number, "canary", (json_int_t)canary_number, "share", share),
                             error);
}

/* -- ends -- */

int endpoint_promote(struct db_tx *tx, const char *project, const char *name, const char *kind, json_t *decision,
                     const char *actor, int64_t *ret_deployment, struct error *error)
{
    cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
    cleanup_endpoint_row struct endpoint_row e = {0};
    int64_t live, trial_version, trial, previous;

    if (endpoint_row_load(tx, project, name, &e, error) < 0 ||
        running_trial(tx, &e, kind, &trial_version, &trial, error) < 0 ||
        check_ready(tx, e.id, trial_version, error) < 0 || endpoint_role(tx, e.id, "live", &live, error) < 0 ||
        endpoint_version_number(tx, live, &previous, error) < 0 ||
        model_resolve_id(tx, trial_version, &version, error) < 0 ||
        close_trial(tx, trial, "promoted", NULL, decision, error) < 0 ||
        db_exec(tx, error, "DELETE FROM endpoint_routes WHERE endpoint = ? AND role = 'standby'", "i", e.id) < 0 ||
        endpoint_set_role(tx, e.id, live, "standby", 0, error) < 0 ||
        endpoint_set_role(tx, e.id, trial_version, "live", 100, error) < 0 || endpoint_supersede(tx, e.id, error) < 0 ||
        endpoint_add_deployment(tx, e.id, "promote", version.number, previous, actor, ret_deployment, error) < 0)
        return -1;
    if (e.follow && model_promote(tx, &version, e.follow, "canary_promoted", actor, error) < 0)
        return -1;
    return endpoint_announce(tx, "slipway.endpoint.promoted", &e, actor,
                             json_build("{s:I, s:s, s:I, s:I, s:O?}", "deployment", (json_int_t)*ret_deployment, "kind",
                                        kind, "version", (json_int_t)version.number, "previous", (json_int_t)previous,
                                        "decision", decision),
                             error);
}

int endpoint_abort(struct db_tx *tx, const char *project, const char *name, const char *kind, const char *message,
                   json_t *decision, const char *actor, int64_t *ret_deployment, struct error *error)
{
    cleanup_endpoint_row struct endpoint_row e = {0};
    int64_t live, trial_version, trial, number, live_number;

    if (endpoint_row_load(tx, project, name, &e, error) < 0 || endpoint_role(tx, e.id, kind, &trial_version, error) < 0)
        return -1;
    if (!trial_version)
        return error_set(error, ERROR_CONFLICT, "endpoint %s has no %s", name, kind);
    if (trial_of(tx, e.id, kind, "pending running", &trial, error) < 0 ||
        endpoint_role(tx, e.id, "live", &live, error) < 0 ||
        endpoint_version_number(tx, live, &live_number, error) < 0 ||
        endpoint_version_number(tx, trial_version, &number, error) < 0 ||
        endpoint_end_trial(tx, e.id, kind, error) < 0 ||
        close_trial(tx, trial, "aborted", message, decision, error) < 0 ||
        endpoint_add_deployment(tx, e.id, "abort", live_number, number, actor, ret_deployment, error) < 0)
        return -1;
    return endpoint_announce(tx, "slipway.endpoint.aborted", &e, actor,
                             json_build("{s:I, s:s, s:I, s:s?, s:O?}", "deployment", (json_int_t)*ret_deployment,
                                        "kind", kind, "version", (json_int_t)number, "message", message, "decision",
                                        decision),
                             error);
}

int endpoint_set_problem(struct db_tx *tx, int64_t deployment, const char *problem, struct error *error)
{
    return db_exec(tx, error, "UPDATE deployments SET problem = ?1 WHERE id = ?2 AND problem IS NOT ?1", "si", problem,
                   deployment);
}

/* -- statistics -- */

/* The counters with which the canary or shadow began; NULL and 0: there is none that runs. */
static int load_base(struct db_tx *tx, int64_t endpoint, json_t **ret_base, char **ret_kind, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT base, kind FROM deployments WHERE endpoint = ? AND state = 'running' AND base IS NOT NULL "
                 "ORDER BY kind = 'canary' DESC, id DESC LIMIT 1",
                 "i", endpoint) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r;
    *ret_base = db_json(&rows, 0, error);
    *ret_kind = xstrdup(db_text(&rows, 1));
    return *ret_base ? 0 : -1;
}

json_t *endpoint_statistics(struct db_tx *tx, const char *project, const char *name, const json_t *status,
                            struct error *error)
{
    static const char *const roles[] = {"live", "canary", "shadow", "standby", "next"};
    cleanup_json json_t *endpoint = endpoint_describe(tx, project, name, error), *base = NULL, *counters = NULL;
    cleanup_endpoint_row struct endpoint_row e = {0};
    cleanup_free char *kind = NULL;
    json_t *statistics, *versions = json_array();
    int64_t now_ms = clock_wall_ms(), since_ms;

    if (!endpoint || endpoint_row_load(tx, project, name, &e, error) < 0 ||
        load_base(tx, e.id, &base, &kind, error) < 0) {
        json_decref(versions);
        return NULL;
    }
    counters = traffic_counters(status, name, now_ms);
    since_ms = traffic_is_comparable(counters, base) ? json_get_int(base, "time_ms", now_ms)
                                                     : json_get_int(status, "started_ms", now_ms);
    for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
        json_t *route = json_object_get(endpoint, roles[i]), *version;

        if (!json_is_object(route))
            continue;
        version = json_copy(route);
        json_set_string(version, "role", roles[i]);
        json_object_update_new(version, traffic_version(counters, base, json_get_int(route, "version", 0)));
        json_array_append_new(versions, version);
    }
    statistics = json_build("{s:f, s:s?, s:o}", "seconds", (double)(now_ms - since_ms) / 1000, "beside", kind,
                            "versions", versions);
    json_set_time_ms(statistics, "since", since_ms);
    return statistics;
}
