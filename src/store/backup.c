#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "config.h"
#include "store/backup.h"
#include "store/vault-private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define FORMAT 1

struct copier {
    uint64_t copied; /* bytes */
};

/* -- files and trees -- */

static int sync_file_system(const char *path, struct error *error)
{
    cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || syncfs(fd) < 0)
        return error_set_errno(error, errno, "cannot sync %s", path);
    return 0;
}

static bool is_same(int directory, const char *name, const struct stat *source)
{
    struct stat st;

    return fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size == source->st_size &&
           st.st_mtim.tv_sec == source->st_mtim.tv_sec && st.st_mtim.tv_nsec == source->st_mtim.tv_nsec;
}

/* Through a temporary name, so that a file that has its name is whole. */
static int copy_file(struct copier *copier, int from, int to, const char *name, const struct stat *st,
                     struct error *error)
{
    cleanup_free char *temporary = xasprintf(".%s.copying", name);
    cleanup_close int source = openat(from, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    cleanup_close int target = -1;
    struct timespec times[2] = {st->st_mtim, st->st_mtim};

    if (source < 0)
        return errno == ENOENT ? 0 : error_set_errno(error, errno, "cannot open %s", name);
    target = openat(to, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (target < 0)
        return error_set_errno(error, errno, "cannot create %s", temporary);
    if (fs_copy_fd(source, target, error) < 0)
        goto fail;
    if (fchmod(target, st->st_mode & 0777) < 0 || futimens(target, times) < 0 ||
        renameat(to, temporary, to, name) < 0) {
        error_set_errno(error, errno, "cannot finish %s", name);
        goto fail;
    }
    copier->copied += (uint64_t)st->st_size;
    return 0;
fail:
    unlinkat(to, temporary, 0);
    return -1;
}

/* What belongs to a node that runs, and to nobody afterwards. */
static bool is_of_a_live_node(const char *name)
{
    static const char *const names[] = {"view", "work", "lock", "control", "stop.json"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return strncmp(name, "runtime.", 8) == 0;
}

/* depth counts down: directories of runs and nodes are the upper two levels, whose files are ours. */
static int copy_tree(struct copier *copier, int from, int to, int node_depth, int left, struct error *error)
{
    cleanup_closedir DIR *directory = fdopendir(dup(from));
    struct dirent *entry;

    if (!directory)
        return error_set_errno(error, errno, "cannot read a directory");
    if (left == 0)
        return error_set(error, ERROR_TOO_LARGE, "directories are nested too deeply");
    while ((entry = readdir(directory))) {
        const char *name = entry->d_name;
        struct stat st;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || (node_depth == 0 && is_of_a_live_node(name)) ||
            fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISREG(st.st_mode)) {
            if (!is_same(to, name, &st) && copy_file(copier, from, to, name, &st, error) < 0)
                return error ? error_wrap(error, "%s", name) : -1;
        } else if (S_ISDIR(st.st_mode)) {
            cleanup_close int sub = openat(from, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
            cleanup_close int copy = -1;

            if (sub < 0)
                continue; /* it went meanwhile */
            if (mkdirat(to, name, 0700) < 0 && errno != EEXIST)
                return error_set_errno(error, errno, "cannot create directory %s", name);
            copy = openat(to, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
            if (copy < 0 || fchmod(copy, st.st_mode & 0777) < 0)
                return error_set_errno(error, errno, "cannot open directory %s", name);
            if (copy_tree(copier, sub, copy, node_depth - 1, left - 1, error) < 0)
                return error ? error_wrap(error, "%s", name) : -1;
        }
    }
    return 0;
}

/* The part of that name of one directory to another; absent is fine. */
static int copy_part(struct copier *copier, const char *from, const char *to, const char *name, int node_depth,
                     struct error *error)
{
    cleanup_free char *source = fs_join(from, name), *target = fs_join(to, name);
    cleanup_close int source_fd = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC), target_fd = -1;
    struct stat st;

    if (source_fd < 0)
        return errno == ENOENT ? 0 : error_set_errno(error, errno, "cannot read %s", source);
    if (fstat(source_fd, &st) < 0 || fs_mkdir_all(target, 0700, error) < 0)
        return -1;
    target_fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (target_fd < 0 || fchmod(target_fd, st.st_mode & 0777) < 0)
        return error_set_errno(error, errno, "cannot open %s", target);
    if (copy_tree(copier, source_fd, target_fd, node_depth, LIMIT_JSON_DEPTH, error) < 0)
        return error ? error_wrap(error, "cannot copy %s", source) : -1;
    return 0;
}

/* -- blobs -- */

static int check_copy(const char *path, const struct blob *blob, struct error *error)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return error_set_errno(error, errno, "cannot open %s", path);
    return cold_read(fd, blob->encoding, &blob->digest, -1, error);
}

static int copy_and_check(struct copier *copier, const struct blob *blob, const char *from, const char *to,
                          struct error *error)
{
    cleanup_free char *temporary = xasprintf("%s.copying", to);
    cleanup_close int source = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), target = -1;

    if (source < 0)
        return error_set(error, ERROR_CORRUPT, "the file of blob %s is missing", blob->text);
    target = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (target < 0)
        return error_set_errno(error, errno, "cannot create %s", temporary);
    if (fs_copy_fd(source, target, error) < 0 || check_copy(temporary, blob, error) < 0)
        goto fail;
    if (fchmod(target, 0444) < 0 || rename(temporary, to) < 0) {
        error_set_errno(error, errno, "cannot finish %s", to);
        goto fail;
    }
    copier->copied += blob->stored_size;
    return 0;
fail:
    unlink(temporary);
    return -1;
}

static int copy_blob(struct copier *copier, const struct blob *blob, const char *from_vault, const char *to_vault,
                     struct error *error)
{
    cleanup_free char *from = vault_cold_path(from_vault, digest_hex(blob->text), blob->encoding);
    cleanup_free char *to = vault_cold_path(to_vault, digest_hex(blob->text), blob->encoding);
    cleanup_free char *directory = xstrndup(to, (size_t)(fs_basename(to) - to - 1));
    struct stat st;

    if (stat(to, &st) == 0 && (uint64_t)st.st_size == blob->stored_size)
        return 0;
    if (fs_mkdir_all(directory, 0711, error) < 0)
        return -1;
    return copy_and_check(copier, blob, from, to, error);
}

/* All blobs that a database knows. */
static int copy_blobs(struct copier *copier, struct db *db, const char *from_vault, const char *to_vault,
                      int64_t *ret_count, int64_t *ret_bytes, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int64_t count = 0, bytes = 0;
    int r;

    if (fs_mkdir_all(to_vault, 0711, error) < 0 || db_begin_read(db, &tx, error) < 0 ||
        db_query(&tx, &rows, error, "SELECT digest, size, stored_size, encoding FROM blobs ORDER BY digest", NULL) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0) {
        struct blob blob = {.size = (uint64_t)db_int(&rows, 1),
                            .stored_size = (uint64_t)db_int(&rows, 2),
                            .encoding = blob_encoding_parse(db_text(&rows, 3))};

        if (digest_parse(db_text(&rows, 0), &blob.digest, error) < 0)
            return -1;
        digest_format(&blob.digest, blob.text);
        if (copy_blob(copier, &blob, from_vault, to_vault, error) < 0)
            return error_is_set(error) ? error_wrap(error, "blob %s", blob.text) : -1;
        count++;
        bytes += (int64_t)blob.stored_size;
    }
    *ret_count = count;
    *ret_bytes = bytes;
    return r;
}

/* -- backup -- */

/* Somebody's other directory is not filled with our files. */
static int prepare(const char *directory, struct error *error)
{
    cleanup_free char *mark = fs_join(directory, "backup.json");
    cleanup_closedir DIR *entries = NULL;
    struct dirent *entry;

    if (fs_mkdir_all(directory, 0700, error) < 0)
        return -1;
    if (fs_exists(mark))
        return 0;
    entries = opendir(directory);
    if (!entries)
        return error_set_errno(error, errno, "cannot read %s", directory);
    while ((entry = readdir(entries)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, "slipway.db.new") != 0 && strcmp(entry->d_name, "vault") != 0)
            return error_set(error, ERROR_CONFLICT, "%s is neither empty nor a backup: it holds %s", directory,
                             entry->d_name);
    return 0;
}

static int copy_parts(struct store *store, struct copier *copier, const char *directory, const char *database,
                      json_t *summary, struct error *error)
{
    cleanup_free char *vault = fs_join(directory, "vault");
    cleanup_db struct db *snapshot = NULL;
    int64_t count, bytes;

    if (db_backup(store->db, database, error) < 0 || db_open(database, &snapshot, error) < 0 ||
        copy_blobs(copier, snapshot, store->vault->directory, vault, &count, &bytes, error) < 0 ||
        copy_part(copier, store->directory, directory, "runs", 2, error) < 0 ||
        copy_part(copier, store->directory, directory, "secrets", -1, error) < 0)
        return -1;
    json_set_int(summary, "blobs", count);
    json_set_int(summary, "bytes", bytes);
    return 0;
}

/* From here on the new backup counts. */
static int complete(const char *directory, const char *database, const json_t *summary, struct error *error)
{
    cleanup_free char *name = fs_join(directory, "slipway.db"), *mark = fs_join(directory, "backup.json");
    cleanup_free char *text = json_text_pretty(summary);

    if (sync_file_system(directory, error) < 0)
        return -1;
    if (rename(database, name) < 0)
        return error_set_errno(error, errno, "cannot rename %s", database);
    return fs_write_atomic(mark, text, strlen(text), 0600, error);
}

json_t *store_backup(struct store *store, const char *directory, struct error *error)
{
    cleanup_free char *database = fs_join(directory, "slipway.db.new");
    cleanup_json json_t *summary = json_object();
    struct copier copier = {0};
    int r;

    if (prepare(directory, error) < 0)
        return NULL;
    unlink(database);
    json_set_int(summary, "format", FORMAT);
    json_set_string(summary, "slipway", SLIPWAY_VERSION);
    json_set_time_ms(summary, "created_at", clock_wall_ms());
    json_set_int(summary, "schema", db_schema_version());

    /* No blob of the snapshot is collected before it is copied; puts go on. */
    pthread_rwlock_rdlock(&store->vault->gc_lock);
    r = copy_parts(store, &copier, directory, database, summary, error);
    pthread_rwlock_unlock(&store->vault->gc_lock);
    if (r < 0 || complete(directory, database, summary, error) < 0)
        return NULL;
    json_set_string(summary, "directory", directory);
    json_set_int(summary, "copied_bytes", (int64_t)copier.copied);
    return steal_ptr(summary);
}

/* -- restore -- */

static json_t *read_mark(const char *backup, struct error *error)
{
    cleanup_free char *path = fs_join(backup, "backup.json");
    cleanup_json json_t *mark = NULL;

    if (!fs_exists(path)) {
        error_set(error, ERROR_NOT_FOUND, "%s is not a complete backup: it has no backup.json", backup);
        return NULL;
    }
    mark = json_parse_file(path, LIMIT_CONFIG_FILE, error);
    if (mark && json_get_int(mark, "format", 0) != FORMAT) {
        error_set(error, ERROR_UNSUPPORTED, "%s has format %lld; this program reads %d", path,
                  (long long)json_get_int(mark, "format", 0), FORMAT);
        return NULL;
    }
    return steal_ptr(mark);
}

static int copy_database(struct copier *copier, const char *backup, const char *directory, const char *database,
                         struct error *error)
{
    cleanup_close int from = open(backup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_close int to = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_free char *name = fs_join(directory, "slipway.db");
    struct stat st;

    if (from < 0 || to < 0 || fstatat(from, "slipway.db", &st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_set_errno(error, errno, "cannot read the database of %s", backup);
    st.st_mode = 0600;
    if (copy_file(copier, from, to, "slipway.db", &st, error) < 0)
        return -1;
    /* It gets its name when all the rest is there. */
    if (rename(name, database) < 0)
        return error_set_errno(error, errno, "cannot rename %s", name);
    return 0;
}

/* Who had something in memory or under way at the time of the backup is gone. */
static int forget_machine(struct db *db, struct error *error)
{
    static const char *const statements[] = {"DELETE FROM pins", "DELETE FROM environment_builds"};
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_write(db, &tx, error) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_SIZE(statements); i++)
        if (db_exec(&tx, error, statements[i], NULL) < 0)
            return -1;
    return db_commit(&tx, error);
}

static int restore_parts(const char *backup, const char *directory, const char *database, struct error *error)
{
    cleanup_free char *from = fs_join(backup, "vault"), *to = fs_join(directory, "vault");
    cleanup_db struct db *db = NULL;
    struct copier copier = {0};
    int64_t count, bytes;

    if (copy_database(&copier, backup, directory, database, error) < 0 || db_open(database, &db, error) < 0 ||
        forget_machine(db, error) < 0 || copy_blobs(&copier, db, from, to, &count, &bytes, error) < 0 ||
        copy_part(&copier, backup, directory, "runs", 2, error) < 0 ||
        copy_part(&copier, backup, directory, "secrets", -1, error) < 0)
        return -1;
    return sync_file_system(directory, error);
}

json_t *store_restore(const char *backup, const char *directory, struct error *error)
{
    cleanup_free char *name = fs_join(directory, "slipway.db");
    cleanup_free char *database = fs_join(directory, "slipway.db.restoring");
    cleanup_free char *lock = fs_join(directory, "slipway.lock");
    cleanup_json json_t *mark = read_mark(backup, error);
    cleanup_close int lock_fd = -1;

    if (!mark || fs_mkdir_all(directory, 0711, error) < 0 || fs_lock(lock, &lock_fd, error) < 0)
        return NULL;
    if (fs_exists(name)) {
        error_set(error, ERROR_EXISTS, "%s holds a database already; name an empty directory with --data", directory);
        return NULL;
    }
    if (restore_parts(backup, directory, database, error) < 0)
        return NULL;
    if (rename(database, name) < 0) {
        error_set_errno(error, errno, "cannot rename %s", database);
        return NULL;
    }
    return fs_sync_dir(directory, error) < 0 ? NULL : steal_ptr(mark);
}
