#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include "store/store.h"
#include "util/fs.h"
#include "util/xalloc.h"

/* Directories that others may pass through (a container's user reads what is mounted from below) but not
 * list, and those that nobody else enters. */
static int make_directories(struct store *store, struct error *error)
{
    static const struct {
        const char *name;
        mode_t mode;
    } rows[] = {{"vault", 0711}, {"runs", 0711}, {"environments", 0755}, {"secrets", 0700}};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_free char *path = store_path(store, "%s", rows[i].name);

        if (fs_mkdir_all(path, rows[i].mode, error) < 0)
            return -1;
    }
    return 0;
}

static int open_parts(struct store *store, const struct store_options *options, struct error *error)
{
    cleanup_free char *lock = store_path(store, "slipway.lock");
    cleanup_free char *db = store_path(store, "slipway.db");
    cleanup_free char *vault = store_path(store, "vault");
    struct vault_options vault_options = {vault, options->hot_directory, options->hot_budget};
    cleanup_error struct error local = ERROR_INIT;

    if (fs_lock(lock, &store->lock_fd, &local) < 0) {
        if (local.code == ERROR_CONFLICT)
            return error_set(error, ERROR_CONFLICT, "another daemon runs on the data directory %s", store->directory);
        error_move(error, &local);
        return -1;
    }
    if (make_directories(store, error) < 0 || db_open(db, &store->db, error) < 0 ||
        vault_open(store->db, &vault_options, &store->vault, error) < 0)
        return -1;
    store->journal = journal_new(store->db);
    return 0;
}

int store_open(const struct store_options *options, struct store **ret_store, struct error *error)
{
    struct store *store;
    char *directory;

    if (fs_mkdir_all(options->directory, 0711, error) < 0)
        return -1;
    directory = realpath(options->directory, NULL);
    if (!directory)
        return error_set_errno(error, errno, "cannot use the data directory %s", options->directory);

    store = xnew0(struct store);
    store->directory = directory;
    store->lock_fd = -1;
    if (open_parts(store, options, error) < 0) {
        store_close(store);
        return -1;
    }
    *ret_store = store;
    return 0;
}

struct store *store_close(struct store *store)
{
    if (store) {
        journal_free(store->journal);
        vault_close(store->vault);
        db_close(store->db);
        if (store->lock_fd >= 0)
            close(store->lock_fd);
        free(store->directory);
        free(store);
    }
    return NULL;
}

char *store_path(const struct store *store, const char *format, ...)
{
    cleanup_free char *name = NULL;
    va_list args;

    va_start(args, format);
    name = xvasprintf(format, args);
    va_end(args);
    return fs_join(store->directory, name);
}
