#include <string.h>
#include "core/job.h"
#include "core/job-fields.h"
#include "store/journal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

static const struct schema_field code_fields[] = {
    {"version", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "number, from 1"},
    {"digest", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "of the archive"},
    {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "bytes of the archive"},
    {"note", SCHEMA_STRING, SCHEMA_NULLABLE},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"created_by", SCHEMA_STRING, SCHEMA_REQUIRED},
    {},
};
const struct schema job_code_schema = {"JobCode", code_fields, "a code version of a job"};

static const struct schema_field job_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"project", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"definition", SCHEMA_OBJECT, SCHEMA_REQUIRED, .object = &job_definition_schema},
    {"code_versions", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "how many there are"},
    {"code", SCHEMA_STRING, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "digest of the newest code version"},
    {"runs", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "how many runs it has"},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"updated_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"created_by", SCHEMA_STRING, SCHEMA_REQUIRED},
    {},
};
const struct schema job_schema = {"Job", job_fields, "a definition that runs are made of"};

struct job *job_free(struct job *job)
{
    if (!job)
        return NULL;
    free(job->project);
    free(job->name);
    free(job->created_by);
    json_decref(job->definition);
    free(job);
    return NULL;
}

static int append_event(struct db_tx *tx, const char *project, const char *name, const char *what, const char *actor,
                        json_t *data, struct error *error)
{
    cleanup_free char *type = xasprintf("slipway.job.%s", what);
    cleanup_free char *subject = xasprintf("job/%s", name);
    struct journal_event event = {.type = type, .subject = subject, .project = project, .actor = actor, .data = data};

    return journal_append(tx, &event, NULL, error);
}

int job_create(struct db_tx *tx, const char *project, const char *actor, const char *name, const json_t *definition,
               struct error *error)
{
    cleanup_error struct error cause = ERROR_INIT;
    cleanup_json json_t *kept = json_deep_copy(definition);
    int64_t now = clock_wall_ms();

    if (parse_name(name, "job", error) < 0)
        return -1;
    json_object_del(kept, "name");
    if (db_exec(tx, &cause,
                "INSERT INTO jobs (project, name, definition, created_at, updated_at, created_by) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                "ssjiis", project, name, kept, now, now, actor ? actor : "system") < 0) {
        if (cause.code == ERROR_EXISTS)
            return error_set(error, ERROR_EXISTS, "job %s exists already", name);
        error_move(error, &cause);
        return -1;
    }
    return append_event(tx, project, name, "created", actor, NULL, error);
}

static struct job *from_row(struct db_rows *rows, struct error *error)
{
    cleanup_job struct job *job = xnew0(struct job);

    job->id = db_int(rows, 0);
    job->project = xstrdup(db_text(rows, 1));
    job->name = xstrdup(db_text(rows, 2));
    job->definition = db_json(rows, 3, error);
    if (!job->definition)
        return NULL;
    job->created_at = db_int(rows, 4);
    job->updated_at = db_int(rows, 5);
    job->created_by = xstrdup(db_text(rows, 6));
    return steal_ptr(job);
}

#define JOB_COLUMNS "id, project, name, definition, created_at, updated_at, created_by"

int job_load(struct db_tx *tx, const char *project, const char *name, struct job **ret_job, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error, "SELECT " JOB_COLUMNS " FROM jobs WHERE project = ? AND name = ?", "ss", project,
                 name) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r < 0 ? -1 : error_set(error, ERROR_NOT_FOUND, "job %.80s does not exist", name);
    *ret_job = from_row(&rows, error);
    return *ret_job ? 0 : -1;
}

int job_update(struct db_tx *tx, struct job *job, const json_t *changes, const char *actor, struct error *error)
{
    int64_t now = clock_wall_ms();

    job_definition_merge(job->definition, changes);
    json_object_del(job->definition, "name");
    if (db_exec(tx, error, "UPDATE jobs SET definition = ?, updated_at = ? WHERE id = ?", "jii", job->definition, now,
                job->id) < 0)
        return -1;
    job->updated_at = now;
    return append_event(tx, job->project, job->name, "updated", actor, (json_t *)changes, error);
}

int job_delete(struct db_tx *tx, const struct job *job, const char *actor, struct error *error)
{
    int64_t live;

    if (db_query_int(tx, &live, error, "SELECT count(*) FROM runs WHERE project = ? AND job = ? AND state IN (0, 1, 2)",
                     "ss", job->project, job->name) < 0)
        return -1;
    if (live)
        return error_set(error, ERROR_CONFLICT, "job %s has %d runs that have not ended; stop them first", job->name,
                         (int)live);
    if (db_exec(tx, error, "DELETE FROM jobs WHERE id = ?", "i", job->id) < 0)
        return -1;
    return append_event(tx, job->project, job->name, "deleted", actor, NULL, error);
}

json_t *job_to_json(struct db_tx *tx, const struct job *job, struct error *error)
{
    char buffer[DIGEST_TEXT_SIZE];
    cleanup_json json_t *o = json_object();
    struct digest digest;
    int newest = 0;
    int64_t runs;

    if (db_query_int(tx, &runs, error, "SELECT count(*) FROM runs WHERE project = ? AND job = ?", "ss", job->project,
                     job->name) < 0)
        return NULL;
    json_set_string(o, "name", job->name);
    json_set_string(o, "project", job->project);
    json_object_set(o, "definition", job->definition);
    json_set_string(o, "code",
                    job_code(tx, job, 0, &digest, &newest, NULL) == 0 ? digest_format(&digest, buffer) : NULL);
    json_set_int(o, "code_versions", newest);
    json_set_int(o, "runs", runs);
    json_set_time_ms(o, "created_at", job->created_at);
    json_set_time_ms(o, "updated_at", job->updated_at);
    json_set_string(o, "created_by", job->created_by);
    return steal_ptr(o);
}

json_t *job_list(struct db_tx *tx, const char *project, const char *after, int limit, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *items = json_array();
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT " JOB_COLUMNS " FROM jobs WHERE project = ?1 AND (?2 IS NULL OR name > ?2) "
                 "ORDER BY name LIMIT ?3",
                 "ssi", project, after, (int64_t)limit) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        cleanup_job struct job *job = from_row(&rows, error);
        json_t *item = job ? job_to_json(tx, job, error) : NULL;

        if (!item)
            return NULL;
        json_array_append_new(items, item);
    }
    return r < 0 ? NULL : steal_ptr(items);
}

/* -- code versions -- */

int job_code(struct db_tx *tx, const struct job *job, int version, struct digest *ret_digest, int *ret_version,
             struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT version, digest FROM job_code WHERE job_id = ?1 AND (?2 = 0 OR version = ?2) "
                 "ORDER BY version DESC LIMIT 1",
                 "ii", job->id, (int64_t)version) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r < 0)
        return -1;
    if (r == 0 && version)
        return error_set(error, ERROR_NOT_FOUND, "job %s has no code version %d", job->name, version);
    if (r == 0)
        return error_set(error, ERROR_NOT_FOUND, "job %s has no code yet", job->name);
    *ret_version = (int)db_int(&rows, 0);
    return digest_parse(db_text(&rows, 1), ret_digest, error);
}

int job_push_code(struct db_tx *tx, const struct job *job, const struct digest *digest, uint64_t size, const char *note,
                  const char *actor, int *ret_version, struct error *error)
{
    cleanup_json json_t *data = NULL;
    char text[DIGEST_TEXT_SIZE];
    struct digest newest;
    int version = 0;

    if (job_code(tx, job, 0, &newest, &version, NULL) == 0 && digest_equal(&newest, digest)) {
        *ret_version = version;
        return 0;
    }
    version++;
    digest_format(digest, text);
    if (db_exec(tx, error,
                "INSERT INTO job_code (job_id, version, digest, size, note, created_at, created_by) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                "iisisis", job->id, (int64_t)version, text, (int64_t)size, note, clock_wall_ms(),
                actor ? actor : "system") < 0)
        return -1;
    data = json_build("{s:i, s:s, s:I}", "version", version, "digest", text, "size", (json_int_t)size);
    if (append_event(tx, job->project, job->name, "code_pushed", actor, data, error) < 0)
        return -1;
    *ret_version = version;
    return 0;
}

json_t *job_code_list(struct db_tx *tx, const struct job *job, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *items = json_array();
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT version, digest, size, note, created_at, created_by FROM job_code WHERE job_id = ? "
                 "ORDER BY version DESC",
                 "i", job->id) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        json_t *item = json_object();

        json_set_int(item, "version", db_int(&rows, 0));
        json_set_string(item, "digest", db_text(&rows, 1));
        json_set_int(item, "size", db_int(&rows, 2));
        json_set_string(item, "note", db_text(&rows, 3));
        json_set_time_ms(item, "created_at", db_int(&rows, 4));
        json_set_string(item, "created_by", db_text(&rows, 5));
        json_array_append_new(items, item);
    }
    return r < 0 ? NULL : steal_ptr(items);
}
