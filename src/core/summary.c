#include "core/run.h"
#include "core/summary.h"

/* Rows of (state, count). Numbers of states become their names by the machine. */
static json_t *count_states(struct db_tx *tx, const char *sql, const struct state_machine *machine, struct error *error)
{
    cleanup_json json_t *counts = json_object();
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error, sql, "") < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0)
        json_set_int(counts, machine ? state_name(machine, (int)db_int(&rows, 0)) : db_text(&rows, 0),
                     db_int(&rows, 1));
    return r < 0 ? NULL : steal_ptr(counts);
}

int summary_describe(struct db_tx *tx, json_t **ret_summary, struct error *error)
{
    static const struct {
        const char *key, *sql;
    } counts[] = {
        {"datasets", "SELECT count(*) FROM datasets"},
        {"models", "SELECT count(*) FROM models"},
        {"endpoints", "SELECT count(*) FROM endpoints WHERE desired = 'serving'"},
    };
    cleanup_json json_t *runs = NULL, *replicas = NULL;
    json_t *summary;
    int64_t values[ARRAY_SIZE(counts)];

    runs = count_states(tx, "SELECT state, count(*) FROM runs GROUP BY state ORDER BY state", &run_states, error);
    if (!runs)
        return -1;
    replicas = count_states(tx, "SELECT state, count(*) FROM replicas GROUP BY state ORDER BY state", NULL, error);
    if (!replicas)
        return -1;
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
        if (db_query_int(tx, &values[i], error, counts[i].sql, "") < 0)
            return -1;
    summary = json_build("{s:O, s:O}", "runs", runs, "replicas", replicas);
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
        json_set_int(summary, counts[i].key, values[i]);
    *ret_summary = summary;
    return 0;
}
