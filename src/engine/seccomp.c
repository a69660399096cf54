#include <sched.h>
#include <sys/socket.h>
#include "engine/seccomp.h"

#define PERMISSION_DENIED 1  /* EPERM */
#define NO_SUCH_CALL      38 /* ENOSYS: C libraries then use the older call */

/* Names that an architecture does not have are passed over by the runtime. */
static const char *const allowed[] = {
    /* files */
    "access",
    "chdir",
    "chmod",
    "chown",
    "close",
    "close_range",
    "copy_file_range",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fallocate",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "fcntl",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fremovexattr",
    "fsetxattr",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "futimesat",
    "getcwd",
    "getdents",
    "getdents64",
    "getxattr",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "lchown",
    "lgetxattr",
    "link",
    "linkat",
    "listxattr",
    "llistxattr",
    "lremovexattr",
    "lseek",
    "lsetxattr",
    "lstat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "name_to_handle_at",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pread64",
    "preadv",
    "preadv2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "removexattr",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "sendfile",
    "setxattr",
    "splice",
    "stat",
    "statfs",
    "statx",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "syncfs",
    "tee",
    "truncate",
    "umask",
    "unlink",
    "unlinkat",
    "utime",
    "utimensat",
    "utimes",
    "vmsplice",
    "write",
    "writev",
    /* memory */
    "brk",
    "cachestat",
    "get_mempolicy",
    "madvise",
    "map_shadow_stack",
    "mbind",
    "membarrier",
    "memfd_create",
    "memfd_secret",
    "migrate_pages",
    "mincore",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "move_pages",
    "mprotect",
    "mremap",
    "mseal",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "process_madvise",
    "process_mrelease",
    "remap_file_pages",
    "set_mempolicy",
    "set_mempolicy_home_node",
    /* processes and threads */
    "arch_prctl",
    "capget",
    "capset",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "fork",
    "futex",
    "futex_requeue",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "get_robust_list",
    "get_thread_area",
    "getcpu",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "getsid",
    "gettid",
    "getuid",
    "ioprio_get",
    "ioprio_set",
    "kill",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "prctl",
    "prlimit64",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "restart_syscall",
    "rseq",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "sched_yield",
    "seccomp",
    "set_robust_list",
    "set_thread_area",
    "set_tid_address",
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "setpgid",
    "setpriority",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setrlimit",
    "setsid",
    "setuid",
    "tgkill",
    "times",
    "tkill",
    "vfork",
    "wait4",
    "waitid",
    /* signals */
    "pause",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_tgsigqueueinfo",
    "sigaltstack",
    "signalfd",
    "signalfd4",
    /* time */
    "alarm",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "getitimer",
    "gettimeofday",
    "nanosleep",
    "setitimer",
    "time",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_settime",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
    /* waiting */
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_ctl_old",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "epoll_wait_old",
    "eventfd",
    "eventfd2",
    "poll",
    "ppoll",
    "pselect6",
    "select",
    /* sockets and pipes */
    "accept",
    "accept4",
    "bind",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "listen",
    "pipe",
    "pipe2",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socketpair",
    /* System V and POSIX IPC */
    "mq_getsetattr",
    "mq_notify",
    "mq_open",
    "mq_timedreceive",
    "mq_timedsend",
    "mq_unlink",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    /* asynchronous input and output */
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_setup",
    "io_submit",
    /* the machine, to look at */
    "getrandom",
    "ioctl",
    "sysinfo",
    "uname",
};

/* Flags of clone() that make namespaces. */
#define NAMESPACE_FLAGS                                                                                                \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

/* Calls that depend on their arguments. */
static const struct {
    const char *name;
    unsigned argument;
    const char *comparison;
    uint64_t value, second;
} conditional[] = {
    {"clone", 0, "SCMP_CMP_MASKED_EQ", NAMESPACE_FLAGS, 0},
    {"personality", 0, "SCMP_CMP_EQ", 0, 0},
    {"personality", 0, "SCMP_CMP_EQ", 0x8, 0},        /* PER_LINUX32 */
    {"personality", 0, "SCMP_CMP_EQ", 0x20000, 0},    /* UNAME26 */
    {"personality", 0, "SCMP_CMP_EQ", 0x40000, 0},    /* ADDR_NO_RANDOMIZE, for debuggers and exact repeats */
    {"personality", 0, "SCMP_CMP_EQ", 0xffffffff, 0}, /* ask */
    {"socket", 0, "SCMP_CMP_NE", AF_VSOCK, 0},        /* reaches the hypervisor past the network namespace */
};

static const char *architecture(void)
{
#if defined(__x86_64__)
    return "SCMP_ARCH_X86_64";
#elif defined(__aarch64__)
    return "SCMP_ARCH_AARCH64";
#else
    return NULL;
#endif
}

static json_t *rule(json_t *names, const char *action)
{
    return json_build("{s:o, s:s}", "names", names, "action", action);
}

json_t *seccomp_profile(void)
{
    json_t *names = json_array(), *rules = json_array(), *fallback;

    if (!architecture())
        return NULL;
    for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
        json_array_append_new(names, json_string(allowed[i]));
    json_array_append_new(rules, rule(names, "SCMP_ACT_ALLOW"));
    for (size_t i = 0; i < ARRAY_SIZE(conditional); i++) {
        json_t *one = rule(json_build("[s]", conditional[i].name), "SCMP_ACT_ALLOW");

        json_object_set_new(one, "args",
                            json_build("[{s:i, s:I, s:I, s:s}]", "index", (int)conditional[i].argument, "value",
                                       (json_int_t)conditional[i].value, "valueTwo", (json_int_t)conditional[i].second,
                                       "op", conditional[i].comparison));
        json_array_append_new(rules, one);
    }
    /* Its flags are in memory, where a filter cannot look. */
    fallback = rule(json_build("[s]", "clone3"), "SCMP_ACT_ERRNO");
    json_set_int(fallback, "errnoRet", NO_SUCH_CALL);
    json_array_append_new(rules, fallback);
    return json_build("{s:s, s:i, s:[s], s:o}", "defaultAction", "SCMP_ACT_ERRNO", "defaultErrnoRet", PERMISSION_DENIED,
                      "architectures", architecture(), "syscalls", rules);
}
