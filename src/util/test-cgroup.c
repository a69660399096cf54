#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "util/cgroup.h"
#include "util/proc.h"
#include "util/test.h"

/* A made-up machine: files where the trees would be mounted. */
struct machine {
    char *root, *mountinfo;
};

static void add_file(const struct machine *m, const char *name, const char *content)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *path = fs_join(m->root, name), *parent = xstrndup(path, (size_t)(strrchr(path, '/') - path));

    assert_ok(fs_mkdir_all(parent, 0755, &error), &error);
    assert_ok(fs_write_atomic(path, content, strlen(content), 0644, &error), &error);
}

static void assert_file(const struct machine *m, const char *name, const char *expected)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *path = fs_join(m->root, name), *text = NULL;

    assert_ok(fs_read(path, 1000, &text, NULL, &error), &error);
    assert_string_equal(text, expected);
}

static void make_machine(struct machine *m, const char *const *mounts)
{
    cleanup_error struct error error = ERROR_INIT;
    char *text = xstrdup("22 1 8:1 / / rw - ext4 /dev/root rw\n");

    m->root = test_directory_new();
    m->mountinfo = fs_join(m->root, "mountinfo");
    for (int id = 30; *mounts; mounts += 3, id++) {
        cleanup_free char *old = text, *directory = fs_join(m->root, mounts[0]);

        assert_ok(fs_mkdir_all(directory, 0755, &error), &error);
        text = xasprintf("%s%d 22 0:%d / %s/%s rw shared:1 - %s none %s\n", old, id, id, m->root, mounts[0], mounts[1],
                         mounts[2]);
    }
    assert_ok(fs_write_atomic(m->mountinfo, text, strlen(text), 0644, &error), &error);
    free(text);
}

static void free_machine(struct machine *m)
{
    free(m->mountinfo);
    test_directory_remove(m->root);
}

static void test_version_1(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_cgroups struct cgroups *cgroups = NULL;
    struct cgroup_limits limits = {.cpus = 1.5, .memory = 1000000, .pids = 20};
    static const char *const trees[] = {"cpu", "memory", "pids"};
    struct cgroup_stats stats;
    struct machine m;
    char pid[16];

    make_machine(&m, (const char *[]){"cpu", "cgroup", "rw,cpu,cpuacct", "memory", "cgroup", "rw,memory", "pids",
                                      "cgroup", "rw,pids", "systemd", "cgroup", "rw,name=systemd", NULL});
    add_file(&m, "cpu/slipway/a/cpu.cfs_quota_us", "");
    add_file(&m, "memory/slipway/a/memory.limit_in_bytes", "");
    add_file(&m, "pids/slipway/a/pids.max", "");
    add_file(&m, "cpu/slipway/a/cpuacct.usage", "2500000000\n");
    add_file(&m, "memory/slipway/a/memory.usage_in_bytes", "4096\n");
    add_file(&m, "memory/slipway/a/memory.max_usage_in_bytes", "8192\n");
    add_file(&m, "memory/slipway/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
    add_file(&m, "pids/slipway/a/pids.current", "7\n");
    add_file(&m, "cpu/cgroup.procs", "");
    for (size_t i = 0; i < ARRAY_SIZE(trees); i++) {
        cleanup_free char *tasks = xasprintf("%s/slipway/a/tasks", trees[i]);
        cleanup_free char *procs = xasprintf("%s/slipway/a/cgroup.procs", trees[i]);

        add_file(&m, tasks, "");
        add_file(&m, procs, "");
    }
    cgroups = cgroups_open(m.mountinfo);
    assert_string_equal(cgroups_version(cgroups), "v1");
    assert_true(cgroups_usable(cgroups, CGROUP_MEMORY));
    assert_ok(cgroup_create(cgroups, "/slipway/a", &limits, &error), &error);
    assert_file(&m, "cpu/slipway/a/cpu.cfs_quota_us", "150000");
    assert_file(&m, "memory/slipway/a/memory.limit_in_bytes", "1000000");
    assert_file(&m, "pids/slipway/a/pids.max", "20");
    cgroup_read(cgroups, "/slipway/a", &stats);
    assert_int_equal(stats.cpu_ns, 2500000000);
    assert_int_equal(stats.memory, 4096);
    assert_int_equal(stats.memory_peak, 8192);
    assert_int_equal(stats.oom_kills, 3);
    assert_int_equal(stats.pids, 7);
    cgroup_read(cgroups, "/slipway/absent", &stats);
    assert_true(stats.memory == CGROUP_UNKNOWN && stats.cpu_ns == CGROUP_UNKNOWN);
    assert_ok(cgroup_enter(cgroups, "/slipway/a", 77, &error), &error);
    assert_file(&m, "memory/slipway/a/cgroup.procs", "77");
    assert_file(&m, "memory/slipway/a/tasks", "");
    assert_ok(cgroup_enter(cgroups, "/slipway/a", 0, &error), &error); /* as a thread, which need not wait */
    assert_file(&m, "cpu/slipway/a/tasks", "0");
    assert_file(&m, "pids/slipway/a/tasks", "0");
    cgroup_await_moves(cgroups);
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    assert_file(&m, "cpu/cgroup.procs", pid);
    free_machine(&m);
}

static void test_version_2(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_cgroups struct cgroups *cgroups = NULL;
    struct cgroup_limits limits = {.cpus = 0.001, .memory = 5000, .pids = 1};
    struct cgroup_stats stats;
    struct machine m;

    make_machine(&m, (const char *[]){"unified", "cgroup2", "rw,nsdelegate", NULL});
    add_file(&m, "unified/cgroup.controllers", "cpuset cpu io memory pids\n");
    add_file(&m, "unified/slipway/cgroup.subtree_control", "");
    add_file(&m, "unified/slipway/b/cpu.max", "");
    add_file(&m, "unified/slipway/b/cpu.weight", "");
    add_file(&m, "unified/slipway/b/memory.max", "");
    add_file(&m, "unified/slipway/b/memory.swap.max", "max\n");
    add_file(&m, "unified/slipway/b/pids.max", "");
    add_file(&m, "unified/slipway/b/cpu.stat", "usage_usec 1500\nuser_usec 1000\n");
    add_file(&m, "unified/slipway/b/memory.current", "100\n");
    add_file(&m, "unified/slipway/b/memory.events", "low 0\noom 1\noom_kill 2\n");
    cgroups = cgroups_open(m.mountinfo);
    assert_string_equal(cgroups_version(cgroups), "v2");
    assert_ok(cgroup_create(cgroups, "/slipway/b", &limits, &error), &error);
    assert_file(&m, "unified/slipway/b/cpu.max", "1000 100000");
    assert_file(&m, "unified/slipway/b/memory.max", "5000");
    assert_ok(cgroup_set_shares(cgroups, "/slipway/b", 262144, &error), &error);
    assert_file(&m, "unified/slipway/b/cpu.weight", "10000");
    /* Three writes to what is a plain file here: "+pids" over the beginning of "+memory". */
    assert_file(&m, "unified/slipway/cgroup.subtree_control", "+pidsry");
    cgroup_read(cgroups, "/slipway/b", &stats);
    assert_int_equal(stats.cpu_ns, 1500000);
    assert_int_equal(stats.memory, 100);
    assert_true(stats.memory_peak == CGROUP_UNKNOWN);
    assert_int_equal(stats.oom_kills, 2);
    free_machine(&m);
}

static void test_none(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_cgroups struct cgroups *cgroups = NULL;
    struct cgroup_limits none = {0}, memory = {.memory = 1};
    struct machine m;

    make_machine(&m, (const char *[]){NULL});
    cgroups = cgroups_open(m.mountinfo);
    assert_string_equal(cgroups_version(cgroups), "none");
    assert_false(cgroups_usable(cgroups, CGROUP_CPU));
    assert_ok(cgroup_create(cgroups, "/slipway/c", &none, &error), &error);
    assert_error(cgroup_create(cgroups, "/slipway/c", &memory, &error), &error, ERROR_UNSUPPORTED, "memory");
    assert_int_equal(cgroup_kill(cgroups, "/slipway/c"), 0);
    cgroup_await_moves(cgroups);
    cgroup_remove(cgroups, "/slipway/c");
    free_machine(&m);
}

/* The real machine, where it lets us. */
static void test_kill_and_remove(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_cgroups struct cgroups *cgroups = cgroups_open(NULL);
    cleanup_free char *path = xasprintf("/slipway/test-%d", (int)getpid());
    const struct proc_spawn spawn = {
        .argv = (const char *const[]){"sleep", "60", NULL}, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    struct cgroup_limits limits = {.pids = 10};
    struct cgroup_stats stats;
    int status;
    pid_t pid;

    if (!cgroups_usable(cgroups, CGROUP_PIDS))
        skip();
    assert_ok(cgroup_create(cgroups, path, &limits, &error), &error);
    /* A program of its own: a fork of this one would have the threads of a sanitizer. */
    assert_ok(proc_spawn(&spawn, &pid, &error), &error);
    assert_ok(cgroup_enter(cgroups, path, pid, &error), &error);
    cgroup_read(cgroups, path, &stats);
    assert_int_equal(stats.pids, 1);
    assert_int_equal(cgroup_kill(cgroups, path), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    cgroup_remove(cgroups, path);
    cgroup_read(cgroups, path, &stats);
    assert_true(stats.pids == CGROUP_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_kill_and_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
