#include <string.h>
#include "core/model.h"
#include "store/journal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/xalloc.h"

static int record_move(struct db_tx *tx, int64_t model, const char *alias, int64_t version, int64_t previous,
                       const char *reason, const char *actor, struct error *error)
{
    return db_exec(tx, error,
                   "INSERT INTO model_alias_moves (model, alias, version, previous, reason, actor, time) "
                   "VALUES (?, ?, nullif(?, 0), nullif(?, 0), ?, ?, ?)",
                   "isiissi", model, alias, version, previous, reason, actor ? actor : "system", clock_wall_ms());
}

static int announce(struct db_tx *tx, const char *type, const char *project, const char *model, const char *alias,
                    int64_t version, int64_t previous, const char *reason, const char *actor, struct error *error)
{
    cleanup_free char *subject = xasprintf("model/%s@%s", model, alias);
    cleanup_json json_t *data = json_build("{s:s, s:s}", "alias", alias, "reason", reason);
    const struct journal_event event = {
        .type = type, .subject = subject, .project = project, .actor = actor, .data = data};

    json_object_set_new(data, "version", version ? json_integer(version) : json_null());
    json_object_set_new(data, "previous", previous ? json_integer(previous) : json_null());
    return journal_append(tx, &event, NULL, error);
}

/* Number of the version that the alias points to, 0 for none. */
static int alias_target(struct db_tx *tx, int64_t model, const char *alias, int64_t *ret_number, struct error *error)
{
    return db_query_int(tx, ret_number, error,
                        "SELECT ifnull((SELECT v.number FROM model_aliases a JOIN model_versions v ON v.id = a.version "
                        "WHERE a.model = ? AND a.alias = ?), 0)",
                        "is", model, alias);
}

static int point(struct db_tx *tx, int64_t model, const char *alias, int64_t version_id, struct error *error)
{
    return db_exec(tx, error,
                   "INSERT INTO model_aliases (model, alias, version, updated_at) VALUES (?, ?, ?, ?) "
                   "ON CONFLICT (model, alias) DO UPDATE SET version = excluded.version, "
                   "updated_at = excluded.updated_at",
                   "isii", model, alias, version_id, clock_wall_ms());
}

int model_promote(struct db_tx *tx, const struct model_version *version, const char *alias, const char *reason,
                  const char *actor, struct error *error)
{
    int64_t previous;

    if (model_check_alias(alias, error) < 0 || alias_target(tx, version->model_id, alias, &previous, error) < 0)
        return -1;
    if (previous == version->number)
        return 0;
    if (point(tx, version->model_id, alias, version->id, error) < 0 ||
        record_move(tx, version->model_id, alias, version->number, previous, reason, actor, error) < 0)
        return -1;
    return announce(tx, "slipway.model.promoted", version->project, version->model, alias, version->number, previous,
                    reason, actor, error);
}

/* Replays the moves: a move forward puts where the alias was on a stack, a rollback takes it off. What
 * remains, from the top, is where it can go back to. */
static int read_stack(struct db_tx *tx, int64_t model, const char *alias, int64_t **ret_stack, size_t *ret_count,
                      struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_free int64_t *stack = NULL;
    size_t count = 0, capacity = 0;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT reason, previous FROM model_alias_moves WHERE model = ? AND alias = ? ORDER BY id", "is",
                 model, alias) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0) {
        const char *reason = db_text(&rows, 0);

        if (strcmp(reason, "removed") == 0) {
            count = 0;
        } else if (strcmp(reason, "rollback") == 0) {
            count -= count > 0;
        } else if (!db_is_null(&rows, 1)) {
            if (count == capacity) {
                capacity = capacity ? 2 * capacity : 16;
                stack = xreallocarray(stack, capacity, sizeof(*stack));
            }
            stack[count++] = db_int(&rows, 1);
        }
    }
    if (r < 0)
        return -1;
    *ret_stack = steal_ptr(stack);
    *ret_count = count;
    return 0;
}

static int go_back(struct db_tx *tx, int64_t model, const char *project, const char *name, const char *alias,
                   int64_t target, const char *actor, struct error *error)
{
    cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
    char number[24];
    int64_t present;

    snprintf(number, sizeof(number), "%lld", (long long)target);
    if (model_resolve(tx, project, name, number, &version, error) < 0 ||
        alias_target(tx, model, alias, &present, error) < 0 || point(tx, model, alias, version.id, error) < 0 ||
        record_move(tx, model, alias, target, present, "rollback", actor, error) < 0)
        return -1;
    return announce(tx, "slipway.model.rolled_back", project, name, alias, target, present, "rollback", actor, error);
}

int model_rollback(struct db_tx *tx, const char *project, const char *model, const char *alias, const char *actor,
                   int64_t *ret_version, struct error *error)
{
    cleanup_free int64_t *stack = NULL;
    size_t count = 0;
    int64_t id, target;

    if (model_check_alias(alias, error) < 0 || model_find(tx, project, model, &id, error) < 0 ||
        alias_target(tx, id, alias, &target, error) < 0)
        return -1;
    if (!target)
        return error_set(error, ERROR_NOT_FOUND, "%s has no alias '%s'", model, alias);
    if (read_stack(tx, id, alias, &stack, &count, error) < 0)
        return -1;
    if (count == 0)
        return error_set(error, ERROR_CONFLICT, "%s@%s has no earlier version to go back to; it points to %s@%lld",
                         model, alias, model, (long long)target);
    target = stack[count - 1];
    if (go_back(tx, id, project, model, alias, target, actor, error) < 0)
        return error_wrap(error, "cannot roll back %s@%s", model, alias);
    if (ret_version)
        *ret_version = target;
    return 0;
}

int model_remove_alias(struct db_tx *tx, const char *project, const char *model, const char *alias, const char *actor,
                       struct error *error)
{
    cleanup_error struct error why = ERROR_INIT;
    int64_t id, present, endpoint;

    if (model_check_alias(alias, error) < 0 || model_find(tx, project, model, &id, error) < 0 ||
        alias_target(tx, id, alias, &present, error) < 0)
        return -1;
    if (!present)
        return error_set(error, ERROR_NOT_FOUND, "%s has no alias '%s'", model, alias);
    if (db_query_int(tx, &endpoint, &why, "SELECT id FROM endpoints WHERE model = ? AND follow = ? LIMIT 1", "is", id,
                     alias) == 0)
        return error_set(error, ERROR_CONFLICT, "an endpoint follows %s@%s", model, alias);
    if (why.code != ERROR_NOT_FOUND) {
        error_move(error, &why);
        return -1;
    }
    if (db_exec(tx, error, "DELETE FROM model_aliases WHERE model = ? AND alias = ?", "is", id, alias) < 0 ||
        record_move(tx, id, alias, 0, present, "removed", actor, error) < 0)
        return -1;
    return announce(tx, "slipway.model.alias_removed", project, model, alias, 0, present, "removed", actor, error);
}

json_t *model_alias_history(struct db_tx *tx, const char *project, const char *model, const char *alias, int limit,
                            struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *moves = json_array();
    int64_t id;
    int r;

    if (model_find(tx, project, model, &id, error) < 0 ||
        db_query(tx, &rows, error,
                 "SELECT alias, version, previous, reason, actor, time FROM model_alias_moves "
                 "WHERE model = ?1 AND (?2 IS NULL OR alias = ?2) ORDER BY id DESC LIMIT ?3",
                 "isi", id, alias, (int64_t)limit) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        json_t *move = json_build("{s:s, s:s, s:s}", "alias", db_text(&rows, 0), "reason", db_text(&rows, 3), "actor",
                                  db_text(&rows, 4));

        json_object_set_new(move, "version", db_is_null(&rows, 1) ? json_null() : json_integer(db_int(&rows, 1)));
        json_object_set_new(move, "previous", db_is_null(&rows, 2) ? json_null() : json_integer(db_int(&rows, 2)));
        json_set_time_ms(move, "time", db_int(&rows, 5));
        json_array_append_new(moves, move);
    }
    return r < 0 ? NULL : steal_ptr(moves);
}
