#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include "config.h"
#include "engine/runtime.h"
#include "util/cgroup.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/proc.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define PROBE_RUN    "00000000000000000000000000000000" /* no run has this id */
#define PROBE_STATUS 42                                 /* the probe's program exits with it */
#define PROBE_TIME   15000                              /* ms */
#define OUTPUT_MAX   4096                               /* bytes of what a runtime says */
#define PROBE_MEMORY (64 * MIB)

static const char *const candidates[] = {"crun", "runc"};
static const char *const directories[] = {"/usr/bin",        "/usr/sbin", "/usr/local/bin",
                                          "/usr/local/sbin", "/bin",      "/sbin"};

void runtime_release(struct runtime *runtime)
{
    free(runtime->path);
    free(runtime->version);
    free(runtime->note);
    *runtime = (struct runtime){0};
}

/* -- finding -- */

static char *find_program(const char *name)
{
    if (strchr(name, '/'))
        return access(name, X_OK) == 0 ? xstrdup(name) : NULL;
    for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
        char *path = fs_join(directories[i], name);

        if (access(path, X_OK) == 0)
            return path;
        free(path);
    }
    return NULL;
}

/* "runc version 1.1.5+ds1" or "crun version 1.8.1" → "runc 1.1.5+ds1". */
static char *read_version(const char *path)
{
    cleanup_free char *output = NULL;
    const char *name = fs_basename(path), *version;

    if (proc_run((const char *[]){path, "--version", NULL}, OUTPUT_MAX, PROBE_TIME, &output, NULL) != 0)
        return xstrdup(name);
    output[strcspn(output, "\n")] = '\0';
    version = strrchr(output, ' ');
    return version ? xasprintf("%s %s", name, version + 1) : xstrdup(name);
}

/* -- probing -- */

/* What a monitor would prepare, with code to lie below the working directory. */
static int make_probe_directories(const char *directory, const struct oci_node *node, struct error *error)
{
    static const char *const names[] = {"view", "code", "work/upper", "work/work", "work/tree"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        cleanup_free char *path = fs_join(directory, names[i]);

        if (fs_mkdir_all(path, 0755, error) < 0)
            return -1;
        if (strncmp(names[i], "work/", 5) == 0 && chown(path, node->uid, node->uid) < 0)
            return error_set_errno(error, errno, "cannot give %s away", path);
    }
    return 0;
}

/* The last line of what the runtime said, as the reason. */
static int probe_failed(const char *path, int status, char *output, struct error *error)
{
    size_t n = strlen(output);
    const char *line;

    while (n && (output[n - 1] == '\n' || output[n - 1] == ' '))
        output[--n] = '\0';
    line = strrchr(output, '\n');
    if (!n)
        return error_set(error, ERROR_UNSUPPORTED, "%s does not work here: it ended with status %d and said nothing",
                         fs_basename(path), status);
    return error_set(error, ERROR_UNSUPPORTED, "%s does not work here: %s", fs_basename(path),
                     line ? line + 1 : output);
}

static int run_probe(const struct oci_host *host, const char *path, const char *root, const char *directory,
                     const struct oci_node *node, struct error *error)
{
    cleanup_free char *code = fs_join(directory, "code"), *config_path = fs_join(directory, "config.json"),
                      *text = NULL, *output = NULL;
    const char *const program[] = {"/bin/sh", "-c", "echo x > probe && exit 42", NULL};
    struct engine_spec spec = {.run_id = PROBE_RUN,
                               .attempt = 1,
                               .role = "main",
                               .directory = directory,
                               .argv = program,
                               .code = code,
                               .cpus = 0.5,
                               .memory = PROBE_MEMORY};
    cleanup_json json_t *config = oci_config(host, node, &spec, error);
    int status;

    if (!config)
        return -1;
    /* Without a monitor there is nobody for init to talk to. */
    json_array_remove(json_object_get(json_object_get(config, "process"), "args"), 0);
    json_array_remove(json_object_get(json_object_get(config, "process"), "args"), 0);
    text = json_text(config);
    if (fs_write_atomic(config_path, text, strlen(text), 0600, error) < 0)
        return -1;
    status = proc_run((const char *[]){path, "--root", root, "run", "--bundle", directory, node->name, NULL},
                      OUTPUT_MAX, PROBE_TIME, &output, error);
    if (status < 0)
        return error_wrap(error, "%s does not work here", fs_basename(path));
    return status == PROBE_STATUS ? 0 : probe_failed(path, status, output, error);
}

static int probe(const struct oci_host *host, const char *path, const char *root, bool overlay, struct error *error)
{
    cleanup_free char *directory = xasprintf("%s/engine/probe", host->data_directory),
                      *name = xasprintf("probe-%d", (int)getpid());
    struct oci_node node = {.name = name, .uid = 65534, .overlay = overlay};
    cleanup_free char *state = fs_join(root, name), *cgroup = xasprintf("/slipway/%s", name);
    cleanup_cgroups struct cgroups *cgroups = cgroups_open(NULL);
    int r;

    fs_remove_all(directory, NULL);
    r = make_probe_directories(directory, &node, error);
    if (r == 0)
        r = run_probe(host, path, root, directory, &node, error);
    fs_remove_all(state, NULL);
    fs_remove_all(directory, NULL);
    cgroup_kill(cgroups, cgroup);
    cgroup_remove(cgroups, cgroup);
    return r;
}

/* -- the verdict on file -- */

/* What a verdict depends on. */
static char *fingerprint(const struct oci_host *host, const char *only)
{
    cleanup_strbuf struct strbuf text = STRBUF_INIT(64 * KIB);
    struct utsname name;
    struct stat st;

    uname(&name);
    strbuf_addf(&text, "%s %s %s", SLIPWAY_VERSION, name.release, name.version);
    for (size_t i = 0; i < ARRAY_SIZE(candidates); i++) {
        cleanup_free char *path = find_program(only ? only : candidates[i]);

        if (path && stat(path, &st) == 0)
            strbuf_addf(&text, " %s:%lld:%lld", path, (long long)st.st_size, (long long)st.st_mtim.tv_sec);
    }
    for (size_t i = 0; i < host->visible.count; i++)
        strbuf_addf(&text, " %s", host->visible.items[i]);
    return strbuf_detach(&text, NULL);
}

static bool read_verdict(const char *path, const char *depends_on, struct runtime *ret_runtime)
{
    cleanup_json json_t *json = json_parse_file(path, LIMIT_CONFIG_FILE, NULL);
    const char *program = json_get_string(json, "path", NULL);

    if (!program || strcmp(json_get_string(json, "depends_on", ""), depends_on) != 0)
        return false;
    *ret_runtime = (struct runtime){
        .path = xstrdup(program),
        .version = xstrdup(json_get_string(json, "version", fs_basename(program))),
        .note = xstrdup_null(json_get_string(json, "note", NULL)),
        .overlay = json_get_bool(json, "overlay", false),
    };
    return true;
}

static void write_verdict(const char *path, const char *depends_on, const struct runtime *runtime)
{
    cleanup_json json_t *json = json_object();
    cleanup_free char *text = NULL;

    json_set_string(json, "depends_on", depends_on);
    json_set_string(json, "path", runtime->path);
    json_set_string(json, "version", runtime->version);
    json_object_set_new(json, "note", runtime->note ? json_string_lossy(runtime->note) : json_null());
    json_set_bool(json, "overlay", runtime->overlay);
    text = json_text_pretty(json);
    fs_write_atomic(path, text, strlen(text), 0600, NULL);
}

/* -- choosing -- */

static void add_reason(struct strbuf *reasons, const char *reason)
{
    strbuf_addf(reasons, "%s%s", reasons->length ? "; " : "", reason);
}

/* Tries one with, then without an overlay. */
static bool try(const struct oci_host *host, const char *name, const char *root, struct strbuf *reasons,
                struct runtime *ret_runtime)
{
    cleanup_error struct error first = ERROR_INIT, second = ERROR_INIT;
    cleanup_free char *path = find_program(name), *missing = NULL;
    bool overlay = true;

    if (!path) {
        missing = xasprintf("%s is not installed", name);
        add_reason(reasons, missing);
        return false;
    }
    if (probe(host, path, root, true, &first) < 0) {
        overlay = false;
        if (probe(host, path, root, false, &second) < 0) {
            add_reason(reasons, second.message);
            return false;
        }
        add_reason(reasons, "no overlay file system for working directories: code is copied instead");
    }
    ret_runtime->version = read_version(path);
    ret_runtime->path = steal_ptr(path);
    ret_runtime->overlay = overlay;
    return true;
}

int runtime_choose(const struct oci_host *host, const char *only, const char *root, struct runtime *ret_runtime,
                   struct error *error)
{
    cleanup_free char *verdict = xasprintf("%s/engine/runtime.json", host->data_directory),
                      *depends_on = fingerprint(host, only);
    cleanup_strbuf struct strbuf reasons = STRBUF_INIT(64 * KIB);
    struct runtime runtime = {0};

    if (read_verdict(verdict, depends_on, ret_runtime))
        return 0;
    for (size_t i = 0; i < (only ? 1 : ARRAY_SIZE(candidates)) && !runtime.path; i++)
        try(host, only ? only : candidates[i], root, &reasons, &runtime);
    if (!runtime.path)
        return error_set(error, ERROR_UNSUPPORTED, "%s", reasons.data);
    if (reasons.length)
        runtime.note = strbuf_detach(&reasons, NULL);
    write_verdict(verdict, depends_on, &runtime);
    *ret_runtime = runtime;
    return 0;
}
