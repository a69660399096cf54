#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include "store/hot-directory.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/xalloc.h"

#define PREFIX     "slipway-"
#define HASH_BYTES 8
#define OWNER      ".owner"

struct hot_directory {
    char *path;
    int fd; /* holds the lock */
};

/* /dev/shm is everybody's: what another user made, or can change, is not ours. */
static bool is_private(const struct stat *st)
{
    return S_ISDIR(st->st_mode) && st->st_uid == geteuid() && !(st->st_mode & 022);
}

static int open_private(const char *path, int *ret_fd, struct error *error)
{
    cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if ((fd < 0 && (errno == ENOTDIR || errno == ELOOP || errno == EACCES)) ||
        (fd >= 0 && fstat(fd, &st) == 0 && !is_private(&st)))
        return error_set(error, ERROR_FORBIDDEN,
                         "%s is not a directory that only this user can write; remove it or name another one for "
                         "the hot tier",
                         path);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot use %s", path);
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* False: a sweeper has removed it between our open and our lock. */
static bool is_still_there(int fd, const char *path)
{
    struct stat opened, named;

    return fstat(fd, &opened) == 0 && lstat(path, &named) == 0 && opened.st_ino == named.st_ino &&
           opened.st_dev == named.st_dev;
}

static int write_owner(int directory, const char *owner, struct error *error)
{
    cleanup_close int fd = openat(directory, OWNER, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_set_errno(error, errno, "cannot create " OWNER);
    return fs_write_all(fd, owner, strlen(owner), error);
}

/* The lock is free or a sweeper's, who holds it for a moment: another daemon on the same data directory does not
 * get this far. */
static int make_and_lock(const char *path, int *ret_fd, struct error *error)
{
    for (;;) {
        cleanup_close int fd = -1;

        if (mkdir(path, 0711) < 0 && errno != EEXIST)
            return error_set_errno(error, errno, "cannot create %s", path);
        if (open_private(path, &fd, error) < 0)
            return -1;
        while (flock(fd, LOCK_EX) < 0)
            if (errno != EINTR)
                return error_set_errno(error, errno, "cannot lock %s", path);
        if (is_still_there(fd, path)) {
            *ret_fd = steal_fd(&fd);
            return 0;
        }
    }
}

int hot_directory_claim(const char *parent, const char *owner, struct hot_directory **ret_directory,
                        struct error *error)
{
    cleanup_free char *path = NULL;
    cleanup_close int fd = -1;
    struct digest digest;
    char hex[2 * HASH_BYTES + 1];
    struct hot_directory *directory;

    digest_of(owner, strlen(owner), &digest);
    hex_encode(digest.bytes, HASH_BYTES, hex);
    path = xasprintf("%s/" PREFIX "%s", parent, hex);
    if (make_and_lock(path, &fd, error) < 0)
        return -1;
    if (write_owner(fd, owner, error) < 0)
        return error_wrap(error, "%s", path);
    directory = xnew0(struct hot_directory);
    directory->path = steal_ptr(path);
    directory->fd = steal_fd(&fd);
    *ret_directory = directory;
    return 0;
}

const char *hot_directory_path(const struct hot_directory *directory)
{
    return directory->path;
}

static bool is_empty(const char *path)
{
    cleanup_closedir DIR *directory = opendir(path);
    struct dirent *entry;

    while (directory && (entry = readdir(directory)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && strcmp(entry->d_name, OWNER) != 0)
            return false;
    return directory != NULL;
}

struct hot_directory *hot_directory_release(struct hot_directory *directory)
{
    if (!directory)
        return NULL;
    if (is_empty(directory->path)) {
        unlinkat(directory->fd, OWNER, 0);
        rmdir(directory->path);
    }
    close(directory->fd);
    free(directory->path);
    free(directory);
    return NULL;
}

/* -- sweeping -- */

static bool is_our_name(const char *name)
{
    uint8_t hash[HASH_BYTES];

    return strncmp(name, PREFIX, strlen(PREFIX)) == 0 && strlen(name) == strlen(PREFIX) + 2 * HASH_BYTES &&
           hex_decode(name + strlen(PREFIX), hash, HASH_BYTES);
}

/* Only a name that is known not to exist: a path that cannot be looked at now may be there tomorrow. */
static bool owner_is_gone(int directory)
{
    cleanup_close int fd = openat(directory, OWNER, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    cleanup_free char *owner = NULL;
    struct stat st;

    return fd >= 0 && fs_read_fd(fd, OWNER, PATH_MAX, &owner, NULL, NULL) == 0 && owner[0] == '/' &&
           lstat(owner, &st) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

static void sweep_one(const char *path)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_close int fd = -1;

    if (open_private(path, &fd, &error) < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || !is_still_there(fd, path) ||
        !owner_is_gone(fd))
        return;
    if (fs_remove_all(path, &error) < 0)
        log_warning("cannot remove what a daemon has left in memory", "directory", path, "error", error.message);
    else
        log_info("removed what a daemon had left in memory; its data directory is gone", "directory", path);
}

void hot_directory_sweep(const char *parent)
{
    cleanup_closedir DIR *directory = opendir(parent);
    struct dirent *entry;

    while (directory && (entry = readdir(directory))) {
        cleanup_free char *path = fs_join(parent, entry->d_name);

        if (is_our_name(entry->d_name))
            sweep_one(path);
    }
}
