#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "engine/document.h"
#include "engine/init-image.h"
#include "engine/oci.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define HOST_NAME_DIGITS 12 /* of the run id */
#define CPU_PERIOD_US    100000
#define OPEN_FILES       65536
#define INIT_PATH        "/.slipway-init"
#define MOUNTINFO_MAX    (16 * MIB)

/* Top-level directories of the host that are seen, where they exist. */
static const char *const usual[] = {"/usr",    "/bin", "/sbin", "/lib", "/lib32", "/lib64",
                                    "/libx32", "/etc", "/opt",  "/nix", "/gnu"};
/* Directories that every root has. */
static const char *const skeleton_directories[] = {"dev", "etc",     "home", "mnt", "opt", "proc", "root",
                                                   "run", "slipway", "srv",  "sys", "tmp", "usr",  "var"};
/* Covered, although an unprivileged user could not read most of them anyway. */
static const char *const masked[] = {
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/security/opasswd",
    "/etc/krb5.keytab",
    "/etc/kubernetes",
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
};
static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};

/* -- the skeleton -- */

static bool is_below(const char *path, const char *directory)
{
    size_t n = strlen(directory);

    return strncmp(path, directory, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* File systems that are mounted within what is seen must be bound by themselves: a recursive bind would keep
 * them writable. */
static void add_submounts(struct oci_host *host, size_t roots)
{
    cleanup_strvec struct strvec lines = STRVEC_INIT;
    cleanup_free char *text = NULL;

    if (fs_read("/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL, NULL) < 0)
        return;
    strvec_split(&lines, text, '\n');
    for (size_t i = 0; i < lines.count; i++) {
        cleanup_strvec struct strvec fields = STRVEC_INIT;
        struct stat st;

        strvec_split(&fields, lines.items[i], ' ');
        for (size_t k = 0; fields.count > 4 && k < roots; k++)
            if (is_below(fields.items[4], host->visible.items[k]) &&
                strcmp(fields.items[4], host->visible.items[k]) != 0 && stat(fields.items[4], &st) == 0 &&
                S_ISDIR(st.st_mode) && !strvec_contains(&host->visible, fields.items[4]))
                strvec_push(&host->visible, fields.items[4]);
    }
}

static int make_skeleton_directory(const char *skeleton, const char *name, struct error *error)
{
    cleanup_free char *path = fs_join(skeleton, name);

    return fs_mkdir_all(path, 0755, error);
}

/* A directory of the host becomes visible; a link at the top level is a link in the skeleton too. */
static int show(struct oci_host *host, const char *path, struct error *error)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return 0;
    if (S_ISLNK(st.st_mode)) {
        cleanup_free char *link = fs_join(host->skeleton, path + 1);
        char target[LIMIT_PATH + 1];
        ssize_t n = readlink(path, target, sizeof(target) - 1);

        if (n < 0)
            return 0;
        target[n] = '\0';
        if (symlink(target, link) < 0 && errno != EEXIST)
            return error_set_errno(error, errno, "cannot create the link %s", link);
        return 0;
    }
    if (!S_ISDIR(st.st_mode))
        return 0;
    strvec_push(&host->visible, path);
    return make_skeleton_directory(host->skeleton, path + 1, error);
}

static int show_extra(struct oci_host *host, const json_t *extra, struct error *error)
{
    size_t i;
    json_t *item;

    json_array_foreach((json_t *)extra, i, item) {
        const char *path = json_string_value(item);

        if (!path || path[0] != '/' || !fs_is_safe_name(path + 1))
            return error_set(error, ERROR_INVALID, "'visible' wants absolute paths, not '%s'", path ? path : "?");
        if (show(host, path, error) < 0)
            return -1;
    }
    return 0;
}

int oci_skeleton_create(struct oci_host *host, const json_t *extra, struct error *error)
{
    cleanup_free char *var_tmp = fs_join(host->skeleton, "var/tmp"), *tmp = fs_join(host->skeleton, "tmp");

    for (size_t i = 0; i < ARRAY_SIZE(skeleton_directories); i++)
        if (make_skeleton_directory(host->skeleton, skeleton_directories[i], error) < 0)
            return -1;
    /* Runtimes give a tmpfs the mode of the directory below it. */
    if (chmod(tmp, 01777) < 0)
        return error_set_errno(error, errno, "cannot open %s to all", tmp);
    if (symlink("/tmp", var_tmp) < 0 && errno != EEXIST)
        return error_set_errno(error, errno, "cannot create the link %s", var_tmp);
    host->init = fs_join(host->skeleton, &INIT_PATH[1]);
    if (init_image_install(host->init, error) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
        if (show(host, usual[i], error) < 0)
            return -1;
    if (show_extra(host, extra, error) < 0)
        return -1;
    add_submounts(host, host->visible.count);
    return 0;
}

void oci_host_release(struct oci_host *host)
{
    strvec_release(&host->visible);
    json_decref(host->seccomp);
    free(host->skeleton);
    free(host->init);
}

/* -- mounts -- */

static json_t *strings(const char *const *items, size_t count)
{
    json_t *array = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_string(items[i]));
    return array;
}

/* options: separated by commas. */
static void add_mount(json_t *mounts, const char *type, const char *source, const char *target, const char *options)
{
    cleanup_strvec struct strvec parts = STRVEC_INIT;

    strvec_split(&parts, options, ',');
    json_array_append_new(mounts, json_build("{s:s, s:s, s:s, s:o}", "destination", target, "type", type, "source",
                                             source, "options", document_strings(&parts)));
}

static void bind_read_only(json_t *mounts, const char *source, const char *target)
{
    add_mount(mounts, "bind", source, target, "bind,ro,nosuid,nodev");
}

static void add_kernel_mounts(json_t *mounts, const struct engine_spec *spec)
{
    add_mount(mounts, "proc", "proc", "/proc", "nosuid,noexec,nodev");
    add_mount(mounts, "tmpfs", "tmpfs", "/dev", "nosuid,noexec,strictatime,mode=755,size=65536k");
    add_mount(mounts, "devpts", "devpts", "/dev/pts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620");
    /* Counted as memory of the node, so its limit holds here too. */
    add_mount(mounts, "tmpfs", "shm", "/dev/shm", "nosuid,noexec,nodev,mode=1777");
    add_mount(mounts, "sysfs", "sysfs", "/sys", "nosuid,noexec,nodev,ro");
    add_mount(mounts, "tmpfs", "tmpfs", "/tmp", "nosuid,nodev,mode=1777");
}

/* The name server's configuration is often a link into /run, which is not seen. */
static void add_resolver(json_t *mounts)
{
    cleanup_free char *path = realpath("/etc/resolv.conf", NULL);

    if (!path || is_below(path, "/etc") || is_below(path, "/usr"))
        return;
    add_mount(mounts, "tmpfs", "tmpfs", "/run", "nosuid,nodev,mode=755,size=64k");
    bind_read_only(mounts, path, path);
}

static void add_host_mounts(json_t *mounts, const struct oci_host *host)
{
    for (size_t i = 0; i < host->visible.count; i++)
        bind_read_only(mounts, host->visible.items[i], host->visible.items[i]);
    /* Should our own data lie within what is seen. */
    for (size_t i = 0; i < host->visible.count; i++) {
        if (is_below(host->data_directory, host->visible.items[i])) {
            add_mount(mounts, "tmpfs", "tmpfs", host->data_directory, "nosuid,nodev,mode=711,size=64k");
            break;
        }
    }
}

/* Overlay options are separated by commas and colons; odd paths are copied instead (see local.c). */
static void add_work(json_t *mounts, const struct oci_node *node, const struct engine_spec *spec)
{
    cleanup_free char *tree = fs_join(spec->directory, "work/tree"), *overlay = NULL;

    if (!node->overlay) {
        add_mount(mounts, "bind", tree, "/slipway/work", "bind,rw,nosuid,nodev");
        return;
    }
    overlay = xasprintf("lowerdir=%s,upperdir=%s/work/upper,workdir=%s/work/work,nosuid,nodev", spec->code,
                        spec->directory, spec->directory);
    add_mount(mounts, "overlay", "overlay", "/slipway/work", overlay);
}

static void add_slipway_mounts(json_t *mounts, const struct oci_node *node, const struct engine_spec *spec)
{
    cleanup_free char *view = fs_join(spec->directory, "view");

    add_mount(mounts, "bind", view, "/slipway", "bind,rw,nosuid,nodev");
    if (spec->code)
        bind_read_only(mounts, spec->code, "/slipway/code");
    add_work(mounts, node, spec);
    if (spec->resume)
        bind_read_only(mounts, spec->resume, "/slipway/resume/weights.safetensors");
}

/* Where the runtime may make mount points: below what is a file system of the node's own. */
static bool has_own_root(const char *target)
{
    static const char *const own[] = {"/slipway", "/tmp", "/dev/shm"};

    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        if (is_below(target, own[i]) && strcmp(target, own[i]) != 0)
            return true;
    return false;
}

/* Elsewhere a target gets a top-level directory of the node's own, once; in the host's it cannot be. */
static int add_root_of(json_t *mounts, const struct oci_host *host, const char *target, struct strvec *made,
                       struct error *error)
{
    cleanup_free char *top = xstrndup(target, 1 + strcspn(target + 1, "/")), *point = NULL;

    if (has_own_root(target) || strvec_contains(made, top))
        return 0;
    for (size_t i = 0; i < host->visible.count; i++) {
        if (is_below(target, host->visible.items[i])) {
            if (is_below(target, host->data_directory) || fs_exists(target))
                return 0; /* the mount point is there */
            return error_set(error, ERROR_INVALID, "nothing can be mounted at %s: %s is the host's", target,
                             host->visible.items[i]);
        }
    }
    if (make_skeleton_directory(host->skeleton, top + 1, error) < 0)
        return -1;
    add_mount(mounts, "tmpfs", "tmpfs", top, "nosuid,nodev,mode=755,size=64k");
    strvec_push(made, top);
    return 0;
}

static int add_spec_mounts(json_t *mounts, const struct oci_host *host, const struct engine_spec *spec,
                           struct error *error)
{
    cleanup_strvec struct strvec made = STRVEC_INIT;

    for (size_t i = 0; i < spec->n_mounts; i++) {
        const struct engine_mount *mount = &spec->mounts[i];

        if (mount->target[0] != '/' || !fs_is_safe_name(mount->target + 1))
            return error_set(error, ERROR_INVALID, "'%s' is no absolute path to mount at", mount->target);
        if (!spec->root && add_root_of(mounts, host, mount->target, &made, error) < 0)
            return -1;
        if (mount->writable)
            add_mount(mounts, "bind", mount->source, mount->target, "bind,rw,nosuid,nodev");
        else
            bind_read_only(mounts, mount->source, mount->target);
    }
    return 0;
}

/* -- devices -- */

static void add_device(json_t *devices, json_t *rules, const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0 || !S_ISCHR(st.st_mode))
        return;
    json_array_append_new(devices,
                          json_build("{s:s, s:s, s:i, s:i, s:i}", "path", path, "type", "c", "major",
                                     (int)major(st.st_rdev), "minor", (int)minor(st.st_rdev), "fileMode", 0666));
    json_array_append_new(rules, json_build("{s:b, s:s, s:i, s:i, s:s}", "allow", 1, "type", "c", "major",
                                            (int)major(st.st_rdev), "minor", (int)minor(st.st_rdev), "access", "rw"));
}

static void add_gpus(json_t *linux_, json_t *resources, json_t *mounts, const struct oci_host *host,
                     const struct engine_spec *spec)
{
    cleanup_strvec struct strvec paths = STRVEC_INIT, libraries = STRVEC_INIT;
    json_t *devices = json_array(), *rules = json_build("[{s:b, s:s}]", "allow", 0, "access", "rwm");

    gpus_devices(host->gpus, spec->gpus, &paths);
    for (size_t i = 0; i < paths.count; i++)
        add_device(devices, rules, paths.items[i]);
    json_object_set_new(linux_, "devices", devices);
    json_object_set_new(resources, "devices", rules);
    if (spec->root && paths.count)
        gpus_libraries(&libraries);
    for (size_t i = 0; i < libraries.count; i++)
        bind_read_only(mounts, libraries.items[i], libraries.items[i]);
}

/* -- the rest -- */

/* More than we may have ourselves cannot be given. */
static int open_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < OPEN_FILES)
        return (int)limit.rlim_max;
    return OPEN_FILES;
}

static json_t *build_process(const struct oci_host *host, const struct oci_node *node, const struct engine_spec *spec)
{
    static const char *const sets[] = {"bounding", "effective", "inheritable", "permitted", "ambient"};
    cleanup_strvec struct strvec environment = STRVEC_INIT;
    json_t *args = json_build("[s, s]", INIT_PATH, "container"), *capabilities = json_object(), *process;
    int files = open_files();

    for (const char *const *p = spec->argv; p && *p; p++)
        json_array_append_new(args, json_string_lossy(*p));
    for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
        json_object_set_new(capabilities, sets[i], json_array());
    document_environment(spec, "/slipway", "/tmp", &environment);
    process = json_build("{s:b, s:{s:I, s:I}, s:o, s:o, s:s, s:o, s:b}", "terminal", 0, "user", "uid",
                         (json_int_t)node->uid, "gid", (json_int_t)node->uid, "args", args, "env",
                         document_strings(&environment), "cwd", "/slipway/work", "capabilities", capabilities,
                         "noNewPrivileges", 1);
    json_object_set_new(process, "rlimits",
                        json_build("[{s:s, s:i, s:i}, {s:s, s:i, s:i}]", "type", "RLIMIT_CORE", "soft", 0, "hard", 0,
                                   "type", "RLIMIT_NOFILE", "soft", files, "hard", files));
    if (host->oom_score_adj >= 0)
        json_set_int(process, "oomScoreAdj", host->oom_score_adj);
    return process;
}

static json_t *build_namespaces(const struct oci_node *node, const struct engine_spec *spec)
{
    json_t *namespaces = json_build("[{s:s}, {s:s}, {s:s}, {s:s}]", "type", "pid", "type", "ipc", "type", "uts", "type",
                                    "mount");

    if (!spec->network) {
        json_t *network = json_build("{s:s}", "type", "network");

        if (node->network)
            json_set_string(network, "path", node->network);
        json_array_append_new(namespaces, network);
    }
    return namespaces;
}

static json_t *build_processors(const struct engine_spec *spec)
{
    double shares = 1024 * (spec->cpus > 0 ? spec->cpus : 1) * (spec->part > 0 ? spec->part : 1);
    json_t *cpu = json_build("{s:I}", "shares", (json_int_t)(shares < 2 ? 2 : shares));
    double quota = spec->cpus * CPU_PERIOD_US;

    if (spec->cpus > 0) {
        json_set_int(cpu, "quota", (int64_t)(quota < 1000 ? 1000 : quota));
        json_set_int(cpu, "period", CPU_PERIOD_US);
    }
    return cpu;
}

static json_t *build_resources(const struct oci_host *host, const struct engine_spec *spec)
{
    json_t *resources = json_object(), *memory;

    json_object_set_new(resources, "pids", json_build("{s:I}", "limit", (json_int_t)(spec->pids ? spec->pids : 1024)));
    if (spec->cpus > 0 || spec->part > 0)
        json_object_set_new(resources, "cpu", build_processors(spec));
    if (spec->memory) {
        memory = json_build("{s:I}", "limit", (json_int_t)spec->memory);
        if (host->swap)
            json_set_int(memory, "swap", (int64_t)spec->memory);
        json_object_set_new(resources, "memory", memory);
    }
    return resources;
}

static json_t *build_linux(const struct oci_host *host, const struct oci_node *node, const struct engine_spec *spec,
                           json_t *mounts)
{
    json_t *resources = build_resources(host, spec), *linux_;
    cleanup_free char *cgroup = xasprintf("/slipway/%s", node->name);

    linux_ = json_build("{s:s, s:o, s:o, s:o}", "cgroupsPath", cgroup, "namespaces", build_namespaces(node, spec),
                        "maskedPaths", strings(masked, ARRAY_SIZE(masked)), "readonlyPaths",
                        strings(read_only, ARRAY_SIZE(read_only)));
    if (host->seccomp)
        json_object_set(linux_, "seccomp", host->seccomp);
    add_gpus(linux_, resources, mounts, host, spec);
    json_object_set_new(linux_, "resources", resources);
    return linux_;
}

json_t *oci_config(const struct oci_host *host, const struct oci_node *node, const struct engine_spec *spec,
                   struct error *error)
{
    cleanup_json json_t *mounts = json_array();
    cleanup_free char *host_name = xasprintf("slipway-%.*s", HOST_NAME_DIGITS, spec->run_id);
    json_t *linux_;

    add_kernel_mounts(mounts, spec);
    if (spec->root)
        bind_read_only(mounts, host->init, INIT_PATH);
    else
        add_host_mounts(mounts, host);
    if (spec->network)
        add_resolver(mounts);
    add_slipway_mounts(mounts, node, spec);
    if (add_spec_mounts(mounts, host, spec, error) < 0)
        return NULL;
    linux_ = build_linux(host, node, spec, mounts);
    return json_build("{s:s, s:o, s:{s:s, s:b}, s:s, s:O, s:o}", "ociVersion", "1.0.2", "process",
                      build_process(host, node, spec), "root", "path", spec->root ? spec->root : host->skeleton,
                      "readonly", 1, "hostname", host_name, "mounts", mounts, "linux", linux_);
}
