#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <string.h>
#include <sys/statfs.h>
#include "store/hot-directory.h"
#include "store/vault-cold.h"
#include "store/vault-hot.h"
#include "util/fs.h"
#include "util/list.h"
#include "util/map.h"
#include "util/xalloc.h"

enum hot_state { HOT_ABSENT, HOT_LOADING, HOT_PRESENT };

struct hot_file {
    char name[2 * DIGEST_SIZE + 1];
    enum hot_state state;
    bool checked; /* false: adopted from a file system that may have lost data */
    uint64_t size;
    unsigned pins;
    struct list lru; /* linked while present; least recently used first */
};

struct hot {
    char *directory;
    struct hot_directory *own; /* NULL: the directory is somebody else's */
    uint64_t budget;

    pthread_mutex_t lock;
    pthread_cond_t loaded;
    struct map files; /* present, loading, or pinned */
    struct list lru;
    uint64_t used; /* present and loading */
};

/* -- opening -- */

static int make_directory(struct hot *hot, const char *directory, const char *owner, struct error *error)
{
    const char *parent = fs_exists("/dev/shm") ? "/dev/shm" : "/tmp";

    if (directory) {
        hot->directory = xstrdup(directory);
        return fs_mkdir_all(directory, 0711, error);
    }
    hot_directory_sweep(parent);
    if (hot_directory_claim(parent, owner, &hot->own, error) < 0)
        return -1;
    hot->directory = xstrdup(hot_directory_path(hot->own));
    return 0;
}

static struct hot_file *file_get(struct hot *hot, const char *name)
{
    struct hot_file *file = map_get(&hot->files, name);

    if (!file) {
        assert(strlen(name) == 2 * DIGEST_SIZE);
        file = xnew0(struct hot_file);
        memcpy(file->name, name, sizeof(file->name));
        list_init(&file->lru);
        map_put(&hot->files, name, file);
    }
    return file;
}

static void forget_if_unused(struct hot *hot, struct hot_file *file)
{
    if (file->state == HOT_ABSENT && file->pins == 0)
        map_remove(&hot->files, file->name);
}

static bool is_name(const char *text)
{
    uint8_t bytes[DIGEST_SIZE];

    return hex_decode(text, bytes, DIGEST_SIZE);
}

static int adopt(struct hot *hot, bool volatile_memory, struct error *error)
{
    cleanup_closedir DIR *directory = opendir(hot->directory);
    struct dirent *entry;

    if (!directory)
        return error_set_errno(error, errno, "cannot read %s", hot->directory);
    while ((entry = readdir(directory))) {
        struct hot_file *file;
        struct stat st;

        if (entry->d_name[0] == '.' || fstatat(dirfd(directory), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (!is_name(entry->d_name) || !S_ISREG(st.st_mode) || st.st_uid != geteuid()) {
            unlinkat(dirfd(directory), entry->d_name, 0);
            continue;
        }
        file = file_get(hot, entry->d_name);
        file->state = HOT_PRESENT;
        file->checked = volatile_memory;
        file->size = (uint64_t)st.st_size;
        hot->used += file->size;
        list_append(&hot->lru, &file->lru);
    }
    return 0;
}

int hot_open(const char *directory, const char *owner, uint64_t budget, struct hot **ret_hot, struct error *error)
{
    struct hot *hot = xnew0(struct hot);
    struct statfs fs;

    pthread_mutex_init(&hot->lock, NULL);
    pthread_cond_init(&hot->loaded, NULL);
    hot->files = (struct map)MAP_INIT(free);
    list_init(&hot->lru);
    if (make_directory(hot, directory, owner, error) < 0)
        goto fail;
    if (statfs(hot->directory, &fs) < 0) {
        error_set_errno(error, errno, "cannot use %s", hot->directory);
        goto fail;
    }
    if (adopt(hot, fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC, error) < 0)
        goto fail;
    hot->budget = budget ? budget : ((uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize + hot->used) / 2;
    *ret_hot = hot;
    return 0;

fail:
    /* What is in it stays: nobody has said yet what is pinned. */
    hot->own = hot_directory_release(hot->own);
    hot_close(hot);
    return -1;
}

/* -- under the lock -- */

static void remove_file(struct hot *hot, struct hot_file *file)
{
    cleanup_free char *path = hot_path(hot, file->name);

    unlink(path);
    list_unlink(&file->lru);
    hot->used -= file->size;
    file->state = HOT_ABSENT;
}

static bool make_room(struct hot *hot, uint64_t size)
{
    struct hot_file *file, *tmp;
    uint64_t pinned = 0;

    if (size > hot->budget)
        return false;
    /* Nothing is removed in vain. */
    list_for_each(file, &hot->lru, lru) {
        if (file->pins)
            pinned += file->size;
    }
    if (pinned + size > hot->budget)
        return false;
    list_for_each_safe(file, tmp, &hot->lru, lru) {
        if (hot->used + size <= hot->budget)
            break;
        if (file->pins == 0) {
            remove_file(hot, file);
            forget_if_unused(hot, file);
        }
    }
    return hot->used + size <= hot->budget;
}

/* -- loading, outside of the lock -- */

static int open_file(struct hot *hot, const char *name)
{
    cleanup_free char *path = hot_path(hot, name);

    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

static bool content_is_right(struct hot *hot, const char *name)
{
    cleanup_close int fd = open_file(hot, name);
    struct digest digest;

    return fd >= 0 && hex_decode(name, digest.bytes, DIGEST_SIZE) && cold_read(fd, BLOB_RAW, &digest, -1, NULL) == 0;
}

static int load_file(struct hot *hot, const char *name, uint64_t size, hot_load_fn load, void *userdata,
                     struct error *error)
{
    cleanup_free char *path = hot_path(hot, name);
    cleanup_free char *temporary = xasprintf("%s.loading", path);
    cleanup_close int fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return error_set_errno(error, errno, "cannot create %s", temporary);
    /* Takes the memory now: a full file system is found here and not by a reader's SIGBUS. */
    if (size && fallocate(fd, 0, 0, (off_t)size) < 0 && errno != EOPNOTSUPP) {
        error_set_errno(error, errno, "cannot load into %s", hot->directory);
        unlink(temporary);
        return -1;
    }
    if (load(userdata, fd, error) < 0) {
        unlink(temporary);
        return -1;
    }
    if (fchmod(fd, 0444) < 0 || rename(temporary, path) < 0) {
        error_set_errno(error, errno, "cannot finish %s", path);
        unlink(temporary);
        return -1;
    }
    return 0;
}

/* Called with the lock held and the file absent; returns with it held. */
static int load_absent(struct hot *hot, struct hot_file *file, uint64_t size, hot_load_fn load, void *userdata,
                       struct error *error)
{
    cleanup_error struct error local = ERROR_INIT;
    int r;

    if (!make_room(hot, size)) {
        forget_if_unused(hot, file);
        return 0;
    }
    file->state = HOT_LOADING;
    file->size = size;
    hot->used += size;
    pthread_mutex_unlock(&hot->lock);
    r = load_file(hot, file->name, size, load, userdata, &local);
    pthread_mutex_lock(&hot->lock);
    pthread_cond_broadcast(&hot->loaded);
    if (r == 0) {
        file->state = HOT_PRESENT;
        file->checked = true;
        list_append(&hot->lru, &file->lru);
        return 1;
    }
    file->state = HOT_ABSENT;
    hot->used -= size;
    forget_if_unused(hot, file);
    /* Less memory than the budget says is the same as no budget. */
    if (local.code == ERROR_NO_SPACE)
        return 0;
    error_move(error, &local);
    return -1;
}

static void check_adopted(struct hot *hot, struct hot_file *file)
{
    bool right;

    file->state = HOT_LOADING;
    list_unlink(&file->lru);
    pthread_mutex_unlock(&hot->lock);
    right = content_is_right(hot, file->name);
    pthread_mutex_lock(&hot->lock);
    pthread_cond_broadcast(&hot->loaded);
    file->state = HOT_PRESENT;
    file->checked = right;
    list_append(&hot->lru, &file->lru);
    if (!right)
        remove_file(hot, file);
}

int hot_get(struct hot *hot, const char *name, uint64_t size, hot_load_fn load, void *userdata, int *ret_fd,
            struct error *error)
{
    int r = 1;

    pthread_mutex_lock(&hot->lock);
    for (;;) {
        struct hot_file *file = file_get(hot, name);

        if (file->state == HOT_LOADING) {
            pthread_cond_wait(&hot->loaded, &hot->lock);
        } else if (file->state == HOT_ABSENT) {
            r = load_absent(hot, file, size, load, userdata, error);
            if (r <= 0)
                break;
        } else if (!file->checked) {
            check_adopted(hot, file);
        } else {
            int fd = open_file(hot, name);

            if (fd >= 0) {
                list_unlink(&file->lru);
                list_append(&hot->lru, &file->lru);
                *ret_fd = fd;
                break;
            }
            if (errno != ENOENT) {
                r = error_set_errno(error, errno, "cannot open %s in the hot tier", name);
                break;
            }
            /* Somebody tidied up behind our back. */
            remove_file(hot, file);
        }
    }
    pthread_mutex_unlock(&hot->lock);
    return r;
}

char *hot_path(struct hot *hot, const char *name)
{
    return fs_join(hot->directory, name);
}

void hot_pin(struct hot *hot, const char *name)
{
    pthread_mutex_lock(&hot->lock);
    file_get(hot, name)->pins++;
    pthread_mutex_unlock(&hot->lock);
}

unsigned hot_unpin(struct hot *hot, const char *name)
{
    struct hot_file *file;
    unsigned left = 0;

    pthread_mutex_lock(&hot->lock);
    file = map_get(&hot->files, name);
    if (file && file->pins) {
        left = --file->pins;
        forget_if_unused(hot, file);
    }
    pthread_mutex_unlock(&hot->lock);
    return left;
}

void hot_drop(struct hot *hot, const char *name)
{
    struct hot_file *file;

    pthread_mutex_lock(&hot->lock);
    file = map_get(&hot->files, name);
    if (file && file->state == HOT_PRESENT && file->pins == 0) {
        remove_file(hot, file);
        forget_if_unused(hot, file);
    }
    pthread_mutex_unlock(&hot->lock);
}

void hot_usage(struct hot *hot, struct hot_usage *ret_usage)
{
    struct hot_file *file;

    pthread_mutex_lock(&hot->lock);
    *ret_usage = (struct hot_usage){.used = hot->used, .budget = hot->budget};
    list_for_each(file, &hot->lru, lru) {
        if (file->pins)
            ret_usage->pinned += file->size;
    }
    pthread_mutex_unlock(&hot->lock);
}

const char *hot_directory(const struct hot *hot)
{
    return hot->directory;
}

struct hot *hot_close(struct hot *hot)
{
    struct hot_file *file, *tmp;

    if (!hot)
        return NULL;
    if (hot->own) {
        list_for_each_safe(file, tmp, &hot->lru, lru) {
            if (file->pins == 0)
                remove_file(hot, file);
        }
        hot_directory_release(hot->own);
    }
    map_release(&hot->files);
    pthread_cond_destroy(&hot->loaded);
    pthread_mutex_destroy(&hot->lock);
    free(hot->directory);
    free(hot);
    return NULL;
}
