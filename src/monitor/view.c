#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "monitor/view.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/strvec.h"
#include "util/xalloc.h"

#define DEPTH_MAX     64    /* directories below the one that is copied or listed */
#define ARTIFACTS_MAX 10000 /* listed in the exit record */

static int give(int fd, const char *path, const struct monitor_spec *spec, struct error *error)
{
    if (spec->owned && fchown(fd, spec->uid, spec->gid) < 0)
        return error_set_errno(error, errno, "cannot give %s to user %u", path, (unsigned)spec->uid);
    return 0;
}

/* Makes a directory; if `theirs` it belongs to the program. Existing is fine. */
static int make_directory(const char *parent, const char *name, mode_t mode, bool theirs,
                          const struct monitor_spec *spec, struct error *error)
{
    cleanup_free char *path = fs_join(parent, name);
    cleanup_close int fd = -1;

    if (mkdir(path, mode) < 0 && errno != EEXIST)
        return error_set_errno(error, errno, "cannot create the directory %s", path);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, mode) < 0)
        return error_set_errno(error, errno, "cannot open the directory %s", path);
    return theirs ? give(fd, path, spec, error) : 0;
}

static int make_file(const char *parent, const char *name, const char *content, mode_t mode, bool theirs,
                     const struct monitor_spec *spec, struct error *error)
{
    cleanup_free char *path = fs_join(parent, name);
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

    if (fd < 0 || fchmod(fd, mode) < 0)
        return error_set_errno(error, errno, "cannot create %s", path);
    if (fs_write_all(fd, content, strlen(content), error) < 0)
        return error_wrap(error, "%s", path);
    return theirs ? give(fd, path, spec, error) : 0;
}

static int make_link(const char *view, const struct monitor_link *link, struct error *error)
{
    static const char prefix[] = "/slipway/";
    const char *name = link->target + strlen(prefix);
    cleanup_free char *path = NULL, *parent = NULL;

    if (strncmp(link->target, prefix, strlen(prefix)) != 0 || !fs_is_safe_name(name))
        return error_set(error, ERROR_INVALID, "'%s' does not lie below /slipway/", link->target);
    path = fs_join(view, name);
    parent = xstrndup(path, (size_t)(strrchr(path, '/') - path));
    if (fs_mkdir_all(parent, 0755, error) < 0)
        return -1;
    if (symlink(link->source, path) < 0)
        return error_set_errno(error, errno, "cannot link %s to %s", path, link->source);
    return 0;
}

int view_create(const char *directory, const struct monitor_spec *spec, struct error *error)
{
    cleanup_free char *view = fs_join(directory, "view");
    static const struct {
        const char *name;
        mode_t mode;
        bool theirs;
    } directories[] = {
        {"", 0755, false}, {"weights", 0755, true}, {"out", 0755, true}, {"resume", 0755, false}, {"data", 0755, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(directories); i++)
        if (make_directory(view, directories[i].name, directories[i].mode, directories[i].theirs, spec, error) < 0)
            return -1;
    if (make_directory(directory, "weights", 0700, false, spec, error) < 0 ||
        make_file(view, "metrics.jsonl", "", 0600, true, spec, error) < 0 ||
        make_file(view, "params.json", spec->params ? spec->params : "{}", 0444, false, spec, error) < 0)
        return -1;
    for (size_t i = 0; i < spec->n_links; i++)
        if (make_link(view, &spec->links[i], error) < 0)
            return -1;
    return 0;
}

/* -- the working directory -- */

static int copy_tree(int from, int to, int depth, const struct monitor_spec *spec, struct error *error);

static int copy_file(int from_fd, int to_fd, const char *name, mode_t mode, const struct monitor_spec *spec,
                     struct error *error)
{
    cleanup_close int from = openat(from_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), to = -1;

    if (from < 0)
        return error_set_errno(error, errno, "cannot open %s", name);
    to = openat(to_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0 || fchmod(to, (mode & 0777) | 0600) < 0)
        return error_set_errno(error, errno, "cannot create %s", name);
    if (fs_copy_fd(from, to, error) < 0)
        return error_wrap(error, "%s", name);
    return give(to, name, spec, error);
}

static int copy_link(int from_fd, int to_fd, const char *name, struct error *error)
{
    char target[LIMIT_PATH + 1];
    ssize_t n = readlinkat(from_fd, name, target, sizeof(target) - 1);

    if (n < 0)
        return error_set_errno(error, errno, "cannot read the link %s", name);
    target[n] = '\0';
    if (symlinkat(target, to_fd, name) < 0)
        return error_set_errno(error, errno, "cannot create the link %s", name);
    return 0;
}

static int copy_directory(int from_fd, int to_fd, const char *name, int depth, const struct monitor_spec *spec,
                          struct error *error)
{
    cleanup_close int from = openat(from_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), to = -1;

    if (from < 0 || (mkdirat(to_fd, name, 0755) < 0 && errno != EEXIST))
        return error_set_errno(error, errno, "cannot copy the directory %s", name);
    to = openat(to_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (to < 0)
        return error_set_errno(error, errno, "cannot open the directory %s", name);
    if (give(to, name, spec, error) < 0)
        return -1;
    return copy_tree(from, to, depth + 1, spec, error);
}

static int copy_entry(int from, int to, const char *name, int depth, const struct monitor_spec *spec,
                      struct error *error)
{
    struct stat st;

    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_set_errno(error, errno, "cannot stat %s", name);
    if (S_ISDIR(st.st_mode))
        return copy_directory(from, to, name, depth, spec, error);
    if (S_ISLNK(st.st_mode))
        return copy_link(from, to, name, error);
    return S_ISREG(st.st_mode) ? copy_file(from, to, name, st.st_mode, spec, error) : 0;
}

/* Copies what is in the directory `from` into `to`. */
static int copy_tree(int from, int to, int depth, const struct monitor_spec *spec, struct error *error)
{
    cleanup_closedir DIR *directory = fdopendir(openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct dirent *entry;

    if (!directory)
        return error_set_errno(error, errno, "cannot list a directory of the code");
    if (depth > DEPTH_MAX)
        return error_set(error, ERROR_TOO_LARGE, "the code has directories more than %d deep", DEPTH_MAX);
    while ((entry = readdir(directory))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (copy_entry(from, to, entry->d_name, depth, spec, error) < 0)
            return -1;
    }
    return 0;
}

static int copy_code(const char *code, const char *tree, const struct monitor_spec *spec, struct error *error)
{
    cleanup_close int from = open(code, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                      to = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (from < 0 || to < 0)
        return error_set_errno(error, errno, "cannot open %s", from < 0 ? code : tree);
    if (copy_tree(from, to, 0, spec, error) < 0)
        return error_wrap(error, "cannot copy the code from %s", code);
    return 0;
}

int view_create_work(const char *directory, const struct monitor_spec *spec, struct error *error)
{
    cleanup_free char *work = fs_join(directory, "work"), *tree = fs_join(work, "tree");

    if (fs_remove_all(work, error) < 0 || make_directory(work, "", 0755, false, spec, error) < 0)
        return -1;
    if (spec->overlay) {
        if (make_directory(work, "upper", 0755, true, spec, error) < 0)
            return -1;
        return make_directory(work, "work", 0700, false, spec, error);
    }
    if (make_directory(work, "tree", 0755, true, spec, error) < 0)
        return -1;
    return spec->code ? copy_code(spec->code, tree, spec, error) : 0;
}

void view_remove_work(const char *directory)
{
    cleanup_free char *work = fs_join(directory, "work");

    fs_remove_all(work, NULL);
}

/* -- artifacts -- */

struct output {
    struct strvec names; /* regular files, relative */
    uint64_t left;       /* bytes of the limit */
    uint64_t dropped_files, dropped_bytes, dropped_others;
    uint64_t total;
    json_t *list;
};

/* Collects the names of regular files below; removes links and special files. */
static void list_files(struct output *output, int parent, const char *prefix, int depth)
{
    cleanup_closedir DIR *directory = fdopendir(openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct dirent *entry;

    while (directory && (entry = readdir(directory))) {
        const char *name = entry->d_name;
        cleanup_free char *path = xasprintf("%s%s", prefix, name);
        struct stat st;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISREG(st.st_mode)) {
            strvec_push(&output->names, path);
        } else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
            cleanup_close int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            cleanup_free char *below = xasprintf("%s/", path);

            if (fd >= 0) {
                fchmod(fd, 0755);
                list_files(output, fd, below, depth + 1);
            }
        } else if (!S_ISDIR(st.st_mode)) {
            unlinkat(parent, name, 0);
            output->dropped_others++;
        }
    }
}

/* Keeps a file if it fits. */
static void keep_file(struct output *output, int root, const char *name, const struct monitor_spec *spec)
{
    cleanup_close int fd = fs_open_beneath(root, name, O_RDONLY | O_NONBLOCK, 0, NULL);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return;
    if ((uint64_t)st.st_size > output->left) {
        unlinkat(root, name, 0);
        output->dropped_files++;
        output->dropped_bytes += (uint64_t)st.st_size;
        return;
    }
    output->left -= (uint64_t)st.st_size;
    output->total++;
    fchmod(fd, 0644);
    if (json_array_size(output->list) < ARTIFACTS_MAX)
        json_array_append_new(
            output->list, json_build("{s:o, s:I}", "path", json_string_lossy(name), "size", (json_int_t)st.st_size));
}

static void warn_dropped(const struct output *output, const struct monitor_spec *spec, struct intake *intake)
{
    if (output->dropped_files)
        intake_warn(intake, "output_dropped",
                    "%llu files with %llu bytes were removed from out/, which may hold %llu bytes",
                    (unsigned long long)output->dropped_files, (unsigned long long)output->dropped_bytes,
                    (unsigned long long)spec->output_limit);
    if (output->dropped_others)
        intake_warn(intake, "output_dropped", "%llu links or special files were removed from out/",
                    (unsigned long long)output->dropped_others);
}

json_t *view_collect_output(const char *directory, const struct monitor_spec *spec, struct intake *intake)
{
    cleanup_free char *from = fs_join(directory, "view/out"), *to = fs_join(directory, "out");
    struct output output = {.names = STRVEC_INIT, .left = spec->output_limit, .list = json_array()};
    cleanup_close int root = -1;

    if (rename(from, to) < 0 && errno != ENOENT)
        intake_warn(intake, "output_dropped", "cannot keep out/: %s", strerror(errno));
    root = open(to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (root >= 0) {
        list_files(&output, root, "", 0);
        strvec_sort(&output.names);
        for (size_t i = 0; i < output.names.count; i++)
            keep_file(&output, root, output.names.items[i], spec);
        warn_dropped(&output, spec, intake);
    }
    strvec_release(&output.names);
    return json_build("{s:o, s:I}", "artifacts", output.list, "artifacts_total", (json_int_t)output.total);
}
