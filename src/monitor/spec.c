#include <string.h>
#include "monitor/spec.h"
#include "util/limits.h"
#include "util/schema.h"
#include "util/xalloc.h"

#define SPEC_MAX      (64 * MIB) /* bytes of spec.json: parameters may be many */
#define GRACE_DEFAULT 10000      /* ms */

static const char *const kinds[] = {"process", "oci", NULL};

static const struct schema_field runtime_fields[] = {
    {"path", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "runc or crun"},
    {"root", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "its state directory"},
    {"container", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "name of the container"},
    {},
};
static const struct schema runtime_schema = {"MonitorRuntime", runtime_fields, "the OCI runtime"};

static const struct schema_field limits_fields[] = {
    {"cpus", SCHEMA_NUMBER, .min = 0, .max = 1e6, .doc = "cores; 0: no limit"},
    {"memory", SCHEMA_INTEGER, .doc = "bytes; 0: no limit"},
    {"pids", SCHEMA_INTEGER, .doc = "processes; 0: no limit"},
    {},
};
static const struct schema limits_schema = {"MonitorLimits", limits_fields, "limits of a node"};

static const struct schema_field link_fields[] = {
    {"source", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "on the host"},
    {"target", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "below /slipway/"},
    {},
};
static const struct schema link_schema = {"MonitorLink", link_fields, "something that the program can see"};

static const struct schema_field owner_fields[] = {
    {"uid", SCHEMA_INTEGER, SCHEMA_REQUIRED, .min = 0, .max = UINT32_MAX},
    {"gid", SCHEMA_INTEGER, SCHEMA_REQUIRED, .min = 0, .max = UINT32_MAX},
    {},
};
static const struct schema owner_schema = {"MonitorOwner", owner_fields, "who the program runs as"};

static const struct schema_field spec_fields[] = {
    {"key", SCHEMA_STRING, .doc = "<run>/<attempt>/<node>"},
    {"kind", SCHEMA_STRING, SCHEMA_REQUIRED, .values = kinds, .doc = "how the program is started"},
    {"argv", SCHEMA_ARRAY, .item = SCHEMA_STRING},
    {"environment", SCHEMA_ARRAY, .item = SCHEMA_STRING},
    {"init", SCHEMA_STRING, .doc = "path of slipway-init"},
    {"runtime", SCHEMA_OBJECT, .object = &runtime_schema},
    {"owner", SCHEMA_OBJECT, .object = &owner_schema},
    {"cgroup", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "path of the control group"},
    {"limits", SCHEMA_OBJECT, .object = &limits_schema},
    {"code", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "directory of the code version"},
    {"overlay", SCHEMA_BOOLEAN, .doc = "the runtime mounts an overlay of code at the working directory"},
    {"links", SCHEMA_ARRAY, .item = SCHEMA_OBJECT, .object = &link_schema},
    {"params", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "text of params.json"},
    {"timeout_ms", SCHEMA_INTEGER, .doc = "0: none"},
    {"grace_ms", SCHEMA_INTEGER, .doc = "between SIGTERM and SIGKILL"},
    {"restart", SCHEMA_BOOLEAN, .doc = "start again when it ends"},
    {"log_limit", SCHEMA_INTEGER, .doc = "bytes of the log"},
    {"output_limit", SCHEMA_INTEGER, .doc = "bytes of artifacts"},
    {},
};
static const struct schema spec_schema = {"MonitorSpec", spec_fields, "what a monitor is to run", .open = true};

static void copy_strings(struct strvec *to, const json_t *array)
{
    size_t i;
    json_t *item;

    json_array_foreach((json_t *)array, i, item)
        strvec_push(to, json_string_value(item));
}

static void read_links(struct monitor_spec *spec, const json_t *array)
{
    size_t i;
    json_t *item;

    spec->links = xcalloc(json_array_size(array) + 1, sizeof(*spec->links));
    json_array_foreach((json_t *)array, i, item) {
        spec->links[i].source = xstrdup(json_get_string(item, "source", ""));
        spec->links[i].target = xstrdup(json_get_string(item, "target", ""));
        spec->n_links++;
    }
}

static void read_spec(struct monitor_spec *spec, const json_t *json)
{
    const json_t *runtime = json_object_get(json, "runtime"), *limits = json_object_get(json, "limits"),
                 *owner = json_object_get(json, "owner");

    spec->kind = strcmp(json_get_string(json, "kind", ""), "oci") == 0 ? MONITOR_OCI : MONITOR_PROCESS;
    copy_strings(&spec->argv, json_object_get(json, "argv"));
    copy_strings(&spec->environment, json_object_get(json, "environment"));
    spec->init = xstrdup_null(json_get_string(json, "init", NULL));
    spec->runtime = xstrdup_null(json_get_string(runtime, "path", NULL));
    spec->runtime_root = xstrdup_null(json_get_string(runtime, "root", NULL));
    spec->container = xstrdup_null(json_get_string(runtime, "container", NULL));
    spec->owned = owner != NULL;
    spec->uid = (uid_t)json_get_int(owner, "uid", 0);
    spec->gid = (gid_t)json_get_int(owner, "gid", 0);
    spec->cgroup = xstrdup_null(json_get_string(json, "cgroup", NULL));
    spec->limits = (struct cgroup_limits){.cpus = json_get_number(limits, "cpus", 0),
                                          .memory = (uint64_t)json_get_int(limits, "memory", 0),
                                          .pids = (uint64_t)json_get_int(limits, "pids", 0)};
    spec->code = xstrdup_null(json_get_string(json, "code", NULL));
    spec->overlay = json_get_bool(json, "overlay", false);
    read_links(spec, json_object_get(json, "links"));
    spec->params = xstrdup_null(json_get_string(json, "params", NULL));
    spec->timeout_ms = json_get_int(json, "timeout_ms", 0);
    spec->grace_ms = json_get_int(json, "grace_ms", GRACE_DEFAULT);
    spec->restart = json_get_bool(json, "restart", false);
    spec->log_limit = (uint64_t)json_get_int(json, "log_limit", LIMIT_RUN_LOG);
    spec->output_limit = (uint64_t)json_get_int(json, "output_limit", LIMIT_RUN_OUTPUT);
}

int monitor_spec_load(const char *path, struct monitor_spec **ret_spec, struct error *error)
{
    cleanup_monitor_spec struct monitor_spec *spec = NULL;
    cleanup_json json_t *json = json_parse_file(path, SPEC_MAX, error);

    if (!json)
        return -1;
    if (schema_check(&spec_schema, json, error) < 0)
        return error_wrap(error, "%s", path);
    spec = xnew0(struct monitor_spec);
    read_spec(spec, json);
    if (spec->kind == MONITOR_OCI && !spec->runtime)
        return error_set(error, ERROR_INVALID, "%s: kind 'oci' needs the field 'runtime'", path);
    if (spec->kind == MONITOR_PROCESS && (!spec->init || !spec->argv.count))
        return error_set(error, ERROR_INVALID, "%s: kind 'process' needs the fields 'init' and 'argv'", path);
    *ret_spec = steal_ptr(spec);
    return 0;
}

struct monitor_spec *monitor_spec_free(struct monitor_spec *spec)
{
    if (!spec)
        return NULL;
    strvec_release(&spec->argv);
    strvec_release(&spec->environment);
    free(spec->init);
    free(spec->runtime);
    free(spec->runtime_root);
    free(spec->container);
    free(spec->cgroup);
    free(spec->code);
    for (size_t i = 0; i < spec->n_links; i++) {
        free(spec->links[i].source);
        free(spec->links[i].target);
    }
    free(spec->links);
    free(spec->params);
    free(spec);
    return NULL;
}
