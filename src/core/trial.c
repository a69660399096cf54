#include <string.h>
#include "core/endpoint.h"
#include "core/rule.h"
#include "core/traffic.h"
#include "core/trial.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/xalloc.h"

/* -- what is asked for -- */

static int check_rule(const char *rule, const char *what, struct error *error)
{
    if (!rule)
        return 0;
    return rule_check(rule, error) < 0 ? error_wrap(error, "%s", what) : 0;
}

int trial_check(const char *kind, json_t *options, struct error *error)
{
    const char *promote_if = json_get_string(options, "promote_if", NULL);
    const char *abort_if = json_get_string(options, "abort_if", NULL);

    if (check_rule(promote_if, "promote_if", error) < 0 || check_rule(abort_if, "abort_if", error) < 0)
        return -1;
    if (!abort_if && strcmp(kind, "canary") == 0)
        json_set_string(options, "abort_if", TRIAL_ABORT_IF);
    if (promote_if && !json_is_object(json_object_get(options, "after")))
        json_object_set_new(options, "after",
                            json_build("{s:i, s:i}", "requests", TRIAL_AFTER_REQUESTS, "ms", TRIAL_AFTER_MS));
    return 0;
}

/* -- those that run -- */

struct trial {
    int64_t deployment, version, live; /* row, and numbers of versions */
    char *endpoint;
    char kind[8];
    json_t *options, *base; /* base NULL: it has none yet */
};

static void trial_clear(struct trial *trial)
{
    free(trial->endpoint);
    json_decref(trial->options);
    json_decref(trial->base);
    *trial = (struct trial){0};
}
#define cleanup_trial CLEANUP(trial_clear)

#define TRIAL_SELECT                                                                                                   \
    "SELECT d.id, e.name, d.kind, d.version, v.number, d.options, d.base FROM deployments d "                          \
    "JOIN endpoints e ON e.id = d.endpoint JOIN endpoint_routes r ON r.endpoint = e.id AND r.role = 'live' "           \
    "JOIN model_versions v ON v.id = r.version "

static int read_trial(struct db_rows *rows, struct trial *ret, struct error *error)
{
    ret->deployment = db_int(rows, 0);
    ret->endpoint = xstrdup(db_text(rows, 1));
    snprintf(ret->kind, sizeof(ret->kind), "%s", db_text(rows, 2));
    ret->version = db_int(rows, 3);
    ret->live = db_int(rows, 4);
    ret->options = db_is_null(rows, 5) ? json_object() : db_json(rows, 5, error);
    if (!ret->options)
        return -1;
    if (db_is_null(rows, 6))
        return 1;
    ret->base = db_json(rows, 6, error);
    return ret->base ? 1 : -1;
}

/* The first that runs, behind this one. 1: there is one. */
static int next_trial(struct store *store, int64_t after, struct trial *ret, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_begin_read(store->db, &tx, error) < 0 ||
        db_query(&tx, &rows, error,
                 TRIAL_SELECT "WHERE d.state = 'running' AND d.id > ? AND e.desired = 'serving' "
                              "AND (json_extract(d.options, '$.promote_if') IS NOT NULL "
                              "OR json_extract(d.options, '$.abort_if') IS NOT NULL) ORDER BY d.id LIMIT 1",
                 "i", after) < 0)
        return -1;
    r = db_next(&rows, error);
    return r <= 0 ? r : read_trial(&rows, ret, error);
}

static int set_base(struct db_tx *tx, int64_t deployment, const json_t *counters, struct error *error)
{
    return db_exec(tx, error, "UPDATE deployments SET base = ? WHERE id = ?", "ji", counters, deployment);
}

int trials_begin(struct db_tx *tx, const json_t *status, struct error *error)
{
    int64_t after = 0;
    int r;

    for (;;) {
        cleanup_trial struct trial trial = {0};
        cleanup_json json_t *counters = NULL;

        {
            cleanup_rows struct db_rows rows = DB_ROWS_INIT;

            if (db_query(tx, &rows, error,
                         TRIAL_SELECT
                         "WHERE d.kind IN ('canary', 'shadow') AND d.state IN ('pending', 'running') "
                         "AND d.ready_at IS NOT NULL AND d.base IS NULL AND d.id > ? ORDER BY d.id LIMIT 1",
                         "i", after) < 0)
                return -1;
            r = db_next(&rows, error);
            if (r <= 0 || read_trial(&rows, &trial, error) < 0)
                return r <= 0 ? r : -1;
        }
        counters = traffic_counters(status, trial.endpoint, clock_wall_ms());
        if (set_base(tx, trial.deployment, counters, error) < 0)
            return -1;
        after = trial.deployment;
    }
}

/* -- rules -- */

enum verdict { VERDICT_NO, VERDICT_YES, VERDICT_FAILED };

/* *ret_text: the reason, or why it cannot be evaluated; to be freed. */
static enum verdict evaluate(const char *rule, const json_t *document, char **ret_text)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *values = rule_run(rule, document, &error);
    const json_t *value = json_array_get(values, 0), *verdict = value;
    const char *reason = NULL;

    if (!values) {
        *ret_text = xstrdup(error.message);
        return VERDICT_FAILED;
    }
    if (json_is_object(value)) {
        verdict = json_object_get(value, "verdict");
        reason = json_get_string(value, "reason", NULL);
    }
    if (json_array_size(values) != 1 || !json_is_boolean(verdict)) {
        *ret_text = xstrdup(json_array_size(values) == 1 ? "the rule gives neither true nor false"
                                                         : "the rule does not give one value");
        return VERDICT_FAILED;
    }
    *ret_text = xstrdup(reason ? reason : json_is_true(verdict) ? "the rule gives true" : "the rule gives false");
    return json_is_true(verdict) ? VERDICT_YES : VERDICT_NO;
}

/* Enough requests and time for the rule to promote. */
static bool is_due(const struct trial *trial, const json_t *document)
{
    const json_t *after = json_object_get(trial->options, "after");
    int64_t requests = json_get_int(json_object_get(document, "canary"), "requests", 0);
    double ms = json_get_number(document, "seconds", 0) * 1000;

    return requests >= json_get_int(after, "requests", 0) && ms >= (double)json_get_int(after, "ms", 0);
}

static int keep_problem(struct store *store, const struct trial *trial, const char *problem, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_write(store->db, &tx, error) < 0 || endpoint_set_problem(&tx, trial->deployment, problem, error) < 0)
        return -1;
    return db_commit(&tx, error);
}

/* Ends it, unless somebody else did meanwhile. 1: done; 0: there is nothing to end any more. */
static int end(struct store *store, const struct trial *trial, const char *verdict, const char *rule,
               const char *reason, json_t *document, struct error *error)
{
    cleanup_json json_t *decision = json_build("{s:s, s:s, s:s, s:O}", "verdict", verdict, "rule", rule, "reason",
                                               reason, "seen", document);
    cleanup_free char *message = xasprintf("by rule: %s", reason);
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int64_t deployment, running;
    int r;

    json_set_time_ms(decision, "time", clock_wall_ms());
    if (db_begin_write(store->db, &tx, error) < 0 ||
        db_query_int(&tx, &running, error, "SELECT count(*) FROM deployments WHERE id = ? AND state = 'running'", "i",
                     trial->deployment) < 0)
        return -1;
    if (!running)
        return 0;
    if (strcmp(verdict, "promoted") == 0)
        r = endpoint_promote(&tx, NULL, trial->endpoint, trial->kind, decision, "rule", &deployment, error);
    else
        r = endpoint_abort(&tx, NULL, trial->endpoint, trial->kind, message, decision, "rule", &deployment, error);
    if (r < 0 || db_commit(&tx, error) < 0)
        return -1;
    return 1;
}

/* 1: it has ended. */
static int judge(struct store *store, const struct trial *trial, const json_t *counters, struct error *error)
{
    cleanup_json json_t *document = traffic_document(counters, trial->base, trial->live, trial->version);
    const struct {
        const char *key, *verdict;
        bool is_due;
    } rules[] = {
        {"abort_if", "aborted", true},
        {"promote_if", "promoted", is_due(trial, document)},
    };
    cleanup_free char *problem = NULL;

    json_set_string(document, "kind", trial->kind);
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
        const char *rule = json_get_string(trial->options, rules[i].key, NULL);
        cleanup_free char *text = NULL;
        enum verdict verdict;

        if (!rule || !rules[i].is_due)
            continue;
        verdict = evaluate(rule, document, &text);
        if (verdict == VERDICT_YES)
            return end(store, trial, rules[i].verdict, rule, text, document, error);
        if (verdict == VERDICT_FAILED && !problem)
            problem = xasprintf("%s: %s", rules[i].key, text);
        /* Who cannot say whether it is bad must not say that it is good. */
        if (verdict == VERDICT_FAILED)
            break;
    }
    return keep_problem(store, trial, problem, error);
}

static int judge_one(struct store *store, const struct trial *trial, const json_t *status, struct error *error)
{
    cleanup_json json_t *counters = traffic_counters(status, trial->endpoint, clock_wall_ms());
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (traffic_is_comparable(counters, trial->base))
        return judge(store, trial, counters, error);
    /* Another gateway counts from 0: what it saw since then is compared with now. */
    if (db_begin_write(store->db, &tx, error) < 0 || set_base(&tx, trial->deployment, counters, error) < 0)
        return -1;
    return db_commit(&tx, error);
}

int trials_judge(struct store *store, const json_t *status, int *ret_ended, struct error *error)
{
    int64_t after = 0;
    int result = 0, r;

    *ret_ended = 0;
    for (;;) {
        cleanup_trial struct trial trial = {0};
        cleanup_error struct error why = ERROR_INIT;

        r = next_trial(store, after, &trial, &why);
        if (r > 0) {
            after = trial.deployment;
            r = judge_one(store, &trial, status, &why);
            *ret_ended += r > 0;
        } else if (r == 0) {
            return result;
        }
        if (r < 0) {
            error_clear(error);
            error_move(error, &why);
            result = -1;
            if (!trial.deployment)
                return -1;
        }
    }
}
