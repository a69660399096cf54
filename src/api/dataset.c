/* Datasets: versions, their files, schema, first rows and lineage; imports of uploaded blobs. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include "api/api.h"
#include "api/daemon.h"
#include "core/dataset.h"
#include "format/import.h"
#include "format/preview.h"
#include "format/safetensors.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/proc.h"
#include "util/strvec.h"
#include "util/xalloc.h"

#define IMPORT_OUTPUT (64 * KIB) /* of the converting child, kept for its error */

static int begin(struct http_request *request, bool write, struct db_tx *tx, const char **ret_project,
                 struct error *error)
{
    struct daemon *daemon = request->context;

    if (http_project(request, ret_project, error) < 0)
        return -1;
    return write ? db_begin_write(daemon->store->db, tx, error) : db_begin_read(daemon->store->db, tx, error);
}

/* Addresses may name another project than the request: a token of one project must not reach it. */
static int check_project(const struct http_request *request, const char *project, struct error *error)
{
    const char *own = request->principal->project;

    if (own && strcmp(own, project) != 0)
        return error_set(error, ERROR_FORBIDDEN, "the token is of project %s, not of %s", own, project);
    return 0;
}

/* The version that the path parameter `address` names, within a transaction of its own. */
static int find(struct http_request *request, struct db_tx *tx, struct dataset_info *ret_info, struct error *error)
{
    const char *project;

    if (begin(request, false, tx, &project, error) < 0 ||
        dataset_resolve(tx, project, http_path_param(request, "address"), ret_info, error) < 0)
        return -1;
    return check_project(request, ret_info->project, error);
}

/* -- read -- */

static int list_datasets(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int limit = http_page_limit(request);
    const char *project, *next = NULL;
    json_t *items;

    if (begin(request, false, &tx, &project, error) < 0)
        return -1;
    items = dataset_list(&tx, project, http_page_after(request), limit, error);
    if (!items)
        return -1;
    if (json_array_size(items) == (size_t)limit)
        next = json_get_string(json_array_get(items, limit - 1), "name", NULL);
    http_reply_page(response, items, next);
    return 0;
}

static int list_versions(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;
    int limit = http_page_limit(request);
    const char *after = http_page_after(request);
    int64_t before = 0;
    char next[32];
    json_t *items;

    if (after && parse_int(after, 1, INT64_MAX, &before, error) < 0)
        return error_wrap(error, "parameter 'after'");
    if (find(request, &tx, &info, error) < 0)
        return -1;
    items = dataset_versions(&tx, info.project, info.name, before, limit, error);
    if (!items)
        return -1;
    snprintf(next, sizeof(next), "%" PRId64, json_get_int(json_array_get(items, limit - 1), "version", 0));
    http_reply_page(response, items, json_array_size(items) == (size_t)limit ? next : NULL);
    return 0;
}

static const struct dataset_file *find_file(const struct dataset_info *info, const char *name)
{
    for (size_t i = 0; i < info->n_files; i++)
        if (strcmp(info->files[i].name, name) == 0)
            return &info->files[i];
    return NULL;
}

static int get_dataset(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;
    json_t *dataset;

    if (find(request, &tx, &info, error) < 0)
        return -1;
    dataset = dataset_describe(&tx, &info, error);
    if (!dataset)
        return -1;
    http_reply_json(response, 200, dataset);
    return 0;
}

static int get_rows(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;
    cleanup_json json_t *dataset = NULL;
    cleanup_close int fd = -1;
    const struct dataset_file *file;
    int64_t rows_wanted = http_query_int(request, "rows", 5);
    json_t *rows;

    if (rows_wanted < 0 || rows_wanted > LIMIT_PAGE)
        return error_set(error, ERROR_INVALID, "parameter 'rows' must be 0 to %d", LIMIT_PAGE);
    if (find(request, &tx, &info, error) < 0)
        return -1;
    dataset = dataset_describe(&tx, &info, error);
    db_end(&tx);
    if (!dataset)
        return -1;
    file = find_file(&info, DATASET_TENSORS);
    if (!file)
        return error_set(error, ERROR_UNSUPPORTED, "dataset %s holds files only, no tensors", info.address);
    if (vault_get(daemon->store->vault, &file->digest, &fd, error) < 0)
        return -1;
    rows = preview_rows(fd, json_object_get(dataset, "schema"), (int)rows_wanted, error);
    if (!rows)
        return -1;
    http_reply_json(response, 200, rows);
    return 0;
}

static int get_lineage(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;
    json_t *lineage;

    if (find(request, &tx, &info, error) < 0)
        return -1;
    lineage = dataset_lineage(&tx, &info, error);
    if (!lineage)
        return -1;
    http_reply_json(response, 200, lineage);
    return 0;
}

static int get_file(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;
    const char *name = http_path_param(request, "file");
    const struct dataset_file *file;
    char digest[DIGEST_TEXT_SIZE];
    int fd;

    if (find(request, &tx, &info, error) < 0)
        return -1;
    db_end(&tx);
    file = find_file(&info, name);
    if (!file)
        return error_set(error, ERROR_NOT_FOUND, "dataset %s has no file %s", info.address, name);
    if (vault_get(daemon->store->vault, &file->digest, &fd, error) < 0)
        return -1;
    http_reply_header(response, "Slipway-Digest", digest_format(&file->digest, digest));
    http_reply_fd(response, 200, "application/octet-stream", fd, file->size);
    return 0;
}

/* -- import of blobs -- */

/* The options of an import as a command line of `slipway dataset convert`. */
static void add_options(struct strvec *argv, const json_t *import)
{
    static const char *const texts[] = {"format", "label", "split", "header", "separator", "dtype"};
    static const char *const lists[] = {"missing", "drop"};
    json_t *item;
    size_t k;

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (json_get_string(import, texts[i], NULL))
            strvec_pushf(argv, "--%s=%s", texts[i], json_get_string(import, texts[i], NULL));
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
        json_array_foreach(json_object_get(import, lists[i]), k, item)
            strvec_pushf(argv, "--%s=%s", lists[i], json_string_value(item));
    if (json_object_get(import, "seed"))
        strvec_pushf(argv, "--seed=%" PRId64, json_get_int(import, "seed", 0));
    if (json_get_bool(import, "stratify", false))
        strvec_push(argv, "--stratify");
}

static int read_output(int fd, char **ret_text, struct error *error)
{
    if (lseek(fd, 0, SEEK_SET) < 0)
        return error_set_errno(error, errno, "cannot read the import's output");
    return fs_read_fd(fd, "the import's output", IMPORT_OUTPUT, ret_text, NULL, error);
}

/* The child's error as `--json` prints it. */
static int child_error(int status, int output, struct error *error)
{
    cleanup_free char *text = NULL;
    cleanup_json json_t *reply = NULL;
    const json_t *what;

    if (read_output(output, &text, error) < 0)
        return -1;
    reply = json_parse(text, strlen(text), NULL);
    what = json_object_get(reply, "error");
    if (!what)
        return error_set(error, ERROR_TOO_LARGE, "the import needed more than it may use and was ended (status %d)",
                         status);
    return error_set(error, error_code_parse(json_get_string(what, "code", "")), "%s",
                     json_get_string(what, "message", "the import failed"));
}

/* Converts the sources in a process of its own, with limits: parsers of strangers' files do not run inside
 * the daemon. The result is in `output_fd`. */
static int convert(const json_t *import, const struct dataset_file *files, const int *fds, size_t n_files,
                   int output_fd, struct error *error)
{
    cleanup_free char *self = proc_self_path();
    cleanup_strvec struct strvec argv = STRVEC_INIT;
    cleanup_close int text = memfd_create("import-output", MFD_CLOEXEC);
    cleanup_free int *pass = xcalloc(n_files + 1, sizeof(*pass));
    int status;
    pid_t pid;

    if (text < 0)
        return error_set_errno(error, errno, "cannot make a memfd");
    strvec_push(&argv, self);
    strvec_push(&argv, "dataset");
    strvec_push(&argv, "convert");
    strvec_push(&argv, "--json");
    strvec_push(&argv, "--confined");
    strvec_pushf(&argv, "--output=/proc/self/fd/%d", output_fd);
    add_options(&argv, import);
    for (size_t i = 0; i < n_files; i++)
        strvec_pushf(&argv, "--name=%s", files[i].name);
    strvec_push(&argv, "--");
    for (size_t i = 0; i < n_files; i++) {
        strvec_pushf(&argv, "/proc/self/fd/%d", fds[i]);
        pass[i] = fds[i];
    }
    pass[n_files] = output_fd;
    struct proc_spawn spawn = {.argv = (const char *const *)argv.items,
                               .stdin_fd = -1,
                               .stdout_fd = text,
                               .stderr_fd = text,
                               .pass_fds = pass,
                               .n_pass_fds = n_files + 1};

    if (proc_spawn(&spawn, &pid, error) < 0 || proc_wait(pid, &status, error) < 0)
        return error_wrap(error, "cannot convert");
    return status == 0 ? 0 : child_error(status, text, error);
}

static void close_all(int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(fds);
}

static int open_sources(struct vault *vault, const struct dataset_file *files, int *fds, size_t n_files,
                        struct error *error)
{
    for (size_t i = 0; i < n_files; i++) {
        if (vault_get(vault, &files[i].digest, &fds[i], error) < 0)
            return error_wrap(error, "file %s", files[i].name);
    }
    return 0;
}

/* Sources in the vault become one file of tensors in the vault. */
static int import_blobs(struct store *store, const json_t *import, const struct dataset_file *files, size_t n_files,
                        struct dataset_file *ret_file, struct error *error)
{
    cleanup_free char *directory = store_path(store, "%s", "vault");
    cleanup_close int output = open(directory, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    int *fds = xmalloc((n_files + 1) * sizeof(*fds));
    int r;

    memset(fds, 0xff, (n_files + 1) * sizeof(*fds));
    if (output < 0)
        r = error_set_errno(error, errno, "cannot make a temporary file in %s", directory);
    else
        r = open_sources(store->vault, files, fds, n_files, error);
    if (r == 0)
        r = convert(import, files, fds, n_files, output, error);
    close_all(fds, n_files);
    if (r < 0)
        return -1;
    if (lseek(output, 0, SEEK_SET) < 0)
        return error_set_errno(error, errno, "cannot read the import's result");
    if (vault_put_fd(store->vault, output, &ret_file->digest, &ret_file->size, error) < 0)
        return -1;
    ret_file->name = xstrdup(DATASET_TENSORS);
    return 0;
}

/* -- create -- */

struct new_version {
    struct dataset_file *files;
    size_t n_files;
    json_t *schema, *lineage;
    int64_t rows;
};

static void new_version_release(struct new_version *version)
{
    for (size_t i = 0; i < version->n_files; i++)
        free(version->files[i].name);
    free(version->files);
    json_decref(version->schema);
    json_decref(version->lineage);
}

/* Names, digests and sizes of blobs that must be there. */
static int read_files(struct vault *vault, const json_t *array, struct new_version *version, struct error *error)
{
    json_t *item;
    size_t i;

    version->files = xcalloc(json_array_size(array) + 1, sizeof(*version->files));
    json_array_foreach(array, i, item) {
        struct dataset_file *file = &version->files[version->n_files];

        if (digest_parse(json_get_string(item, "digest", ""), &file->digest, error) < 0)
            return error_wrap(error, "files[%zu]", i);
        if (!vault_has(vault, &file->digest))
            return error_set(error, ERROR_NOT_FOUND, "there is no blob %s; upload it first: POST /api/v1/blobs",
                             json_get_string(item, "digest", ""));
        if (vault_size(vault, &file->digest, &file->size, error) < 0)
            return -1;
        file->name = xstrdup(json_get_string(item, "name", DATASET_TENSORS));
        version->n_files++;
    }
    return 0;
}

/* What the tensors' own metadata says is checked by reading the file, not taken from the request. */
static int read_schema(struct vault *vault, struct new_version *version, struct error *error)
{
    cleanup_safetensors struct safetensors *tensors = NULL;
    const struct dataset_file *file = NULL;
    cleanup_close int fd = -1;

    version->rows = -1;
    for (size_t i = 0; i < version->n_files; i++)
        if (strcmp(version->files[i].name, DATASET_TENSORS) == 0)
            file = &version->files[i];
    if (!file)
        return 0;
    if (vault_get(vault, &file->digest, &fd, error) < 0 || safetensors_open(fd, DATASET_TENSORS, &tensors, error) < 0)
        return -1;
    version->schema = import_schema_of(tensors, error);
    if (!version->schema)
        return -1;
    version->rows = json_get_int(version->schema, "rows", -1);
    return 0;
}

static void make_lineage(const struct http_request *request, struct new_version *version)
{
    static const char *const keys[] = {"run", "parents"};

    version->lineage = json_object();
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (json_object_get(request->json, keys[i]))
            json_object_set(version->lineage, keys[i], json_object_get(request->json, keys[i]));
    json_object_set(version->lineage, "sources", json_object_get(version->schema, "sources"));
    json_object_set(version->lineage, "options", json_object_get(version->schema, "options"));
}

static int store_version(struct http_request *request, const struct new_version *version, json_t **ret_dataset,
                         struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;
    cleanup_json json_t *dataset = NULL;
    struct dataset_create create = {.name = http_path_param(request, "address"),
                                    .actor = request->principal->name,
                                    .description = json_get_string(request->json, "description", NULL),
                                    .files = version->files,
                                    .n_files = version->n_files,
                                    .schema = version->schema,
                                    .lineage = version->lineage,
                                    .rows = version->rows};

    if (begin(request, true, &tx, &create.project, error) < 0 || dataset_create(&tx, &create, &info, error) < 0)
        return -1;
    dataset = dataset_describe(&tx, &info, error);
    if (!dataset || db_commit(&tx, error) < 0)
        return -1;
    *ret_dataset = steal_ptr(dataset);
    return 0;
}

static int post_version(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    CLEANUP(new_version_release) struct new_version version = {0};
    const json_t *import = json_object_get(request->json, "import");
    json_t *dataset;

    if (parse_name(http_path_param(request, "address"), "dataset", error) < 0 ||
        read_files(daemon->store->vault, json_object_get(request->json, "files"), &version, error) < 0)
        return -1;
    if (json_is_object(import)) {
        struct dataset_file file = {0};

        if (import_blobs(daemon->store, import, version.files, version.n_files, &file, error) < 0)
            return -1;
        for (size_t i = 0; i < version.n_files; i++)
            free(version.files[i].name);
        version.files[0] = file;
        version.n_files = 1;
    }
    if (read_schema(daemon->store->vault, &version, error) < 0)
        return -1;
    make_lineage(request, &version);
    if (store_version(request, &version, &dataset, error) < 0)
        return -1;
    http_reply_json(response, 201, dataset);
    return 0;
}

static int delete_dataset(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;
    const char *project, *address = http_path_param(request, "address");

    if (begin(request, true, &tx, &project, error) < 0 || dataset_resolve(&tx, project, address, &info, error) < 0 ||
        check_project(request, info.project, error) < 0 ||
        dataset_remove(&tx, project, address, http_query_bool(request, "force"), request->principal->name, error) < 0 ||
        db_commit(&tx, error) < 0)
        return -1;
    response->status = 204;
    return 0;
}

/* -- rows -- */

static const struct schema_field file_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 1, .max = LIMIT_PATH, .doc = "relative, without '..'"},
    {"digest", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "sha256:…"},
    {"size", SCHEMA_INTEGER, .doc = "bytes"},
    {},
};
static const struct schema file_schema = {"DatasetFile", file_fields, "a file of a dataset"};

static const struct schema_field import_fields[] = {
    {"format", SCHEMA_STRING, .doc = "csv, jsonl, libsvm, idx, npy, npz, safetensors; absent: by the content"},
    {"label", SCHEMA_STRING, .doc = "column by name, by number from 0, or 'last'"},
    {"split", SCHEMA_STRING, .doc = "train=0.8,test=0.2"},
    {"seed", SCHEMA_INTEGER, .doc = "of the split"},
    {"stratify", SCHEMA_BOOLEAN, .doc = "splits each class by the same shares"},
    {"header", SCHEMA_STRING, .values = (const char *const[]){"yes", "no", "auto", NULL},
     .doc = "whether the first row of a CSV holds names"},
    {"separator", SCHEMA_STRING, .doc = "one character, or 'tab'"},
    {"dtype", SCHEMA_STRING, .doc = "of the features"},
    {"missing", SCHEMA_ARRAY, .item = SCHEMA_STRING, .max = 100, .doc = "further words for no value"},
    {"drop", SCHEMA_ARRAY, .item = SCHEMA_STRING, .max = LIMIT_CSV_COLUMNS, .doc = "columns to leave out"},
    {},
};
static const struct schema import_schema = {"DatasetImport", import_fields, "how to read the files"};

static const struct schema_field create_fields[] = {
    {"files", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .object = &file_schema, .min = 1,
     .max = LIMIT_ARCHIVE_FILES, .doc = "blobs that were uploaded"},
    {"import", SCHEMA_OBJECT, .object = &import_schema,
     .doc = "convert the files to tensors; absent: keep them as they are"},
    {"description", SCHEMA_STRING, SCHEMA_NULLABLE, .max = LIMIT_DESCRIPTION},
    {"run", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "the run that made it"},
    {"parents", SCHEMA_ARRAY, .item = SCHEMA_STRING, .max = 1000, .doc = "datasets that it was made from"},
    {},
};
static const struct schema create_schema = {"DatasetCreate", create_fields, "a new version of a dataset"};

static const struct schema_field dataset_fields[] = {
    {"address", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "digits@3"},
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"project", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"version", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"description", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"created_by", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"rows", SCHEMA_INTEGER, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "bytes of all files"},
    {"files", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .object = &file_schema},
    {"schema", SCHEMA_OBJECT, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "columns, statistics, splits, tensors"},
    {"lineage", SCHEMA_OBJECT, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "sources, options, run, parents"},
    {},
};
static const struct schema dataset_schema = {"Dataset", dataset_fields, "a version of a dataset"};

static const struct schema_field summary_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"project", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"version", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "the newest"},
    {"versions", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "how many there are"},
    {"rows", SCHEMA_INTEGER, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "bytes"},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"description", SCHEMA_STRING, SCHEMA_REQUIRED},
    {},
};
static const struct schema summary_schema = {"DatasetSummary", summary_fields, "a dataset by its newest version"};

static const struct schema_field version_fields[] = {
    {"address", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"version", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"rows", SCHEMA_INTEGER, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"created_by", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"description", SCHEMA_STRING, SCHEMA_REQUIRED},
    {},
};
static const struct schema version_schema = {"DatasetVersion", version_fields, "a version in short"};

static const struct schema_field lineage_fields[] = {
    {"address", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"created_by", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"sources", SCHEMA_ARRAY, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .item = SCHEMA_OBJECT,
     .doc = "names, digests and sizes of what was imported"},
    {"options", SCHEMA_OBJECT, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "of the import"},
    {"run", SCHEMA_STRING, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"parents", SCHEMA_ARRAY, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .item = SCHEMA_STRING},
    {"children", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_STRING, .doc = "datasets made from it"},
    {"used_by", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .doc = "kind, address, active"},
    {},
};
static const struct schema lineage_schema = {"DatasetLineage", lineage_fields, "where it comes from and leads to"};

static const struct http_query_row rows_query[] = {
    {"rows", SCHEMA_INTEGER, .doc = "how many (5)"},
    {},
};
static const struct http_query_row force_query[] = {
    {"force", SCHEMA_BOOLEAN, .doc = "also if release records name it; never while a run uses it"},
    {},
};

const struct http_route dataset_routes[] = {
    {"GET", "/api/v1/datasets", SCOPE_VIEW, list_datasets, "list datasets", .paged = true, .response = &summary_schema,
     .tag = "datasets"},
    {"GET", "/api/v1/datasets/{address}", SCOPE_VIEW, get_dataset, "show a version with its schema and statistics",
     .response = &dataset_schema, .tag = "datasets"},
    {"DELETE", "/api/v1/datasets/{address}", SCOPE_DEVELOP, delete_dataset, "remove a version, or all versions",
     .query = force_query, .status = 204, .tag = "datasets"},
    {"GET", "/api/v1/datasets/{address}/versions", SCOPE_VIEW, list_versions, "list versions, newest first",
     .paged = true, .response = &version_schema, .tag = "datasets"},
    {"POST", "/api/v1/datasets/{address}/versions", SCOPE_DEVELOP, post_version, "make a version of uploaded blobs",
     .request = &create_schema, .response = &dataset_schema, .body = HTTP_BODY_JSON, .status = 201, .slow = true,
     .tag = "datasets"},
    {"GET", "/api/v1/datasets/{address}/rows", SCOPE_VIEW, get_rows, "show the first rows", .query = rows_query,
     .slow = true, .tag = "datasets"},
    {"GET", "/api/v1/datasets/{address}/lineage", SCOPE_VIEW, get_lineage, "show sources, children and users",
     .response = &lineage_schema, .tag = "datasets"},
    {"GET", "/api/v1/datasets/{address}/files/{file...}", SCOPE_VIEW, get_file, "download a file of a version",
     .content_type = "application/octet-stream", .slow = true, .tag = "datasets"},
    {},
};
