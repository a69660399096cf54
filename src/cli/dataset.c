#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "cli/client.h"
#include "cli/command.h"
#include "cli/dataset.h"
#include "cli/draft.h"
#include "cli/progress.h"
#include "format/import.h"
#include "http/client.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/sanitizer.h"
#include "util/xalloc.h"

/* -- files -- */

/* Open files and the names under which they are kept. */
struct inputs {
    struct import_source *sources;
    size_t count, capacity;
    uint64_t size;
};

static void inputs_release(struct inputs *inputs)
{
    for (size_t i = 0; i < inputs->count; i++) {
        close(inputs->sources[i].fd);
        free((char *)inputs->sources[i].name);
    }
    free(inputs->sources);
}

static int add_input(struct inputs *inputs, const char *path, const char *name, struct error *error)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "cannot open %s", path);
    if (!S_ISREG(st.st_mode))
        return error_set(error, ERROR_INVALID, "%s is not a regular file%s", path,
                         S_ISDIR(st.st_mode) ? "; a directory can be kept with --files" : "");
    if (inputs->count == inputs->capacity) {
        inputs->capacity = inputs->capacity ? 2 * inputs->capacity : 8;
        inputs->sources = xreallocarray(inputs->sources, inputs->capacity, sizeof(*inputs->sources));
    }
    inputs->sources[inputs->count++] = (struct import_source){steal_fd(&fd), xstrdup(name)};
    inputs->size += st.st_size;
    return 0;
}

/* A file, or all files below a directory, in the order of their names. */
static int add_tree(struct inputs *inputs, const char *path, const char *name, struct error *error)
{
    struct dirent **entries;
    struct stat st;
    int count, r = 0;

    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return add_input(inputs, path, name, error);
    if (inputs->count >= LIMIT_ARCHIVE_FILES)
        return error_set(error, ERROR_TOO_LARGE, "more than %d files", LIMIT_ARCHIVE_FILES);
    count = scandir(path, &entries, NULL, alphasort);
    if (count < 0)
        return error_set_errno(error, errno, "cannot read directory %s", path);
    for (int i = 0; i < count; i++) {
        const char *entry = entries[i]->d_name;
        cleanup_free char *below = fs_join(path, entry);
        cleanup_free char *kept = *name ? fs_join(name, entry) : xstrdup(entry);

        if (r == 0 && strcmp(entry, ".") != 0 && strcmp(entry, "..") != 0)
            r = add_tree(inputs, below, kept, error);
        free(entries[i]);
    }
    free(entries);
    return r;
}

/* -- import -- */

static int on_progress(void *userdata, uint64_t done, uint64_t total)
{
    progress_update(userdata, done);
    return 0;
}

static int read_options(const struct invocation *invocation, struct import_options *ret_options, struct error *error)
{
    int64_t seed = 0;

    if (option_int(invocation, "seed", 0, INT64_MAX, &seed, error) < 0)
        return -1;
    *ret_options = (struct import_options){
        .format = option_value(invocation, "format"),
        .label = option_value(invocation, "label"),
        .split = option_value(invocation, "split"),
        .seed = seed,
        .stratify = option_flag(invocation, "stratify"),
        .header = option_value(invocation, "header"),
        .separator = option_value(invocation, "separator"),
        .dtype = option_value(invocation, "dtype"),
        .missing = option_values(invocation, "missing"),
        .drop = option_values(invocation, "drop"),
    };
    return 0;
}

int dataset_temporary_file(struct error *error)
{
    const char *directory = getenv("TMPDIR");
    int fd;

    directory = directory && *directory ? directory : "/tmp";
    fd = open(directory, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot make a temporary file in %s", directory);
    return fd;
}

/* What the import decided, where people see it without asking. */
static void print_notes(const struct invocation *invocation, const json_t *schema)
{
    json_t *note;
    size_t i;

    if (invocation->json)
        return;
    json_array_foreach(json_object_get(schema, "notes"), i, note)
        fprintf(stderr, "note: %s\n", json_string_value(note));
}

static int convert(const struct invocation *invocation, const struct inputs *inputs, int fd, json_t **ret_schema,
                   struct error *error)
{
    cleanup_free char *label = xasprintf("read %s", fs_basename(inputs->sources[0].name));
    cleanup_progress struct progress *progress = NULL;
    struct import_options options;

    if (read_options(invocation, &options, error) < 0)
        return -1;
    if (!invocation->json)
        progress = progress_new(label, PROGRESS_BYTES, inputs->size);
    if (import_files(&options, inputs->sources, inputs->count, fd, on_progress, progress, ret_schema, error) < 0)
        return -1;
    if (progress)
        progress_finish(progress);
    return 0;
}

static int upload(const struct invocation *invocation, int fd, const char *name, json_t *files, struct error *error)
{
    cleanup_free char *label = xasprintf("store %s", fs_basename(name));
    cleanup_progress struct progress *progress = NULL;
    cleanup_json json_t *blob = NULL;
    struct stat st;

    if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return error_set_errno(error, errno, "cannot read %s", name);
    if (!invocation->json)
        progress = progress_new(label, PROGRESS_BYTES, st.st_size);
    if (client_upload(invocation->client, "/api/v1/blobs", NULL, fd, progress, &blob, error) < 0)
        return error_wrap(error, "cannot store %s", name);
    if (progress)
        progress_finish(progress);
    json_array_append_new(files, json_build("{s:s, s:O}", "name", name, "digest", json_object_get(blob, "digest")));
    return 0;
}

static void print_created(const struct invocation *invocation, const json_t *dataset)
{
    const json_t *schema = json_object_get(dataset, "schema");
    char size[FORMAT_SIZE];
    int64_t rows = json_get_int(dataset, "rows", -1);

    format_bytes(json_get_int(dataset, "size", 0), size);
    if (rows >= 0)
        print_done(invocation, dataset, "%s: %" PRId64 " rows, %zu columns, %s",
                   json_get_string(dataset, "address", ""), rows, json_array_size(json_object_get(schema, "columns")),
                   size);
    else
        print_done(invocation, dataset, "%s: %zu files, %s", json_get_string(dataset, "address", ""),
                   json_array_size(json_object_get(dataset, "files")), size);
}

/* Converted to one file of tensors, or as they are. */
static int upload_inputs(const struct invocation *invocation, const struct inputs *inputs, json_t *files,
                         struct error *error)
{
    cleanup_close int fd = -1;
    cleanup_json json_t *schema = NULL;

    if (option_flag(invocation, "files")) {
        for (size_t i = 0; i < inputs->count; i++)
            if (upload(invocation, inputs->sources[i].fd, inputs->sources[i].name, files, error) < 0)
                return -1;
        return 0;
    }
    fd = dataset_temporary_file(error);
    if (fd < 0 || convert(invocation, inputs, fd, &schema, error) < 0)
        return -1;
    print_notes(invocation, schema);
    return upload(invocation, fd, "data.safetensors", files, error);
}

static int dataset_import(struct invocation *invocation, struct error *error)
{
    CLEANUP(inputs_release) struct inputs inputs = {0};
    cleanup_json json_t *files = json_array(), *dataset = NULL;
    cleanup_free char *path = NULL;
    json_t *body;

    if (parse_name(invocation->arguments[0], "dataset", error) < 0)
        return -1;
    for (int i = 1; i < invocation->n_arguments; i++) {
        const char *file = invocation->arguments[i];
        struct stat st;
        bool is_directory = stat(file, &st) == 0 && S_ISDIR(st.st_mode);

        if (option_flag(invocation, "files") ? add_tree(&inputs, file, is_directory ? "" : fs_basename(file), error) < 0
                                             : add_input(&inputs, file, file, error) < 0)
            return -1;
    }
    if (upload_inputs(invocation, &inputs, files, error) < 0)
        return -1;
    body = json_build("{s:O}", "files", files);
    json_set_string(body, "description", option_value(invocation, "description"));
    path = http_path("/api/v1/datasets/%s/versions", invocation->arguments[0]);
    if (client_post(invocation->client, path, NULL, body, &dataset, error) < 0)
        return -1;
    print_created(invocation, dataset);
    return 0;
}

/* -- convert: the import without a daemon -- */

/* Somebody else's files, converted for the daemon: what they make of this process is bounded. */
static int confine(struct error *error)
{
    static const struct {
        int resource;
        rlim_t limit;
    } limits[] = {
        {RLIMIT_AS, SANITIZER ? RLIM_INFINITY : 8 * GIB},
        {RLIMIT_CPU, 3600},
        {RLIMIT_CORE, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        struct rlimit limit = {limits[i].limit, limits[i].limit};

        if (setrlimit(limits[i].resource, &limit) < 0)
            return error_set_errno(error, errno, "cannot limit the import");
    }
    return 0;
}

static int dataset_convert(struct invocation *invocation, struct error *error)
{
    CLEANUP(inputs_release) struct inputs inputs = {0};
    const char *output = option_value(invocation, "output");
    const struct strvec *names = option_values(invocation, "name");
    cleanup_json json_t *schema = NULL;
    cleanup_draft struct draft draft = DRAFT_INIT;
    int64_t rows;

    if (!output)
        return error_set(error, ERROR_INVALID, "name the file to write with --output");
    if (option_flag(invocation, "confined") && confine(error) < 0)
        return -1;
    for (int i = 0; i < invocation->n_arguments; i++) {
        const char *file = invocation->arguments[i];

        if (add_input(&inputs, file, i < (int)names->count ? names->items[i] : file, error) < 0)
            return -1;
    }
    if (draft_begin(&draft, output, 0666, error) < 0 || convert(invocation, &inputs, draft.fd, &schema, error) < 0 ||
        draft_finish(&draft, error) < 0)
        return -1;
    print_notes(invocation, schema);
    rows = json_get_int(schema, "rows", -1);
    print_done(invocation, schema, "%s: %" PRId64 " rows", output, rows);
    return 0;
}

/* -- list, remove, lineage -- */

static const struct table_column list_columns[] = {
    {"NAME", "name"},
    {"VERSION", "version", TABLE_NUMBER},
    {"VERSIONS", "versions", TABLE_NUMBER},
    {"ROWS", "rows", TABLE_NUMBER},
    {"SIZE", "size", TABLE_BYTES},
    {"AGE", "created_at", TABLE_AGE},
    {"DESCRIPTION", "description", .shrink = true},
    {},
};

static const struct table_column version_columns[] = {
    {"DATASET", "address"},
    {"ROWS", "rows", TABLE_NUMBER},
    {"SIZE", "size", TABLE_BYTES},
    {"AGE", "created_at", TABLE_AGE},
    {"BY", "created_by"},
    {"DESCRIPTION", "description", .shrink = true},
    {},
};

static int dataset_ls(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *items = NULL;
    cleanup_free char *path = NULL;

    if (invocation->n_arguments == 0) {
        if (client_list(invocation->client, "/api/v1/datasets", NULL, 0, &items, error) < 0)
            return -1;
        print_items(invocation, list_columns, items,
                    "there are no datasets yet; import one with: slipway dataset import NAME FILE");
        return 0;
    }
    path = http_path("/api/v1/datasets/%s/versions", invocation->arguments[0]);
    if (client_list(invocation->client, path, NULL, 0, &items, error) < 0)
        return -1;
    print_items(invocation, version_columns, items, "there are no versions");
    return 0;
}

static int dataset_rm(struct invocation *invocation, struct error *error)
{
    for (int i = 0; i < invocation->n_arguments; i++) {
        cleanup_free char *path = http_path("/api/v1/datasets/%s", invocation->arguments[i]);
        json_t *query = option_flag(invocation, "force") ? json_build("{s:b}", "force", 1) : NULL;

        if (client_delete(invocation->client, path, query, NULL, error) < 0)
            return -1;
        print_done(invocation, NULL, "removed %s", invocation->arguments[i]);
    }
    return 0;
}

static char *options_text(const json_t *lineage)
{
    const json_t *options = json_object_get(lineage, "options");
    cleanup_strvec struct strvec words = STRVEC_INIT;
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)options, key, value) {
        cleanup_free char *text = json_is_string(value) ? xstrdup(json_string_value(value)) : json_text(value);

        strvec_pushf(&words, "%s %s", key, text);
    }
    return words.count ? strvec_join(&words, ", ") : NULL;
}

static const struct table_column lineage_columns[] = {
    {"Dataset", "address"},           {"Made", "created_at", TABLE_TIME}, {"By", "created_by"},       {"Run", "run"},
    {"Import", .text = options_text}, {"Made from", "parents"},           {"Made of it", "children"}, {},
};
static const struct table_column source_columns[] = {
    {"SOURCE", "name"},
    {"SIZE", "size", TABLE_BYTES},
    {"DIGEST", "digest"},
    {},
};
static const struct table_column use_columns[] = {
    {"USED BY", "kind"},
    {"ADDRESS", "address"},
    {"ACTIVE", "active"},
    {},
};

static int dataset_lineage(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/datasets/%s/lineage", invocation->arguments[0]);
    cleanup_json json_t *lineage = NULL;
    const json_t *sources, *uses;

    if (client_get(invocation->client, path, NULL, &lineage, error) < 0)
        return -1;
    print_object(invocation, lineage_columns, lineage);
    if (invocation->json)
        return 0;
    sources = json_object_get(lineage, "sources");
    uses = json_object_get(lineage, "used_by");
    if (json_array_size(sources)) {
        printf("\n");
        table_print(stdout, source_columns, sources);
    }
    if (json_array_size(uses)) {
        printf("\n");
        table_print(stdout, use_columns, uses);
    }
    return 0;
}

/* -- rows -- */

#define IMPORT_OPTIONS                                                                                                 \
    {"format", 0, "FORMAT", "csv, jsonl, libsvm, idx, npy, npz, safetensors (by the content)"},                        \
        {"label", 'l', "COLUMN", "column that holds the label: a name, a number from 0, or 'last'"},                   \
        {"split", 's', "NAME=SHARE,…", "split rows, e.g. train=0.8,test=0.2"},                                         \
        {"seed", 0, "N", "seed of the split (0)"},                                                                     \
        {"stratify", 0, NULL, "split each class of the label by the same shares"},                                     \
        {"header", 0, "yes|no|auto", "whether the first row of a CSV holds names (auto)"},                             \
        {"separator", 0, "CHARACTER", "between the fields of a CSV, or 'tab' (by the content)"},                       \
        {"missing", 0, "WORD", "word that stands for no value, besides NA, NaN, null, None, ?", .repeats = true},      \
        {"drop", 0, "COLUMN", "column to leave out", .repeats = true},                                                 \
        {"dtype", 0, "DTYPE", "of the features, e.g. float32 (the smallest that is exact)"}

static const struct option import_options[] = {
    IMPORT_OPTIONS,
    {"files", 0, NULL, "keep files and directories as they are, without conversion"},
    {"description", 'd', "TEXT", "what it is"},
    {},
};

static const struct option convert_options[] = {
    IMPORT_OPTIONS,
    {"output", 'o', "FILE", "safetensors file to write"},
    {"name", 0, "NAME", "of a source, in the order of the files", .repeats = true},
    {"confined", 0, NULL, "with limits on memory and time"},
    {},
};

static const struct option force_options[] = {
    {"force", 'f', NULL, "also if a release record names it; never while a run uses it"},
    {},
};

static const struct option show_options[] = {
    {"rows", 'n', "N", "first rows to show (5)"},
    {"columns", 0, "N", "columns to show, 0: all (40)"},
    {},
};

static const struct option export_options[] = {
    {"format", 0, "FORMAT", "safetensors, csv, libsvm or npy (what --output ends with, or as it is stored)"},
    {"split", 's', "NAME", "only this part, e.g. train"},
    {"tensor", 't', "NAME", "only this tensor, as npy"},
    {"output", 'o', "FILE|DIR", "where to write it; '-': standard output (NAME-vN.EXT; in a pipe: standard output)"},
    {},
};

const struct command dataset_commands[] = {
    {"dataset import", "NAME FILE…", "import files as a new version", import_options, dataset_import,
     .details = "Files are read where the command runs, also gzipped ones, and become one file of tensors: numeric "
                "columns are the matrix x of the smallest type that holds them exactly, the label is y, other "
                "columns are categories x.NAME. With a split, tensors are called train/x, test/x and so on. The "
                "same files, options and seed always give the same bytes. Files larger than memory import too; "
                "temporary data goes to TMPDIR.",
     .examples = "slipway dataset import digits digits.csv.gz --label last --split train=0.8,test=0.2 --seed 1\n"
                 "slipway dataset import news news.libsvm\n"
                 "slipway dataset import mnist train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz\n"
                 "slipway dataset import photos --files photos/"},
    {"dataset ls", "[NAME]", "list datasets, or the versions of one", NULL, dataset_ls},
    {"dataset show", "DATASET", "show schema, statistics and first rows", show_options, dataset_show,
     .examples = "slipway dataset show digits\nslipway dataset show digits@2 --rows 20"},
    {"dataset lineage", "DATASET", "show what it was made from and what uses it", NULL, dataset_lineage},
    {"dataset export", "DATASET", "write a dataset to files", export_options, dataset_export,
     .details = "The tensors as they are stored, or converted: csv has the columns under their names in their first "
                "order and categories as their words, libsvm takes sparse rows or a matrix of numbers, npy is one "
                "tensor or, in a directory, all of them. Without --split the rows of all parts follow one another. "
                "Datasets that are kept as files come as those files. A file or directory appears under its name "
                "only when it is complete.",
     .examples = "slipway dataset export digits --output digits.safetensors\n"
                 "slipway dataset export digits@2 --split train --format csv | head\n"
                 "slipway dataset export digits --tensor train/x --output x.npy\n"
                 "slipway dataset export photos --output photos/"},
    {"dataset rm", "DATASET…", "remove versions, or all of a dataset", force_options, dataset_rm,
     .examples = "slipway dataset rm digits@2"},
    {"dataset convert", "FILE…", "write the tensors that an import would store", convert_options, dataset_convert,
     .offline = true, .examples = "slipway dataset convert digits.csv --label last --output digits.safetensors"},
    {},
};
