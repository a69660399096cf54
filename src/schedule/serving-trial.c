/*
 * Canaries and shadows while they run: their counters when they begin, their rules from time to time, and their end
 * when they fail. What they are is in core/endpoint-trial.c, what the rules see in core/trial.h.
 *
 *     timer ──▶ the gateway's counters ──▶ rules, on a worker thread ──▶ promoted or aborted ──▶ reconcile
 *
 * All that matters is in the database: the next daemon goes on where this one was.
 */
#include <string.h>
#include "core/trial.h"
#include "schedule/serving-internal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/xalloc.h"

static bool has_any(struct serving *s, const char *sql)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int64_t count = 0;

    return db_begin_read(s->store->db, &tx, NULL) == 0 && db_query_int(&tx, &count, NULL, sql, "") == 0 && count > 0;
}

/* -- beginning -- */

static void on_begin(void *userdata, const json_t *reply)
{
    struct serving *s = userdata;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (atomic_load(&s->is_closing) || !json_object_get(reply, "ok"))
        return; /* the first look at the rules makes up for it */
    if (db_begin_write(s->store->db, &tx, &error) < 0 || trials_begin(&tx, reply, &error) < 0 ||
        db_commit(&tx, &error) < 0)
        log_error("cannot store the counters with which a version begins", "error", error.message);
}

void serving_trials_begin(struct serving *s)
{
    if (has_any(s, "SELECT count(*) FROM deployments WHERE kind IN ('canary', 'shadow') AND state = 'pending' "
                   "AND ready_at IS NOT NULL AND base IS NULL"))
        gateway_link_call(s->link, json_build("{s:s, s:b}", "op", "status", "detail", 1), on_begin, s);
}

/* -- rules -- */

struct judgement {
    struct serving *serving;
    json_t *status;
    int ended;
};

/* Worker thread. */
static void judge(void *userdata)
{
    struct judgement *j = userdata;
    cleanup_error struct error error = ERROR_INIT;

    if (trials_judge(j->serving->store, j->status, &j->ended, &error) < 0)
        log_warning("cannot decide about a canary or shadow, will try again", "error", error.message);
}

static void judged(void *userdata)
{
    struct judgement *j = userdata;
    struct serving *s = j->serving;
    bool ended = j->ended;

    s->is_judging = false;
    serving_trials_release(s);
    if (!atomic_load(&s->is_closing)) {
        if (ended)
            serving_reconcile(s);
        serving_trials_watch(s);
    }
}

void serving_trials_release(struct serving *s)
{
    if (s->judgement)
        json_decref(s->judgement->status);
    free(s->judgement);
    s->judgement = NULL;
}

static void on_counters(void *userdata, const json_t *reply)
{
    struct serving *s = userdata;
    struct judgement *j;

    if (atomic_load(&s->is_closing) || !json_object_get(reply, "ok")) {
        s->is_judging = false;
        if (!atomic_load(&s->is_closing))
            serving_trials_watch(s);
        return;
    }
    j = xnew0(struct judgement);
    j->serving = s;
    j->status = json_deep_copy(reply);
    s->judgement = j;
    orchestrator_work(s->orchestrator, judge, judged, j);
}

static void on_look(void *userdata)
{
    struct serving *s = userdata;

    s->trial_timer = NULL;
    s->is_judging = true;
    gateway_link_call(s->link, json_build("{s:s, s:b}", "op", "status", "detail", 1), on_counters, s);
}

void serving_trials_watch(struct serving *s)
{
    if (s->trial_timer || s->is_judging ||
        !has_any(s, "SELECT count(*) FROM deployments WHERE state = 'running' "
                    "AND (json_extract(options, '$.promote_if') IS NOT NULL "
                    "OR json_extract(options, '$.abort_if') IS NOT NULL)"))
        return;
    s->trial_timer = loop_add_timer(s->loop, LIMIT_TRIAL_INTERVAL_MS * NS_PER_MS, on_look, s);
}

/* -- failures -- */

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
