#include <ctype.h>
#include <string.h>
#include "core/package.h"
#include "format/archive.h"
#include "format/yaml.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/schema.h"
#include "util/strbuf.h"
#include "util/strvec.h"
#include "util/xalloc.h"

#define MANIFEST     "slipway.yaml"
#define SOURCE_LIMIT (16 * MIB) /* model.py or model.R */

static const char *const datatypes[] = {"BOOL",  "UINT8", "UINT16", "UINT32", "UINT64", "INT8",  "INT16",
                                        "INT32", "INT64", "FP16",   "FP32",   "FP64",   "BYTES", NULL};
static const char *const runtimes[] = {"python", "r", "onnx", "xgboost", NULL};

/* What is served by which runtime where slipway.yaml does not say, the first that is there. */
static const struct kind {
    const char *file, *runtime;
    bool is_native; /* needs no code */
} kinds[] = {
    {"model.py", "python"},         {"model.R", "r"}, {"model.onnx", "onnx", true}, {"model.json", "xgboost", true},
    {"model.ubj", "xgboost", true},
};

static const struct schema_field tensor_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 1, .max = 255, .doc = "name of the tensor"},
    {"datatype", SCHEMA_STRING, SCHEMA_REQUIRED, .values = datatypes, .doc = "as the Open Inference Protocol says"},
    {"shape", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_INTEGER, .min = 0, .max = LIMIT_TENSOR_RANK,
     .doc = "-1: any length"},
    {},
};
static const struct schema tensor_schema = {"PackageTensor", tensor_fields, "a tensor that a model takes or gives"};

static const struct schema_field batch_fields[] = {
    {"size", SCHEMA_INTEGER, .min = 1, .max = LIMIT_BATCH, .doc = "requests that one call of predict_batch() takes"},
    {"delay", SCHEMA_ANY, .doc = "how long a request may wait for more, as 2ms"},
    {},
};
static const struct schema batch_schema = {"PackageBatch", batch_fields, "how requests are handed over together"};

static const struct schema_field manifest_fields[] = {
    {"runtime", SCHEMA_STRING, .values = runtimes, .doc = "what runs it; by default as the file's name says"},
    {"file", SCHEMA_STRING, .min = 1, .max = LIMIT_PATH, .doc = "the model of onnx or xgboost, within the package"},
    {"environment", SCHEMA_STRING, .max = 2 * LIMIT_NAME, .doc = "NAME or NAME@VERSION; default: host"},
    {"concurrency", SCHEMA_INTEGER, .min = 1, .max = 64, .doc = "requests at a time per replica; default 1"},
    {"batch", SCHEMA_OBJECT, .object = &batch_schema, .doc = "for a model with predict_batch()"},
    {"deterministic", SCHEMA_BOOLEAN, .doc = "equal requests have equal answers, so that one may be remembered"},
    {"inputs", SCHEMA_ARRAY, .item = SCHEMA_OBJECT, .object = &tensor_schema, .max = 100},
    {"outputs", SCHEMA_ARRAY, .item = SCHEMA_OBJECT, .object = &tensor_schema, .max = 100},
    {},
};
static const struct schema manifest_schema = {"PackageManifest", manifest_fields, "slipway.yaml of a model package"};

/* What was found while walking through the archive. */
struct findings {
    char *python, *r;    /* source text */
    json_t *manifest;    /* checked; NULL: none */
    struct strvec names; /* of all files */
};

static void findings_release(struct findings *f)
{
    free(f->python);
    free(f->r);
    json_decref(f->manifest);
    strvec_release(&f->names);
}
#define cleanup_findings CLEANUP(findings_release)

static int read_entry(struct archive_entry_view *entry, size_t max, char **ret_text, size_t *ret_length,
                      struct error *error)
{
    cleanup_strbuf struct strbuf text = STRBUF_INIT(max);
    char buffer[16384];
    ssize_t n;

    while ((n = archive_entry_read(entry, buffer, sizeof(buffer), error)) > 0)
        strbuf_add(&text, buffer, (size_t)n);
    if (n < 0)
        return -1;
    if (text.overflowed)
        return error_set(error, ERROR_TOO_LARGE, "%s in the package has more than %zu bytes", entry->name, max);
    *ret_text = strbuf_detach(&text, ret_length);
    return 0;
}

/* YAML knows no durations: "2ms" is text, and only 0 needs no unit. Puts the number of µs beside it. */
static int read_delay(json_t *batch, struct error *error)
{
    const json_t *delay = json_object_get(batch, "delay");
    int64_t us = 0;

    if (json_is_string(delay)) {
        if (parse_duration_us(json_string_value(delay), &us, error) < 0)
            return error_wrap(error, "batch.delay");
    } else if (delay && !(json_is_integer(delay) && json_integer_value(delay) == 0)) {
        return error_set(error, ERROR_INVALID, "batch.delay is a time with its unit, as 2ms");
    }
    if (us > LIMIT_BATCH_DELAY)
        return error_set(error, ERROR_INVALID, "batch.delay is at most %d ms", LIMIT_BATCH_DELAY / 1000);
    if (batch)
        json_set_int(batch, "delay_us", us);
    return 0;
}

static int read_manifest(struct archive_entry_view *entry, json_t **ret, struct error *error)
{
    cleanup_json json_t *manifest = NULL;
    cleanup_free char *text = NULL;
    size_t length;

    if (read_entry(entry, LIMIT_CONFIG_FILE, &text, &length, error) < 0)
        return -1;
    manifest = yaml_parse(text, length, MANIFEST, error);
    if (!manifest)
        return -1;
    if (json_is_null(manifest)) {
        json_decref(manifest);
        manifest = json_object();
    }
    if (!json_is_object(manifest))
        return error_set(error, ERROR_INVALID, MANIFEST " must be a mapping");
    if (schema_check(&manifest_schema, manifest, error) < 0 ||
        read_delay(json_object_get(manifest, "batch"), error) < 0)
        return error_wrap(error, MANIFEST);
    json_decref(*ret);
    *ret = steal_ptr(manifest);
    return 0;
}

/* What a zip unpacks to is known only by unpacking it: the limits count bytes as they come. */
static int read_through(struct archive_entry_view *entry, struct error *error)
{
    char buffer[16384];
    ssize_t n;

    do {
        n = archive_entry_read(entry, buffer, sizeof(buffer), error);
    } while (n > 0);
    return n < 0 ? -1 : 0;
}

static int on_entry(void *userdata, struct archive_entry_view *entry, struct error *error)
{
    struct findings *f = userdata;

    strvec_push(&f->names, entry->name);
    if (strcmp(entry->name, "model.py") == 0)
        return read_entry(entry, SOURCE_LIMIT, &f->python, NULL, error);
    if (strcmp(entry->name, "model.R") == 0)
        return read_entry(entry, SOURCE_LIMIT, &f->r, NULL, error);
    if (strcmp(entry->name, MANIFEST) == 0)
        return read_manifest(entry, &f->manifest, error);
    return read_through(entry, error);
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '.';
}

/* Does the rest of a line at the margin give the name a meaning? Python: def, assignment, import; R:
 * assignment. This is a look, not a parse: the worker says it for certain. */
static bool line_defines(const char *line, size_t length, const char *name, bool is_python)
{
    size_t n = strlen(name), at = 0;

    if (is_python) {
        bool is_import = length > 5 && strncmp(line, "from ", 5) == 0;

        if (length > 6 && strncmp(line, "async ", 6) == 0)
            at = 6;
        if (length > at + 4 && strncmp(line + at, "def ", 4) == 0)
            at += 4;
        while (at < length && line[at] == ' ')
            at++;
        if (is_import) {
            for (size_t i = 5; i + n <= length; i++)
                if (strncmp(line + i, name, n) == 0 && !is_word(line[i - 1]) &&
                    (i + n == length || !is_word(line[i + n])))
                    return true;
            return false;
        }
    }
    if (at + n >= length || strncmp(line + at, name, n) != 0 || is_word(line[at + n]))
        return false;
    for (at += n; at < length && line[at] == ' '; at++)
        ;
    if (at == length)
        return false;
    return is_python ? line[at] == '(' || line[at] == '=' || line[at] == ':'
                     : line[at] == '=' || strncmp(line + at, "<-", 2) == 0;
}

static bool source_defines(const char *source, const char *name, bool is_python)
{
    for (const char *line = source; line;) {
        const char *end = strchr(line, '\n');
        size_t length = end ? (size_t)(end - line) : strlen(line);

        if (line_defines(line, length, name, is_python))
            return true;
        line = end ? end + 1 : NULL;
    }
    return false;
}

static json_t *list_functions(const char *source, bool is_python)
{
    static const char *const names[] = {"init", "predict", "predict_tensors", "predict_batch"}; /* R has two of them */
    json_t *functions = json_array();

    for (size_t i = 0; i < (is_python ? ARRAY_SIZE(names) : 2); i++)
        if (source_defines(source, names[i], is_python))
            json_array_append_new(functions, json_string(names[i]));
    return functions;
}

static bool has(const json_t *array, const char *text)
{
    json_t *item;
    size_t i;

    json_array_foreach(array, i, item)
        if (strcmp(json_string_value(item), text) == 0)
            return true;
    return false;
}

/* The kind of package that it is, and the file that holds the model. NULL: it is none. */
static const struct kind *find_kind(const struct findings *f, const char **ret_file)
{
    const char *runtime = json_get_string(f->manifest, "runtime", NULL),
               *file = json_get_string(f->manifest, "file", NULL);
    const struct kind *of_runtime = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (runtime && strcmp(runtime, kinds[i].runtime) != 0)
            continue;
        of_runtime = of_runtime ? of_runtime : &kinds[i];
        *ret_file = kinds[i].is_native && runtime && file ? file : kinds[i].file;
        if (strvec_contains(&f->names, *ret_file))
            return &kinds[i];
    }
    /* The manifest says what it should be. */
    if (of_runtime && runtime)
        *ret_file = of_runtime->is_native && file ? file : of_runtime->file;
    return runtime ? of_runtime : NULL;
}

/* Why it cannot be served, to be freed; NULL: it can. */
static char *fault_of(const struct findings *f, const struct kind *kind, const char *file, const json_t *functions)
{
    if (!kind)
        return xstrdup("it has none of model.py, model.R, model.onnx, model.json and model.ubj at its top");
    if (!strvec_contains(&f->names, file))
        return xasprintf("slipway.yaml says that it is of runtime %s, but there is no %s", kind->runtime, file);
    if (!kind->is_native && json_object_get(f->manifest, "file"))
        return xasprintf("'file' in slipway.yaml is for onnx and xgboost; the model of runtime %s is %s", kind->runtime,
                         kind->file);
    if (!kind->is_native && !has(functions, "init"))
        return xasprintf("%s defines no init()", file);
    if (!kind->is_native && !has(functions, "predict") && !has(functions, "predict_tensors") &&
        !has(functions, "predict_batch"))
        return xasprintf("%s defines no predict()", file);
    if (json_object_get(f->manifest, "batch") && !has(functions, "predict_batch"))
        return xasprintf("'batch' in slipway.yaml is for a model.py with predict_batch(); %s defines none", file);
    return NULL;
}

static json_t *describe_batch(const struct findings *f, const json_t *functions)
{
    const json_t *batch = json_object_get(f->manifest, "batch");

    if (!has(functions, "predict_batch"))
        return json_null();
    return json_build("{s:I, s:I}", "size", (json_int_t)json_get_int(batch, "size", LIMIT_BATCH_DEFAULT), "delay_us",
                      (json_int_t)json_get_int(batch, "delay_us", 0));
}

bool package_batch(const json_t *package, int64_t *ret_size, int64_t *ret_delay_us)
{
    const json_t *batch = json_object_get(package, "batch");
    /* One that was looked at before batches were known has the list of its functions only. */
    bool is_old = !batch && has(json_object_get(package, "functions"), "predict_batch");

    *ret_size = json_get_int(batch, "size", is_old ? LIMIT_BATCH_DEFAULT : 1);
    *ret_delay_us = json_get_int(batch, "delay_us", 0);
    return is_old || json_is_object(batch);
}

static json_t *describe(const struct findings *f, const struct archive_summary *summary)
{
    json_t *inputs = json_object_get(f->manifest, "inputs"), *outputs = json_object_get(f->manifest, "outputs");
    const char *file = NULL;
    const struct kind *kind = find_kind(f, &file);
    bool is_python = kind && strcmp(kind->runtime, "python") == 0;
    const char *source = !kind || kind->is_native ? NULL : is_python ? f->python : f->r;
    cleanup_json json_t *functions = source ? list_functions(source, is_python) : json_array();
    cleanup_free char *fault = fault_of(f, kind, file, functions);
    json_t *package = json_build("{s:b, s:s?, s:s?, s:s?, s:O}", "servable", fault == NULL, "reason", fault, "runtime",
                                 kind ? kind->runtime : NULL, "file", kind ? file : NULL, "functions", functions);

    json_set_string(package, "environment", json_get_string(f->manifest, "environment", NULL));
    json_set_int(package, "concurrency", json_get_int(f->manifest, "concurrency", 1));
    json_object_set_new(package, "batch", describe_batch(f, functions));
    json_set_bool(package, "deterministic", json_get_bool(f->manifest, "deterministic", false));
    json_object_set_new(package, "inputs", inputs ? json_incref(inputs) : json_array());
    json_object_set_new(package, "outputs", outputs ? json_incref(outputs) : json_array());
    json_set_int(package, "files", (int64_t)summary->files);
    json_set_int(package, "size", (int64_t)summary->bytes);
    return package;
}

json_t *package_inspect_fd(int fd, struct error *error)
{
    cleanup_findings struct findings findings = {.names = STRVEC_INIT};
    struct archive_summary summary = {0, 0};

    if (archive_each(fd, "package", on_entry, &findings, &summary, error) < 0)
        return NULL;
    return describe(&findings, &summary);
}

json_t *package_inspect(struct store *store, const char *text, struct error *error)
{
    struct digest digest;
    cleanup_close int fd = -1;

    if (digest_parse(text, &digest, error) < 0 || vault_get(store->vault, &digest, &fd, error) < 0)
        return NULL;
    return package_inspect_fd(fd, error);
}
