/*
 * Nodes as plain processes of the daemon's user: where containers are not permitted, and chosen openly.
 * Limits come from control groups if they may be used, otherwise from what a process can be limited by.
 */
#include <string.h>
#include "engine/document.h"
#include "engine/drivers.h"
#include "engine/gpu.h"
#include "engine/init-image.h"
#include "engine/machine.h"
#include "engine/nodes.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/xalloc.h"

struct process {
    struct nodes *nodes;
    struct cgroups *cgroups;
    struct gpus *gpus;
    bool limits; /* by control groups */
    char *init;
    char *note;
};

static bool can_limit(const struct cgroups *cgroups)
{
    return cgroups_usable(cgroups, CGROUP_CPU) && cgroups_usable(cgroups, CGROUP_MEMORY) &&
           cgroups_usable(cgroups, CGROUP_PIDS);
}

static char *make_note(const struct process *process)
{
    return xasprintf("programs run as the daemon's user (%u) without isolation from each other and from the host; %s",
                     (unsigned)geteuid(),
                     process->limits ? "limits by control groups"
                                     : "no control groups may be used, so limits are approximate: processors by "
                                       "affinity, memory by each process's data size");
}

static void process_close(struct engine *engine)
{
    struct process *process = engine->state;

    if (!process)
        return;
    nodes_free(process->nodes);
    cgroups_close(process->cgroups);
    gpus_close(process->gpus);
    free(process->init);
    free(process->note);
    free(process);
    engine->state = NULL;
}

static int process_open(struct engine *engine, const json_t *options, struct error *error)
{
    cleanup_free char *directory = fs_join(engine->data_directory, "engine");
    struct process *process = xnew0(struct process);

    engine->state = process;
    process->init = fs_join(directory, "init");
    process->cgroups = cgroups_open(NULL);
    process->limits = can_limit(process->cgroups) && json_get_bool(options, "cgroups", true);
    process->note = make_note(process);
    process->gpus = gpus_open(json_get_string(options, "nvml", NULL));
    if (fs_mkdir_all(directory, 0755, error) < 0 || init_image_install(process->init, error) < 0) {
        process_close(engine);
        return -1;
    }
    process->nodes = nodes_new(engine, process->cgroups, json_get_string(options, "program", NULL));
    return 0;
}

static int process_probe(struct engine *engine, struct engine_capacity *ret_capacity, struct error *error)
{
    struct process *process = engine->state;

    *ret_capacity = (struct engine_capacity){
        .cpus = machine_cpus(),
        .memory = machine_memory(),
        .gpus = gpus_count(process->gpus),
        .gpu_memory = gpus_memory(process->gpus),
        .runtime = "process",
        .note = process->note,
    };
    return 0;
}

/* What a container would have mounted becomes links below DIRECTORY/view. */
static int add_links(json_t *links, const struct engine_spec *spec, struct error *error)
{
    for (size_t i = 0; i < spec->n_mounts; i++) {
        const struct engine_mount *mount = &spec->mounts[i];

        if (strcmp(mount->source, mount->target) == 0)
            continue;
        if (strncmp(mount->target, "/slipway/", 9) != 0)
            return error_set(error, ERROR_UNSUPPORTED, "without containers nothing can appear at %s", mount->target);
        json_array_append_new(links, json_build("{s:s, s:s}", "source", mount->source, "target", mount->target));
    }
    if (spec->code)
        json_array_append_new(links, json_build("{s:s, s:s}", "source", spec->code, "target", "/slipway/code"));
    if (spec->resume)
        json_array_append_new(
            links, json_build("{s:s, s:s}", "source", spec->resume, "target", "/slipway/resume/weights.safetensors"));
    json_array_append_new(links, json_build("{s:s, s:s}", "source", "../work/tree", "target", "/slipway/work"));
    return 0;
}

static json_t *translate_all(const char *const *strings, const char *root)
{
    cleanup_strvec struct strvec out = STRVEC_INIT;

    for (; strings && *strings; strings++)
        strvec_push_take(&out, document_translate(*strings, root));
    return document_strings(&out);
}

static int process_launch(struct engine *engine, const struct engine_spec *spec, struct error *error)
{
    struct process *process = engine->state;
    cleanup_free char *key = engine_key(spec->run_id, spec->attempt, spec->node), *name = document_name(spec),
                      *view = fs_join(spec->directory, "view"), *tree = fs_join(spec->directory, "work/tree"),
                      *cgroup = process->limits ? xasprintf("/slipway/%s", name) : NULL;
    cleanup_strvec struct strvec environment = STRVEC_INIT;
    cleanup_json json_t *document = NULL, *links = json_array();

    if (spec->root)
        return error_set(error, ERROR_UNSUPPORTED,
                         "an image's root file system needs containers; see 'slipway doctor'");
    if (add_links(links, spec, error) < 0)
        return -1;
    document = document_new(spec, key, cgroup, -1);
    document_environment(spec, view, tree, &environment);
    json_set_string(document, "kind", "process");
    json_set_string(document, "init", process->init);
    json_object_set_new(document, "argv", translate_all(spec->argv, view));
    json_object_set_new(document, "environment", translate_all((const char *const *)environment.items, view));
    json_object_set(document, "links", links);
    return nodes_launch(process->nodes, key, spec->directory, json_incref(document), error);
}

static int process_signal(struct engine *engine, const char *key, int signal, const char *reason, struct error *error)
{
    return nodes_signal(((struct process *)engine->state)->nodes, key, signal, reason, error);
}

static int process_attach(struct engine *engine, const char *key, const char *directory, struct error *error)
{
    return nodes_attach(((struct process *)engine->state)->nodes, key, directory, error);
}

static int process_forget(struct engine *engine, const char *key, struct error *error)
{
    return nodes_forget(((struct process *)engine->state)->nodes, key, error);
}

static int process_weigh(struct engine *engine, const char *key, double part, struct error *error)
{
    return nodes_weigh(((struct process *)engine->state)->nodes, key, part, error);
}

static json_t *process_stats(struct engine *engine, const char *key, struct error *error)
{
    return nodes_stats(((struct process *)engine->state)->nodes, key, error);
}

const struct engine_driver process_driver = {
    .name = "process",
    .summary = "plain processes on this machine, without isolation",
    .open = process_open,
    .close = process_close,
    .probe = process_probe,
    .launch = process_launch,
    .signal = process_signal,
    .attach = process_attach,
    .forget = process_forget,
    .weigh = process_weigh,
    .stats = process_stats,
};
