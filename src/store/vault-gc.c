#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "store/vault-private.h"
#include "store/vault-roots.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define BATCH 500 /* blobs to a transaction */

/* -- blobs that nothing names -- */

/* digest, size, encoding of the blobs older than ?1 and behind ?2 that no root finds. */
static char *garbage_query(void)
{
    struct strbuf sql = STRBUF_INIT(64 * KIB);

    strbuf_adds(&sql, "SELECT b.digest, b.size, b.encoding FROM blobs b WHERE b.created_at <= ?1 AND b.digest > ?2");
    for (size_t i = 0; i < vault_roots_count; i++)
        strbuf_addf(&sql, " AND NOT EXISTS (SELECT 1 FROM (%s) r WHERE r.digest = b.digest)", vault_roots[i].query);
    strbuf_addf(&sql, " ORDER BY b.digest LIMIT %d", BATCH);
    return strbuf_detach(&sql, NULL);
}

struct collection {
    struct vault *vault;
    bool dry_run;
    int64_t before; /* ms */
    json_t *removed;
    uint64_t bytes;
};

static void note(struct collection *c, const char *digest, uint64_t size, bool orphan)
{
    json_t *entry = json_object();

    json_set_string(entry, "digest", digest);
    json_set_int(entry, "size", (int64_t)size);
    if (orphan)
        json_set_bool(entry, "orphan", true);
    json_array_append_new(c->removed, entry);
    c->bytes += size;
}

/* Up to BATCH of them, behind `after`; 0 when there are no more. */
static int find_garbage(struct collection *c, struct db_tx *tx, const char *after, json_t *batch, struct error *error)
{
    cleanup_free char *sql = garbage_query();
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error, sql, "is", c->before, after) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0)
        json_array_append_new(batch, json_build("{s:s, s:I, s:s}", "digest", db_text(&rows, 0), "size",
                                                (json_int_t)db_int(&rows, 1), "encoding", db_text(&rows, 2)));
    return r < 0 ? -1 : (int)json_array_size(batch);
}

static int forget_batch(struct db_tx *tx, const json_t *batch, struct error *error)
{
    json_t *blob;
    size_t i;

    json_array_foreach(batch, i, blob) {
        if (db_exec(tx, error, "DELETE FROM blobs WHERE digest = ?", "s", json_get_string(blob, "digest", "")) < 0)
            return -1;
    }
    return db_commit(tx, error);
}

static void remove_files(struct vault *vault, const json_t *batch)
{
    json_t *blob;
    size_t i;

    json_array_foreach(batch, i, blob) {
        const char *text = json_get_string(blob, "digest", "");
        cleanup_free char *path = vault_cold_path(vault->directory, digest_hex(text),
                                                  blob_encoding_parse(json_get_string(blob, "encoding", "")));

        unlink(path);
        hot_drop(vault->hot, digest_hex(text));
        pthread_mutex_lock(&vault->lock);
        map_remove(&vault->checked, text);
        pthread_mutex_unlock(&vault->lock);
    }
}

/* One batch. The rows go first: a crash in between leaves files that a later collection finds. */
static int collect_batch(struct collection *c, const char *after, json_t *batch, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int n;

    if ((c->dry_run ? db_begin_read : db_begin_write)(c->vault->db, &tx, error) < 0)
        return -1;
    n = find_garbage(c, &tx, after, batch, error);
    if (n <= 0 || c->dry_run)
        return n;
    if (forget_batch(&tx, batch, error) < 0)
        return -1;
    remove_files(c->vault, batch);
    return n;
}

static int collect_blobs(struct collection *c, struct error *error)
{
    char after[DIGEST_TEXT_SIZE] = "";
    int n;

    do {
        cleanup_json json_t *batch = json_array();
        json_t *blob;
        size_t i;

        pthread_rwlock_wrlock(&c->vault->gc_lock);
        n = collect_batch(c, after, batch, error);
        pthread_rwlock_unlock(&c->vault->gc_lock);
        if (n < 0)
            return -1;
        json_array_foreach(batch, i, blob) {
            note(c, json_get_string(blob, "digest", ""), (uint64_t)json_get_int(blob, "size", 0), false);
            snprintf(after, sizeof(after), "%s", json_get_string(blob, "digest", ""));
        }
    } while (n == BATCH);
    return 0;
}

/* -- files that no row knows -- */

/* The digest and encoding that a file's name speaks of; false for a name that is none of ours. */
static bool parse_file_name(const char *name, char text[DIGEST_TEXT_SIZE], enum blob_encoding *ret_encoding)
{
    const char *suffix = name + (strlen(name) < 2 * DIGEST_SIZE ? strlen(name) : 2 * DIGEST_SIZE);
    uint8_t bytes[DIGEST_SIZE];

    snprintf(text, DIGEST_TEXT_SIZE, "sha256:%.*s", 2 * DIGEST_SIZE, name);
    if (!hex_decode(digest_hex(text), bytes, DIGEST_SIZE) || (*suffix && strcmp(suffix, ".zst") != 0))
        return false;
    *ret_encoding = *suffix ? BLOB_ZSTD : BLOB_RAW;
    return true;
}

static int collect_orphans_of(struct collection *c, const char *path, struct error *error)
{
    cleanup_closedir DIR *directory = opendir(path);
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct dirent *entry;

    if (!directory)
        return errno == ENOENT ? 0 : error_set_errno(error, errno, "cannot read %s", path);
    if (db_begin_read(c->vault->db, &tx, error) < 0)
        return -1;
    while ((entry = readdir(directory))) {
        char text[DIGEST_TEXT_SIZE];
        enum blob_encoding encoding;
        struct stat st;
        int64_t known;

        if (!parse_file_name(entry->d_name, text, &encoding) ||
            fstatat(dirfd(directory), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            (int64_t)st.st_ctim.tv_sec * 1000 > c->before)
            continue;
        if (db_query_int(&tx, &known, error, "SELECT COUNT(*) FROM blobs WHERE digest = ? AND encoding = ?", "ss", text,
                         blob_encoding_name(encoding)) < 0)
            return -1;
        if (known)
            continue;
        if (!c->dry_run && unlinkat(dirfd(directory), entry->d_name, 0) < 0)
            continue;
        note(c, text, (uint64_t)st.st_size, true);
    }
    return 0;
}

/* A put that was cut off between its file and its row, or a removal between row and file. */
static int collect_orphans(struct collection *c, struct error *error)
{
    for (int i = 0; i < 256; i++) {
        cleanup_free char *path = xasprintf("%s/%02x", c->vault->directory, i);
        int r;

        pthread_rwlock_wrlock(&c->vault->gc_lock);
        r = collect_orphans_of(c, path, error);
        pthread_rwlock_unlock(&c->vault->gc_lock);
        if (r < 0)
            return -1;
    }
    return 0;
}

static int count_blobs(struct vault *vault, int64_t *ret_count, int64_t *ret_bytes, int64_t *ret_stored,
                       struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;

    if (db_begin_read(vault->db, &tx, error) < 0 ||
        db_query(&tx, &rows, error, "SELECT COUNT(*), COALESCE(SUM(size), 0), COALESCE(SUM(stored_size), 0) FROM blobs",
                 NULL) < 0 ||
        db_next(&rows, error) < 0)
        return -1;
    *ret_count = db_int(&rows, 0);
    *ret_bytes = db_int(&rows, 1);
    *ret_stored = db_int(&rows, 2);
    return 0;
}

json_t *vault_gc(struct vault *vault, bool dry_run, int64_t grace_ms, struct error *error)
{
    cleanup_json json_t *removed = json_array();
    struct collection c = {vault, dry_run, clock_wall_ms() - grace_ms, removed, 0};
    int64_t count, bytes, stored;
    json_t *result;

    if (count_blobs(vault, &count, &bytes, &stored, error) < 0 || collect_blobs(&c, error) < 0)
        return NULL;
    result = json_object();
    json_set_int(result, "blobs", count);
    json_set_int(result, "bytes", bytes);
    json_set_int(result, "kept", count - (int64_t)json_array_size(removed));
    if (collect_orphans(&c, error) < 0) {
        json_decref(result);
        return NULL;
    }
    json_set_bool(result, "dry_run", dry_run);
    json_set_int(result, "removed_bytes", (int64_t)c.bytes);
    json_object_set_new(result, "removed", steal_ptr(removed));
    return result;
}

/* -- why -- */

static int add_reasons(struct db_tx *tx, const struct vault_root *root, const char *digest, json_t *reasons,
                       struct error *error)
{
    cleanup_free char *sql = xasprintf("SELECT address FROM (%s) WHERE digest = ? LIMIT %d", root->query, LIMIT_PAGE);
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error, sql, "s", digest) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0)
        json_array_append_new(reasons, json_build("{s:s, s:s}", "kind", root->kind, "address", db_text(&rows, 0)));
    return r;
}

json_t *vault_why(struct vault *vault, const struct digest *digest, struct error *error)
{
    cleanup_json json_t *reasons = json_array();
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    char text[DIGEST_TEXT_SIZE];
    uint64_t size;

    if (vault_size(vault, digest, &size, error) < 0 || db_begin_read(vault->db, &tx, error) < 0)
        return NULL;
    digest_format(digest, text);
    for (size_t i = 0; i < vault_roots_count; i++)
        if (add_reasons(&tx, &vault_roots[i], text, reasons, error) < 0)
            return NULL;
    return steal_ptr(reasons);
}

json_t *vault_stats(struct vault *vault, struct error *error)
{
    int64_t count, bytes, stored;
    struct hot_usage usage;
    json_t *stats;

    if (count_blobs(vault, &count, &bytes, &stored, error) < 0)
        return NULL;
    hot_usage(vault->hot, &usage);
    stats = json_object();
    json_set_int(stats, "blobs", count);
    json_set_int(stats, "bytes", bytes);
    json_set_int(stats, "stored_bytes", stored);
    json_set_int(stats, "hot_bytes", (int64_t)usage.used);
    json_set_int(stats, "hot_budget", (int64_t)usage.budget);
    json_set_int(stats, "pinned_bytes", (int64_t)usage.pinned);
    json_set_string(stats, "hot_directory", hot_directory(vault->hot));
    return stats;
}
