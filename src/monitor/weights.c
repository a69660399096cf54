#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "format/safetensors.h"
#include "monitor/weights.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/list.h"
#include "util/strvec.h"
#include "util/xalloc.h"

#define SUFFIX      ".safetensors"
#define SYNC_INLINE (4 * MIB) /* a smaller file is synced by ourselves */
#define SCAN_MAX    10000     /* files of one look */

/* A generation on its way; only the first of the list is being synced. */
struct arrival {
    struct list link;
    int generation;
    char *name; /* as the program called it */
    uint64_t size;
    int fd;
};

struct seen {
    char *name;
    struct timespec mtime;
    off_t size;
};

struct weights {
    char *from, *to;
    int from_fd, to_fd;
    struct intake *intake;
    int generation; /* the last number given */
    int announced;
    struct list arrivals;
    pid_t sync_pid;    /* 0: none */
    struct seen *seen; /* of the last scan */
    size_t n_seen;
};

static int open_directory(const char *path, int *ret_fd, struct error *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return error_set_errno(error, errno, "cannot open the directory %s", path);
    *ret_fd = fd;
    return 0;
}

int weights_open(const char *from, const char *to, struct intake *intake, struct weights **ret_weights,
                 struct error *error)
{
    cleanup_close int from_fd = -1, to_fd = -1;
    struct weights *weights;

    if (open_directory(from, &from_fd, error) < 0 || open_directory(to, &to_fd, error) < 0)
        return -1;
    weights = xnew0(struct weights);
    weights->from = xstrdup(from);
    weights->to = xstrdup(to);
    weights->from_fd = steal_fd(&from_fd);
    weights->to_fd = steal_fd(&to_fd);
    weights->intake = intake;
    list_init(&weights->arrivals);
    *ret_weights = weights;
    return 0;
}

static void arrival_free(struct arrival *arrival)
{
    list_unlink(&arrival->link);
    if (arrival->fd >= 0)
        close(arrival->fd);
    free(arrival->name);
    free(arrival);
}

static void forget_seen(struct weights *weights)
{
    for (size_t i = 0; i < weights->n_seen; i++)
        free(weights->seen[i].name);
    free(weights->seen);
    weights->seen = NULL;
    weights->n_seen = 0;
}

struct weights *weights_close(struct weights *weights)
{
    struct arrival *arrival, *tmp;

    if (!weights)
        return NULL;
    if (weights->sync_pid > 0) {
        kill(weights->sync_pid, SIGKILL);
        waitpid(weights->sync_pid, NULL, 0);
    }
    list_for_each_safe(arrival, tmp, &weights->arrivals, link)
        arrival_free(arrival);
    forget_seen(weights);
    close(weights->from_fd);
    close(weights->to_fd);
    free(weights->from);
    free(weights->to);
    free(weights);
    return NULL;
}

bool weights_busy(const struct weights *weights)
{
    return !list_is_empty(&weights->arrivals);
}

int weights_generations(const struct weights *weights)
{
    return weights->announced;
}

/* -- syncing and announcing -- */

static void file_name(int generation, char buffer[32])
{
    snprintf(buffer, 32, "%06d" SUFFIX, generation);
}

static void announce(struct weights *weights, struct arrival *arrival)
{
    cleanup_free char *file = NULL;
    char name[32];

    file_name(arrival->generation, name);
    file = xasprintf("weights/%s", name);
    intake_add(weights->intake, "weights",
               json_build("{s:i, s:s, s:o, s:I}", "generation", arrival->generation, "file", file, "name",
                          json_string_lossy(arrival->name), "size", (json_int_t)arrival->size));
    intake_flush(weights->intake, NULL);
    weights->announced = arrival->generation;
    arrival_free(arrival);
}

/* 0, or an error number. */
static int sync_now(struct weights *weights, const struct arrival *arrival)
{
    return fsync(arrival->fd) < 0 || fsync(weights->to_fd) < 0 ? errno : 0;
}

/* Syncs the first arrivals: small ones at once, the first large one by a child. */
static void sync_next(struct weights *weights)
{
    struct arrival *arrival;

    while (!weights->sync_pid && (arrival = list_first(&weights->arrivals, struct arrival, link))) {
        if (arrival->size > SYNC_INLINE) {
            weights->sync_pid = fork(); /* this program has one thread */
            if (weights->sync_pid == 0)
                _exit(sync_now(weights, arrival) ? 1 : 0);
            if (weights->sync_pid > 0)
                return;
            weights->sync_pid = 0;
        }
        if (sync_now(weights, arrival) != 0)
            intake_warn(weights->intake, "no_space", "generation %d may not be safe on disk: cannot sync it",
                        arrival->generation);
        announce(weights, arrival);
    }
}

bool weights_child(struct weights *weights, pid_t pid, int status)
{
    struct arrival *arrival;

    if (!pid || pid != weights->sync_pid)
        return false;
    weights->sync_pid = 0;
    arrival = list_first(&weights->arrivals, struct arrival, link);
    if (status != 0)
        intake_warn(weights->intake, "no_space", "generation %d may not be safe on disk: cannot sync it",
                    arrival->generation);
    announce(weights, arrival);
    sync_next(weights);
    return true;
}

/* -- taking a file -- */

/* A regular file with one name that holds what safetensors demands; its size, or -1. */
static int64_t check(int fd, const char *name, struct error *error)
{
    cleanup_safetensors struct safetensors *file = NULL;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "cannot stat %s", name);
    if (!S_ISREG(st.st_mode))
        return error_set(error, ERROR_INVALID, "%s is not a regular file", name);
    if ((uint64_t)st.st_size > LIMIT_WEIGHTS)
        return error_set(error, ERROR_TOO_LARGE, "%s has %lld bytes; at most %llu are allowed", name,
                         (long long)st.st_size, (unsigned long long)LIMIT_WEIGHTS);
    if (safetensors_open(fd, name, &file, error) < 0)
        return -1;
    return st.st_size;
}

static int open_file(int directory_fd, const char *name, struct error *error)
{
    /* Not blocking: it may be a FIFO that the program left there. */
    return fs_open_beneath(directory_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, error);
}

static void reject(struct weights *weights, const char *name, const char *stored, const struct error *error)
{
    cleanup_free char *back = xasprintf("%s.invalid", name);

    intake_warn(weights->intake, "weights_invalid", "weights/%.200s is no generation: %s", name, error->message);
    if (renameat2(weights->to_fd, stored, weights->from_fd, back, RENAME_NOREPLACE) < 0) {
        cleanup_free char *path = fs_join(weights->to, stored);

        fs_remove_all(path, NULL);
    }
}

static void take(struct weights *weights, const char *name)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_close int fd = -1;
    struct arrival *arrival;
    char stored[32];
    int64_t size;

    file_name(weights->generation + 1, stored);
    if (renameat2(weights->from_fd, name, weights->to_fd, stored, RENAME_NOREPLACE) < 0) {
        if (errno != ENOENT)
            intake_warn(weights->intake, "weights_invalid", "cannot take weights/%.200s: %s", name, strerror(errno));
        return;
    }
    fd = open_file(weights->to_fd, stored, &error);
    size = fd < 0 ? -1 : check(fd, name, &error);
    if (size < 0) {
        reject(weights, name, stored, &error);
        return;
    }
    if (fchown(fd, geteuid(), getegid()) < 0 || fchmod(fd, 0400) < 0) {
        /* Not ours to change (process without privileges): it stays as the program made it. */
    }
    arrival = xnew0(struct arrival);
    arrival->generation = ++weights->generation;
    arrival->name = xstrdup(name);
    arrival->size = (uint64_t)size;
    arrival->fd = steal_fd(&fd);
    list_append(&weights->arrivals, &arrival->link);
    sync_next(weights);
}

static bool is_candidate(const char *name)
{
    size_t n = strlen(name);

    return n > strlen(SUFFIX) && name[0] != '.' && strcmp(name + n - strlen(SUFFIX), SUFFIX) == 0;
}

void weights_found(struct weights *weights, const char *name)
{
    if (is_candidate(name))
        take(weights, name);
}

/* -- looking through the directory -- */

static int compare_seen(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;

    if (x->mtime.tv_sec != y->mtime.tv_sec)
        return x->mtime.tv_sec < y->mtime.tv_sec ? -1 : 1;
    if (x->mtime.tv_nsec != y->mtime.tv_nsec)
        return x->mtime.tv_nsec < y->mtime.tv_nsec ? -1 : 1;
    return strcmp(x->name, y->name);
}

static bool was_same(const struct weights *weights, const struct seen *now)
{
    for (size_t i = 0; i < weights->n_seen; i++)
        if (strcmp(weights->seen[i].name, now->name) == 0)
            return compare_seen(&weights->seen[i], now) == 0 && weights->seen[i].size == now->size;
    return false;
}

static size_t list_files(struct weights *weights, struct seen **ret_files)
{
    cleanup_close int fd = openat(weights->from_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_closedir DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    struct seen *files = NULL;
    struct dirent *entry;
    struct stat st;
    size_t n = 0;

    if (directory)
        steal_fd(&fd);
    while (directory && n < SCAN_MAX && (entry = readdir(directory))) {
        if (!is_candidate(entry->d_name) || fstatat(weights->from_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        files = xreallocarray(files, n + 1, sizeof(*files));
        files[n++] = (struct seen){xstrdup(entry->d_name), st.st_mtim, st.st_size};
    }
    if (n)
        qsort(files, n, sizeof(*files), compare_seen);
    *ret_files = files;
    return n;
}

static bool is_complete(const struct weights *weights, const char *name)
{
    cleanup_close int fd = open_file(weights->from_fd, name, NULL);

    return fd >= 0 && check(fd, name, NULL) >= 0;
}

void weights_scan(struct weights *weights, bool last)
{
    struct seen *files;
    size_t n = list_files(weights, &files);

    for (size_t i = 0; i < n; i++)
        if (last || (was_same(weights, &files[i]) && is_complete(weights, files[i].name)))
            take(weights, files[i].name);
    forget_seen(weights);
    weights->seen = files;
    weights->n_seen = n;
}
