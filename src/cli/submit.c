#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/progress.h"
#include "cli/submit.h"
#include "format/archive.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

static int split_pair(const char *option, const char *text, char **ret_key, const char **ret_value, struct error *error)
{
    const char *equals = strchr(text, '=');

    if (!equals || equals == text)
        return error_set(error, ERROR_INVALID, "--%s takes KEY=VALUE, not '%s'", option, text);
    *ret_key = xstrndup(text, (size_t)(equals - text));
    *ret_value = equals + 1;
    return 0;
}

static int add_parameters(const struct invocation *invocation, json_t *body, struct error *error)
{
    const struct strvec *given = option_values(invocation, "param");
    json_t *parameters = json_object();

    for (size_t i = 0; i < given->count; i++) {
        cleanup_free char *key = NULL;
        const char *text = NULL;
        json_t *value;

        if (split_pair("param", given->items[i], &key, &text, error) < 0) {
            json_decref(parameters);
            return -1;
        }
        value = json_parse(text, strlen(text), NULL);
        json_object_set_new(parameters, key, value ? value : json_string(text));
    }
    if (given->count)
        json_object_set(body, "parameters", parameters);
    json_decref(parameters);
    return 0;
}

static int add_labels(const struct invocation *invocation, json_t *body, struct error *error)
{
    const struct strvec *given = option_values(invocation, "label");

    for (size_t i = 0; i < given->count; i++) {
        cleanup_free char *key = NULL;
        const char *text = NULL;

        if (split_pair("label", given->items[i], &key, &text, error) < 0)
            return -1;
        if (!json_object_get(body, "labels"))
            json_object_set_new(body, "labels", json_object());
        json_set_string(json_object_get(body, "labels"), key, text);
    }
    return 0;
}

static int add_resources(const struct invocation *invocation, json_t *body, struct error *error)
{
    json_t *resources = json_object();
    double cpus = 0;
    uint64_t memory = UINT64_MAX, gpu_memory = UINT64_MAX;
    int64_t gpus = -1;

    if (option_number(invocation, "cpus", 0.01, 65536, &cpus, error) < 0 ||
        option_bytes(invocation, "memory", &memory, error) < 0 ||
        option_int(invocation, "gpus", 0, 1024, &gpus, error) < 0 ||
        option_bytes(invocation, "gpu-memory", &gpu_memory, error) < 0) {
        json_decref(resources);
        return -1;
    }
    if (cpus > 0)
        json_set_number(resources, "cpus", cpus);
    if (memory != UINT64_MAX)
        json_set_int(resources, "memory", (int64_t)memory);
    if (gpus >= 0)
        json_set_int(resources, "gpus", gpus);
    if (gpu_memory != UINT64_MAX)
        json_set_int(resources, "gpu_memory", (int64_t)gpu_memory);
    if (json_object_size(resources))
        json_object_set(body, "resources", resources);
    json_decref(resources);
    return 0;
}

static int add_nodes(const struct invocation *invocation, json_t *body, struct error *error)
{
    const char *text = option_value(invocation, "nodes");
    cleanup_strvec struct strvec parts = STRVEC_INIT;
    json_t *nodes;

    if (!text)
        return 0;
    nodes = json_object();
    json_object_set_new(body, "nodes", nodes);
    strvec_split(&parts, text, ',');
    for (size_t i = 0; i < parts.count; i++) {
        cleanup_free char *role = NULL;
        const char *count = NULL;
        int64_t n;

        if (split_pair("nodes", parts.items[i], &role, &count, error) < 0 ||
            parse_int(count, 0, LIMIT_RUN_NODES, &n, error) < 0)
            return -1;
        json_set_int(nodes, role, n);
    }
    return 0;
}

static int add_numbers(const struct invocation *invocation, json_t *body, struct error *error)
{
    int64_t priority = INT64_MIN, timeout = -1, grace = -1, retries = -1;

    if (option_int(invocation, "priority", -1000, 1000, &priority, error) < 0 ||
        option_duration_ms(invocation, "timeout", &timeout, error) < 0 ||
        option_duration_ms(invocation, "grace", &grace, error) < 0 ||
        option_int(invocation, "retries", 0, 1000, &retries, error) < 0)
        return -1;
    if (priority != INT64_MIN)
        json_set_int(body, "priority", priority);
    if (timeout >= 0)
        json_set_int(body, "timeout_ms", timeout);
    if (grace >= 0)
        json_set_int(body, "grace_ms", grace);
    if (retries >= 0)
        json_set_int(body, "retries", retries);
    return 0;
}

int submit_options(const struct invocation *invocation, json_t *body, struct error *error)
{
    const struct strvec *data = option_values(invocation, "data");
    const char *gate = option_value(invocation, "gate"), *alias = option_value(invocation, "alias");
    const char *entry = option_value(invocation, "entry");

    if (add_parameters(invocation, body, error) < 0 || add_labels(invocation, body, error) < 0 ||
        add_resources(invocation, body, error) < 0 || add_nodes(invocation, body, error) < 0 ||
        add_numbers(invocation, body, error) < 0)
        return -1;
    for (size_t i = 0; i < data->count; i++) {
        if (!json_object_get(body, "datasets"))
            json_object_set_new(body, "datasets", json_array());
        json_array_append_new(json_object_get(body, "datasets"), json_string(data->items[i]));
    }
    if (option_value(invocation, "env"))
        json_set_string(body, "environment", option_value(invocation, "env"));
    if (option_value(invocation, "model"))
        json_set_string(body, "model", option_value(invocation, "model"));
    if (option_flag(invocation, "network"))
        json_set_bool(body, "network", true);
    if (alias && !gate)
        return error_set(error, ERROR_INVALID, "--alias needs --gate");
    if (gate) {
        json_object_set_new(body, "gate", json_build("{s:s}", "rule", gate));
        if (alias)
            json_set_string(json_object_get(body, "gate"), "alias", alias);
    }
    if (entry) {
        cleanup_strvec struct strvec words = STRVEC_INIT;

        json_object_set_new(body, "entry", json_array());
        strvec_split(&words, entry, ' ');
        for (size_t i = 0; i < words.count; i++)
            if (*words.items[i])
                json_array_append_new(json_object_get(body, "entry"), json_string(words.items[i]));
    }
    return 0;
}

/* -- code -- */

/* By the end of its name: with what a script is run. */
static const struct {
    const char *suffix, *interpreter;
} interpreters[] = {
    {".py", "python3"}, {".R", "Rscript"}, {".r", "Rscript"}, {".sh", "sh"}, {".pl", "perl"}, {".jl", "julia"},
};

/* What runs in a directory or zip that is given without --entry: the first that is there. */
static const char *const usual_names[] = {"train.py", "main.py", "run.py", "train.R", "main.R", "train.sh", "run.sh"};

static json_t *entry_for(const char *name)
{
    size_t length = strlen(name);

    for (size_t i = 0; i < ARRAY_SIZE(interpreters); i++) {
        size_t n = strlen(interpreters[i].suffix);

        if (length > n && strcmp(name + length - n, interpreters[i].suffix) == 0)
            return json_build("[s, s]", interpreters[i].interpreter, name);
    }
    return NULL;
}

static int set_entry(json_t *body, const char *name, bool executable, struct error *error)
{
    json_t *entry = entry_for(name);
    cleanup_free char *command = NULL;

    if (json_object_get(body, "entry")) {
        json_decref(entry);
        return 0;
    }
    if (!entry && !executable)
        return error_set(error, ERROR_INVALID,
                         "how to run %s? its name says nothing and it is not executable: use --entry", name);
    if (!entry) {
        command = xasprintf("./%s", name);
        entry = json_build("[s]", command);
    }
    json_object_set_new(body, "entry", entry);
    return 0;
}

static int set_usual_entry(json_t *body, const struct strvec *names, const char *what, struct error *error)
{
    if (json_object_get(body, "entry"))
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(usual_names); i++)
        if (strvec_contains(names, usual_names[i]))
            return set_entry(body, usual_names[i], false, error);
    return error_set(error, ERROR_INVALID,
                     "%s has no train.py, main.py, run.py, train.R, main.R, train.sh or run.sh: "
                     "say with --entry what to run",
                     what);
}

/* The name of a file relative to a directory that it lies in. */
static int relative_name(const char *path, const char *directory, char **ret_name, struct error *error)
{
    cleanup_free char *file = realpath(path, NULL), *top = realpath(directory, NULL);
    size_t length;

    if (!file)
        return error_set_errno(error, errno, "cannot find %s", path);
    if (!top)
        return error_set_errno(error, errno, "cannot find %s", directory);
    length = strlen(top);
    if (strncmp(file, top, length) != 0 || file[length] != '/')
        return error_set(error, ERROR_INVALID, "%s is not in %s", path, directory);
    *ret_name = xstrdup(file + length + 1);
    return 0;
}

static bool has_package(const char *directory)
{
    cleanup_free char *manifest = fs_join(directory, "slipway.yaml"), *python = fs_join(directory, "model.py"),
                      *r = fs_join(directory, "model.R");

    return fs_exists(manifest) || fs_exists(python) || fs_exists(r);
}

static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == path ? xstrdup("/") : slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup(".");
}

/* A script goes alone; with its directory if it is told so, or if a model package lies there. */
static int pack_script(const struct invocation *invocation, const char *path, bool executable, int fd, json_t *body,
                       struct archive_summary *summary, struct error *error)
{
    const char *with = option_value(invocation, "with");
    cleanup_free char *parent = parent_of(path), *name = NULL;

    if (!with && has_package(parent))
        with = parent;
    if (!with)
        return set_entry(body, fs_basename(path), executable, error) < 0 ? -1 : zip_from_file(path, fd, summary, error);
    if (relative_name(path, with, &name, error) < 0 || set_entry(body, name, executable, error) < 0)
        return -1;
    return zip_from_directory(with, fd, summary, error);
}

static int list_zip(int fd, const char *path, json_t *body, struct error *error)
{
    cleanup_strvec struct strvec names = STRVEC_INIT;

    if (json_object_get(body, "entry"))
        return 0;
    if (archive_list(fd, path, &names, error) < 0)
        return -1;
    return set_usual_entry(body, &names, path, error);
}

static bool ends_with_zip(const char *path)
{
    size_t length = strlen(path);

    return length > 4 && strcmp(path + length - 4, ".zip") == 0;
}

static int pack(const struct invocation *invocation, const char *path, json_t *body, int *ret_fd, struct error *error)
{
    struct archive_summary summary = {0};
    cleanup_close int fd = -1;
    struct stat st;
    char size[FORMAT_SIZE];

    if (stat(path, &st) < 0)
        return error_set_errno(error, errno, "cannot find %s", path);
    if (S_ISREG(st.st_mode) && ends_with_zip(path)) {
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return error_set_errno(error, errno, "cannot open %s", path);
        if (list_zip(fd, path, body, error) < 0)
            return -1;
    } else {
        fd = open(P_tmpdir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd < 0)
            return error_set_errno(error, errno, "cannot make a temporary file in %s", P_tmpdir);
        if (S_ISREG(st.st_mode)) {
            if (pack_script(invocation, path, st.st_mode & 0111, fd, body, &summary, error) < 0)
                return -1;
        } else if (zip_from_directory(path, fd, &summary, error) < 0 || list_zip(fd, path, body, error) < 0) {
            return -1;
        }
        if (summary.files > 1 && !invocation->json)
            fprintf(stderr, "packed %llu files, %s\n", (unsigned long long)summary.files,
                    format_bytes(summary.bytes, size));
    }
    if (lseek(fd, 0, SEEK_SET) < 0)
        return error_set_errno(error, errno, "cannot read %s", path);
    *ret_fd = steal_fd(&fd);
    return 0;
}

int submit_code(const struct invocation *invocation, const char *path, json_t *body, struct error *error)
{
    cleanup_json json_t *blob = NULL;
    cleanup_close int fd = -1;

    if (pack(invocation, path, body, &fd, error) < 0 ||
        client_upload(invocation->client, "/api/v1/blobs", NULL, fd, NULL, &blob, error) < 0)
        return -1;
    json_set_string(body, "code", json_get_string(blob, "digest", ""));
    return 0;
}
