#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include "store/vault-private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define COPY_CHUNK (256 * KIB)

/* -- places -- */

char *vault_cold_path(const char *directory, const char *hex, enum blob_encoding encoding)
{
    return xasprintf("%s/%.2s/%s%s", directory, hex, hex, encoding == BLOB_ZSTD ? ".zst" : "");
}

char *vault_spill_path(const struct vault *vault, const char *hex)
{
    return xasprintf("%s/spill/%s", vault->directory, hex);
}

static char *incoming_path(const struct vault *vault)
{
    char id[ID_SIZE];

    id_new(id);
    return xasprintf("%s/incoming/%s", vault->directory, id);
}

/* -- open and close -- */

static int empty_incoming(struct vault *vault, struct error *error)
{
    cleanup_free char *incoming = fs_join(vault->directory, "incoming");
    cleanup_free char *spill = fs_join(vault->directory, "spill");

    if (fs_mkdir_all(vault->directory, 0711, error) < 0 || fs_remove_all(incoming, error) < 0 ||
        fs_mkdir_all(incoming, 0700, error) < 0 || fs_mkdir_all(spill, 0711, error) < 0)
        return -1;
    return 0;
}

static int load_pins(struct vault *vault, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_begin_read(vault->db, &tx, error) < 0 || db_query(&tx, &rows, error, "SELECT digest FROM pins", NULL) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0)
        hot_pin(vault->hot, digest_hex(db_text(&rows, 0)));
    return r;
}

/* A spilled file whose pin was removed just before the power went. */
static int drop_stale_spills(struct vault *vault, struct error *error)
{
    cleanup_free char *path = fs_join(vault->directory, "spill");
    cleanup_closedir DIR *directory = opendir(path);
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct dirent *entry;
    int64_t pins;

    if (!directory)
        return error_set_errno(error, errno, "cannot read %s", path);
    if (db_begin_read(vault->db, &tx, error) < 0)
        return -1;
    while ((entry = readdir(directory))) {
        cleanup_free char *digest = xasprintf("sha256:%s", entry->d_name);

        if (entry->d_name[0] == '.')
            continue;
        if (db_query_int(&tx, &pins, error, "SELECT COUNT(*) FROM pins WHERE digest = ?", "s", digest) < 0)
            return -1;
        if (pins == 0)
            unlinkat(dirfd(directory), entry->d_name, 0);
    }
    return 0;
}

int vault_open(struct db *db, const struct vault_options *options, struct vault **ret_vault, struct error *error)
{
    struct vault *vault = xnew0(struct vault);

    vault->db = db;
    vault->directory = xstrdup(options->directory);
    vault->checked = (struct map)MAP_INIT(NULL);
    pthread_rwlock_init(&vault->gc_lock, NULL);
    pthread_mutex_init(&vault->lock, NULL);
    if (empty_incoming(vault, error) < 0 ||
        hot_open(options->hot_directory, vault->directory, options->hot_budget, &vault->hot, error) < 0 ||
        load_pins(vault, error) < 0 || drop_stale_spills(vault, error) < 0) {
        vault_close(vault);
        return error ? error_wrap(error, "cannot open the vault") : -1;
    }
    *ret_vault = vault;
    return 0;
}

struct vault *vault_close(struct vault *vault)
{
    if (vault) {
        hot_close(vault->hot);
        map_release(&vault->checked);
        pthread_mutex_destroy(&vault->lock);
        pthread_rwlock_destroy(&vault->gc_lock);
        free(vault->directory);
        free(vault);
    }
    return NULL;
}

/* -- put -- */

struct vault_put {
    struct vault *vault;
    char *path; /* in incoming/ */
    struct cold_writer *writer;
};

int vault_put_begin(struct vault *vault, struct vault_put **ret_put, struct error *error)
{
    cleanup_put struct vault_put *put = xnew0(struct vault_put);

    put->vault = vault;
    put->path = incoming_path(vault);
    if (cold_writer_new(put->path, &put->writer, error) < 0)
        return -1;
    *ret_put = steal_ptr(put);
    return 0;
}

int vault_put_write(struct vault_put *put, const void *data, size_t length, struct error *error)
{
    return cold_writer_add(put->writer, data, length, error);
}

struct vault_put *vault_put_abort(struct vault_put *put)
{
    if (put) {
        cold_writer_free(put->writer);
        unlink(put->path);
        free(put->path);
        free(put);
    }
    return NULL;
}

/* 1 if the blob is there with its file; 0 if not. */
static int is_stored(struct vault *vault, struct db_tx *tx, const char *text, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_free char *path = NULL;
    struct stat st;
    int r;

    if (db_query(tx, &rows, error, "SELECT encoding, stored_size FROM blobs WHERE digest = ?", "s", text) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r;
    path = vault_cold_path(vault->directory, digest_hex(text), blob_encoding_parse(db_text(&rows, 0)));
    return stat(path, &st) == 0 && st.st_size == db_int(&rows, 1);
}

/* The same content again: it only gets younger. */
static int touch(struct vault *vault, const char *text, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int r;

    if (db_begin_read(vault->db, &tx, error) < 0)
        return -1;
    r = is_stored(vault, &tx, text, error);
    db_end(&tx);
    if (r <= 0)
        return r;
    if (db_begin_write(vault->db, &tx, error) < 0 ||
        db_exec(&tx, error, "UPDATE blobs SET created_at = ? WHERE digest = ?", "is", clock_wall_ms(), text) < 0 ||
        db_commit(&tx, error) < 0)
        return -1;
    return 1;
}

static int move_in(struct vault_put *put, const char *hex, enum blob_encoding encoding, struct error *error)
{
    cleanup_free char *path = vault_cold_path(put->vault->directory, hex, encoding);
    cleanup_free char *directory = xstrndup(path, (size_t)(fs_basename(path) - path - 1));

    if (mkdir(directory, 0711) == 0) {
        if (fs_sync_dir(put->vault->directory, error) < 0)
            return -1;
    } else if (errno != EEXIST) {
        return error_set_errno(error, errno, "cannot create directory %s", directory);
    }
    if (rename(put->path, path) < 0)
        return error_set_errno(error, errno, "cannot rename %s to %s", put->path, path);
    return fs_sync_dir(directory, error);
}

static int make_known(struct vault *vault, const char *text, const struct cold_file *file, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_write(vault->db, &tx, error) < 0 ||
        db_exec(&tx, error,
                "INSERT INTO blobs (digest, size, stored_size, encoding, created_at) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET stored_size = excluded.stored_size, "
                "encoding = excluded.encoding, created_at = excluded.created_at",
                "siisi", text, (int64_t)file->size, (int64_t)file->stored_size, blob_encoding_name(file->encoding),
                clock_wall_ms()) < 0)
        return -1;
    return db_commit(&tx, error);
}

/* A crash before the row is written leaves a file that the collector finds. */
static int store(struct vault_put *put, const struct cold_file *file, struct error *error)
{
    struct vault *vault = put->vault;
    char text[DIGEST_TEXT_SIZE];
    int r;

    digest_format(&file->digest, text);
    pthread_rwlock_rdlock(&vault->gc_lock);
    r = touch(vault, text, error);
    pthread_rwlock_unlock(&vault->gc_lock);
    if (r != 0)
        return r < 0 ? -1 : 0;

    if (cold_writer_sync(put->writer, error) < 0)
        return -1;
    pthread_rwlock_rdlock(&vault->gc_lock);
    r = move_in(put, digest_hex(text), file->encoding, error) < 0 || make_known(vault, text, file, error) < 0 ? -1 : 0;
    pthread_rwlock_unlock(&vault->gc_lock);
    return r;
}

int vault_put_finish(struct vault_put *put_, const struct digest *expected, struct digest *ret_digest,
                     uint64_t *ret_size, struct error *error)
{
    cleanup_put struct vault_put *put = put_;
    struct cold_file file;
    char text[DIGEST_TEXT_SIZE], other[DIGEST_TEXT_SIZE];

    if (cold_writer_finish(put->writer, &file, error) < 0)
        return -1;
    if (expected && !digest_equal(expected, &file.digest))
        return error_set(error, ERROR_CORRUPT, "the content has the digest %s, not %s",
                         digest_format(&file.digest, text), digest_format(expected, other));
    if (store(put, &file, error) < 0)
        return -1;
    *ret_digest = file.digest;
    if (ret_size)
        *ret_size = file.size;
    return 0;
}

int vault_put_bytes(struct vault *vault, const void *data, size_t length, struct digest *ret_digest,
                    struct error *error)
{
    cleanup_put struct vault_put *put = NULL;

    if (vault_put_begin(vault, &put, error) < 0 || vault_put_write(put, data, length, error) < 0)
        return -1;
    return vault_put_finish(steal_ptr(put), NULL, ret_digest, NULL, error);
}

static int put_fd(struct vault *vault, int fd, const struct digest *expected, struct digest *ret_digest,
                  uint64_t *ret_size, struct error *error)
{
    cleanup_put struct vault_put *put = NULL;
    cleanup_free char *buffer = xmalloc(COPY_CHUNK);

    if (vault_put_begin(vault, &put, error) < 0)
        return -1;
    for (;;) {
        ssize_t n = read(fd, buffer, COPY_CHUNK);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, errno, "cannot read what is to be stored");
        if (n == 0)
            break;
        if (vault_put_write(put, buffer, (size_t)n, error) < 0)
            return -1;
    }
    return vault_put_finish(steal_ptr(put), expected, ret_digest, ret_size, error);
}

int vault_put_fd(struct vault *vault, int fd, struct digest *ret_digest, uint64_t *ret_size, struct error *error)
{
    return put_fd(vault, fd, NULL, ret_digest, ret_size, error);
}

int vault_put_expected(struct vault *vault, int fd, const struct digest *expected, uint64_t *ret_size,
                       struct error *error)
{
    struct digest digest;

    return put_fd(vault, fd, expected, &digest, ret_size, error);
}

int vault_put_path(struct vault *vault, const char *path, struct digest *ret_digest, uint64_t *ret_size,
                   struct error *error)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return error_set_errno(error, errno, "cannot open %s", path);
    if (vault_put_fd(vault, fd, ret_digest, ret_size, error) < 0)
        return error_is_set(error) ? error_wrap(error, "cannot store %s", path) : -1;
    return 0;
}

/* -- get -- */

static int find(struct vault *vault, const struct digest *digest, struct blob *ret_blob, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    struct blob blob = {.digest = *digest};
    int r;

    digest_format(digest, blob.text);
    if (db_begin_read(vault->db, &tx, error) < 0 ||
        db_query(&tx, &rows, error, "SELECT size, stored_size, encoding FROM blobs WHERE digest = ?", "s", blob.text) <
            0)
        return -1;
    r = db_next(&rows, error);
    if (r < 0)
        return -1;
    if (r == 0)
        return error_set(error, ERROR_NOT_FOUND, "blob %s does not exist", blob.text);
    blob.size = (uint64_t)db_int(&rows, 0);
    blob.stored_size = (uint64_t)db_int(&rows, 1);
    blob.encoding = blob_encoding_parse(db_text(&rows, 2));
    *ret_blob = blob;
    return 0;
}

bool vault_has(struct vault *vault, const struct digest *digest)
{
    struct blob blob;

    return find(vault, digest, &blob, NULL) == 0;
}

int vault_size(struct vault *vault, const struct digest *digest, uint64_t *ret_size, struct error *error)
{
    struct blob blob;

    if (find(vault, digest, &blob, error) < 0)
        return -1;
    *ret_size = blob.size;
    return 0;
}

static int open_cold(struct vault *vault, const struct blob *blob, struct error *error)
{
    cleanup_free char *path = vault_cold_path(vault->directory, digest_hex(blob->text), blob->encoding);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 && errno == ENOENT)
        return error_set(error, ERROR_CORRUPT, "the file of blob %s is missing; store its content again to mend it",
                         blob->text);
    return fd < 0 ? error_set_errno(error, errno, "cannot open %s", path) : fd;
}

/* So that the same content can be stored anew; what is left stays for whoever wants to look. */
static int set_aside(struct vault *vault, const struct blob *blob, struct error *error)
{
    cleanup_free char *path = vault_cold_path(vault->directory, digest_hex(blob->text), blob->encoding);
    cleanup_free char *aside = xasprintf("%s.corrupt", path);

    if (rename(path, aside) < 0)
        return -1;
    return error_wrap(error, "blob %s is damaged on disk; its file is now %s; store its content again to mend it",
                      blob->text, aside);
}

/* Copies the content to a file, or nowhere (-1), and checks it. */
static int copy_out(struct vault *vault, const struct blob *blob, int to, struct error *error)
{
    cleanup_close int fd = open_cold(vault, blob, error);
    cleanup_error struct error local = ERROR_INIT;

    if (fd < 0)
        return -1;
    if (cold_read(fd, blob->encoding, &blob->digest, to, &local) == 0)
        return 0;
    if (local.code == ERROR_CORRUPT)
        set_aside(vault, blob, &local);
    error_move(error, &local);
    return -1;
}

struct loading {
    struct vault *vault;
    const struct blob *blob;
};

static int load(void *userdata, int fd, struct error *error)
{
    struct loading *loading = userdata;

    return copy_out(loading->vault, loading->blob, fd, error);
}

/* A raw file that is read where it lies is hashed once in the life of the process. */
static int check_once(struct vault *vault, const struct blob *blob, struct error *error)
{
    bool known;

    pthread_mutex_lock(&vault->lock);
    known = map_get(&vault->checked, blob->text) != NULL;
    pthread_mutex_unlock(&vault->lock);
    if (known)
        return 0;
    if (copy_out(vault, blob, -1, error) < 0)
        return -1;
    pthread_mutex_lock(&vault->lock);
    map_put(&vault->checked, blob->text, vault);
    pthread_mutex_unlock(&vault->lock);
    return 0;
}

/* For what does not fit into memory: the raw file itself, or an unlinked copy on disk. */
static int get_from_disk(struct vault *vault, const struct blob *blob, int *ret_fd, struct error *error)
{
    cleanup_close int fd = -1;
    cleanup_free char *path = NULL;

    if (blob->encoding == BLOB_RAW) {
        if (check_once(vault, blob, error) < 0)
            return -1;
        fd = open_cold(vault, blob, error);
        if (fd < 0)
            return -1;
        *ret_fd = steal_fd(&fd);
        return 0;
    }

    path = incoming_path(vault);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot create %s", path);
    if (copy_out(vault, blob, fd, error) == 0) {
        int readable = open(path, O_RDONLY | O_CLOEXEC);

        if (readable < 0)
            error_set_errno(error, errno, "cannot open %s", path);
        else
            *ret_fd = readable;
        unlink(path);
        return readable < 0 ? -1 : 0;
    }
    unlink(path);
    return -1;
}

int vault_get(struct vault *vault, const struct digest *digest, int *ret_fd, struct error *error)
{
    struct blob blob;
    struct loading loading = {vault, &blob};
    int r;

    if (find(vault, digest, &blob, error) < 0)
        return -1;
    r = hot_get(vault->hot, digest_hex(blob.text), blob.size, load, &loading, ret_fd, error);
    if (r != 0)
        return r < 0 ? -1 : 0;
    return get_from_disk(vault, &blob, ret_fd, error);
}

int vault_map(struct vault *vault, const struct digest *digest, const void **ret_data, size_t *ret_length,
              struct error *error)
{
    cleanup_close int fd = -1;
    struct stat st;
    void *data;

    if (vault_get(vault, digest, &fd, error) < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "cannot map a blob");
    if (st.st_size == 0) {
        *ret_data = "";
        *ret_length = 0;
        return 0;
    }
    data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return error_set_errno(error, errno, "cannot map a blob");
    *ret_data = data;
    *ret_length = (size_t)st.st_size;
    return 0;
}

int vault_read(struct vault *vault, const struct digest *digest, size_t max, char **ret_data, size_t *ret_length,
               struct error *error)
{
    cleanup_close int fd = -1;
    char text[DIGEST_TEXT_SIZE];

    if (vault_get(vault, digest, &fd, error) < 0)
        return -1;
    return fs_read_fd(fd, digest_format(digest, text), max, ret_data, ret_length, error);
}

int vault_verify(struct vault *vault, const struct digest *digest, struct error *error)
{
    struct blob blob;

    if (find(vault, digest, &blob, error) < 0)
        return -1;
    return copy_out(vault, &blob, -1, error);
}

/* -- pin -- */

/* 1: the pin is new; 0: the owner has it already. */
static int add_pin(struct vault *vault, const struct blob *blob, const char *owner, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    bool is_new;

    if (db_begin_write(vault->db, &tx, error) < 0 ||
        db_exec(&tx, error, "INSERT INTO pins (owner, digest, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                "ssi", owner, blob->text, clock_wall_ms()) < 0)
        return -1;
    is_new = db_changes(&tx) > 0;
    if (db_commit(&tx, error) < 0)
        return -1;
    if (is_new)
        hot_pin(vault->hot, digest_hex(blob->text));
    return is_new;
}

static void unpin_file(struct vault *vault, const char *hex)
{
    if (hot_unpin(vault->hot, hex) == 0) {
        cleanup_free char *spill = vault_spill_path(vault, hex);

        unlink(spill);
    }
}

static void take_back_pin(struct vault *vault, const struct blob *blob, const char *owner)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_write(vault->db, &tx, NULL) == 0 &&
        db_exec(&tx, NULL, "DELETE FROM pins WHERE owner = ? AND digest = ?", "ss", owner, blob->text) == 0 &&
        db_commit(&tx, NULL) == 0)
        unpin_file(vault, digest_hex(blob->text));
}

/* The raw file on disk, under a name of its own while it is pinned. */
static int spill(struct vault *vault, const struct blob *blob, const char *path, struct error *error)
{
    cleanup_free char *cold = vault_cold_path(vault->directory, digest_hex(blob->text), blob->encoding);
    cleanup_free char *temporary = NULL;
    cleanup_close int fd = -1;

    if (blob->encoding == BLOB_RAW) {
        if (check_once(vault, blob, error) < 0)
            return -1;
        if (link(cold, path) < 0 && errno != EEXIST)
            return error_set_errno(error, errno, "cannot link %s", path);
        return 0;
    }
    temporary = incoming_path(vault);
    fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot create %s", temporary);
    if (copy_out(vault, blob, fd, error) < 0)
        goto fail;
    if (fchmod(fd, 0444) < 0 || fsync(fd) < 0 || rename(temporary, path) < 0) {
        error_set_errno(error, errno, "cannot finish %s", path);
        goto fail;
    }
    return 0;
fail:
    unlink(temporary);
    return -1;
}

static int load_pinned(struct vault *vault, const struct blob *blob, char **ret_path, struct error *error)
{
    cleanup_free char *path = vault_spill_path(vault, digest_hex(blob->text));
    cleanup_close int fd = -1;
    struct loading loading = {vault, blob};
    int r;

    /* It did not fit when it was first pinned: the path stays. */
    if (fs_exists(path)) {
        *ret_path = steal_ptr(path);
        return 0;
    }
    r = hot_get(vault->hot, digest_hex(blob->text), blob->size, load, &loading, &fd, error);
    if (r < 0 || (r == 0 && spill(vault, blob, path, error) < 0))
        return -1;
    *ret_path = r > 0 ? hot_path(vault->hot, digest_hex(blob->text)) : steal_ptr(path);
    return 0;
}

int vault_pin(struct vault *vault, const struct digest *digest, const char *owner, char **ret_path, struct error *error)
{
    struct blob blob;
    int is_new;

    pthread_rwlock_rdlock(&vault->gc_lock);
    pthread_mutex_lock(&vault->lock);
    is_new = find(vault, digest, &blob, error) < 0 ? -1 : add_pin(vault, &blob, owner, error);
    pthread_mutex_unlock(&vault->lock);
    pthread_rwlock_unlock(&vault->gc_lock);
    if (is_new < 0)
        return -1;

    if (load_pinned(vault, &blob, ret_path, error) < 0) {
        if (is_new) {
            pthread_mutex_lock(&vault->lock);
            take_back_pin(vault, &blob, owner);
            pthread_mutex_unlock(&vault->lock);
        }
        return -1;
    }
    return 0;
}

static int remove_pins(struct vault *vault, const char *owner, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_json json_t *digests = json_array();
    json_t *digest;
    size_t i;
    int r;

    if (db_begin_write(vault->db, &tx, error) < 0)
        return -1;
    {
        cleanup_rows struct db_rows rows = DB_ROWS_INIT;

        if (db_query(&tx, &rows, error, "SELECT digest FROM pins WHERE owner = ?", "s", owner) < 0)
            return -1;
        while ((r = db_next(&rows, error)) > 0)
            json_array_append_new(digests, json_string(db_text(&rows, 0)));
        if (r < 0)
            return -1;
    }
    if (db_exec(&tx, error, "DELETE FROM pins WHERE owner = ?", "s", owner) < 0 || db_commit(&tx, error) < 0)
        return -1;
    json_array_foreach(digests, i, digest) {
        unpin_file(vault, digest_hex(json_string_value(digest)));
    }
    return 0;
}

int vault_unpin(struct vault *vault, const char *owner, struct error *error)
{
    int r;

    pthread_mutex_lock(&vault->lock);
    r = remove_pins(vault, owner, error);
    pthread_mutex_unlock(&vault->lock);
    return r;
}
