/*
 * Canaries and shadows while they run (core/endpoint-trial.c has what they are): their end when they fail.
 */
#include <string.h>
#include "schedule/serving-internal.h"
#include "util/log.h"
#include "util/xalloc.h"

/* The running canary or shadow that the version is; NULL: it is none. */
struct trial {
    char *endpoint;
    char kind[8];
};

static void trial_release(struct trial *trial)
{
    free(trial->endpoint);
}
#define cleanup_trial CLEANUP(trial_release)

/* 1: found. */
static int find_trial(struct db_tx *tx, int64_t endpoint, int64_t version, struct trial *ret, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT e.name, r.role FROM endpoint_routes r JOIN endpoints e ON e.id = r.endpoint "
                 "JOIN model_versions v ON v.id = r.version "
                 "JOIN deployments d ON d.endpoint = e.id AND d.kind = r.role AND d.version = v.number "
                 "WHERE r.endpoint = ? AND r.version = ? AND d.state = 'running' AND e.desired = 'serving'",
                 "ii", endpoint, version) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r;
    ret->endpoint = xstrdup(db_text(&rows, 0));
    snprintf(ret->kind, sizeof(ret->kind), "%s", db_text(&rows, 1));
    return 1;
}

static bool has_ready_replica(struct serving *s, int64_t endpoint, int64_t version)
{
    struct map_iterator it = {0};

    while (map_next(&s->replicas, &it)) {
        const struct replica *r = it.value;

        if (r->endpoint == endpoint && r->version == version && r->state == REPLICA_READY)
            return true;
    }
    return false;
}

void serving_trial_failed(struct serving *s, int64_t endpoint, int64_t version, const char *message)
{
    cleanup_free char *why = xasprintf("its replica failed: %s", message);
    cleanup_trial struct trial trial = {0};
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int64_t deployment;
    int r;

    if (has_ready_replica(s, endpoint, version))
        return;
    if (db_begin_write(s->store->db, &tx, &error) < 0 || (r = find_trial(&tx, endpoint, version, &trial, &error)) < 0) {
        log_error("cannot read deployments", "error", error.message);
        return;
    }
    if (r == 0)
        return;
    if (endpoint_abort(&tx, NULL, trial.endpoint, trial.kind, why, NULL, NULL, &deployment, &error) < 0 ||
        db_commit(&tx, &error) < 0)
        log_error("cannot end a version that failed", "endpoint", trial.endpoint, "error", error.message);
}
