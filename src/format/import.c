#include <ctype.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <errno.h>
#include "format/import-private.h"
#include "format/safetensors.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define SAMPLE     4096
#define HASH_PIECE (1024 * 1024)

/* -- formats -- */

static bool looks_like_idx(const char *p, size_t length)
{
    return length >= 4 && p[0] == 0 && p[1] == 0 && memchr("\x08\x09\x0b\x0c\x0d\x0e", p[2], 6) && p[3] >= 1 &&
           p[3] <= LIMIT_TENSOR_RANK;
}

static bool looks_like_safetensors(const char *p, size_t length)
{
    return length >= 9 && p[8] == '{' && p[5] == 0 && p[6] == 0 && p[7] == 0;
}

static bool looks_like_jsonl(const char *p, size_t length)
{
    while (length && isspace((unsigned char)*p)) {
        p++;
        length--;
    }
    return length && *p == '{';
}

/* A first line "number [qid:n] index:value …" without commas. */
static bool looks_like_libsvm(const char *p, size_t length)
{
    const char *end = memchr(p, '\n', length), *colon;

    while (*p == '#' && end) {
        length -= end + 1 - p;
        p = end + 1;
        end = memchr(p, '\n', length);
    }
    length = end ? (size_t)(end - p) : length;
    if (!length || (!isdigit((unsigned char)*p) && *p != '-' && *p != '+'))
        return false;
    if (memchr(p, ',', length) || memchr(p, '\t', length) || memchr(p, ';', length))
        return false;
    colon = memchr(p, ':', length);
    return colon && colon > p + 1 && memchr(p, ' ', colon - p) &&
           (isdigit((unsigned char)colon[-1]) || memcmp(colon - 1, "d", 1) == 0);
}

static bool looks_like_text(const char *p, size_t length)
{
    return !memchr(p, 0, length);
}

static const struct format {
    const char *name;
    bool (*matches)(const char *data, size_t length); /* NULL: see magic */
    const char *magic;
    int (*run)(struct import *import, struct error *error);
} formats[] = {
    {"npy", NULL, "\x93NUMPY", import_numpy},        {"npz", NULL, "PK\3\4", import_numpy},
    {"idx", looks_like_idx, NULL, import_idx},       {"safetensors", looks_like_safetensors, NULL, import_safetensors},
    {"jsonl", looks_like_jsonl, NULL, import_jsonl}, {"libsvm", looks_like_libsvm, NULL, import_libsvm},
    {"csv", looks_like_text, NULL, import_csv},
};

/* Other names for the same. */
static const char *const aliases[][2] = {
    {"tsv", "csv"}, {"svmlight", "libsvm"}, {"svm", "libsvm"}, {"ndjson", "jsonl"}, {"mnist", "idx"}, {"numpy", "npy"},
};

static int find_format(const char *name, const struct format **ret_format, struct error *error)
{
    for (size_t i = 0; i < ARRAY_SIZE(aliases); i++)
        if (strcmp(name, aliases[i][0]) == 0)
            name = aliases[i][1];
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        if (strcmp(name, formats[i].name) == 0) {
            *ret_format = &formats[i];
            return 0;
        }
    }
    return error_set(error, ERROR_INVALID,
                     "'%s' is not a format; there are csv, jsonl, libsvm, idx, npy, npz and safetensors", name);
}

static int detect_format(struct import *import, const struct format **ret_format, struct error *error)
{
    cleanup_reader struct reader *reader = NULL;
    const char *data;
    size_t length;

    if (import_open(import, 0, &reader, error) < 0 || reader_peek(reader, SAMPLE, &data, &length, NULL, error) < 0)
        return -1;
    length = length < SAMPLE ? length : SAMPLE;
    if (!length)
        return error_set(error, ERROR_INVALID, "%s is empty", import->sources[0].name);
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        const struct format *format = &formats[i];

        if (format->magic ? length >= strlen(format->magic) && memcmp(data, format->magic, strlen(format->magic)) == 0
                          : format->matches(data, length)) {
            *ret_format = format;
            return 0;
        }
    }
    return error_set(error, ERROR_INVALID,
                     "cannot tell the format of %s; name it with --format, or keep the file as it is with --files",
                     import->sources[0].name);
}

/* -- for the readers -- */

void import_note(struct import *import, const char *format, ...)
{
    json_t *notes = json_object_get(import->schema, "notes");
    cleanup_free char *text = NULL;
    va_list args;

    va_start(args, format);
    text = xvasprintf(format, args);
    va_end(args);
    json_array_append_new(notes, json_string(text));
}

int import_tick(struct import *import, const struct reader *reader, struct error *error)
{
    if (import->progress &&
        import->progress(import->userdata, import->done + (reader ? reader_raw_offset(reader) : 0), import->total))
        return error_set(error, ERROR_CANCELLED, "the import was cancelled");
    return 0;
}

int import_open(struct import *import, size_t source, struct reader **ret_reader, struct error *error)
{
    return reader_open_fd(import->sources[source].fd, import->sources[source].name, ret_reader, error);
}

/* -- digests of the sources, on a thread beside the parser -- */

struct hashing {
    const struct import_source *sources;
    size_t n_sources;
    struct digest *digests;
    uint64_t *sizes;
    struct error error;
    pthread_t thread;
    bool started;
};

static int hash_source(struct hashing *hashing, size_t i, char *buffer)
{
    cleanup_hasher struct hasher *hasher = hasher_new();
    off_t at = 0;

    for (;;) {
        ssize_t n = pread(hashing->sources[i].fd, buffer, HASH_PIECE, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(&hashing->error, errno, "cannot read %s", hashing->sources[i].name);
        if (n == 0)
            break;
        hasher_add(hasher, buffer, n);
        at += n;
    }
    hashing->sizes[i] = at;
    hasher_finish(steal_ptr(hasher), &hashing->digests[i]);
    return 0;
}

static void *hash_all(void *userdata)
{
    struct hashing *hashing = userdata;
    cleanup_free char *buffer = xmalloc(HASH_PIECE);

    for (size_t i = 0; i < hashing->n_sources; i++)
        if (hash_source(hashing, i, buffer) < 0)
            break;
    return NULL;
}

static void hashing_release(struct hashing *hashing)
{
    if (hashing->started)
        pthread_join(hashing->thread, NULL);
    error_clear(&hashing->error);
    free(hashing->digests);
    free(hashing->sizes);
}

int import_finish_sources(struct import *import, struct error *error)
{
    struct hashing *hashing = import->hashing;
    json_t *sources;

    if (hashing->started)
        pthread_join(hashing->thread, NULL);
    hashing->started = false;
    if (error_is_set(&hashing->error)) {
        error_move(error, &hashing->error);
        return -1;
    }
    sources = json_array();
    for (size_t i = 0; i < hashing->n_sources; i++) {
        char text[DIGEST_TEXT_SIZE];

        json_array_append_new(sources, json_build("{s:s, s:s, s:I}", "name", fs_basename(hashing->sources[i].name),
                                                  "digest", digest_format(&hashing->digests[i], text), "size",
                                                  (json_int_t)hashing->sizes[i]));
    }
    json_object_set_new(import->schema, "sources", sources);
    return 0;
}

/* -- all of it -- */

static json_t *strings(const struct strvec *list)
{
    json_t *array = json_array();

    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, json_string(list->items[i]));
    return array;
}

/* What was asked for, so that the import can be repeated. */
static json_t *describe_options(const struct import_options *options, const char *format)
{
    json_t *object = json_object();

    json_set_string(object, "format", format);
    if (options->label)
        json_set_string(object, "label", options->label);
    if (options->split) {
        json_set_string(object, "split", options->split);
        json_set_int(object, "seed", options->seed);
        json_set_bool(object, "stratify", options->stratify);
    }
    if (options->header)
        json_set_string(object, "header", options->header);
    if (options->separator)
        json_set_string(object, "separator", options->separator);
    if (options->dtype)
        json_set_string(object, "dtype", options->dtype);
    if (options->missing && options->missing->count)
        json_object_set_new(object, "missing", strings(options->missing));
    if (options->drop && options->drop->count)
        json_object_set_new(object, "drop", strings(options->drop));
    return object;
}

static int check_sources(struct import *import, struct error *error)
{
    if (import->n_sources == 0)
        return error_set(error, ERROR_INVALID, "there is no file to import");
    if (import->n_sources > LIMIT_DATASET_FILES)
        return error_set(error, ERROR_TOO_LARGE, "more than %d files in one import", LIMIT_DATASET_FILES);
    for (size_t i = 0; i < import->n_sources; i++) {
        struct stat st;

        if (fstat(import->sources[i].fd, &st) < 0)
            return error_set_errno(error, errno, "cannot stat %s", import->sources[i].name);
        if (!S_ISREG(st.st_mode))
            return error_set(error, ERROR_INVALID, "%s is not a regular file", import->sources[i].name);
        import->total += st.st_size;
    }
    return 0;
}

static void import_release(struct import *import)
{
    split_plan_release(&import->split);
    json_decref(import->schema);
}

int import_files(const struct import_options *options, const struct import_source *sources, size_t n_sources, int fd,
                 import_progress_fn progress, void *userdata, json_t **ret_schema, struct error *error)
{
    CLEANUP(import_release)
    struct import import = {.options = options,
                            .sources = sources,
                            .n_sources = n_sources,
                            .fd = fd,
                            .progress = progress,
                            .userdata = userdata};
    CLEANUP(hashing_release)
    struct hashing hashing = {.sources = sources, .n_sources = n_sources, .error = ERROR_INIT};
    const struct format *format = NULL;

    if (check_sources(&import, error) < 0 ||
        (options->split && split_parse(options->split, &import.split, error) < 0) ||
        (options->format ? find_format(options->format, &format, error) : detect_format(&import, &format, error)) < 0)
        return -1;
    if (options->stratify && !options->split)
        return error_set(error, ERROR_INVALID, "--stratify needs --split");
    hashing.digests = xcalloc(n_sources, sizeof(*hashing.digests));
    hashing.sizes = xcalloc(n_sources, sizeof(*hashing.sizes));
    hashing.started = pthread_create(&hashing.thread, NULL, hash_all, &hashing) == 0;
    if (!hashing.started)
        hash_all(&hashing);
    import.schema = json_build("{s:i, s:[]}", "format", 1, "notes");
    json_object_set_new(import.schema, "options", describe_options(options, format->name));
    import.hashing = &hashing;
    if (format->run(&import, error) < 0)
        return -1;
    if (ret_schema)
        *ret_schema = json_incref(import.schema);
    return 0;
}
