#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include "util/fs.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

int fs_read_fd(int fd, const char *name, size_t max, char **ret_data, size_t *ret_length, struct error *error)
{
    cleanup_strbuf struct strbuf sb = STRBUF_INIT(SIZE_MAX / 2);
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size > max)
        return error_set(error, ERROR_TOO_LARGE, "%s has %lld bytes; at most %zu are allowed", name,
                         (long long)st.st_size, max);

    for (;;) {
        size_t want = sb.length ? 65536 : (S_ISREG(st.st_mode) ? (size_t)st.st_size + 1 : 65536);
        char *to = strbuf_reserve(&sb, want);
        ssize_t n = read(fd, to, want);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, errno, "cannot read %s", name);
        if (n == 0)
            break;
        strbuf_commit(&sb, (size_t)n);
        if (sb.length > max)
            return error_set(error, ERROR_TOO_LARGE, "%s has more than the %zu bytes that are allowed", name, max);
    }
    *ret_data = strbuf_detach(&sb, ret_length);
    return 0;
}

int fs_read(const char *path, size_t max, char **ret_data, size_t *ret_length, struct error *error)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return error_set_errno(error, errno, "cannot open %s", path);
    return fs_read_fd(fd, path, max, ret_data, ret_length, error);
}

int fs_write_all(int fd, const void *data, size_t length, struct error *error)
{
    const char *p = data;

    while (length) {
        ssize_t n = write(fd, p, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, errno, "cannot write");
        p += n;
        length -= (size_t)n;
    }
    return 0;
}

static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return xstrdup(".");
    return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

int fs_sync_dir(const char *path, struct error *error)
{
    cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return error_set_errno(error, errno, "cannot sync directory %s", path);
    return 0;
}

static int write_and_sync(int fd, const void *data, size_t length, struct error *error)
{
    if (fs_write_all(fd, data, length, error) < 0)
        return -1;
    if (fsync(fd) < 0)
        return error_set_errno(error, errno, "cannot sync");
    return 0;
}

int fs_write_atomic(const char *path, const void *data, size_t length, mode_t mode, struct error *error)
{
    cleanup_free char *directory = directory_of(path);
    cleanup_free char *temporary = NULL;
    cleanup_close int fd = -1;
    uint64_t salt;

    random_bytes(&salt, sizeof(salt));
    temporary = xasprintf("%s.%016llx.tmp", path, (unsigned long long)salt);
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot create %s", temporary);

    if (write_and_sync(fd, data, length, error) < 0) {
        unlink(temporary);
        return error_wrap(error, "%s", path);
    }
    if (rename(temporary, path) < 0) {
        error_set_errno(error, errno, "cannot rename %s to %s", temporary, path);
        unlink(temporary);
        return -1;
    }
    return fs_sync_dir(directory, error);
}

int fs_mkdir_all(const char *path, mode_t mode, struct error *error)
{
    cleanup_free char *copy = xstrdup(path);

    for (char *p = copy + 1;; p++) {
        char c = *p;

        if (c != '/' && c != '\0')
            continue;
        *p = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
            return error_set_errno(error, errno, "cannot create directory %s", copy);
        *p = c;
        if (c == '\0')
            return 0;
    }
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    int r = type == FTW_DP || type == FTW_DNR ? rmdir(path) : unlink(path);

    if (r < 0 && errno == EACCES && type != FTW_DP) {
        cleanup_free char *directory = directory_of(path);

        if (chmod(directory, 0700) == 0)
            r = unlink(path);
    }
    return r < 0 && errno != ENOENT ? -1 : 0;
}

int fs_remove_all(const char *path, struct error *error)
{
    if (nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) < 0 && errno != ENOENT)
        return error_set_errno(error, errno, "cannot remove %s", path);
    return 0;
}

int fs_copy_fd(int from, int to, struct error *error)
{
    char buffer[65536];

    for (;;) {
        ssize_t n = copy_file_range(from, NULL, to, NULL, SIZE_MAX / 2 & ~UINT64_C(4095), 0);

        if (n == 0)
            return 0;
        if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP))
            break;
        if (n < 0 && errno != EINTR)
            return error_set_errno(error, errno, "cannot copy");
    }
    for (;;) {
        ssize_t n = read(from, buffer, sizeof(buffer));

        if (n == 0)
            return 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, errno, "cannot read");
        if (fs_write_all(to, buffer, (size_t)n, error) < 0)
            return -1;
    }
}

bool fs_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static __thread uint64_t tree_size;

static int add_size(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    if (type == FTW_F)
        tree_size += (uint64_t)st->st_size;
    return 0;
}

uint64_t fs_tree_size(const char *path)
{
    tree_size = 0;
    nftw(path, add_size, 32, FTW_PHYS);
    return tree_size;
}

int fs_open_beneath(int dir_fd, const char *name, int flags, mode_t mode, struct error *error)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    int fd = (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));

    if (fd < 0)
        return error_set_errno(error, errno, "cannot open %s", name);
    return fd;
}

bool fs_is_safe_name(const char *name)
{
    const char *p = name;

    if (!*name || *name == '/' || strlen(name) > LIMIT_PATH)
        return false;
    for (;;) {
        size_t n = strcspn(p, "/");

        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        if (!p[n])
            return true;
        p += n + 1;
    }
}

int fs_lock(const char *path, int *ret_fd, struct error *error)
{
    cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_set_errno(error, errno, "cannot open lock file %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            return error_set(error, ERROR_CONFLICT, "%s is locked by another process", path);
        return error_set_errno(error, errno, "cannot lock %s", path);
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

char *fs_join(const char *directory, const char *name)
{
    size_t n = strlen(directory);

    return xasprintf(n && directory[n - 1] == '/' ? "%s%s" : "%s/%s", directory, name);
}

const char *fs_basename(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}
