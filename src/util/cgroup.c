#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "util/cgroup.h"
#include "util/fs.h"
#include "util/strvec.h"
#include "util/xalloc.h"

#define MAX_TREES     16
#define MAX_DEPTH     8          /* groups below one of ours */
#define FILE_MAX      (1 << 20)  /* bytes of a control file */
#define MOUNTINFO_MAX (16 << 20) /* bytes */
#define CPU_PERIOD_US 100000     /* the kernel's default */

struct tree {
    char *path; /* mount point */
    bool v2;
    unsigned has; /* bits of enum cgroup_controller that this tree carries */
    bool writable;
};

struct cgroups {
    struct tree trees[MAX_TREES];
    size_t count;
};

static const char *const names[] = {
    [CGROUP_CPU] = "cpu",
    [CGROUP_CPUACCT] = "cpuacct",
    [CGROUP_MEMORY] = "memory",
    [CGROUP_PIDS] = "pids",
};
_Static_assert(ARRAY_SIZE(names) == CGROUP_CONTROLLER_COUNT_, "");

/* Bits of the controllers in a list of names. */
static unsigned parse_controllers(const char *list, const char *separators)
{
    cleanup_free char *copy = xstrdup(list);
    char *rest = copy, *name;
    unsigned has = 0;

    while ((name = strsep(&rest, separators)))
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
            if (strcmp(name, names[i]) == 0)
                has |= 1u << i;
    return has;
}

static unsigned v2_controllers(const char *mount)
{
    cleanup_free char *path = fs_join(mount, "cgroup.controllers"), *text = NULL;
    unsigned has;

    if (fs_read(path, FILE_MAX, &text, NULL, NULL) < 0)
        return 0;
    has = parse_controllers(text, " \n");
    if (has & (1u << CGROUP_CPU))
        has |= 1u << CGROUP_CPUACCT;
    return has;
}

/* mountinfo writes blanks, tabs, line feeds and backslashes as \ooo. */
static char *unescape(const char *text)
{
    char *out = xmalloc(strlen(text) + 1), *p = out;

    while (*text) {
        if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] && text[3]) {
            *p++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
            text += 4;
        } else {
            *p++ = *text++;
        }
    }
    *p = '\0';
    return out;
}

/* "36 25 0:31 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu" */
static void add_mount(struct cgroups *cgroups, const char *line)
{
    cleanup_strvec struct strvec fields = STRVEC_INIT;
    struct tree *tree = &cgroups->trees[cgroups->count];
    size_t dash = 6;

    strvec_split(&fields, line, ' ');
    while (dash < fields.count && strcmp(fields.items[dash], "-") != 0)
        dash++;
    if (dash + 3 >= fields.count || cgroups->count == MAX_TREES)
        return;
    if (strcmp(fields.items[dash + 1], "cgroup2") == 0)
        tree->v2 = true;
    else if (strcmp(fields.items[dash + 1], "cgroup") == 0)
        tree->v2 = false;
    else
        return;
    tree->path = unescape(fields.items[4]);
    tree->has = tree->v2 ? v2_controllers(tree->path) : parse_controllers(fields.items[dash + 3], ",");
    tree->writable = access(tree->path, W_OK) == 0;
    cgroups->count++;
}

struct cgroups *cgroups_open(const char *mountinfo)
{
    struct cgroups *cgroups = xnew0(struct cgroups);
    cleanup_strvec struct strvec lines = STRVEC_INIT;
    cleanup_free char *text = NULL;

    if (fs_read(mountinfo ? mountinfo : "/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL, NULL) < 0)
        return cgroups;
    strvec_split(&lines, text, '\n');
    for (size_t i = 0; i < lines.count; i++)
        add_mount(cgroups, lines.items[i]);
    return cgroups;
}

struct cgroups *cgroups_close(struct cgroups *cgroups)
{
    if (!cgroups)
        return NULL;
    for (size_t i = 0; i < cgroups->count; i++)
        free(cgroups->trees[i].path);
    free(cgroups);
    return NULL;
}

const char *cgroups_version(const struct cgroups *cgroups)
{
    static const char *const versions[] = {"none", "v1", "v2", "v1 and v2"};
    unsigned seen = 0;

    for (size_t i = 0; i < cgroups->count; i++)
        if (cgroups->trees[i].has)
            seen |= cgroups->trees[i].v2 ? 2 : 1;
    return versions[seen];
}

/* The tree that carries a controller; a controller is in one tree only. */
static const struct tree *find_tree(const struct cgroups *cgroups, enum cgroup_controller controller)
{
    for (size_t i = 0; i < cgroups->count; i++)
        if (cgroups->trees[i].has & (1u << controller))
            return &cgroups->trees[i];
    return NULL;
}

bool cgroups_usable(const struct cgroups *cgroups, enum cgroup_controller controller)
{
    const struct tree *tree = find_tree(cgroups, controller);

    return tree && tree->writable;
}

static int write_control(const struct tree *tree, const char *path, const char *file, const char *value,
                         struct error *error)
{
    cleanup_free char *name = xasprintf("%s%s/%s", tree->path, path, file);
    cleanup_close int fd = open(name, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, value, strlen(value));

    if (n < 0)
        return error_set_errno(error, errno, "cannot write %s to %s", value, name);
    return 0;
}

static char *read_control(const struct tree *tree, const char *path, const char *file)
{
    cleanup_free char *name = xasprintf("%s%s/%s", tree->path, path, file);
    char *text = NULL;

    if (fs_read(name, FILE_MAX, &text, NULL, NULL) < 0)
        return NULL;
    return text;
}

/* -- creation -- */

/* Version 2 hands a controller down only where the parent says so. */
static void enable_below(const struct tree *tree, const char *path)
{
    static const enum cgroup_controller wanted[] = {CGROUP_CPU, CGROUP_MEMORY, CGROUP_PIDS};

    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
        cleanup_free char *value = xasprintf("+%s", names[wanted[i]]);

        if (tree->has & (1u << wanted[i]))
            write_control(tree, path, "cgroup.subtree_control", value, NULL);
    }
}

static int make_directories(const struct tree *tree, const char *path, struct error *error)
{
    cleanup_free char *copy = xstrdup(path);

    for (char *p = copy + 1;; p++) {
        cleanup_free char *directory = NULL;
        bool last = *p == '\0';

        if (!last && *p != '/')
            continue;
        *p = '\0';
        directory = xasprintf("%s%s", tree->path, copy);
        if (mkdir(directory, 0755) < 0 && errno != EEXIST)
            return error_set_errno(error, errno, "cannot create the control group %s", directory);
        if (last)
            return 0;
        if (tree->v2)
            enable_below(tree, copy);
        *p = '/';
    }
}

static int set_cpus(const struct tree *tree, const char *path, double cpus, struct error *error)
{
    cleanup_free char *value = NULL;
    long long quota = (long long)(cpus * CPU_PERIOD_US);

    if (quota < 1000) /* the kernel's least */
        quota = 1000;
    value = tree->v2 ? xasprintf("%lld %d", quota, CPU_PERIOD_US) : xasprintf("%lld", quota);
    return write_control(tree, path, tree->v2 ? "cpu.max" : "cpu.cfs_quota_us", value, error);
}

static int set_memory(const struct tree *tree, const char *path, uint64_t bytes, struct error *error)
{
    cleanup_free char *value = xasprintf("%llu", (unsigned long long)bytes);

    if (write_control(tree, path, tree->v2 ? "memory.max" : "memory.limit_in_bytes", value, error) < 0)
        return -1;
    /* Swap accounting may be compiled out or switched off; the limit of memory holds all the same. */
    write_control(tree, path, tree->v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes", tree->v2 ? "0" : value,
                  NULL);
    return 0;
}

static int set_pids(const struct tree *tree, const char *path, uint64_t pids, struct error *error)
{
    cleanup_free char *value = xasprintf("%llu", (unsigned long long)pids);

    return write_control(tree, path, "pids.max", value, error);
}

static int set_limits(const struct cgroups *cgroups, const char *path, const struct cgroup_limits *limits,
                      struct error *error)
{
    const struct tree *cpu = find_tree(cgroups, CGROUP_CPU), *memory = find_tree(cgroups, CGROUP_MEMORY),
                      *pids = find_tree(cgroups, CGROUP_PIDS);

    if ((limits->cpus > 0 && !cpu) || (limits->memory && !memory) || (limits->pids && !pids))
        return error_set(error, ERROR_UNSUPPORTED, "this machine has no control group controller for %s",
                         limits->cpus > 0 && !cpu    ? "processors"
                         : limits->memory && !memory ? "memory"
                                                     : "processes");
    if (limits->cpus > 0 && set_cpus(cpu, path, limits->cpus, error) < 0)
        return -1;
    if (limits->memory && set_memory(memory, path, limits->memory, error) < 0)
        return -1;
    if (limits->pids && set_pids(pids, path, limits->pids, error) < 0)
        return -1;
    return 0;
}

int cgroup_create(const struct cgroups *cgroups, const char *path, const struct cgroup_limits *limits,
                  struct error *error)
{
    for (size_t i = 0; i < cgroups->count; i++) {
        if (!cgroups->trees[i].has || !cgroups->trees[i].writable)
            continue;
        if (make_directories(&cgroups->trees[i], path, error) < 0)
            goto fail;
    }
    if (set_limits(cgroups, path, limits, error) < 0)
        goto fail;
    return 0;

fail:
    cgroup_remove(cgroups, path);
    return -1;
}

int cgroup_set_shares(const struct cgroups *cgroups, const char *path, uint64_t shares, struct error *error)
{
    const struct tree *tree = find_tree(cgroups, CGROUP_CPU);
    cleanup_free char *value = NULL;

    if (!tree || !tree->writable)
        return error_set(error, ERROR_UNSUPPORTED, "this machine has no control group controller for processors");
    shares = shares < 2 ? 2 : shares > 262144 ? 262144 : shares;
    /* Version 2 counts from 1 to 10000; the conversion is the runtimes'. */
    value = xasprintf("%llu", (unsigned long long)(tree->v2 ? 1 + (shares - 2) * 9999 / 262142 : shares));
    return write_control(tree, path, tree->v2 ? "cpu.weight" : "cpu.shares", value, error);
}

int cgroup_enter(const struct cgroups *cgroups, const char *path, pid_t pid, struct error *error)
{
    char text[16];

    snprintf(text, sizeof(text), "%d", (int)pid);
    for (size_t i = 0; i < cgroups->count; i++) {
        const struct tree *tree = &cgroups->trees[i];

        if (tree->has && tree->writable &&
            write_control(tree, path, pid == 0 && !tree->v2 ? "tasks" : "cgroup.procs", text, error) < 0)
            return -1;
    }
    return 0;
}

void cgroup_await_moves(const struct cgroups *cgroups)
{
    const struct tree *tree = find_tree(cgroups, CGROUP_CPU);
    char text[16];

    snprintf(text, sizeof(text), "%d", (int)getpid());
    if (tree && tree->writable)
        write_control(tree, "", "cgroup.procs", text, NULL);
}

/* -- ending -- */

static int kill_listed(const char *text)
{
    int count = 0;

    while (*text) {
        char *end;
        long pid = strtol(text, &end, 10);

        if (end == text)
            break;
        /* 0 stands for a process of another pid namespace. */
        if (pid > 0 && kill((pid_t)pid, SIGKILL) == 0)
            count++;
        text = *end ? end + 1 : end;
    }
    return count;
}

/* Calls fn for the group and all below it, deepest first. */
static int walk(const struct tree *tree, const char *path, int depth,
                int (*fn)(const struct tree *tree, const char *path))
{
    cleanup_free char *name = xasprintf("%s%s", tree->path, path);
    cleanup_closedir DIR *directory = opendir(name);
    struct dirent *entry;
    int count = 0;

    while (directory && depth < MAX_DEPTH && (entry = readdir(directory))) {
        cleanup_free char *below = NULL;

        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        below = xasprintf("%s/%s", path, entry->d_name);
        count += walk(tree, below, depth + 1, fn);
    }
    return directory ? count + fn(tree, path) : count;
}

static int kill_one(const struct tree *tree, const char *path)
{
    cleanup_free char *text = read_control(tree, path, "cgroup.procs");

    return text ? kill_listed(text) : 0;
}

static int remove_one(const struct tree *tree, const char *path)
{
    cleanup_free char *name = xasprintf("%s%s", tree->path, path);

    return rmdir(name) == 0;
}

int cgroup_kill(const struct cgroups *cgroups, const char *path)
{
    int most = 0;

    for (size_t i = 0; i < cgroups->count; i++) {
        int count = walk(&cgroups->trees[i], path, 0, kill_one);

        if (count > most)
            most = count;
    }
    return most;
}

void cgroup_remove(const struct cgroups *cgroups, const char *path)
{
    for (size_t i = 0; i < cgroups->count; i++)
        walk(&cgroups->trees[i], path, 0, remove_one);
}

/* -- reading -- */

/* The number behind a key ("usage_usec 12"), or of a file that is nothing but a number (key NULL). */
static uint64_t read_number(const struct tree *tree, const char *path, const char *file, const char *key)
{
    cleanup_free char *text = tree ? read_control(tree, path, file) : NULL;
    const char *p = text;
    char *end;
    unsigned long long value;

    if (!text)
        return CGROUP_UNKNOWN;
    while (key && p) {
        size_t length = strlen(key);

        if (strncmp(p, key, length) == 0 && p[length] == ' ') {
            p += length + 1;
            break;
        }
        p = strchr(p, '\n');
        p = p ? p + 1 : NULL;
    }
    if (!p)
        return CGROUP_UNKNOWN;
    errno = 0;
    value = strtoull(p, &end, 10);
    return end == p || errno ? CGROUP_UNKNOWN : value;
}

void cgroup_read(const struct cgroups *cgroups, const char *path, struct cgroup_stats *ret_stats)
{
    const struct tree *cpu = find_tree(cgroups, CGROUP_CPUACCT), *memory = find_tree(cgroups, CGROUP_MEMORY),
                      *pids = find_tree(cgroups, CGROUP_PIDS);

    if (cpu && cpu->v2) {
        ret_stats->cpu_ns = read_number(cpu, path, "cpu.stat", "usage_usec");
        if (ret_stats->cpu_ns != CGROUP_UNKNOWN)
            ret_stats->cpu_ns *= 1000;
    } else {
        ret_stats->cpu_ns = read_number(cpu, path, "cpuacct.usage", NULL);
    }
    if (memory && memory->v2) {
        ret_stats->memory = read_number(memory, path, "memory.current", NULL);
        ret_stats->memory_peak = read_number(memory, path, "memory.peak", NULL);
        ret_stats->oom_kills = read_number(memory, path, "memory.events", "oom_kill");
    } else {
        ret_stats->memory = read_number(memory, path, "memory.usage_in_bytes", NULL);
        ret_stats->memory_peak = read_number(memory, path, "memory.max_usage_in_bytes", NULL);
        ret_stats->oom_kills = read_number(memory, path, "memory.oom_control", "oom_kill");
    }
    ret_stats->pids = read_number(pids, path, "pids.current", NULL);
}
