#include <string.h>
#include "core/project.h"
#include "store/journal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

/* What a project holds; while one of these counts something it cannot be removed. */
static const struct {
    const char *name;
    const char *count;
} contents[] = {
    {"datasets", "SELECT COUNT(*) FROM datasets d WHERE project = ? AND EXISTS (SELECT 1 FROM dataset_versions v "
                 "WHERE v.dataset = d.id)"},
    {"environments", "SELECT COUNT(*) FROM environments WHERE project = ?"},
    {"jobs", "SELECT COUNT(*) FROM jobs WHERE project = ?"},
    {"runs", "SELECT COUNT(*) FROM runs WHERE project = ?"},
    {"models", "SELECT COUNT(*) FROM models WHERE project = ? AND removed_at IS NULL"},
    {"endpoints", "SELECT COUNT(*) FROM endpoints WHERE project = ?"},
};

static int append_event(struct db_tx *tx, const char *type, const char *name, const char *actor, struct error *error)
{
    cleanup_free char *subject = xasprintf("project/%s", name);
    struct journal_event event = {type, subject, name, actor, NULL};

    return journal_append(tx, &event, NULL, error);
}

int project_create(struct db_tx *tx, const char *name, const char *description, const char *actor, struct error *error)
{
    cleanup_error struct error local = ERROR_INIT;

    if (parse_name(name, "project", error) < 0)
        return -1;
    if (description && strlen(description) > LIMIT_DESCRIPTION)
        return error_set(error, ERROR_TOO_LARGE, "a description has at most %d bytes", (int)LIMIT_DESCRIPTION);
    if (db_exec(tx, &local, "INSERT INTO projects (name, description, created_at) VALUES (?, ?, ?)", "ssi", name,
                description ? description : "", clock_wall_ms()) < 0) {
        if (local.code == ERROR_EXISTS)
            return error_set(error, ERROR_EXISTS, "project %s exists already", name);
        error_move(error, &local);
        return -1;
    }
    return append_event(tx, "slipway.project.created", name, actor, error);
}

static int unknown(struct db_tx *tx, const char *name, struct error *error)
{
    cleanup_strbuf struct strbuf names = STRBUF_INIT(LIMIT_DESCRIPTION);
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error, "SELECT name FROM projects ORDER BY name LIMIT 20", NULL) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0)
        strbuf_addf(&names, "%s%s", names.length ? ", " : "", db_text(&rows, 0));
    if (r < 0)
        return -1;
    return error_set(error, ERROR_NOT_FOUND, "project %.80s does not exist; there are %s", name, names.data);
}

int project_check(struct db_tx *tx, const char *name, struct error *error)
{
    int64_t count;

    if (db_query_int(tx, &count, error, "SELECT COUNT(*) FROM projects WHERE name = ?", "s", name) < 0)
        return -1;
    return count ? 0 : unknown(tx, name, error);
}

static int check_empty(struct db_tx *tx, const char *name, struct error *error)
{
    for (size_t i = 0; i < ARRAY_SIZE(contents); i++) {
        int64_t count;

        if (db_query_int(tx, &count, error, contents[i].count, "s", name) < 0)
            return -1;
        if (count)
            return error_set(error, ERROR_CONFLICT, "project %s is not empty: it has %lld %s", name, (long long)count,
                             contents[i].name);
    }
    return 0;
}

int project_remove(struct db_tx *tx, const char *name, const char *actor, struct error *error)
{
    if (project_check(tx, name, error) < 0)
        return -1;
    if (strcmp(name, PROJECT_DEFAULT) == 0)
        return error_set(error, ERROR_CONFLICT, "the project %s is always there", name);
    if (check_empty(tx, name, error) < 0 || db_exec(tx, error, "DELETE FROM tokens WHERE project = ?", "s", name) < 0 ||
        db_exec(tx, error, "DELETE FROM datasets WHERE project = ?", "s", name) < 0 ||
        db_exec(tx, error, "DELETE FROM projects WHERE name = ?", "s", name) < 0)
        return -1;
    return append_event(tx, "slipway.project.removed", name, actor, error);
}

static json_t *to_json(struct db_tx *tx, const char *name, const char *description, int64_t created_at,
                       struct error *error)
{
    cleanup_json json_t *project = json_object();

    json_set_string(project, "name", name);
    json_set_string(project, "description", description);
    json_set_time_ms(project, "created_at", created_at);
    for (size_t i = 0; i < ARRAY_SIZE(contents); i++) {
        int64_t count;

        if (db_query_int(tx, &count, error, contents[i].count, "s", name) < 0)
            return NULL;
        json_set_int(project, contents[i].name, count);
    }
    return steal_ptr(project);
}

json_t *project_show(struct db_tx *tx, const char *name, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error, "SELECT name, description, created_at FROM projects WHERE name = ?", "s", name) < 0)
        return NULL;
    r = db_next(&rows, error);
    if (r == 0)
        unknown(tx, name, error);
    if (r <= 0)
        return NULL;
    return to_json(tx, db_text(&rows, 0), db_text(&rows, 1), db_int(&rows, 2), error);
}

json_t *project_list(struct db_tx *tx, const char *after, int limit, char **ret_next, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *items = json_array();
    cleanup_free char *next = NULL;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT name, description, created_at FROM projects WHERE ?1 IS NULL OR name > ?1 ORDER BY name "
                 "LIMIT ?2",
                 "si", after, (int64_t)limit + 1) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        json_t *project;

        if ((int)json_array_size(items) == limit) {
            next = xstrdup(json_get_string(json_array_get(items, (size_t)limit - 1), "name", ""));
            break;
        }
        project = to_json(tx, db_text(&rows, 0), db_text(&rows, 1), db_int(&rows, 2), error);
        if (!project)
            return NULL;
        json_array_append_new(items, project);
    }
    if (r < 0)
        return NULL;
    *ret_next = steal_ptr(next);
    return steal_ptr(items);
}
