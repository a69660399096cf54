/*
 * slipway model package: a version as a container image that needs no control plane; and slipway standalone, what
 * runs in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/client.h"
#include "cli/command.h"
#include "cli/draft.h"
#include "cli/package.h"
#include "core/package.h"
#include "format/archive.h"
#include "format/oci.h"
#include "http/client.h"
#include "schedule/standalone.h"
#include "schedule/worker-path.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/proc.h"
#include "util/strbuf.h"
#include "util/strvec.h"
#include "util/xalloc.h"

#define PROGRAM       "/slipway/slipway"
#define MODEL         "/slipway/model.json"
#define CLOSURE_LIMIT (64 * MIB)    /* bytes of the list of files */
#define CLOSURE_MS    (300 * 1000)
#define SYSTEM_PATH   "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* -- what goes in -- */

/* The interpreter that the replicas of the version run: the environment's, else the system's. */
static int find_python(struct invocation *invocation, const json_t *version, char **ret_python, char **ret_environment,
                       struct error *error)
{
    const char *name = json_get_string(json_object_get(version, "package"), "environment", NULL), *digest;
    cleanup_free char *path = NULL, *root = NULL, *python = NULL;
    cleanup_json json_t *environment = NULL, *status = NULL;

    if (!name || strcmp(name, "host") == 0) {
        *ret_python = xstrdup("python3");
        return 0;
    }
    path = http_path("/api/v1/environments/%s", name);
    if (client_get(invocation->client, path,
                   json_build("{s:s}", "project", json_get_string(version, "project", "default")), &environment,
                   error) < 0 ||
        client_get(invocation->client, "/api/v1/status", NULL, &status, error) < 0)
        return -1;
    digest = json_get_string(json_object_get(environment, "cpu"), "digest", "");
    root = xasprintf("%s/environments/%s", json_get_string(status, "data_directory", ""), digest);
    python = fs_join(root, "bin/python3");
    if (!*digest || !fs_exists(python))
        return error_set(error, ERROR_UNSUPPORTED,
                         "environment %s is not built on this machine: package the model where the daemon runs, after "
                         "it was served once",
                         name);
    *ret_python = steal_ptr(python);
    *ret_environment = steal_ptr(root);
    return 0;
}

static int list_files(const char *python, const char *library, const char *package, const char *program,
                      struct strvec *ret_lines, struct error *error)
{
    cleanup_free char *script = fs_join(library, "slipway_closure.py"), *text = NULL;
    cleanup_free char *worker = fs_join(library, "libslipway-worker.so");
    const char *const argv[] = {
        "env", "-i", "PATH=" SYSTEM_PATH, "LC_ALL=C.UTF-8", python, "-I", "-B", script, package, program, worker, NULL};
    int status = proc_run(argv, CLOSURE_LIMIT, CLOSURE_MS, &text, error);

    if (status < 0)
        return error_wrap(error, "cannot tell what the model needs");
    strvec_split(ret_lines, text, '\n');
    if (status != 0)
        return error_set(error, ERROR_CONFLICT, "cannot tell what the model needs: %s",
                         ret_lines->count > 1 ? ret_lines->items[ret_lines->count - 2] : text);
    return 0;
}

/* Lines of slipway_closure.py; others are remarks for people. */
static int add_closure(struct oci_image *image, const struct strvec *lines, struct error *error)
{
    for (size_t i = 0; i < lines->count; i++) {
        const char *line = lines->items[i], *tab = strchr(line, '\t');
        cleanup_free char *name = tab && *line == '/' ? xstrndup(line + 1, (size_t)(tab - line - 1)) : NULL;
        struct stat st;

        if (!name) {
            if (*line)
                fprintf(stderr, "%s\n", line);
            continue;
        }
        if (stat(tab + 1, &st) < 0)
            return error_set_errno(error, errno, "%s", tab + 1);
        if (oci_add_file(image, name, st.st_mode & 0111 ? 0755 : 0644, tab + 1, error) < 0)
            return -1;
    }
    return 0;
}

static int add_system(struct oci_image *image, const struct strvec *lines, struct error *error)
{
    static const char *const links[] = {"bin", "sbin", "lib", "lib64"};
    static const char passwd[] = "root:x:0:0:root:/:/bin/false\nslipway:x:65534:65534:slipway:/:/bin/false\n";

    if (oci_layer_begin(image, "slipway model package: system", error) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
        cleanup_free char *here = xasprintf("/%s", links[i]), *target = xasprintf("usr/%s", links[i]);
        struct stat st;

        if (lstat(here, &st) == 0 && S_ISLNK(st.st_mode) && oci_add_link(image, links[i], target, error) < 0)
            return -1;
    }
    if (oci_add_directory(image, "tmp", 01777, error) < 0 ||
        oci_add_bytes(image, "etc/passwd", 0644, passwd, strlen(passwd), error) < 0 ||
        add_closure(image, lines, error) < 0)
        return -1;
    return oci_layer_end(image, error);
}

static int add_program(struct oci_image *image, const char *program, const char *library, struct error *error)
{
    static const char *const names[] = {"libslipway-worker.so", "slipway_worker.py"};

    if (oci_layer_begin(image, "slipway model package: program", error) < 0 ||
        oci_add_file(image, &PROGRAM[1], 0755, program, error) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        cleanup_free char *from = fs_join(library, names[i]), *to = xasprintf("slipway/lib/%s", names[i]);

        if (oci_add_file(image, to, 0644, from, error) < 0)
            return -1;
    }
    return oci_layer_end(image, error);
}

/* As the gateway takes it; NULL: none. */
static json_t *batch_of(const json_t *package)
{
    int64_t size, delay_us;

    if (!package_batch(package, &size, &delay_us))
        return NULL;
    return json_build("{s:I, s:I}", "size", (json_int_t)size, "delay_us", (json_int_t)delay_us);
}

/* What `slipway standalone` reads. */
static json_t *describe(const json_t *version, const char *environment, bool has_weights)
{
    const json_t *package = json_object_get(version, "package");
    const char *model = json_get_string(version, "model", "");
    cleanup_free char *number = xasprintf("%lld", (long long)json_get_int(version, "version", 0));
    cleanup_free char *path = environment ? xasprintf("%s/bin:" SYSTEM_PATH, environment) : xstrdup(SYSTEM_PATH);
    json_t *variables = json_build("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "PATH", path, "HOME", "/tmp",
                                   "LANG", "C.UTF-8", "PYTHONUNBUFFERED", "1", "PYTHONDONTWRITEBYTECODE", "1",
                                   "SLIPWAY_DIR", "/slipway", "SLIPWAY_DEVICE", "cpu", "SLIPWAY_MODEL", model,
                                   "SLIPWAY_MODEL_VERSION", number);
    const char *base = strrchr(model, '/');

    if (has_weights)
        json_set_string(variables, "SLIPWAY_WEIGHTS", "/slipway/weights.safetensors");
    return json_build(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:o?, s:O?, s:O?, s:[s, s], s:s, s:o}", "name", base ? base + 1 : model,
        "project", json_get_string(version, "project", "default"), "model", model, "version", number, "code_weights",
        json_get_string(version, "code_weights", ""), "platform", json_get_string(package, "runtime", "python"),
        "concurrency", (json_int_t)json_get_int(package, "concurrency", 1), "batch", batch_of(package), "inputs",
        json_object_get(package, "inputs"), "outputs", json_object_get(package, "outputs"), "command", "python3",
        "/slipway/lib/" WORKER_PROGRAM, "directory", "/slipway/code", "environment", variables);
}

static int add_model(struct oci_image *image, const json_t *version, const char *environment, const char *code,
                     const char *weights, struct error *error)
{
    cleanup_json json_t *model = describe(version, environment, weights != NULL);
    cleanup_free char *text = json_text(model);

    if (oci_layer_begin(image, "slipway model package: model", error) < 0 ||
        oci_add_tree(image, "slipway/code", code, NULL, error) < 0 ||
        oci_add_bytes(image, &MODEL[1], 0644, text, strlen(text), error) < 0 ||
        (weights && oci_add_file(image, "slipway/weights.safetensors", 0644, weights, error) < 0))
        return -1;
    return oci_layer_end(image, error);
}

static int finish(struct oci_image **image, const json_t *version, const char *output, struct digest *ret_digest,
                  struct error *error)
{
    const char *const entrypoint[] = {PROGRAM, "standalone", MODEL, NULL};
    const char *const environment[] = {"PATH=" SYSTEM_PATH, NULL};
    cleanup_free char *name = xasprintf("slipway/%s:%lld", json_get_string(version, "model", ""),
                                        (long long)json_get_int(version, "version", 0));
    cleanup_json json_t *labels = json_build("{s:s, s:s, s:s}", "org.opencontainers.image.title",
                                             json_get_string(version, "model", ""), "org.opencontainers.image.version",
                                             json_get_string(version, "code_weights", ""), "slipway.code",
                                             json_get_string(version, "code_digest", ""));
    const struct oci_settings settings = {.name = name,
                                          .entrypoint = entrypoint,
                                          .environment = environment,
                                          .directory = "/slipway/code",
                                          .user = "65534:65534",
                                          .port = "8480/tcp",
                                          .labels = labels};
    cleanup_draft struct draft draft = DRAFT_INIT;

    if (json_get_string(version, "weights_digest", NULL))
        json_set_string(labels, "slipway.weights", json_get_string(version, "weights_digest", ""));
    if (draft_begin(&draft, output, 0666, error) < 0 ||
        oci_finish(steal_ptr(*image), &settings, draft.fd, ret_digest, error) < 0)
        return -1;
    return draft_finish(&draft, error);
}

static int unpack(const char *zip, const char *directory, struct error *error)
{
    cleanup_close int fd = open(zip, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return error_set_errno(error, errno, "%s", zip);
    return fs_mkdir_all(directory, 0755, error) < 0 ? -1 : archive_unpack(fd, zip, directory, NULL, error);
}

int package_image(struct invocation *invocation, const json_t *version, const char *scratch, bool has_weights,
                  const char *output, struct digest *ret_digest, struct error *error)
{
    cleanup_free char *zip = fs_join(scratch, "package.zip"), *weights = fs_join(scratch, "weights.safetensors");
    cleanup_free char *code = fs_join(scratch, "code"), *program = proc_self_path(), *library = NULL;
    cleanup_free char *python = NULL, *environment = NULL;
    const char *runtime = json_get_string(json_object_get(version, "package"), "runtime", "");
    cleanup_strvec struct strvec lines = STRVEC_INIT;
    cleanup_oci struct oci_image *image = NULL;

    if (strcmp(runtime, "python") != 0)
        return error_set(error, ERROR_UNSUPPORTED, "images are made of models of the runtime python, not '%s'",
                         runtime);
    library = worker_library_directory(error);
    if (!library || unpack(zip, code, error) < 0 ||
        find_python(invocation, version, &python, &environment, error) < 0 ||
        list_files(python, library, code, program, &lines, error) < 0)
        return -1;
    image = oci_new(scratch, error);
    if (!image || add_system(image, &lines, error) < 0 || add_program(image, program, library, error) < 0 ||
        add_model(image, version, environment, code, has_weights ? weights : NULL, error) < 0)
        return -1;
    return finish(&image, version, output, ret_digest, error);
}

/* -- slipway standalone -- */

static int run_standalone(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *model = json_parse_file(invocation->arguments[0], LIMIT_CONFIG_FILE, error);
    const char *is_public = getenv("SLIPWAY_PUBLIC");
    const struct standalone_options options = {
        .state = getenv("SLIPWAY_STATE") ?: "/tmp/slipway",
        .listen = getenv("SLIPWAY_LISTEN") ?: "*:8480",
        .certificate = getenv("SLIPWAY_TLS_CERT"),
        .key = getenv("SLIPWAY_TLS_KEY"),
        .introspect = getenv("SLIPWAY_INTROSPECT"),
        .introspect_token = getenv("SLIPWAY_INTROSPECT_TOKEN"),
        .is_public = is_public && strcmp(is_public, "1") == 0,
    };

    return model ? standalone_run(&options, model, error) : -1;
}

const struct command package_commands[] = {
    {"standalone", "FILE", "serve one model without a control plane; started in an image", NULL, run_standalone,
     .offline = true, .hidden = true},
    {},
};
