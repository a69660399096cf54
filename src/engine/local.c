/*
 * Nodes in containers of this machine, by an OCI runtime: one call of it a node (run --detach), made by the
 * monitor from the config.json that is written here.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "engine/document.h"
#include "engine/drivers.h"
#include "engine/group.h"
#include "engine/machine.h"
#include "engine/nodes.h"
#include "engine/oci.h"
#include "engine/runtime.h"
#include "engine/seccomp.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/xalloc.h"

/* Users that programs run as: above what distributions and their subordinate ranges' first users take. */
#define UID_FIRST      200000
#define UID_COUNT      65536
#define CODE_DEPTH_MAX 64

struct local {
    struct nodes *nodes;
    struct cgroups *cgroups;
    struct gpus *gpus;
    struct oci_host host;
    struct runtime runtime;
    char *root; /* the runtime's state */
};

static void local_close(struct engine *engine)
{
    struct local *local = engine->state;

    if (!local)
        return;
    nodes_free(local->nodes);
    cgroups_close(local->cgroups);
    gpus_close(local->gpus);
    oci_host_release(&local->host);
    runtime_release(&local->runtime);
    if (local->root)
        rmdir(local->root); /* of what still runs there is state: it stays */
    free(local->root);
    free(local);
    engine->state = NULL;
}

static bool has_swap(void)
{
    cleanup_free char *text = NULL;
    const char *line;

    if (fs_read("/proc/swaps", MIB, &text, NULL, NULL) < 0)
        return false;
    line = strchr(text, '\n');
    return line && line[1];
}

/* Only raising needs no privilege. */
static int oom_score(void)
{
    cleanup_free char *text = NULL;
    int now = 0;

    if (fs_read("/proc/self/oom_score_adj", 64, &text, NULL, NULL) == 0)
        now = (int)strtol(text, NULL, 10);
    return now < 0 ? 200 : now + 200 > 1000 ? 1000 : now + 200;
}

/* State of containers does not outlive a boot: /run, with a name that is ours. */
static int make_runtime_root(struct local *local, const char *data_directory, struct error *error)
{
    struct digest digest;
    char hex[2 * DIGEST_SIZE + 1];

    digest_of(data_directory, strlen(data_directory), &digest);
    hex_encode(digest.bytes, 8, hex);
    local->root = xasprintf("/run/slipway/%s", hex);
    return fs_mkdir_all(local->root, 0700, error);
}

static int prepare(struct engine *engine, struct local *local, const json_t *options, struct error *error)
{
    cleanup_free char *data = realpath(engine->data_directory, NULL);

    if (geteuid() != 0)
        return error_set(error, ERROR_UNSUPPORTED, "containers need a daemon that runs as root");
    if (!data)
        return error_set_errno(error, errno, "cannot open %s", engine->data_directory);
    free((char *)engine->data_directory);
    engine->data_directory = steal_ptr(data);

    local->host.data_directory = engine->data_directory;
    local->host.skeleton = xasprintf("%s/engine/root", engine->data_directory);
    local->host.seccomp = seccomp_profile();
    local->host.swap = has_swap();
    local->host.oom_score_adj = oom_score();
    local->gpus = gpus_open(json_get_string(options, "nvml", NULL));
    local->host.gpus = local->gpus;
    if (oci_skeleton_create(&local->host, json_object_get(options, "visible"), error) < 0 ||
        make_runtime_root(local, engine->data_directory, error) < 0)
        return -1;
    return runtime_choose(&local->host, json_get_string(options, "runtime", NULL), local->root, &local->runtime, error);
}

static int local_open(struct engine *engine, const json_t *options, struct error *error)
{
    struct local *local = xnew0(struct local);

    engine->state = local;
    local->cgroups = cgroups_open(NULL);
    if (prepare(engine, local, options, error) < 0) {
        local_close(engine);
        return -1;
    }
    local->nodes = nodes_new(engine, local->cgroups, json_get_string(options, "program", NULL));
    return 0;
}

static int local_probe(struct engine *engine, struct engine_capacity *ret_capacity, struct error *error)
{
    struct local *local = engine->state;

    *ret_capacity = (struct engine_capacity){
        .cpus = machine_cpus(),
        .memory = machine_memory(),
        .gpus = gpus_count(local->gpus),
        .gpu_memory = gpus_memory(local->gpus),
        .runtime = local->runtime.version,
        .note = local->runtime.note,
    };
    return 0;
}

/* -- launching -- */

/* A user that no other node has: where its name's hash falls, or the next one that is free. */
static uid_t choose_uid(struct local *local, const char *name)
{
    struct digest digest;
    uint32_t start;

    digest_of(name, strlen(name), &digest);
    memcpy(&start, digest.bytes, sizeof(start));
    for (uint32_t i = 0; i < UID_COUNT; i++) {
        uid_t uid = UID_FIRST + (start + i) % UID_COUNT;

        if (!nodes_use_uid(local->nodes, uid))
            return uid;
    }
    return UID_FIRST + start % UID_COUNT; /* more nodes than users: they still do not see each other */
}

static void open_tree(int parent, const char *name, int depth)
{
    cleanup_close int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(dup(fd));
    struct dirent *entry;
    struct stat st;

    while (directory && depth < CODE_DEPTH_MAX && (entry = readdir(directory))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISDIR(st.st_mode))
            open_tree(fd, entry->d_name, depth + 1);
        else if (S_ISREG(st.st_mode))
            fchmodat(fd, entry->d_name, 0666 | (st.st_mode & 0111 ? 0111 : 0), 0);
    }
    if (directory)
        closedir(directory);
    if (fd >= 0)
        fchmod(fd, 0777);
}

/* Code that we unpacked is opened to all (the way to it is not), so that the program may change its own copy.
 * The top comes last: if it is open, all is. Directories of others are left alone. */
static void open_code(const char *data_directory, const char *code)
{
    size_t n = strlen(data_directory);
    struct stat st;

    if (strncmp(code, data_directory, n) == 0 && code[n] == '/' && stat(code, &st) == 0 && (st.st_mode & 0777) != 0777)
        open_tree(AT_FDCWD, code, 0);
}

static bool can_overlay(const struct local *local, const struct engine_spec *spec)
{
    return local->runtime.overlay && spec->code && !strpbrk(spec->code, ":,\\") && !strpbrk(spec->directory, ":,\\");
}

/* Not synced, as spec.json. */
static int write_config(const struct engine_spec *spec, const json_t *config, struct error *error)
{
    cleanup_free char *path = fs_join(spec->directory, "config.json"), *text = json_text(config);
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_set_errno(error, errno, "cannot create %s", path);
    if (fs_write_all(fd, text, strlen(text), error) < 0)
        return error_wrap(error, "%s", path);
    return 0;
}

static json_t *build_document(struct local *local, const struct engine_spec *spec, const char *key,
                              const struct oci_node *node)
{
    cleanup_free char *cgroup = xasprintf("/slipway/%s", node->name);
    cleanup_strvec struct strvec argv = STRVEC_INIT;
    json_t *document = document_new(spec, key, cgroup, node->uid);

    for (const char *const *p = spec->argv; p && *p; p++)
        strvec_push(&argv, *p);
    json_set_string(document, "kind", "oci");
    json_object_set_new(document, "argv", document_strings(&argv));
    json_set_bool(document, "overlay", node->overlay);
    if (node->network)
        json_set_string(document, "network", node->network);
    json_object_set_new(
        document, "runtime",
        json_build("{s:s, s:s, s:s}", "path", local->runtime.path, "root", local->root, "container", node->name));
    return document;
}

/* Nobody uses it any more. */
static void release_network(struct local *local, const char *path)
{
    if (!nodes_have_text(local->nodes, "network", path))
        group_network_remove(path);
}

static int join_network(struct engine *engine, const char *group, char **ret_path, struct error *error)
{
    cleanup_free char *directory = fs_join(engine->data_directory, "engine/network");

    if (!fs_is_safe_name(group) || strchr(group, '/'))
        return error_set(error, ERROR_INVALID, "'%s' is no name of a group", group);
    if (fs_mkdir_all(directory, 0700, error) < 0)
        return -1;
    *ret_path = fs_join(directory, group);
    return group_network_create(*ret_path, error);
}

static int launch_in(struct engine *engine, const struct engine_spec *given, const char *network, struct error *error)
{
    struct local *local = engine->state;
    cleanup_free char *key = engine_key(given->run_id, given->attempt, given->node), *name = document_name(given),
                      *directory = realpath(given->directory, NULL);
    struct engine_spec spec = *given;
    cleanup_json json_t *config = NULL;
    struct oci_node node;

    if (!directory)
        return error_set_errno(error, errno, "cannot open %s", given->directory);
    spec.directory = directory;
    node = (struct oci_node){
        .name = name, .uid = choose_uid(local, name), .overlay = can_overlay(local, &spec), .network = network};
    if (!cgroups_usable(local->cgroups, CGROUP_CPU))
        spec.part = 0;
    if (spec.code)
        open_code(engine->data_directory, spec.code);
    config = oci_config(&local->host, &node, &spec, error);
    if (!config || write_config(&spec, config, error) < 0)
        return -1;
    return nodes_launch(local->nodes, key, given->directory, build_document(local, &spec, key, &node), error);
}

static int local_launch(struct engine *engine, const struct engine_spec *spec, struct error *error)
{
    cleanup_free char *network = NULL;
    int r = 0;

    if (spec->group && !spec->network)
        r = join_network(engine, spec->group, &network, error);
    if (r == 0)
        r = launch_in(engine, spec, network, error);
    if (r < 0 && network)
        release_network(engine->state, network);
    return r;
}

static int local_signal(struct engine *engine, const char *key, int signal, const char *reason, struct error *error)
{
    return nodes_signal(((struct local *)engine->state)->nodes, key, signal, reason, error);
}

static int local_attach(struct engine *engine, const char *key, const char *directory, struct error *error)
{
    return nodes_attach(((struct local *)engine->state)->nodes, key, directory, error);
}

static int local_forget(struct engine *engine, const char *key, struct error *error)
{
    struct local *local = engine->state;
    cleanup_free char *network = xstrdup_null(nodes_text(local->nodes, key, "network"));

    if (nodes_forget(local->nodes, key, error) < 0)
        return -1;
    if (network)
        release_network(local, network);
    return 0;
}

static int local_weigh(struct engine *engine, const char *key, double part, struct error *error)
{
    return nodes_weigh(((struct local *)engine->state)->nodes, key, part, error);
}

static json_t *local_stats(struct engine *engine, const char *key, struct error *error)
{
    return nodes_stats(((struct local *)engine->state)->nodes, key, error);
}

const struct engine_driver local_driver = {
    .name = "local",
    .summary = "containers on this machine, by runc or crun",
    .open = local_open,
    .close = local_close,
    .probe = local_probe,
    .launch = local_launch,
    .signal = local_signal,
    .attach = local_attach,
    .forget = local_forget,
    .weigh = local_weigh,
    .stats = local_stats,
};
