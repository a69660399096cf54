/* Nodes and weights generations of runs. */
#include <string.h>
#include "core/run.h"
#include "store/journal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/xalloc.h"

char *run_node_directory(int attempt, int node, char buffer[RUN_NODE_DIRECTORY_SIZE])
{
    if (attempt <= 1)
        snprintf(buffer, RUN_NODE_DIRECTORY_SIZE, "%d", node);
    else
        snprintf(buffer, RUN_NODE_DIRECTORY_SIZE, "%d.a%d", node, attempt);
    return buffer;
}

const char *run_node_role(const struct run *run, int node, int *ret_index_in_role)
{
    static const char *const order[] = {"chief", "main", "worker", "ps"};
    const json_t *nodes = json_object_get(run->spec, "nodes");
    int left = node;

    for (size_t i = 0; nodes && i < ARRAY_SIZE(order); i++) {
        int count = (int)json_get_int(nodes, order[i], 0);

        if (left < count) {
            *ret_index_in_role = left;
            return order[i];
        }
        left -= count;
    }
    *ret_index_in_role = node;
    return "main";
}

int run_add_node(struct db_tx *tx, const struct run *run, int node, const char *role, const char *gpus,
                 struct error *error)
{
    return db_exec(tx, error,
                   "INSERT INTO run_nodes (run_id, attempt, node, role, state, gpus, launched_at) "
                   "VALUES (?, ?, ?, ?, ?, ?, ?)",
                   "siisisi", run->id, (int64_t)run->attempt, (int64_t)node, role, (int64_t)NODE_LAUNCHING, gpus,
                   clock_wall_ms());
}

int run_set_node_state(struct db_tx *tx, const char *run_id, int attempt, int node, enum node_state state,
                       const json_t *exit, struct error *error)
{
    int64_t now = clock_wall_ms(), old;

    if (db_query_int(tx, &old, error, "SELECT state FROM run_nodes WHERE run_id = ? AND attempt = ? AND node = ?",
                     "sii", run_id, (int64_t)attempt, (int64_t)node) < 0)
        return error_wrap(error, "node %d of run %s", node, run_id);
    if (old == (int64_t)state)
        return 0;
    if (state_check(&node_states, (int)old, (int)state, error) < 0)
        return -1;
    return db_exec(tx, error,
                   "UPDATE run_nodes SET state = ?, exit = coalesce(?, exit), "
                   "started_at = CASE WHEN ? THEN ? ELSE started_at END, "
                   "ended_at = CASE WHEN ? THEN ? ELSE ended_at END "
                   "WHERE run_id = ? AND attempt = ? AND node = ?",
                   "ijiiiisii", (int64_t)state, exit, (int64_t)(state == NODE_RUNNING), now,
                   (int64_t)(state >= NODE_EXITED), now, run_id, (int64_t)attempt, (int64_t)node);
}

int run_load_node(struct db_tx *tx, const char *run_id, int attempt, int node, struct run_node *ret_node,
                  struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT role, state, intake_offset, intake_sequence FROM run_nodes "
                 "WHERE run_id = ? AND attempt = ? AND node = ?",
                 "sii", run_id, (int64_t)attempt, (int64_t)node) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r < 0 ? -1
                     : error_set(error, ERROR_NOT_FOUND, "run %s has no node %d in attempt %d", run_id, node, attempt);
    *ret_node = (struct run_node){.attempt = attempt,
                                  .node = node,
                                  .state = (enum node_state)db_int(&rows, 1),
                                  .intake_offset = db_int(&rows, 2),
                                  .intake_sequence = db_int(&rows, 3)};
    snprintf(ret_node->role, sizeof(ret_node->role), "%s", db_text(&rows, 0));
    return 0;
}

json_t *run_node_exit(struct db_tx *tx, const char *run_id, int attempt, int node, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT exit FROM run_nodes WHERE run_id = ? AND attempt = ? AND node = ? AND exit IS NOT NULL", "sii",
                 run_id, (int64_t)attempt, (int64_t)node) < 0)
        return NULL;
    r = db_next(&rows, error);
    if (r == 0)
        error_set(error, ERROR_NOT_FOUND, "node %d of run %s has no exit record", node, run_id);
    return r > 0 ? db_json(&rows, 0, error) : NULL;
}

static void set_json_column(json_t *object, const char *key, struct db_rows *rows, int column)
{
    json_t *value = db_is_null(rows, column) ? NULL : db_json(rows, column, NULL);

    json_object_set_new(object, key, value ? value : json_null());
}

json_t *run_nodes(struct db_tx *tx, const char *run_id, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *items = json_array();
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT attempt, node, role, state, gpus, warnings, launched_at, started_at, ended_at, "
                 "exit, stats "
                 "FROM run_nodes WHERE run_id = ? ORDER BY attempt, node",
                 "s", run_id) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        json_t *item = json_object();

        json_set_int(item, "attempt", db_int(&rows, 0));
        json_set_int(item, "node", db_int(&rows, 1));
        json_set_string(item, "role", db_text(&rows, 2));
        json_set_string(item, "state", state_name(&node_states, (int)db_int(&rows, 3)));
        json_set_string(item, "gpus", db_text(&rows, 4));
        json_set_int(item, "warnings", db_int(&rows, 5));
        json_set_time_ms(item, "launched_at", db_int(&rows, 6));
        json_set_time_ms(item, "started_at", db_int(&rows, 7));
        json_set_time_ms(item, "ended_at", db_int(&rows, 8));
        set_json_column(item, "exit", &rows, 9);
        set_json_column(item, "stats", &rows, 10);
        json_array_append_new(items, item);
    }
    return r < 0 ? NULL : steal_ptr(items);
}

/* -- weights -- */

int run_add_weights(struct db_tx *tx, const struct run *run, const struct run_weights *weights, int *ret_generation,
                    bool *ret_new, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *data = NULL;
    cleanup_free char *subject = NULL;
    struct journal_event event;
    char digest[DIGEST_TEXT_SIZE];
    int64_t generation;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT generation FROM run_weights "
                 "WHERE run_id = ? AND attempt = ? AND node = ? AND node_generation = ?",
                 "siii", run->id, (int64_t)weights->attempt, (int64_t)weights->node,
                 (int64_t)weights->node_generation) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r < 0)
        return -1;
    if (ret_new)
        *ret_new = r == 0;
    if (r > 0) {
        *ret_generation = (int)db_int(&rows, 0);
        return 0;
    }
    db_rows_end(&rows);

    digest_format(&weights->digest, digest);
    if (db_query_int(tx, &generation, error,
                     "SELECT coalesce(max(generation), 0) + 1 FROM run_weights WHERE run_id = ?", "s", run->id) < 0)
        return -1;
    if (db_exec(tx, error,
                "INSERT INTO run_weights (run_id, generation, attempt, node, node_generation, name, digest, "
                "size, "
                "step, created_at) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, "
                "(SELECT last_step FROM run_nodes WHERE run_id = ?1 AND attempt = ?3 AND node = ?4), ?9",
                "siiiissii", run->id, generation, (int64_t)weights->attempt, (int64_t)weights->node,
                (int64_t)weights->node_generation, weights->name, digest, (int64_t)weights->size,
                weights->created_at) < 0)
        return -1;

    subject = xasprintf("run/%s", run->id);
    data = json_build("{s:I, s:s, s:I, s:s}", "generation", (json_int_t)generation, "digest", digest, "size",
                      (json_int_t)weights->size, "name", weights->name);
    event = (struct journal_event){
        .type = "slipway.run.weights", .subject = subject, .project = run->project, .data = data};
    if (journal_append(tx, &event, NULL, error) < 0)
        return -1;
    *ret_generation = (int)generation;
    return 0;
}

json_t *run_weights_list(struct db_tx *tx, const char *run_id, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *items = json_array();
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT generation, digest, size, step, name, created_at, attempt, node FROM run_weights "
                 "WHERE run_id = ? ORDER BY generation",
                 "s", run_id) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        json_t *item = json_object();

        json_set_int(item, "generation", db_int(&rows, 0));
        json_set_string(item, "digest", db_text(&rows, 1));
        json_set_int(item, "size", db_int(&rows, 2));
        json_object_set_new(item, "step", db_is_null(&rows, 3) ? json_null() : json_real(db_real(&rows, 3)));
        json_set_string(item, "name", db_text(&rows, 4));
        json_set_time_ms(item, "created_at", db_int(&rows, 5));
        json_set_int(item, "attempt", db_int(&rows, 6));
        json_set_int(item, "node", db_int(&rows, 7));
        json_array_append_new(items, item);
    }
    return r < 0 ? NULL : steal_ptr(items);
}

int run_newest_weights(struct db_tx *tx, const char *run_id, struct digest *ret_digest, int *ret_generation,
                       struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT digest, generation FROM run_weights WHERE run_id = ? ORDER BY generation DESC LIMIT 1", "s",
                 run_id) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r < 0 ? -1 : error_set(error, ERROR_NOT_FOUND, "run %s has kept no weights", run_id);
    *ret_generation = (int)db_int(&rows, 1);
    return digest_parse(db_text(&rows, 0), ret_digest, error);
}
