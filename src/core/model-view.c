#include <string.h>
#include "core/model.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define MODEL_SELECT                                                                                                   \
    "SELECT m.project, m.name, (SELECT max(number) FROM model_versions WHERE model = m.id), "                          \
    "(SELECT count(*) FROM model_versions WHERE model = m.id), "                                                       \
    "(SELECT json_group_object(a.alias, v.number) FROM model_aliases a JOIN model_versions v ON v.id = a.version "     \
    "WHERE a.model = m.id), m.created_at FROM models m WHERE m.removed_at IS NULL "

static json_t *read_model(struct db_rows *rows, struct error *error)
{
    const char *name = db_text(rows, 1), *slash = strchr(name, '/');
    cleanup_free char *type = xstrndup(name, slash ? (size_t)(slash - name) : strlen(name));
    cleanup_json json_t *aliases = db_json(rows, 4, error);
    json_t *model;

    if (!aliases)
        return NULL;
    model = json_build("{s:s, s:s, s:s, s:I, s:O}", "project", db_text(rows, 0), "name", name, "type", type, "versions",
                       (json_int_t)db_int(rows, 3), "aliases", aliases);
    json_object_set_new(model, "newest", db_is_null(rows, 2) ? json_null() : json_integer(db_int(rows, 2)));
    json_set_time_ms(model, "created_at", db_int(rows, 5));
    return model;
}

json_t *model_list(struct db_tx *tx, const char *project, const char *type, const char *after, int limit,
                   struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *models = json_array();
    int r;

    if (db_query(tx, &rows, error,
                 MODEL_SELECT "AND (?1 IS NULL OR m.project = ?1) "
                              "AND (?2 IS NULL OR substr(m.name, 1, length(?2) + 1) = ?2 || '/') "
                              "AND (?3 IS NULL OR m.name > ?3) ORDER BY m.name, m.project LIMIT ?4",
                 "sssi", project, type, after, (int64_t)limit) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        json_t *model = read_model(&rows, error);

        if (!model)
            return NULL;
        json_array_append_new(models, model);
    }
    return r < 0 ? NULL : steal_ptr(models);
}

json_t *model_describe(struct db_tx *tx, const char *project, const char *model, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int64_t id;
    int r;

    if (model_find(tx, project, model, &id, error) < 0 ||
        db_query(tx, &rows, error, MODEL_SELECT "AND m.id = ?", "i", id) < 0)
        return NULL;
    r = db_next(&rows, error);
    if (r == 0)
        error_set(error, ERROR_NOT_FOUND, "there is no model %s in project %s", model, project);
    return r > 0 ? read_model(&rows, error) : NULL;
}

/* Columns in the order of read_version_row(). */
#define VERSION_SELECT                                                                                                 \
    "SELECT m.name, m.project, v.number, v.code, v.weights, c.digest, c.size, w.digest, w.size, w.name, v.run, "       \
    "w.generation, w.step, w.metrics, v.created_at, v.created_by, c.package, "                                         \
    "(SELECT json_group_array(alias) FROM (SELECT alias FROM model_aliases WHERE version = v.id ORDER BY alias)), "    \
    "(SELECT json_object('verdict', g.state, 'reason', g.reason, 'alias', g.alias) FROM gates g "                      \
    "WHERE g.project = m.project AND g.model = m.name AND g.version = v.number ORDER BY g.id DESC LIMIT 1), "          \
    "(SELECT json_group_array(name) FROM (SELECT e.name FROM endpoint_routes r JOIN endpoints e "                      \
    "ON e.id = r.endpoint WHERE r.version = v.id AND r.role IN ('live', 'canary') ORDER BY e.name)) "                  \
    "FROM model_versions v JOIN models m ON m.id = v.model "                                                           \
    "JOIN model_code c ON c.model = v.model AND c.number = v.code "                                                    \
    "LEFT JOIN model_weights w ON w.model = v.model AND w.number = v.weights "

static json_t *integer_or_null(struct db_rows *rows, int column)
{
    return db_is_null(rows, column) ? json_null() : json_integer(db_int(rows, column));
}

/* A JSON column; null for NULL; NULL on failure. */
static json_t *json_or_null(struct db_rows *rows, int column, struct error *error)
{
    return db_is_null(rows, column) ? json_null() : db_json(rows, column, error);
}

static json_t *read_version_row(struct db_rows *rows, struct error *error)
{
    cleanup_json json_t *version = json_object();
    cleanup_free char *address = xasprintf("%s@%lld", db_text(rows, 0), (long long)db_int(rows, 2));
    cleanup_free char *pair = db_is_null(rows, 4)
                                  ? xasprintf("%lld", (long long)db_int(rows, 3))
                                  : xasprintf("%lld.%lld", (long long)db_int(rows, 3), (long long)db_int(rows, 4));
    static const struct {
        const char *name;
        int column;
    } json_columns[] = {{"metrics", 13}, {"package", 16}, {"aliases", 17}, {"gate", 18}, {"served_by", 19}};

    json_set_string(version, "model", db_text(rows, 0));
    json_set_string(version, "project", db_text(rows, 1));
    json_set_string(version, "address", address);
    json_set_int(version, "version", db_int(rows, 2));
    json_set_string(version, "code_weights", pair);
    json_set_int(version, "code", db_int(rows, 3));
    json_object_set_new(version, "weights", integer_or_null(rows, 4));
    json_set_string(version, "code_digest", db_text(rows, 5));
    json_set_int(version, "code_size", db_int(rows, 6));
    json_set_string(version, "weights_digest", db_text(rows, 7));
    json_object_set_new(version, "weights_size", integer_or_null(rows, 8));
    json_set_string(version, "weights_name", db_text(rows, 9));
    json_set_string(version, "run", db_text(rows, 10));
    json_object_set_new(version, "generation", integer_or_null(rows, 11));
    json_object_set_new(version, "step", integer_or_null(rows, 12));
    for (size_t i = 0; i < ARRAY_SIZE(json_columns); i++) {
        json_t *value = json_or_null(rows, json_columns[i].column, error);

        if (!value)
            return NULL;
        json_object_set_new(version, json_columns[i].name, value);
    }
    if (json_is_null(json_object_get(version, "metrics")))
        json_object_set_new(version, "metrics", json_object());
    json_set_time_ms(version, "created_at", db_int(rows, 14));
    json_set_string(version, "created_by", db_text(rows, 15));
    return steal_ptr(version);
}

json_t *model_version_describe(struct db_tx *tx, int64_t id, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error, VERSION_SELECT "WHERE v.id = ?", "i", id) < 0)
        return NULL;
    r = db_next(&rows, error);
    if (r == 0)
        error_set(error, ERROR_NOT_FOUND, "the model version does not exist any more");
    return r > 0 ? read_version_row(&rows, error) : NULL;
}

json_t *model_versions(struct db_tx *tx, const char *project, const char *model, int64_t before, int limit,
                       struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *versions = json_array();
    int64_t id;
    int r;

    if (model_find(tx, project, model, &id, error) < 0 ||
        db_query(tx, &rows, error,
                 VERSION_SELECT "WHERE v.model = ?1 AND (?2 = 0 OR v.number < ?2) ORDER BY v.number DESC LIMIT ?3",
                 "iii", id, before, (int64_t)limit) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        json_t *version = read_version_row(&rows, error);

        if (!version)
            return NULL;
        json_array_append_new(versions, version);
    }
    return r < 0 ? NULL : steal_ptr(versions);
}
