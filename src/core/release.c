#include <string.h>
#include "core/release.h"
#include "util/clock.h"
#include "util/limits.h"

void release_hash(const char *previous, const char *record, char ret_hash[DIGEST_TEXT_SIZE])
{
    struct hasher *hasher = hasher_new();
    struct digest digest;

    hasher_add(hasher, previous, strlen(previous));
    hasher_add(hasher, record, strlen(record));
    hasher_finish(hasher, &digest);
    digest_format(&digest, ret_hash);
}

/* The last link; sequence 0 and "" for an empty chain. */
static int chain_head(struct db_tx *tx, const char *project, const char *model, int64_t *ret_sequence,
                      char ret_hash[DIGEST_TEXT_SIZE], struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT sequence, hash FROM releases WHERE project = ? AND model = ? "
                 "ORDER BY sequence DESC LIMIT 1",
                 "ss", project, model) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r < 0)
        return -1;
    *ret_sequence = r ? db_int(&rows, 0) : 0;
    snprintf(ret_hash, DIGEST_TEXT_SIZE, "%s", r ? db_text(&rows, 1) : "");
    return 0;
}

int release_append(struct db_tx *tx, const char *project, const char *model, int64_t version, const char *kind,
                   const json_t *facts, const char *actor, struct error *error)
{
    char previous[DIGEST_TEXT_SIZE], hash[DIGEST_TEXT_SIZE];
    cleanup_json json_t *record = json_object();
    cleanup_free char *text = NULL;
    int64_t sequence;

    if (chain_head(tx, project, model, &sequence, previous, error) < 0)
        return -1;
    sequence++;

    if (facts)
        json_object_update(record, (json_t *)facts);
    json_set_int(record, "sequence", sequence);
    json_set_string(record, "kind", kind);
    json_set_string(record, "project", project);
    json_set_string(record, "model", model);
    json_set_int(record, "version", version);
    json_set_string(record, "who", actor ? actor : "system");
    json_set_time_ms(record, "when", clock_wall_ms());

    text = json_text_canonical(record);
    if (strlen(text) > LIMIT_RELEASE_RECORD)
        return error_set(error, ERROR_TOO_LARGE, "the release record of %s@%lld has more than %llu bytes", model,
                         (long long)version, (unsigned long long)LIMIT_RELEASE_RECORD);
    release_hash(previous, text, hash);
    return db_exec(tx, error,
                   "INSERT INTO releases (project, model, sequence, version, kind, record, previous, hash) "
                   "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                   "ssiissss", project, model, sequence, version, kind, text, previous, hash);
}

json_t *release_records(struct db_tx *tx, const char *project, const char *model, int64_t version, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *records = json_array();
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT sequence, kind, record, previous, hash FROM releases "
                 "WHERE project = ? AND model = ? AND version = ? ORDER BY sequence",
                 "ssi", project, model, version) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        cleanup_json json_t *record = db_json(&rows, 2, error);

        if (!record)
            return NULL;
        json_array_append_new(records, json_build("{s:I, s:s, s:O, s:s, s:s}", "sequence", (json_int_t)db_int(&rows, 0),
                                                  "kind", db_text(&rows, 1), "record", record, "previous",
                                                  db_text(&rows, 3), "hash", db_text(&rows, 4)));
    }
    return r < 0 ? NULL : steal_ptr(records);
}

/* Adds what a later record says to the sheet that the first one began. */
static void sheet_add(json_t *sheet, const char *kind, json_t *record)
{
    json_t *metrics = json_object_get(record, "metrics");

    if (metrics)
        json_object_set(sheet, "metrics_final", metrics);
    if (strcmp(kind, "gate") == 0)
        json_object_set_new(sheet, "gate",
                            json_build("{s:O?, s:O?, s:O?, s:O?, s:O?}", "verdict", json_object_get(record, "verdict"),
                                       "reason", json_object_get(record, "reason"), "rule",
                                       json_object_get(record, "rule"), "alias", json_object_get(record, "alias"),
                                       "when", json_object_get(record, "when")));
    if (strcmp(kind, "removed") == 0)
        json_object_set(sheet, "removed", json_object_get(record, "when"));
}

json_t *release_sheet(struct db_tx *tx, const char *project, const char *model, int64_t version, struct error *error)
{
    cleanup_json json_t *records = release_records(tx, project, model, version, error), *sheet = NULL;
    json_t *entry;
    size_t i;

    if (!records)
        return NULL;
    json_array_foreach(records, i, entry) {
        const char *kind = json_string_value(json_object_get(entry, "kind"));

        if (!sheet)
            sheet = json_copy(json_object_get(entry, "record"));
        else
            sheet_add(sheet, kind, json_object_get(entry, "record"));
        json_object_set(sheet, "hash", json_object_get(entry, "hash"));
    }
    if (!sheet) {
        error_set(error, ERROR_NOT_FOUND, "%s@%lld has no release record", model, (long long)version);
        return NULL;
    }
    return steal_ptr(sheet);
}
