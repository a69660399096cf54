/* Datasets as JSON, for the API. */
#include <inttypes.h>
#include <string.h>
#include "core/dataset.h"
#include "util/limits.h"
#include "util/xalloc.h"

static void set_rows(json_t *object, struct db_rows *rows, int column)
{
    json_object_set_new(object, "rows", db_is_null(rows, column) ? json_null() : json_integer(db_int(rows, column)));
}

json_t *dataset_list(struct db_tx *tx, const char *project, const char *after, int limit, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *items = json_array();
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT d.name, v.version, (SELECT count(*) FROM dataset_versions n WHERE n.dataset = d.id), "
                 "v.row_count, v.size, v.created_at, v.description FROM datasets d JOIN dataset_versions v "
                 "ON v.dataset = d.id AND v.version = (SELECT max(m.version) FROM dataset_versions m "
                 "WHERE m.dataset = d.id) WHERE d.project = ? AND d.name > ? ORDER BY d.name LIMIT ?",
                 "ssi", project, after ? after : "", (int64_t)limit) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        json_t *item = json_object();

        json_set_string(item, "name", db_text(&rows, 0));
        json_set_string(item, "project", project);
        json_set_int(item, "version", db_int(&rows, 1));
        json_set_int(item, "versions", db_int(&rows, 2));
        set_rows(item, &rows, 3);
        json_set_int(item, "size", db_int(&rows, 4));
        json_set_time_ms(item, "created_at", db_int(&rows, 5));
        json_set_string(item, "description", db_text(&rows, 6));
        json_array_append_new(items, item);
    }
    return r < 0 ? NULL : steal_ptr(items);
}

json_t *dataset_versions(struct db_tx *tx, const char *project, const char *name, int64_t before, int limit,
                         struct error *error)
{
    cleanup_dataset_info struct dataset_info newest = DATASET_INFO_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *items = json_array();
    int r;

    if (dataset_resolve(tx, project, name, &newest, error) < 0)
        return NULL;
    if (db_query(tx, &rows, error,
                 "SELECT v.version, v.row_count, v.size, v.created_at, v.created_by, v.description "
                 "FROM dataset_versions v JOIN datasets d ON d.id = v.dataset "
                 "WHERE d.project = ? AND d.name = ? AND v.version < ? ORDER BY v.version DESC LIMIT ?",
                 "ssii", newest.project, newest.name, before > 0 ? before : INT64_MAX, (int64_t)limit) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        cleanup_free char *address = xasprintf("%s@%" PRId64, newest.name, db_int(&rows, 0));
        json_t *item = json_object();

        json_set_string(item, "address", address);
        json_set_int(item, "version", db_int(&rows, 0));
        set_rows(item, &rows, 1);
        json_set_int(item, "size", db_int(&rows, 2));
        json_set_time_ms(item, "created_at", db_int(&rows, 3));
        json_set_string(item, "created_by", db_text(&rows, 4));
        json_set_string(item, "description", db_text(&rows, 5));
        json_array_append_new(items, item);
    }
    return r < 0 ? NULL : steal_ptr(items);
}

static json_t *describe_files(const struct dataset_info *info)
{
    json_t *files = json_array();

    for (size_t i = 0; i < info->n_files; i++) {
        char digest[DIGEST_TEXT_SIZE];

        json_array_append_new(files, json_build("{s:s, s:s, s:I}", "name", info->files[i].name, "digest",
                                                digest_format(&info->files[i].digest, digest), "size",
                                                (json_int_t)info->files[i].size));
    }
    return files;
}

/* A JSON column, or null. */
static int set_column(json_t *object, const char *key, struct db_rows *rows, int column, struct error *error)
{
    json_t *value = NULL;

    if (!db_is_null(rows, column)) {
        value = db_json(rows, column, error);
        if (!value)
            return -1;
    }
    json_object_set_new(object, key, value ? value : json_null());
    return 0;
}

json_t *dataset_describe(struct db_tx *tx, const struct dataset_info *info, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *object = json_object();

    if (db_query(tx, &rows, error,
                 "SELECT description, created_at, created_by, row_count, schema, lineage FROM dataset_versions "
                 "WHERE id = ?",
                 "i", info->id) < 0)
        return NULL;
    if (db_next(&rows, error) <= 0) {
        if (!error_is_set(error))
            error_set(error, ERROR_NOT_FOUND, "dataset %s does not exist any more", info->address);
        return NULL;
    }
    json_set_string(object, "address", info->address);
    json_set_string(object, "name", info->name);
    json_set_string(object, "project", info->project);
    json_set_int(object, "version", info->version);
    json_set_string(object, "description", db_text(&rows, 0));
    json_set_time_ms(object, "created_at", db_int(&rows, 1));
    json_set_string(object, "created_by", db_text(&rows, 2));
    set_rows(object, &rows, 3);
    json_set_int(object, "size", info->size);
    json_object_set_new(object, "files", describe_files(info));
    if (set_column(object, "schema", &rows, 4, error) < 0 || set_column(object, "lineage", &rows, 5, error) < 0)
        return NULL;
    return steal_ptr(object);
}

/* Addresses of the versions that were made from this one. */
static json_t *list_children(struct db_tx *tx, const struct dataset_info *info, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *children = json_array();
    cleanup_free char *parent = xasprintf("%s:%s", info->project, info->address);
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT d.project || ':' || d.name || '@' || v.version FROM dataset_parents p "
                 "JOIN dataset_versions v ON v.id = p.version_id JOIN datasets d ON d.id = v.dataset "
                 "WHERE p.parent = ? ORDER BY v.id LIMIT ?",
                 "si", parent, (int64_t)LIMIT_PAGE) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0)
        json_array_append_new(children, json_string(db_text(&rows, 0)));
    return r < 0 ? NULL : steal_ptr(children);
}

static json_t *list_uses(struct db_tx *tx, const struct dataset_info *info, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *uses = json_array();
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT kind, address, active FROM dataset_uses WHERE version_id = ? "
                 "ORDER BY active DESC, kind, address LIMIT ?",
                 "ii", info->id, (int64_t)LIMIT_PAGE) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0)
        json_array_append_new(uses, json_build("{s:s, s:s, s:b}", "kind", db_text(&rows, 0), "address",
                                               db_text(&rows, 1), "active", (int)db_int(&rows, 2)));
    return r < 0 ? NULL : steal_ptr(uses);
}

json_t *dataset_lineage(struct db_tx *tx, const struct dataset_info *info, struct error *error)
{
    static const char *const keys[] = {"sources", "options", "run", "parents"};
    cleanup_json json_t *version = dataset_describe(tx, info, error), *children = NULL, *uses = NULL;
    cleanup_json json_t *object = json_object();
    const json_t *lineage;

    if (!version)
        return NULL;
    lineage = json_object_get(version, "lineage");
    json_set_string(object, "address", info->address);
    json_object_set(object, "created_at", json_object_get(version, "created_at"));
    json_object_set(object, "created_by", json_object_get(version, "created_by"));
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        json_t *value = json_object_get(lineage, keys[i]);

        json_object_set_new(object, keys[i], value ? json_incref(value) : json_null());
    }
    children = list_children(tx, info, error);
    uses = children ? list_uses(tx, info, error) : NULL;
    if (!uses)
        return NULL;
    json_object_set(object, "children", children);
    json_object_set(object, "used_by", uses);
    return steal_ptr(object);
}
