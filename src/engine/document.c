#include <math.h>
#include <string.h>
#include "engine/document.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define PIDS_DEFAULT 1024
#define TEXT_MAX     (16 << 20) /* bytes of a translated value; the kernel takes less */

json_t *document_new(const struct engine_spec *spec, const char *key, const char *cgroup, int64_t uid)
{
    json_t *json = json_build("{s:i, s:s}", "version", 1, "key", key);

    json_object_set_new(json, "limits",
                        json_build("{s:f, s:I, s:I}", "cpus", spec->cpus, "memory", (json_int_t)spec->memory, "pids",
                                   (json_int_t)(spec->pids ? spec->pids : PIDS_DEFAULT)));
    if (uid >= 0)
        json_object_set_new(json, "owner", json_build("{s:I, s:I}", "uid", (json_int_t)uid, "gid", (json_int_t)uid));
    json_set_string(json, "cgroup", cgroup);
    json_set_string(json, "code", spec->code);
    json_set_string(json, "params", spec->params);
    json_set_int(json, "timeout_ms", spec->timeout_ms);
    json_set_int(json, "grace_ms", spec->grace_ms);
    json_set_bool(json, "restart", spec->restart);
    return json;
}

/* -- environment -- */

static bool has_variable(const struct strvec *environment, const char *name)
{
    size_t length = strlen(name);

    for (size_t i = 0; i < environment->count; i++)
        if (strncmp(environment->items[i], name, length) == 0 && environment->items[i][length] == '=')
            return true;
    return false;
}

static void add_default(struct strvec *environment, const char *name, const char *value)
{
    if (!has_variable(environment, name))
        strvec_pushf(environment, "%s=%s", name, value);
}

static void add_default_int(struct strvec *environment, const char *name, int64_t value)
{
    if (!has_variable(environment, name))
        strvec_pushf(environment, "%s=%lld", name, (long long)value);
}

void document_environment(const struct engine_spec *spec, const char *root, const char *home,
                          struct strvec *ret_environment)
{
    struct strvec *e = ret_environment;

    for (const char *const *p = spec->environment; p && *p; p++)
        strvec_push(e, *p);
    add_default(e, "SLIPWAY_DIR", root);
    add_default(e, "SLIPWAY_RUN_ID", spec->run_id);
    add_default(e, "SLIPWAY_NODE_ROLE", spec->role ? spec->role : "main");
    add_default_int(e, "SLIPWAY_NODE_INDEX", spec->node);
    add_default_int(e, "SLIPWAY_ATTEMPT", spec->attempt);
    add_default(e, "SLIPWAY_DEVICE", spec->gpus && *spec->gpus ? "gpu" : "cpu");
    add_default(e, "CUDA_VISIBLE_DEVICES", spec->gpus ? spec->gpus : "");
    add_default(e, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    add_default(e, "HOME", home);
    add_default(e, "USER", "slipway");
    add_default(e, "LOGNAME", "slipway");
    add_default(e, "LANG", "C.UTF-8");
    /* So that what a program prints can be followed while it runs. */
    add_default(e, "PYTHONUNBUFFERED", "1");
    /* Numeric libraries count the machine's cores, not ours, and then trip over each other. */
    if (spec->cpus > 0)
        add_default_int(e, "OMP_NUM_THREADS", (int64_t)ceil(spec->cpus));
}

/* -- paths -- */

char *document_translate(const char *text, const char *root)
{
    static const char prefix[] = "/slipway/";
    cleanup_strbuf struct strbuf out = STRBUF_INIT(TEXT_MAX);

    for (const char *p = text; *p;) {
        bool starts = p == text || strchr(":=,", p[-1]);

        if (starts && strncmp(p, prefix, strlen(prefix)) == 0) {
            strbuf_adds(&out, root);
            strbuf_addc(&out, '/');
            p += strlen(prefix);
        } else {
            strbuf_addc(&out, *p++);
        }
    }
    return strbuf_detach(&out, NULL);
}

json_t *document_strings(const struct strvec *strings)
{
    json_t *array = json_array();

    for (size_t i = 0; i < strings->count; i++)
        json_array_append_new(array, json_string_lossy(strings->items[i]));
    return array;
}

char *document_name(const struct engine_spec *spec)
{
    return xasprintf("%s-%d-%d", spec->run_id, spec->attempt, spec->node);
}
