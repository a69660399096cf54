/* `slipway dataset export`: a dataset, or a part of it, as files. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/client.h"
#include "cli/dataset.h"
#include "cli/draft.h"
#include "cli/progress.h"
#include "format/export.h"
#include "http/client.h"
#include "util/fs.h"
#include "util/parse.h"
#include "util/xalloc.h"

#define TENSORS "data.safetensors"

/* One export. */
struct request {
    struct invocation *invocation;
    char *address; /* of exactly one version */
    json_t *dataset;
    const struct kind *kind; /* NULL: the files as they are */
    const char *split, *tensor;
    char *output; /* NULL: standard output */
};

static void request_release(struct request *request)
{
    free(request->address);
    json_decref(request->dataset);
    free(request->output);
}

/* -- forms -- */

static int write_npy(struct request *request, struct export *export, int fd, struct error *error)
{
    return export_npy(export, request->tensor, fd, error);
}

static int write_csv(struct request *request, struct export *export, int fd, struct error *error)
{
    return export_csv(export, fd, error);
}

static int write_libsvm(struct request *request, struct export *export, int fd, struct error *error)
{
    return export_libsvm(export, fd, error);
}

static int write_safetensors(struct request *request, struct export *export, int fd, struct error *error)
{
    return export_safetensors(export, fd, error);
}

static const struct kind {
    const char *name, *suffix;
    int (*write)(struct request *request, struct export *export, int fd, struct error *error);
} kinds[] = {
    {"safetensors", ".safetensors", write_safetensors},
    {"csv", ".csv", write_csv},
    {"libsvm", ".libsvm", write_libsvm},
    {"npy", ".npy", write_npy},
};

static bool has_tensors(const struct request *request)
{
    const json_t *file;
    size_t i;

    json_array_foreach(json_object_get(request->dataset, "files"), i, file)
        if (strcmp(json_get_string(file, "name", ""), TENSORS) == 0)
            return true;
    return false;
}

static bool has_suffix(const char *path, const char *suffix)
{
    size_t length = strlen(path), n = strlen(suffix);

    return length > n && strcmp(path + length - n, suffix) == 0;
}

/* --format, else what --output ends with, else the tensors as they are stored, else all files. */
static int choose_kind(struct request *request, struct error *error)
{
    const char *name = option_value(request->invocation, "format");
    const char *output = option_value(request->invocation, "output");
    bool tensors = has_tensors(request);

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (name ? strcmp(name, kinds[i].name) == 0 : tensors && output && has_suffix(output, kinds[i].suffix))
            request->kind = &kinds[i];
    if (name && !request->kind)
        return error_set(error, ERROR_INVALID, "'%s' is not a format; there are safetensors, csv, libsvm and npy",
                         name);
    if (!request->kind && tensors)
        request->kind = request->tensor ? &kinds[3] : &kinds[0];
    if (request->kind && !tensors)
        return error_set(error, ERROR_INVALID, "%s is kept as files, without tensors; export it without --format",
                         request->address);
    if (!request->kind && (request->split || request->tensor))
        return error_set(error, ERROR_INVALID, "%s is kept as files: it has no splits and no tensors",
                         request->address);
    if (request->tensor && strcmp(request->kind->name, "npy") != 0)
        return error_set(error, ERROR_INVALID, "--tensor goes with --format npy");
    return 0;
}

/* -- output -- */

static bool is_directory(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_one_file(const struct request *request)
{
    if (!request->kind)
        return json_array_size(json_object_get(request->dataset, "files")) == 1;
    return strcmp(request->kind->name, "npy") != 0 || request->tensor;
}

/* "digits-v3.csv", "digits-v3-train.csv", "digits-v3" for a directory. */
static char *usual_name(const struct request *request)
{
    const char *name = json_get_string(request->dataset, "name", "dataset");
    int64_t version = json_get_int(request->dataset, "version", 0);
    const json_t *file = json_array_get(json_object_get(request->dataset, "files"), 0);

    if (!request->kind && is_one_file(request))
        return xstrdup(fs_basename(json_get_string(file, "name", "file")));
    return xasprintf("%s-v%" PRId64 "%s%s%s", name, version, request->split ? "-" : "",
                     request->split ? request->split : "",
                     request->kind && is_one_file(request) ? request->kind->suffix : "");
}

/* --output; without it a pipe gets the content of a single file, and people a file of the usual name. */
static void choose_output(struct request *request)
{
    const char *output = option_value(request->invocation, "output");
    cleanup_free char *usual = usual_name(request);

    if (output && strcmp(output, "-") != 0) {
        request->output = is_one_file(request) && is_directory(output) ? fs_join(output, usual) : xstrdup(output);
        for (size_t n = strlen(request->output); n > 1 && request->output[n - 1] == '/'; n--)
            request->output[n - 1] = '\0';
    } else if (!is_one_file(request) || (!output && (request->invocation->json || isatty(STDOUT_FILENO)))) {
        request->output = steal_ptr(usual);
    }
}

/* -- writing -- */

static int64_t size_of(const struct request *request, const char *name)
{
    const json_t *file;
    size_t i;

    json_array_foreach(json_object_get(request->dataset, "files"), i, file)
        if (strcmp(json_get_string(file, "name", ""), name) == 0)
            return json_get_int(file, "size", 0);
    return 0;
}

static int download(struct request *request, const char *name, int fd, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/datasets/%s/files/%p", request->address, name);
    cleanup_free char *label = xasprintf("read %s", fs_basename(name));
    cleanup_progress struct progress *progress = NULL;

    if (!request->invocation->json)
        progress = progress_new(label, PROGRESS_BYTES, size_of(request, name));
    if (client_download(request->invocation->client, path, NULL, fd, progress, error) < 0)
        return error_wrap(error, "%s", name);
    progress_finish(progress);
    return 0;
}

static int on_progress(void *userdata, uint64_t done, uint64_t total)
{
    progress_set_total(userdata, total);
    progress_update(userdata, done);
    return 0;
}

/* The stored tensors, here in a temporary file. */
static int fetch(struct request *request, int *fd, struct export **ret_export, struct error *error)
{
    *fd = dataset_temporary_file(error);
    if (*fd < 0 || download(request, TENSORS, *fd, error) < 0)
        return -1;
    return export_open(*fd, request->address, request->split, ret_export, error);
}

static int convert_to(struct request *request, struct export *export, int fd, const char *what, struct error *error)
{
    cleanup_free char *label = xasprintf("write %s", fs_basename(what));
    cleanup_progress struct progress *progress = NULL;

    if (!request->invocation->json)
        progress = progress_new(label, PROGRESS_BYTES, 0);
    export_set_progress(export, on_progress, progress);
    if (request->kind->write(request, export, fd, error) < 0)
        return -1;
    progress_finish(progress);
    return 0;
}

static int write_converted(struct request *request, int fd, struct error *error)
{
    cleanup_close int tensors = -1, part = -1;
    cleanup_export struct export *export = NULL;
    const char *what = request->output ? request->output : "standard output";
    bool seekable = lseek(fd, 0, SEEK_CUR) >= 0;

    if (fetch(request, &tensors, &export, error) < 0)
        return -1;
    /* The writer of tensors goes back and forth. */
    if (seekable || strcmp(request->kind->name, "safetensors") != 0)
        return convert_to(request, export, fd, what, error);
    part = dataset_temporary_file(error);
    if (part < 0 || convert_to(request, export, part, what, error) < 0)
        return -1;
    if (lseek(part, 0, SEEK_SET) < 0)
        return error_set_errno(error, errno, "cannot read a temporary file");
    return fs_copy_fd(part, fd, error);
}

static int export_file(struct request *request, struct error *error)
{
    const json_t *file = json_array_get(json_object_get(request->dataset, "files"), 0);
    cleanup_draft struct draft draft = DRAFT_INIT;
    bool stored = !request->kind || (strcmp(request->kind->name, "safetensors") == 0 && !request->split);
    const char *name = request->kind ? TENSORS : json_get_string(file, "name", "");

    if (draft_begin(&draft, request->output, 0666, error) < 0 ||
        (stored ? download(request, name, draft.fd, error) : write_converted(request, draft.fd, error)) < 0)
        return -1;
    return draft_finish(&draft, error);
}

/* Below a directory; names come from the daemon and are checked all the same. */
static int write_below(struct request *request, const char *directory, const char *name, struct export *export,
                       struct error *error)
{
    cleanup_free char *path = fs_join(directory, name);
    cleanup_close int fd = -1;
    char *slash = strrchr(path, '/');

    if (!fs_is_safe_name(name))
        return error_set(error, ERROR_INVALID, "'%s' is no name for a file", name);
    *slash = '\0';
    if (fs_mkdir_all(path, 0777, error) < 0)
        return -1;
    *slash = '/';
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot write %s", path);
    return export ? convert_to(request, export, fd, name, error) : download(request, name, fd, error);
}

static int write_tensors_below(struct request *request, const char *directory, struct error *error)
{
    cleanup_close int fd = -1;
    cleanup_export struct export *export = NULL;

    if (fetch(request, &fd, &export, error) < 0)
        return -1;
    for (size_t i = 0; i < export_count(export); i++) {
        cleanup_free char *file = xasprintf("%s.npy", export_tensor(export, i)->name);

        request->tensor = export_tensor(export, i)->name;
        if (write_below(request, directory, file + (request->split ? strlen(request->split) + 1 : 0), export, error) <
            0)
            return -1;
    }
    return 0;
}

static int write_files_below(struct request *request, const char *directory, struct error *error)
{
    const json_t *file;
    size_t i;

    json_array_foreach(json_object_get(request->dataset, "files"), i, file)
        if (write_below(request, directory, json_get_string(file, "name", ""), NULL, error) < 0)
            return -1;
    return 0;
}

/* The directory appears when all of its files are there. */
static int export_directory(struct request *request, struct error *error)
{
    cleanup_free char *temporary = xasprintf("%s.partial-%d", request->output, (int)getpid());
    int r;

    if (mkdir(temporary, 0777) < 0)
        return error_set_errno(error, errno, "cannot make directory %s", temporary);
    r = request->kind ? write_tensors_below(request, temporary, error) : write_files_below(request, temporary, error);
    if (r == 0 && rename(temporary, request->output) < 0)
        r = errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR
                ? error_set(error, ERROR_CONFLICT, "%s is there already and not an empty directory", request->output)
                : error_set_errno(error, errno, "cannot make directory %s", request->output);
    if (r < 0)
        fs_remove_all(temporary, NULL);
    return r;
}

/* -- the command -- */

static int find_version(struct request *request, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/datasets/%s", request->invocation->arguments[0]);

    if (client_get(request->invocation->client, path, NULL, &request->dataset, error) < 0)
        return -1;
    request->address = xasprintf("%s:%s", json_get_string(request->dataset, "project", ""),
                                 json_get_string(request->dataset, "address", ""));
    return 0;
}

static void print_exported(const struct request *request)
{
    cleanup_json json_t *result = json_object();

    if (!request->output)
        return;
    json_set_string(result, "address", json_get_string(request->dataset, "address", ""));
    json_set_string(result, "format", request->kind ? request->kind->name : "files");
    json_set_string(result, "output", request->output);
    print_done(request->invocation, result, "%s: %s", json_get_string(request->dataset, "address", ""),
               request->output);
}

int dataset_export(struct invocation *invocation, struct error *error)
{
    CLEANUP(request_release)
    struct request request = {.invocation = invocation,
                              .split = option_value(invocation, "split"),
                              .tensor = option_value(invocation, "tensor")};

    if ((request.split && parse_name(request.split, "split", error) < 0) || find_version(&request, error) < 0 ||
        choose_kind(&request, error) < 0)
        return -1;
    choose_output(&request);
    if ((is_one_file(&request) ? export_file(&request, error) : export_directory(&request, error)) < 0)
        return -1;
    print_exported(&request);
    return 0;
}
