#include <string.h>
#include "core/compare.h"
#include "core/gate.h"
#include "core/metric.h"
#include "core/model.h"
#include "core/release.h"
#include "core/rule.h"
#include "core/run.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define ACTOR "system"

int gate_request(struct db_tx *tx, const char *run_id, const char *project, const char *model, const char *rule,
                 const char *alias, struct error *error)
{
    return db_exec(tx, error,
                   "INSERT INTO gates (run, project, model, rule, alias, state, created_at) "
                   "VALUES (?, ?, ?, ?, ?, 'pending', ?) ON CONFLICT (run) DO NOTHING",
                   "sssssi", run_id, project, model, rule, alias, clock_wall_ms());
}

/* -- deciding -- */

/* A pending gate, and all that is needed to decide it. */
struct decision {
    int64_t id;
    char *run_id, *project, *model, *rule, *alias;
    struct model_version version, champion; /* id 0: there is none */
    json_t *document;
    const char *state; /* the verdict: "accepted", "rejected", "failed" */
    char *reason;
};

static void decision_release(struct decision *d)
{
    free(d->run_id);
    free(d->project);
    free(d->model);
    free(d->rule);
    free(d->alias);
    free(d->reason);
    model_version_clear(&d->version);
    model_version_clear(&d->champion);
    json_decref(d->document);
}
#define cleanup_decision CLEANUP(decision_release)

/* 1: there is one; 0: none is pending. */
static int find_pending(struct db_tx *tx, struct decision *d, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT id, run, project, model, rule, alias FROM gates WHERE state = 'pending' ORDER BY id LIMIT 1",
                 "") < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r;
    d->id = db_int(&rows, 0);
    d->run_id = xstrdup(db_text(&rows, 1));
    d->project = xstrdup(db_text(&rows, 2));
    d->model = xstrdup(db_text(&rows, 3));
    d->rule = xstrdup(db_text(&rows, 4));
    d->alias = xstrdup_null(db_text(&rows, 5));
    return 1;
}

/* Leaves it empty if the alias points nowhere, or to the very version. */
static int find_champion(struct db_tx *tx, struct decision *d, struct error *error)
{
    cleanup_error struct error why = ERROR_INIT;

    if (!d->alias || model_resolve(tx, d->project, d->model, d->alias, &d->champion, &why) == 0) {
        if (d->champion.id == d->version.id)
            model_version_clear(&d->champion);
        return 0;
    }
    if (why.code == ERROR_NOT_FOUND)
        return 0;
    error_move(error, &why);
    return -1;
}

/* Final metrics of a released version: those of its last record, else those of the time when it was saved. */
static json_t *champion_metrics(struct db_tx *tx, const struct model_version *champion, struct error *error)
{
    cleanup_json json_t *sheet = release_sheet(tx, champion->project, champion->model, champion->number, error);
    json_t *metrics = sheet ? json_object_get(sheet, "metrics_final") : NULL;

    if (!sheet)
        return NULL;
    if (!metrics)
        metrics = json_object_get(sheet, "metrics");
    return metrics ? json_incref(metrics) : json_object();
}

/* {"accuracy":[[step,value],…]} of the newest attempt's first node. */
static json_t *read_history(struct db_tx *tx, const char *run_id, int attempt, struct error *error)
{
    const struct metric_query query = {
        .run_id = run_id, .attempt = attempt, .node = -1, .points = LIMIT_HISTORY_POINTS};
    cleanup_json json_t *series = metric_read(tx, &query, error), *history = json_object();
    json_t *entry, *point;
    size_t i, j;

    if (!series)
        return NULL;
    json_array_foreach(series, i, entry) {
        const char *name = json_get_string(entry, "name", "");
        json_t *points = json_array();

        json_array_foreach(json_object_get(entry, "points"), j, point)
            json_array_append_new(points, json_build("[O, O]", json_array_get(point, 0), json_array_get(point, 2)));
        if (!json_object_get(history, name))
            json_object_set(history, name, points);
        json_decref(points);
    }
    return steal_ptr(history);
}

static json_t *describe_version(const struct model_version *version)
{
    return json_build("{s:I, s:s}", "number", (json_int_t)version->number, "code_weights", version->code_weights);
}

static int build_document(struct db_tx *tx, struct decision *d, struct error *error)
{
    cleanup_json json_t *metrics = NULL, *history = NULL, *champion = json_null(), *facts = NULL;
    cleanup_run struct run *run = NULL;

    if (run_load(tx, NULL, d->run_id, &run, error) < 0)
        return -1;
    metrics = metric_last(tx, d->run_id, error);
    if (!metrics)
        return -1;
    history = read_history(tx, d->run_id, run->attempt, error);
    if (!history)
        return -1;
    if (d->champion.id) {
        cleanup_json json_t *of_champion = champion_metrics(tx, &d->champion, error);

        if (!of_champion)
            return -1;
        json_decref(champion);
        champion = json_build("{s:I, s:s, s:O}", "version", (json_int_t)d->champion.number, "code_weights",
                              d->champion.code_weights, "metrics", of_champion);
    }
    facts = run_to_json(run);
    json_object_set_new(facts, "duration_ms",
                        run->started_at && run->ended_at ? json_integer(run->ended_at - run->started_at) : json_null());
    d->document = json_build("{s:O, s:O, s:O, s:n, s:o, s:O}", "metrics", metrics, "history", history, "champion",
                             champion, "weights", "version", describe_version(&d->version), "run", facts);
    return 0;
}

static void decide(struct decision *d, const char *state, const char *reason)
{
    d->state = state;
    free(d->reason);
    d->reason = xstrdup(reason);
}

/* What the program gave. */
static void judge(struct decision *d, const json_t *values)
{
    const json_t *value = json_array_get(values, 0), *verdict = value;
    const char *reason = NULL;

    if (json_array_size(values) != 1) {
        decide(d, "failed", json_array_size(values) ? "the rule gives more than one value" : "the rule gives no value");
        return;
    }
    if (json_is_object(value)) {
        verdict = json_object_get(value, "verdict");
        reason = json_get_string(value, "reason", NULL);
    }
    if (!json_is_boolean(verdict))
        decide(d, "failed", "the rule gives neither true nor false");
    else if (json_is_true(verdict))
        decide(d, "accepted", reason ? reason : "the rule gives true");
    else
        decide(d, "rejected", reason ? reason : "the rule gives false");
}

/* What a jq program was given as null is part of why it decided so. The short form says it by itself. */
static void add_missing(struct decision *d, const char *program)
{
    cleanup_free char *missing = strcmp(program, d->rule) == 0 ? gate_missing(program, d->document) : NULL;
    char *reason;

    if (!missing)
        return;
    reason = xasprintf("%s (missing: %s)", d->reason, missing);
    free(d->reason);
    d->reason = reason;
}

static void evaluate(struct store *store, struct decision *d)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *program = gate_translate(d->rule);
    cleanup_json json_t *comparison = NULL, *values = NULL;

    if (d->champion.id && d->champion.weights_digest && d->version.weights_digest) {
        comparison = compare_blobs(store, d->version.weights_digest, d->champion.weights_digest, &error);
        if (!comparison) {
            decide(d, "failed", error.message);
            return;
        }
        json_object_set(d->document, "weights", json_object_get(comparison, "total"));
    }
    values = rule_run(program, d->document, &error);
    if (values)
        judge(d, values);
    else
        decide(d, "failed", error.message);
    add_missing(d, program);
}

static int announce(struct db_tx *tx, const struct decision *d, const json_t *seen, struct error *error)
{
    cleanup_free char *type = xasprintf("slipway.gate.%s", d->state);
    cleanup_free char *subject = xasprintf("run/%s", d->run_id);
    cleanup_json json_t *data = json_build("{s:s, s:s, s:s, s:s, s:s?, s:O?, s:O?}", "run", d->run_id, "model",
                                           d->model, "rule", d->rule, "reason", d->reason, "alias", d->alias, "metrics",
                                           json_object_get(seen, "metrics"), "champion",
                                           json_object_get(seen, "champion"));
    const struct journal_event event = {
        .type = type, .subject = subject, .project = d->project, .actor = ACTOR, .data = data};

    json_object_set_new(data, "version", d->version.id ? json_integer(d->version.number) : json_null());
    return journal_append(tx, &event, NULL, error);
}

static int append_record(struct db_tx *tx, const struct decision *d, const json_t *seen, struct error *error)
{
    cleanup_json json_t *facts = json_build(
        "{s:s, s:s, s:s, s:s?, s:s, s:O?, s:O?, s:O?}", "verdict", d->state, "reason", d->reason, "rule", d->rule,
        "alias", d->alias, "run", d->run_id, "metrics", json_object_get(seen, "metrics"), "champion",
        json_object_get(seen, "champion"), "weights_difference", json_object_get(seen, "weights"));

    return release_append(tx, d->project, d->model, d->version.number, "gate", facts, ACTOR, error);
}

/* 1: written; 0: the champion changed meanwhile, the verdict is void. */
static int write_verdict(struct store *store, struct decision *d, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_decision struct decision now = {
        .alias = xstrdup_null(d->alias), .project = xstrdup(d->project), .model = xstrdup(d->model)};
    cleanup_json json_t *seen = d->document ? json_copy(d->document) : NULL;

    json_object_del(seen, "history");
    if (db_begin_write(store->db, &tx, error) < 0)
        return -1;
    now.version.id = d->version.id;
    if (d->version.id && find_champion(&tx, &now, error) < 0)
        return -1;
    if (now.champion.id != d->champion.id)
        return 0;
    if (db_exec(&tx, error,
                "UPDATE gates SET state = ?, reason = ?, seen = ?, version = nullif(?, 0), champion = nullif(?, 0), "
                "decided_at = ? WHERE id = ? AND state = 'pending'",
                "ssjiiii", d->state, d->reason, seen, d->version.number, d->champion.number, clock_wall_ms(),
                d->id) < 0)
        return -1;
    if (db_changes(&tx) == 0)
        return 1;
    if (d->version.id && append_record(&tx, d, seen, error) < 0)
        return -1;
    if (strcmp(d->state, "accepted") == 0 && d->alias &&
        model_promote(&tx, &d->version, d->alias, "gate_accepted", ACTOR, error) < 0)
        return -1;
    if (announce(&tx, d, seen, error) < 0 || db_commit(&tx, error) < 0)
        return -1;
    return 1;
}

/* Reads what is needed. 1: the rule is to be evaluated; 0: nothing is pending; 2: it failed already. */
static int prepare(struct store *store, struct decision *d, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_error struct error why = ERROR_INIT;
    int r;

    if (db_begin_read(store->db, &tx, error) < 0)
        return -1;
    r = find_pending(&tx, d, error);
    if (r <= 0)
        return r;
    if (model_resolve_run(&tx, d->run_id, &d->version, &why) < 0) {
        if (why.code != ERROR_NOT_FOUND) {
            error_move(error, &why);
            return -1;
        }
        decide(d, "failed", why.message);
        return 2;
    }
    if (find_champion(&tx, d, error) < 0)
        return -1;
    if (build_document(&tx, d, &why) < 0) {
        decide(d, "failed", why.message);
        return 2;
    }
    return 1;
}

int gate_decide(struct store *store, struct error *error)
{
    for (int attempt = 0; attempt < 10; attempt++) {
        cleanup_decision struct decision d = {0};
        int r = prepare(store, &d, error);

        if (r <= 0)
            return r;
        if (r == 1)
            evaluate(store, &d);
        r = write_verdict(store, &d, error);
        if (r != 0)
            return r < 0 ? error_wrap(error, "cannot decide the gate of run %s", d.run_id) : 1;
    }
    return error_set(error, ERROR_CONFLICT, "the alias of a gate keeps moving");
}

/* -- results of runs without a gate -- */

/* 1: found. */
static int find_result(struct db_tx *tx, char **ret_run, struct model_version *ret_version, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(
            tx, &rows, error,
            "SELECT v.id FROM model_versions v JOIN models m ON m.id = v.model JOIN runs r ON r.id = v.run "
            "WHERE r.state = ? AND NOT EXISTS (SELECT 1 FROM model_versions n WHERE n.run = v.run AND n.id > v.id) "
            "AND NOT EXISTS (SELECT 1 FROM gates g WHERE g.run = v.run) "
            "AND NOT EXISTS (SELECT 1 FROM releases l WHERE l.project = m.project AND l.model = m.name "
            "AND l.version = v.number AND l.kind = 'result') LIMIT 1",
            "i", (int64_t)RUN_SUCCEEDED) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r;
    if (model_resolve_id(tx, db_int(&rows, 0), ret_version, error) < 0)
        return -1;
    *ret_run = xstrdup(ret_version->run_id);
    return 1;
}

int gate_record_result(struct store *store, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
    cleanup_json json_t *metrics = NULL, *facts = NULL;
    cleanup_free char *run = NULL;
    int r;

    if (db_begin_write(store->db, &tx, error) < 0)
        return -1;
    r = find_result(&tx, &run, &version, error);
    if (r <= 0)
        return r;
    metrics = metric_last(&tx, run, error);
    if (!metrics)
        return -1;
    facts = json_build("{s:O, s:s}", "metrics", metrics, "run", run);
    if (release_append(&tx, version.project, version.model, version.number, "result", facts, ACTOR, error) < 0 ||
        db_commit(&tx, error) < 0)
        return -1;
    return 1;
}

/* -- views -- */

#define GATE_SELECT                                                                                                    \
    "SELECT id, run, project, model, version, rule, alias, state, reason, seen, champion, created_at, "                \
    "decided_at FROM gates "

static json_t *read_gate(struct db_rows *rows, struct error *error)
{
    cleanup_json json_t *seen = db_is_null(rows, 9) ? json_null() : db_json(rows, 9, error), *gate = NULL;

    if (!seen)
        return NULL;
    gate = json_build("{s:I, s:s, s:s, s:s, s:s, s:s?, s:s, s:s?, s:O}", "id", (json_int_t)db_int(rows, 0), "run",
                      db_text(rows, 1), "project", db_text(rows, 2), "model", db_text(rows, 3), "rule",
                      db_text(rows, 5), "alias", db_text(rows, 6), "state", db_text(rows, 7), "reason",
                      db_text(rows, 8), "seen", seen);
    json_object_set_new(gate, "version", db_is_null(rows, 4) ? json_null() : json_integer(db_int(rows, 4)));
    json_object_set_new(gate, "champion", db_is_null(rows, 10) ? json_null() : json_integer(db_int(rows, 10)));
    json_set_time_ms(gate, "created_at", db_int(rows, 11));
    json_set_time_ms(gate, "decided_at", db_is_null(rows, 12) ? 0 : db_int(rows, 12));
    return steal_ptr(gate);
}

json_t *gate_of_run(struct db_tx *tx, const char *run_id, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error, GATE_SELECT "WHERE run = ?", "s", run_id) < 0)
        return NULL;
    r = db_next(&rows, error);
    if (r == 0)
        error_set(error, ERROR_NOT_FOUND, "run %s has no gate that was asked for its verdict", run_id);
    return r > 0 ? read_gate(&rows, error) : NULL;
}

json_t *gate_list(struct db_tx *tx, const char *project, const char *model, int64_t before, int limit,
                  struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *gates = json_array();
    int r;

    if (db_query(tx, &rows, error,
                 GATE_SELECT "WHERE (?1 IS NULL OR project = ?1) AND (?2 IS NULL OR model = ?2) "
                             "AND (?3 = 0 OR id < ?3) ORDER BY id DESC LIMIT ?4",
                 "ssii", project, model, before, (int64_t)limit) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        json_t *gate = read_gate(&rows, error);

        if (!gate)
            return NULL;
        json_array_append_new(gates, gate);
    }
    return r < 0 ? NULL : steal_ptr(gates);
}
