/* Checking a chain of release records against itself, the registry and the vault. */
#include <string.h>
#include "core/release.h"

struct verification {
    int64_t records;
    char head[DIGEST_TEXT_SIZE];
    json_t *broken;   /* the first fault; NULL: none */
    json_t *versions; /* number as text → {"code","weights"} as the records say */
};

static void verification_release(struct verification *v)
{
    json_decref(v->broken);
    json_decref(v->versions);
}
#define cleanup_verification CLEANUP(verification_release)

static void break_at(struct verification *v, const char *where, int64_t number, const char *what, const char *message)
{
    if (!v->broken)
        v->broken = json_build("{s:I, s:s, s:s}", where, (json_int_t)number, "what", what, "message", message);
}

/* One row of the chain against its neighbours and itself. */
static void check_link(struct verification *v, int64_t version, const char *kind, int64_t sequence, const char *text,
                       const char *previous, const char *hash)
{
    cleanup_json json_t *record = json_parse(text, strlen(text), NULL);
    char computed[DIGEST_TEXT_SIZE], key[24];

    release_hash(v->head, text, computed);
    if (sequence != v->records + 1)
        break_at(v, "sequence", v->records + 1, "sequence", "the record is missing");
    else if (strcmp(previous, v->head) != 0)
        break_at(v, "sequence", sequence, "previous", "it does not name the hash of the record before it");
    else if (strcmp(computed, hash) != 0)
        break_at(v, "sequence", sequence, "hash", "its text does not give its hash: it was changed");
    else if (!record || json_get_int(record, "version", 0) != version ||
             strcmp(json_get_string(record, "kind", ""), kind) != 0 || json_get_int(record, "sequence", 0) != sequence)
        break_at(v, "sequence", sequence, "record", "its text is not about the version, kind and number of its row");
    else if (strcmp(kind, "version") == 0) {
        snprintf(key, sizeof(key), "%lld", (long long)version);
        json_object_set(v->versions, key, record);
    }
    v->records = sequence;
    snprintf(v->head, sizeof(v->head), "%s", hash);
}

static int check_chain(struct db_tx *tx, const char *project, const char *model, struct verification *v,
                       struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT sequence, version, kind, record, previous, hash FROM releases "
                 "WHERE project = ? AND model = ? ORDER BY sequence",
                 "ss", project, model) < 0)
        return -1;
    while (!v->broken && (r = db_next(&rows, error)) > 0)
        check_link(v, db_int(&rows, 1), db_text(&rows, 2), db_int(&rows, 0), db_text(&rows, 3), db_text(&rows, 4),
                   db_text(&rows, 5));
    return v->broken ? 0 : r;
}

static const char *part_digest(const json_t *record, const char *part)
{
    return json_get_string(json_object_get(record, part), "digest", NULL);
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Registry against records; collects the digests of the blobs that must be there. */
static int check_versions(struct db_tx *tx, const char *project, const char *model, struct verification *v,
                          json_t *digests, int64_t *ret_versions, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    char key[24];
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT v.number, c.digest, w.digest FROM model_versions v JOIN models m ON m.id = v.model "
                 "JOIN model_code c ON c.model = v.model AND c.number = v.code "
                 "LEFT JOIN model_weights w ON w.model = v.model AND w.number = v.weights "
                 "WHERE m.project = ? AND m.name = ? ORDER BY v.number",
                 "ss", project, model) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0) {
        const char *code = db_text(&rows, 1), *weights = db_text(&rows, 2);
        const json_t *record;

        snprintf(key, sizeof(key), "%lld", (long long)db_int(&rows, 0));
        record = json_object_get(v->versions, key);
        if (!record)
            break_at(v, "version", db_int(&rows, 0), "record", "it has no release record");
        else if (!same_text(part_digest(record, "code"), code) || !same_text(part_digest(record, "weights"), weights))
            break_at(v, "version", db_int(&rows, 0), "digest",
                     "the registry names other code or weights than the release record");
        json_object_set_new(digests, code, json_integer(db_int(&rows, 0)));
        if (weights)
            json_object_set_new(digests, weights, json_integer(db_int(&rows, 0)));
        (*ret_versions)++;
    }
    return r;
}

static void check_blobs(struct store *store, const json_t *digests, struct verification *v, int64_t *ret_blobs)
{
    const char *text;
    json_t *version;

    json_object_foreach((json_t *)digests, text, version) {
        cleanup_error struct error error = ERROR_INIT;
        struct digest digest;

        if (digest_parse(text, &digest, &error) < 0 || vault_verify(store->vault, &digest, &error) < 0)
            break_at(v, "version", json_integer_value(version), "blob", error.message);
        else
            (*ret_blobs)++;
    }
}

json_t *release_verify(struct store *store, const char *project, const char *model, bool blobs, struct error *error)
{
    cleanup_verification struct verification v = {.versions = json_object()};
    cleanup_json json_t *digests = json_object();
    int64_t n_versions = 0, n_blobs = 0;
    bool is_broken;

    {
        cleanup_tx struct db_tx tx = DB_TX_INIT;

        if (db_begin_read(store->db, &tx, error) < 0 || check_chain(&tx, project, model, &v, error) < 0 ||
            (!v.broken && check_versions(&tx, project, model, &v, digests, &n_versions, error) < 0))
            return NULL;
    }
    if (v.records == 0 && !v.broken) {
        error_set(error, ERROR_NOT_FOUND, "there is no model %s in project %s", model, project);
        return NULL;
    }
    if (blobs && !v.broken)
        check_blobs(store, digests, &v, &n_blobs);
    is_broken = v.broken != NULL;
    return json_build("{s:s, s:s, s:b, s:I, s:s, s:I, s:I, s:o}", "model", model, "project", project, "ok", !is_broken,
                      "records", (json_int_t)v.records, "head", v.head, "versions", (json_int_t)n_versions, "blobs",
                      (json_int_t)n_blobs, "broken", is_broken ? steal_ptr(v.broken) : json_null());
}
