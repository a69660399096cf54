#include <string.h>
#include "core/dataset.h"
#include "core/run-data.h"
#include "core/run.h"
#include "store/journal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define FINAL_AGAIN STATE_BIT(RUN_QUEUED)

static const struct state_row run_rows[] = {
    [RUN_QUEUED] = {"queued", STATE_BIT(RUN_STARTING) | STATE_BIT(RUN_STOPPED) | STATE_BIT(RUN_FAILED)},
    [RUN_STARTING] = {"starting", STATE_BIT(RUN_RUNNING) | STATE_BIT(RUN_SUCCEEDED) | STATE_BIT(RUN_FAILED) |
                                      STATE_BIT(RUN_STOPPED) | STATE_BIT(RUN_LOST) | STATE_BIT(RUN_QUEUED)},
    [RUN_RUNNING] = {"running", STATE_BIT(RUN_SUCCEEDED) | STATE_BIT(RUN_FAILED) | STATE_BIT(RUN_STOPPED) |
                                    STATE_BIT(RUN_LOST) | STATE_BIT(RUN_QUEUED)},
    [RUN_SUCCEEDED] = {"succeeded", 0},
    [RUN_FAILED] = {"failed", FINAL_AGAIN},
    [RUN_STOPPED] = {"stopped", FINAL_AGAIN},
    [RUN_LOST] = {"lost", FINAL_AGAIN},
};
const struct state_machine run_states = {"run", run_rows, ARRAY_SIZE(run_rows)};
_Static_assert(ARRAY_SIZE(run_rows) == RUN_STATE_COUNT_, "every run state has a row");

static const struct state_row node_rows[] = {
    [NODE_LAUNCHING] = {"launching", STATE_BIT(NODE_RUNNING) | STATE_BIT(NODE_EXITED) | STATE_BIT(NODE_LOST)},
    [NODE_RUNNING] = {"running", STATE_BIT(NODE_EXITED) | STATE_BIT(NODE_LOST)},
    [NODE_EXITED] = {"exited", 0},
    [NODE_LOST] = {"lost", 0},
};
const struct state_machine node_states = {"node", node_rows, ARRAY_SIZE(node_rows)};
_Static_assert(ARRAY_SIZE(node_rows) == NODE_STATE_COUNT_, "every node state has a row");

struct run *run_free(struct run *run)
{
    if (!run)
        return NULL;
    free(run->project);
    free(run->name);
    free(run->job);
    free(run->code);
    free(run->model);
    free(run->reason);
    free(run->message);
    free(run->created_by);
    json_decref(run->spec);
    json_decref(run->labels);
    free(run);
    return NULL;
}

/* -- reading -- */

#define RUN_COLUMNS                                                                                                    \
    "id, project, name, job, job_code, code, model, state, reason, message, attempt, failures, retries, "              \
    "priority, nodes, cpus, memory, gpus, gpu_memory, timeout_ms, stop_requested, exit_code, spec, labels, "           \
    "created_at, created_by, started_at, ended_at, not_before"

static struct run *from_row(struct db_rows *rows, struct error *error)
{
    cleanup_run struct run *run = xnew0(struct run);
    int c = 0;

    snprintf(run->id, sizeof(run->id), "%s", db_text(rows, c++));
    run->project = xstrdup(db_text(rows, c++));
    run->name = xstrdup_null(db_text(rows, c++));
    run->job = xstrdup_null(db_text(rows, c++));
    run->job_code = (int)db_int(rows, c++);
    run->code = xstrdup_null(db_text(rows, c++));
    run->model = xstrdup_null(db_text(rows, c++));
    run->state = (enum run_state)db_int(rows, c++);
    run->reason = xstrdup(db_text(rows, c++));
    run->message = xstrdup_null(db_text(rows, c++));
    run->attempt = (int)db_int(rows, c++);
    run->failures = (int)db_int(rows, c++);
    run->retries = (int)db_int(rows, c++);
    run->priority = (int)db_int(rows, c++);
    run->nodes = (int)db_int(rows, c++);
    run->resources.cpus = db_real(rows, c++);
    run->resources.memory = (uint64_t)db_int(rows, c++);
    run->resources.gpus = (int)db_int(rows, c++);
    run->resources.gpu_memory = (uint64_t)db_int(rows, c++);
    run->timeout_ms = db_int(rows, c++);
    run->stop_requested = db_int(rows, c++) != 0;
    run->has_exit_code = !db_is_null(rows, c);
    run->exit_code = (int)db_int(rows, c++);
    run->spec = db_json(rows, c++, error);
    if (!run->spec)
        return NULL;
    if (!db_is_null(rows, c)) {
        run->labels = db_json(rows, c, error);
        if (!run->labels)
            return NULL;
    }
    c++;
    run->created_at = db_int(rows, c++);
    run->created_by = xstrdup(db_text(rows, c++));
    run->started_at = db_int(rows, c++);
    run->ended_at = db_int(rows, c++);
    run->not_before = db_int(rows, c++);
    return steal_ptr(run);
}

static int load_one(struct db_tx *tx, const char *what, struct run **ret_run, struct error *error, struct db_rows *rows)
{
    int r = db_next(rows, error);

    if (r < 0)
        return -1;
    if (r == 0)
        return error_set(error, ERROR_NOT_FOUND, "run %.64s does not exist", what);
    *ret_run = from_row(rows, error);
    return *ret_run ? 0 : -1;
}

int run_load(struct db_tx *tx, const char *project, const char *id, struct run **ret_run, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;

    if (db_query(tx, &rows, error, "SELECT " RUN_COLUMNS " FROM runs WHERE id = ?1 AND (?2 IS NULL OR project = ?2)",
                 "ss", id, project) < 0)
        return -1;
    return load_one(tx, id, ret_run, error, &rows);
}

static bool is_prefix(const char *text)
{
    size_t length = strlen(text);

    return length >= 8 && length < ID_SIZE - 1 && strspn(text, "0123456789abcdef") == length;
}

int run_find(struct db_tx *tx, const char *project, const char *text, struct run **ret_run, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_run struct run *run = NULL;
    int r;

    if (strcmp(text, "last") == 0) {
        if (db_query(tx, &rows, error,
                     "SELECT " RUN_COLUMNS " FROM runs WHERE ?1 IS NULL OR project = ?1 ORDER BY id DESC LIMIT 1", "s",
                     project) < 0)
            return -1;
        r = db_next(&rows, error);
        if (r == 0)
            return error_set(error, ERROR_NOT_FOUND, "there is no run yet");
        if (r < 0)
            return -1;
        *ret_run = from_row(&rows, error);
        return *ret_run ? 0 : -1;
    }
    if (!is_prefix(text))
        return run_load(tx, project, text, ret_run, error);

    if (db_query(tx, &rows, error,
                 "SELECT " RUN_COLUMNS " FROM runs WHERE id >= ?1 AND id < ?1 || 'g' AND (?2 IS NULL OR project = ?2) "
                 "ORDER BY id LIMIT 2",
                 "ss", text, project) < 0)
        return -1;
    if (load_one(tx, text, &run, error, &rows) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r > 0)
        return error_set(error, ERROR_INVALID, "more than one run begins with %s; give more digits", text);
    if (r < 0)
        return -1;
    *ret_run = steal_ptr(run);
    return 0;
}

/* -- changing -- */

static void replace(char **text, const char *value)
{
    free(*text);
    *text = xstrdup_null(value);
}

static int append_event(struct db_tx *tx, const struct run *run, const char *what, const char *actor, json_t *data,
                        struct error *error)
{
    cleanup_free char *type = xasprintf("slipway.run.%s", what);
    cleanup_free char *subject = xasprintf("run/%s", run->id);
    struct journal_event event = {
        .type = type, .subject = subject, .project = run->project, .actor = actor, .data = data};

    return journal_append(tx, &event, NULL, error);
}

int run_set_state(struct db_tx *tx, struct run *run, const struct run_change *change, struct error *error)
{
    cleanup_json json_t *data = NULL;
    int64_t now = clock_wall_ms(), state, attempt;
    int64_t started_at = run->started_at, ended_at = 0;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    /* The row decides, not the copy: another thread may have stopped the run meanwhile. */
    if (db_query(tx, &rows, error, "SELECT state, attempt, stop_requested FROM runs WHERE id = ?", "s", run->id) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r < 0 ? -1 : error_set(error, ERROR_NOT_FOUND, "run %s does not exist", run->id);
    state = db_int(&rows, 0);
    attempt = db_int(&rows, 1);
    run->stop_requested = db_int(&rows, 2) != 0;
    db_rows_end(&rows);
    if (state_check(&run_states, (int)state, (int)change->state, error) < 0)
        return -1;

    if (change->state == RUN_STARTING || (change->state == RUN_RUNNING && !started_at))
        started_at = now;
    if (change->state == RUN_QUEUED)
        started_at = 0;
    if (run_is_final(change->state))
        ended_at = now;
    if (change->new_attempt)
        attempt++;
    if (db_exec(tx, error,
                "UPDATE runs SET state = ?, reason = ?, message = ?, attempt = ?, failures = failures + ?, "
                "started_at = ?, ended_at = ?, not_before = ?, stop_requested = CASE WHEN ? THEN 0 ELSE "
                "stop_requested END "
                "WHERE id = ?",
                "issiiiiiis", (int64_t)change->state, change->reason, change->message, attempt,
                (int64_t)change->failure, started_at, ended_at, change->not_before,
                (int64_t)(run_is_final((enum run_state)state) && change->state == RUN_QUEUED), run->id) < 0)
        return -1;
    if (change->state == RUN_QUEUED || change->exit_code) {
        if (db_exec(tx, error,
                    change->exit_code ? "UPDATE runs SET exit_code = ? WHERE id = ?"
                                      : "UPDATE runs SET exit_code = nullif(?, 0) WHERE id = ?",
                    "is", (int64_t)(change->exit_code ? *change->exit_code : 0), run->id) < 0)
            return -1;
        run->has_exit_code = change->exit_code != NULL;
        run->exit_code = change->exit_code ? *change->exit_code : 0;
    }

    data = json_build("{s:s, s:s, s:I}", "reason", change->reason, "from", state_name(&run_states, (int)state),
                      "attempt", (json_int_t)attempt);
    if (change->message)
        json_set_string(data, "message", change->message);
    if (change->not_before)
        json_set_time_ms(data, "not_before", change->not_before);
    if (change->exit_code)
        json_set_int(data, "exit_code", *change->exit_code);
    if (append_event(tx, run, state_name(&run_states, (int)change->state), change->actor, data, error) < 0)
        return -1;

    if (run_is_final(change->state) && dataset_release(tx, "run", run->id, error) < 0)
        return -1;

    run->state = change->state;
    replace(&run->reason, change->reason);
    replace(&run->message, change->message);
    run->attempt = (int)attempt;
    run->failures += change->failure;
    run->started_at = started_at;
    run->ended_at = ended_at;
    run->not_before = change->not_before;
    return 0;
}

int run_request_stop(struct db_tx *tx, struct run *run, const char *actor, struct error *error)
{
    cleanup_json json_t *data = NULL;

    if (run->state == RUN_QUEUED) {
        struct run_change change = {.state = RUN_STOPPED,
                                    .reason = "stopped_by_user",
                                    .actor = actor,
                                    .message = "stopped while it waited in the queue"};

        return run_set_state(tx, run, &change, error);
    }
    if (run_is_final(run->state))
        return error_set(error, ERROR_CONFLICT, "run %s has ended already: %s", run->id,
                         state_name(&run_states, (int)run->state));
    if (run->stop_requested)
        return 0;
    if (db_exec(tx, error, "UPDATE runs SET stop_requested = 1 WHERE id = ?", "s", run->id) < 0)
        return -1;
    run->stop_requested = true;
    data = json_object();
    return append_event(tx, run, "stop_requested", actor, data, error);
}

int run_retry(struct db_tx *tx, struct run *run, const char *actor, struct error *error)
{
    struct run_change change = {.state = RUN_QUEUED, .reason = "retry_requested", .actor = actor, .new_attempt = true};

    if (run->state == RUN_SUCCEEDED || !run_is_final(run->state))
        return error_set(error, ERROR_CONFLICT, "run %s is %s; only a failed, stopped or lost run can be retried",
                         run->id, state_name(&run_states, (int)run->state));
    if (run_use_datasets(tx, run->project, run->id, run->spec, error) < 0)
        return -1;
    return run_set_state(tx, run, &change, error);
}

int run_set_priority(struct db_tx *tx, struct run *run, int priority, const char *reason, const char *actor,
                     struct error *error)
{
    cleanup_json json_t *data = json_build("{s:i, s:i, s:s}", "from", run->priority, "to", priority, "reason", reason);

    if (run_is_final(run->state))
        return error_set(error, ERROR_CONFLICT, "run %s has ended already", run->id);
    if (db_exec(tx, error, "UPDATE runs SET priority = ? WHERE id = ?", "is", (int64_t)priority, run->id) < 0)
        return -1;
    run->priority = priority;
    return append_event(tx, run, "priority_changed", actor, data, error);
}

int run_delete(struct db_tx *tx, const struct run *run, const char *actor, struct error *error)
{
    cleanup_json json_t *data = json_object();

    if (!run_is_final(run->state))
        return error_set(error, ERROR_CONFLICT, "run %s is %s; stop it first", run->id,
                         state_name(&run_states, (int)run->state));
    if (db_exec(tx, error, "DELETE FROM runs WHERE id = ?", "s", run->id) < 0)
        return error_wrap(error, "run %s is in use by a model version", run->id);
    return append_event(tx, run, "deleted", actor, data, error);
}

/* -- showing -- */

json_t *run_to_json(const struct run *run)
{
    json_t *o = json_object();
    int64_t end = run->ended_at ? run->ended_at : clock_wall_ms();

    json_set_string(o, "id", run->id);
    json_set_string(o, "project", run->project);
    json_set_string(o, "name", run->name);
    json_set_string(o, "state", state_name(&run_states, (int)run->state));
    json_set_string(o, "reason", run->reason);
    json_set_string(o, "message", run->message);
    json_set_string(o, "job", run->job);
    if (run->job_code)
        json_set_int(o, "code_version", run->job_code);
    json_set_string(o, "code", run->code);
    json_set_string(o, "model", run->model);
    json_set_int(o, "attempt", run->attempt);
    json_set_int(o, "failures", run->failures);
    json_set_int(o, "priority", run->priority);
    json_set_int(o, "nodes", run->nodes);
    json_set_bool(o, "stop_requested", run->stop_requested);
    json_object_set_new(o, "exit_code", run->has_exit_code ? json_integer(run->exit_code) : json_null());
    json_set_time_ms(o, "created_at", run->created_at);
    json_set_time_ms(o, "started_at", run->started_at);
    json_set_time_ms(o, "ended_at", run->ended_at);
    json_object_set_new(o, "duration_ms", run->started_at ? json_integer(end - run->started_at) : json_null());
    json_set_string(o, "created_by", run->created_by);
    json_object_set(o, "spec", run->spec);
    json_object_set_new(o, "labels", run->labels ? json_incref(run->labels) : json_object());
    return o;
}

json_t *run_list(struct db_tx *tx, const struct run_filter *filter, char ret_next[ID_SIZE], struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *items = json_array();
    cleanup_free char *key = NULL, *path = NULL;
    const char *value = NULL;
    char last[ID_SIZE] = "", more[ID_SIZE] = "";
    int r, n = 0;

    if (filter->label) {
        const char *equals = strchr(filter->label, '=');

        key = equals ? xstrndup(filter->label, (size_t)(equals - filter->label)) : xstrdup(filter->label);
        value = equals ? equals + 1 : NULL;
        if (!*key || strchr(key, '"')) {
            error_set(error, ERROR_INVALID, "label must be KEY or KEY=VALUE, not '%.80s'", filter->label);
            return NULL;
        }
        path = xasprintf("$.\"%s\"", key);
    }
    if (db_query(tx, &rows, error,
                 "SELECT " RUN_COLUMNS " FROM runs WHERE (?1 IS NULL OR project = ?1) AND (?2 < 0 OR state = ?2) "
                 "AND (?3 IS NULL OR job = ?3) AND (?4 IS NULL OR model = ?4) "
                 "AND (?5 IS NULL OR (labels IS NOT NULL AND json_extract(labels, ?5) IS NOT NULL "
                 "AND (?6 IS NULL OR json_extract(labels, ?5) = ?6))) "
                 "AND (?7 IS NULL OR id < ?7) ORDER BY id DESC LIMIT ?8",
                 "sisssssi", filter->project, (int64_t)filter->state, filter->job, filter->model, path, value,
                 filter->before, (int64_t)filter->limit + 1) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        cleanup_run struct run *run = NULL;

        if (n++ == filter->limit) {
            memcpy(more, last, sizeof(last));
            break;
        }
        run = from_row(&rows, error);
        if (!run)
            return NULL;
        memcpy(last, run->id, sizeof(last));
        json_array_append_new(items, run_to_json(run));
    }
    if (r < 0)
        return NULL;
    memcpy(ret_next, more, sizeof(more)); /* may be the same memory as filter->before */
    return steal_ptr(items);
}

static const struct schema_field run_fields[] = {
    {"id", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "32 hex digits; they sort by time of creation"},
    {"project", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"state", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "queued, starting, running, succeeded, failed, stopped, lost"},
    {"reason", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "why it is in that state, a word for machines"},
    {"message", SCHEMA_STRING, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "the same for people"},
    {"job", SCHEMA_STRING, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"code_version", SCHEMA_INTEGER, .doc = "of the job"},
    {"code", SCHEMA_STRING, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "digest of the code archive"},
    {"model", SCHEMA_STRING, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"attempt", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"failures", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "attempts that failed and were repeated"},
    {"priority", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"nodes", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"stop_requested", SCHEMA_BOOLEAN, SCHEMA_REQUIRED},
    {"exit_code", SCHEMA_INTEGER, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "of the main node; 128 + signal if killed"},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"started_at", SCHEMA_TIME, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"ended_at", SCHEMA_TIME, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"duration_ms", SCHEMA_INTEGER, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"created_by", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"spec", SCHEMA_OBJECT, SCHEMA_REQUIRED, .doc = "what was decided at submission"},
    {"labels", SCHEMA_MAP, SCHEMA_REQUIRED, .item = SCHEMA_STRING},
    {},
};
const struct schema run_schema = {"Run", run_fields, "one execution of code"};
