#include "core/dataset.h"

#include <inttypes.h>
#include <string.h>
#include "core/ref.h"
#include "store/journal.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

void dataset_info_release(struct dataset_info *info)
{
    free(info->project);
    free(info->name);
    free(info->address);
    for (size_t i = 0; i < info->n_files; i++)
        free(info->files[i].name);
    free(info->files);
    *info = (struct dataset_info)DATASET_INFO_INIT;
}

/* -- find -- */

/* Names that begin alike, for the message about one that does not exist. */
static void add_similar(struct db_tx *tx, const char *project, const char *name, struct strbuf *message)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_free char *pattern = xasprintf("%.2s*", name);
    const char *before = "; there are ";

    if (db_query(tx, &rows, NULL,
                 "SELECT name FROM datasets WHERE project = ? AND name GLOB ? AND EXISTS "
                 "(SELECT 1 FROM dataset_versions v WHERE v.dataset = datasets.id) ORDER BY name LIMIT 5",
                 "ss", project, pattern) < 0)
        return;
    while (db_next(&rows, NULL) > 0) {
        strbuf_addf(message, "%s%s", before, db_text(&rows, 0));
        before = ", ";
    }
}

/* The dataset's row and its newest version that is there (0: none). ERROR_NOT_FOUND. */
static int find_dataset(struct db_tx *tx, const char *project, const char *name, int64_t *ret_id, int64_t *ret_newest,
                        struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_strbuf struct strbuf similar = STRBUF_INIT(1024);
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT d.id, (SELECT max(version) FROM dataset_versions v WHERE v.dataset = d.id) "
                 "FROM datasets d WHERE project = ? AND name = ?",
                 "ss", project, name) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r < 0)
        return -1;
    if (r > 0 && !db_is_null(&rows, 1)) {
        *ret_id = db_int(&rows, 0);
        *ret_newest = db_int(&rows, 1);
        return 0;
    }
    add_similar(tx, project, name, &similar);
    return error_set(error, ERROR_NOT_FOUND, "dataset %s does not exist in project %s%s", name, project, similar.data);
}

static int load_files(struct db_tx *tx, struct dataset_info *info, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    size_t capacity = 0;
    int r;

    if (db_query(tx, &rows, error, "SELECT name, digest, size FROM dataset_files WHERE version_id = ? ORDER BY name",
                 "i", info->id) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0) {
        struct dataset_file *file;

        if (info->n_files == capacity) {
            capacity = capacity ? 2 * capacity : 4;
            info->files = xreallocarray(info->files, capacity, sizeof(*info->files));
        }
        file = &info->files[info->n_files];
        if (digest_parse(db_text(&rows, 1), &file->digest, error) < 0)
            return -1;
        file->name = xstrdup(db_text(&rows, 0));
        file->size = db_int(&rows, 2);
        info->n_files++;
    }
    return r;
}

/* One version by its dataset's row. */
static int load_version(struct db_tx *tx, const char *project, const char *name, int64_t dataset, int64_t version,
                        int64_t newest, struct dataset_info *ret_info, struct error *error)
{
    cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error, "SELECT id, row_count, size FROM dataset_versions WHERE dataset = ? AND version = ?",
                 "ii", dataset, version) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r < 0)
        return -1;
    if (r == 0)
        return error_set(error, ERROR_NOT_FOUND, "dataset %s@%" PRId64 " does not exist; the newest is %s@%" PRId64,
                         name, version, name, newest);
    info.id = db_int(&rows, 0);
    info.rows = db_is_null(&rows, 1) ? -1 : db_int(&rows, 1);
    info.size = db_int(&rows, 2);
    info.project = xstrdup(project);
    info.name = xstrdup(name);
    info.version = version;
    info.address = xasprintf("%s@%" PRId64, name, version);
    if (load_files(tx, &info, error) < 0)
        return -1;
    *ret_info = info;
    info = (struct dataset_info)DATASET_INFO_INIT;
    return 0;
}

static int parse_address(const char *text, struct ref *ret_ref, struct error *error)
{
    cleanup_ref struct ref ref = REF_INIT;

    if (ref_parse(text, "dataset", &ref, error) < 0)
        return -1;
    if (parse_name(ref.name, "dataset", error) < 0)
        return -1;
    *ret_ref = ref;
    ref = (struct ref)REF_INIT;
    return 0;
}

int dataset_resolve(struct db_tx *tx, const char *project, const char *text, struct dataset_info *ret_info,
                    struct error *error)
{
    cleanup_ref struct ref ref = REF_INIT;
    int64_t dataset, newest, version;

    if (parse_address(text, &ref, error) < 0)
        return -1;
    if (ref.project)
        project = ref.project;
    if (find_dataset(tx, project, ref.name, &dataset, &newest, error) < 0)
        return -1;
    version = newest;
    if (ref.version && strcmp(ref.version, "latest") != 0 && parse_int(ref.version, 1, INT64_MAX, &version, error) < 0)
        return error_wrap(error, "dataset %s", text);
    return load_version(tx, project, ref.name, dataset, version, newest, ret_info, error);
}

/* -- create -- */

static int check_create(const struct dataset_create *create, struct error *error)
{
    if (parse_name(create->name, "dataset", error) < 0)
        return -1;
    if (create->description && strlen(create->description) > LIMIT_DESCRIPTION)
        return error_set(error, ERROR_TOO_LARGE, "a description has at most %" PRIu64 " bytes",
                         (uint64_t)LIMIT_DESCRIPTION);
    if (create->n_files == 0)
        return error_set(error, ERROR_INVALID, "a version of a dataset needs at least one file");
    if (create->n_files > LIMIT_ARCHIVE_FILES)
        return error_set(error, ERROR_TOO_LARGE, "a version of a dataset has at most %d files", LIMIT_ARCHIVE_FILES);
    for (size_t i = 0; i < create->n_files; i++)
        if (!fs_is_safe_name(create->files[i].name))
            return error_set(error, ERROR_INVALID,
                             "'%.200s' is not a name for a file of a dataset: it must be relative, without '..'",
                             create->files[i].name);
    return 0;
}

/* Makes the dataset if needed and takes its next version number. */
static int take_number(struct db_tx *tx, const struct dataset_create *create, int64_t now, int64_t *ret_id,
                       int64_t *ret_version, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int64_t projects;

    if (db_query_int(tx, &projects, error, "SELECT count(*) FROM projects WHERE name = ?", "s", create->project) < 0)
        return -1;
    if (!projects)
        return error_set(error, ERROR_NOT_FOUND, "project %s does not exist", create->project);
    if (db_exec(tx, error, "INSERT INTO datasets (project, name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                "ssi", create->project, create->name, now) < 0 ||
        db_exec(tx, error, "UPDATE datasets SET last_version = last_version + 1 WHERE project = ? AND name = ?", "ss",
                create->project, create->name) < 0 ||
        db_query(tx, &rows, error, "SELECT id, last_version FROM datasets WHERE project = ? AND name = ?", "ss",
                 create->project, create->name) < 0 ||
        db_next(&rows, error) <= 0)
        return -1;
    *ret_id = db_int(&rows, 0);
    *ret_version = db_int(&rows, 1);
    return 0;
}

static int insert_files(struct db_tx *tx, int64_t id, const struct dataset_create *create, struct error *error)
{
    for (size_t i = 0; i < create->n_files; i++) {
        const struct dataset_file *file = &create->files[i];
        char digest[DIGEST_TEXT_SIZE];
        cleanup_error struct error cause = ERROR_INIT;

        if (db_exec(tx, &cause, "INSERT INTO dataset_files (version_id, name, digest, size) VALUES (?, ?, ?, ?)",
                    "issi", id, file->name, digest_format(&file->digest, digest), (int64_t)file->size) == 0)
            continue;
        if (cause.code == ERROR_EXISTS)
            return error_set(error, ERROR_INVALID, "two files are called '%.200s'", file->name);
        error_move(error, &cause);
        return -1;
    }
    return 0;
}

/* Parents are kept with their project, so that they mean the same whoever reads them. */
static int insert_parents(struct db_tx *tx, int64_t id, const struct dataset_create *create, struct error *error)
{
    json_t *parents = json_object_get(create->lineage, "parents"), *parent;
    size_t i;

    json_array_foreach(parents, i, parent) {
        cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;
        cleanup_free char *address = NULL;

        if (!json_is_string(parent))
            return error_set(error, ERROR_INVALID, "parents of a dataset are addresses");
        if (dataset_resolve(tx, create->project, json_string_value(parent), &info, error) < 0)
            return error_wrap(error, "parent");
        address = xasprintf("%s:%s", info.project, info.address);
        if (db_exec(tx, error, "INSERT OR IGNORE INTO dataset_parents (version_id, parent) VALUES (?, ?)", "is", id,
                    address) < 0)
            return -1;
    }
    return 0;
}

static int append_event(struct db_tx *tx, const struct dataset_info *info, const char *type, const char *actor,
                        struct error *error)
{
    cleanup_free char *subject = xasprintf("dataset/%s", info->address);
    cleanup_json json_t *data = json_object(), *files = json_array();

    json_set_int(data, "size", info->size);
    if (info->rows >= 0)
        json_set_int(data, "rows", info->rows);
    for (size_t i = 0; i < info->n_files && i < 100; i++) {
        char digest[DIGEST_TEXT_SIZE];

        json_array_append_new(files, json_build("{s:s, s:s}", "name", info->files[i].name, "digest",
                                                digest_format(&info->files[i].digest, digest)));
    }
    json_object_set(data, "files", files);
    return journal_append(tx,
                          &(struct journal_event){
                              .type = type, .subject = subject, .project = info->project, .actor = actor, .data = data},
                          NULL, error);
}

int dataset_create(struct db_tx *tx, const struct dataset_create *create, struct dataset_info *ret_info,
                   struct error *error)
{
    cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;
    int64_t now = clock_wall_ms(), dataset = 0, version = 0, id;
    uint64_t size = 0;

    if (check_create(create, error) < 0 || take_number(tx, create, now, &dataset, &version, error) < 0)
        return -1;
    for (size_t i = 0; i < create->n_files; i++)
        size += create->files[i].size;
    if (db_exec(tx, error,
                "INSERT INTO dataset_versions (dataset, version, description, size, row_count, schema, lineage, "
                "created_at, created_by) VALUES (?, ?, ?, ?, nullif(?, -1), ?, ?, ?, ?)",
                "iisiijjis", dataset, version, create->description ? create->description : "", (int64_t)size,
                create->rows, create->schema, create->lineage, now, create->actor ? create->actor : "system") < 0)
        return -1;
    id = db_last_id(tx);
    if (insert_files(tx, id, create, error) < 0 || insert_parents(tx, id, create, error) < 0 ||
        load_version(tx, create->project, create->name, dataset, version, version, &info, error) < 0 ||
        append_event(tx, &info, "slipway.dataset.created", create->actor, error) < 0)
        return -1;
    if (ret_info) {
        *ret_info = info;
        info = (struct dataset_info)DATASET_INFO_INIT;
    }
    return 0;
}

/* -- use -- */

int dataset_use(struct db_tx *tx, const struct dataset_info *info, const char *kind, const char *address, bool active,
                struct error *error)
{
    return db_exec(tx, error,
                   "INSERT INTO dataset_uses (version_id, kind, address, active) VALUES (?, ?, ?, ?) "
                   "ON CONFLICT (version_id, kind, address) DO UPDATE SET active = excluded.active",
                   "issi", info->id, kind, address, (int64_t)active);
}

int dataset_release(struct db_tx *tx, const char *kind, const char *address, struct error *error)
{
    return db_exec(tx, error, "UPDATE dataset_uses SET active = 0 WHERE kind = ? AND address = ?", "ss", kind, address);
}

/* -- remove -- */

/* ERROR_CONFLICT with the users that forbid it: active ones always; models and endpoints unless forced. A
 * run that is over does not mind. */
static int check_uses(struct db_tx *tx, const struct dataset_info *info, bool force, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_strbuf struct strbuf users = STRBUF_INIT(4096);
    bool active = false;
    int r, count = 0;

    if (db_query(tx, &rows, error,
                 "SELECT kind, address, active FROM dataset_uses "
                 "WHERE version_id = ? AND (active OR (kind <> 'run' AND NOT ?)) ORDER BY active DESC, kind, "
                 "address",
                 "ii", info->id, (int64_t)force) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0) {
        active |= db_int(&rows, 2);
        if (++count <= 10)
            strbuf_addf(&users, "%s%s %s", count > 1 ? ", " : "", db_text(&rows, 0), db_text(&rows, 1));
    }
    if (r < 0 || !count)
        return r;
    if (count > 10)
        strbuf_addf(&users, " and %d more", count - 10);
    return error_set(error, ERROR_CONFLICT, "dataset %s is used by %s%s", info->address, users.data,
                     active ? "; wait until that is over, or stop it" : " (--force removes it all the same)");
}

static int remove_version(struct db_tx *tx, const struct dataset_info *info, bool force, const char *actor,
                          struct error *error)
{
    if (check_uses(tx, info, force, error) < 0 || append_event(tx, info, "slipway.dataset.removed", actor, error) < 0)
        return -1;
    return db_exec(tx, error, "DELETE FROM dataset_versions WHERE id = ?", "i", info->id);
}

int dataset_remove(struct db_tx *tx, const char *project, const char *text, bool force, const char *actor,
                   struct error *error)
{
    cleanup_ref struct ref ref = REF_INIT;
    int64_t dataset, newest, version;

    if (parse_address(text, &ref, error) < 0)
        return -1;
    if (ref.version) {
        cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;

        if (dataset_resolve(tx, project, text, &info, error) < 0)
            return -1;
        return remove_version(tx, &info, force, actor, error);
    }
    if (ref.project)
        project = ref.project;
    if (find_dataset(tx, project, ref.name, &dataset, &newest, error) < 0)
        return -1;
    /* The row of the dataset stays: it remembers the numbers that were used. */
    while (db_query_int(tx, &version, error, "SELECT ifnull(max(version), 0) FROM dataset_versions WHERE dataset = ?",
                        "i", dataset) == 0) {
        cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;

        if (version == 0)
            return 0;
        if (load_version(tx, project, ref.name, dataset, version, newest, &info, error) < 0 ||
            remove_version(tx, &info, force, actor, error) < 0)
            return -1;
    }
    return -1;
}
