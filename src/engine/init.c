/*
 * slipway-init: the first process of a node. It starts the program, hands signals on to it, reaps what the
 * program leaves behind, and tells the monitor how it ended.
 *
 *     slipway-init container|process PROGRAM [ARGUMENT…]
 *
 * Why it exists: a program that is process 1 of its PID namespace ignores every signal that it does not
 * handle, even those that it sends to itself, and inherits orphans that it does not expect. And when the
 * monitor dies, somebody inside must notice: the report pipe then has no reader, and init ends, which takes
 * the whole namespace with it ("container"); as "process" it is the subreaper of everything that the program
 * started, and kills that.
 *
 * Reports are struct report on descriptor 3, a pipe to the monitor: started, failed or ended.
 *
 * It runs below any root file system, also one without a C library, so it is freestanding: no libc, system
 * calls by hand. Its image (a few KiB) is embedded in the slipway binary. It must not use static data that
 * needs relocation, nor anything that the compiler turns into a library call.
 */
#include <asm/errno.h>
#include <asm/poll.h>
#include <asm/signal.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>
#include <linux/types.h>
#include <linux/wait.h>
#include "util/init-report.h"

#define REPORT_FD       3
#define PATH_LENGTH     4096
#define DEFAULT_PATH    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define SIGNAL_SET_SIZE 8 /* bytes of the kernel's sigset_t */

/* -- system calls -- */

#if defined(__x86_64__)
static long call(long number, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

__asm__(".globl _start\n"
        "_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call init_main\n");
#elif defined(__aarch64__)
static long call(long number, long a, long b, long c, long d, long e)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;

    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}

__asm__(".globl _start\n"
        "_start:\n"
        "    mov x29, #0\n"
        "    mov x0, sp\n"
        "    and sp, x0, #-16\n"
        "    bl init_main\n");
#else
#error "slipway-init knows x86-64 and ARM64"
#endif

#define CALL5(n, a, b, c, d, e) call((n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))
#define CALL4(n, a, b, c, d)    CALL5(n, a, b, c, d, 0)
#define CALL3(n, a, b, c)       CALL5(n, a, b, c, 0, 0)
#define CALL2(n, a, b)          CALL5(n, a, b, 0, 0, 0)
#define CALL1(n, a)             CALL5(n, a, 0, 0, 0, 0)
#define CALL0(n)                CALL5(n, 0, 0, 0, 0, 0)

static void leave(int status)
{
    for (;;)
        CALL1(__NR_exit_group, status);
}

static void report(unsigned type, int value)
{
    struct report r;

    r.type = type;
    r.value = value;
    CALL3(__NR_write, REPORT_FD, &r, sizeof(r));
}

/* -- text -- */

static int begins_with(const char *text, const char *prefix)
{
    while (*prefix)
        if (*text++ != *prefix++)
            return 0;
    return 1;
}

static int has_slash(const char *text)
{
    for (; *text; text++)
        if (*text == '/')
            return 1;
    return 0;
}

/* -- the program -- */

static const char *search_path(char **environment)
{
    for (; *environment; environment++)
        if (begins_with(*environment, "PATH="))
            return *environment + 5;
    return DEFAULT_PATH;
}

/* "<part>/<name>"; an empty part is the working directory. 0 if it is too long. */
static int join(char *buffer, const char *part, const char *part_end, const char *name)
{
    int n = 0;

    for (; part < part_end && n < PATH_LENGTH - 2; part++)
        buffer[n++] = *part;
    if (n)
        buffer[n++] = '/';
    for (; *name && n < PATH_LENGTH - 1; name++)
        buffer[n++] = *name;
    buffer[n] = '\0';
    return n < PATH_LENGTH - 1;
}

/* Returns only if it fails: the error number that tells most. */
static int execute(char **argv, char **environment)
{
    const char *part = search_path(environment);
    int result = ENOENT;

    if (has_slash(argv[0]))
        return (int)-CALL3(__NR_execve, argv[0], argv, environment);
    for (;;) {
        const char *end = part;
        char path[PATH_LENGTH];
        long r;

        while (*end && *end != ':')
            end++;
        if (join(path, part, end, argv[0])) {
            r = -CALL3(__NR_execve, path, argv, environment);
            if (r != ENOENT && r != ENOTDIR)
                result = (int)r;
        }
        if (!*end)
            return result;
        part = end + 1;
    }
}

static void run_child(int error_fd, unsigned long old_mask, char **argv, char **environment)
{
    int failure;

    CALL0(__NR_setsid);
    CALL4(__NR_rt_sigprocmask, SIG_SETMASK, &old_mask, 0, SIGNAL_SET_SIZE);
    failure = execute(argv, environment);
    CALL3(__NR_write, error_fd, &failure, sizeof(failure));
    leave(127);
}

/* Returns the program's pid after it was executed; does not return if that fails. */
static int start(unsigned long old_mask, char **argv, char **environment)
{
    int fds[2], failure = 0;
    long pid;

    if (CALL2(__NR_pipe2, fds, O_CLOEXEC) < 0)
        leave(126);
    pid = CALL5(__NR_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        run_child(fds[1], old_mask, argv, environment);
    CALL1(__NR_close, fds[1]);
    if (pid < 0) {
        failure = (int)-pid;
    } else {
        CALL3(__NR_read, fds[0], &failure, sizeof(failure));
    }
    CALL1(__NR_close, fds[0]);
    if (failure) {
        report(REPORT_FAILED, failure);
        leave(127);
    }
    report(REPORT_STARTED, (int)pid);
    return (int)pid;
}

/* -- its children -- */

/* Kills all children of this process, which as subreaper inherits their children in turn. Returns when none
 * is left. */
static void kill_children(void)
{
    char text[4096];

    for (;;) {
        long fd = CALL4(__NR_openat, AT_FDCWD, "/proc/thread-self/children", O_RDONLY, 0);
        long n = fd < 0 ? 0 : CALL3(__NR_read, fd, text, sizeof(text) - 1), pid = 0;

        if (fd >= 0)
            CALL1(__NR_close, fd);
        for (long i = 0; i < n; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                pid = pid * 10 + (text[i] - '0');
            } else if (pid) {
                CALL2(__NR_kill, pid, SIGKILL);
                pid = 0;
            }
        }
        if (CALL4(__NR_wait4, -1, 0, n > 0 ? 0 : WNOHANG, 0) <= 0 && n <= 0)
            return;
    }
}

/* Reaps; true when the program itself has ended. */
static int reap(int program, int *status)
{
    int ended = 0, s = 0;
    long pid;

    while ((pid = CALL4(__NR_wait4, -1, &s, WNOHANG, 0)) > 0) {
        if (pid == program) {
            *status = s;
            ended = 1;
        }
    }
    return ended;
}

/* Hands on signals until the program ends (its status) or the monitor is gone (-1). */
static int watch(int program)
{
    unsigned long all = ~0ul;
    long signals = CALL4(__NR_signalfd4, -1, &all, SIGNAL_SET_SIZE, O_CLOEXEC | O_NONBLOCK);
    struct pollfd fds[2];
    int status = 0;

    fds[0].fd = (int)signals;
    fds[0].events = POLLIN;
    fds[1].fd = REPORT_FD; /* POLLERR when the reader is gone */
    fds[1].events = 0;
    for (;;) {
        unsigned info[32]; /* struct signalfd_siginfo: 128 bytes, the number first */

        fds[0].revents = fds[1].revents = 0;
        CALL5(__NR_ppoll, fds, 2, 0, 0, 0);
        if (fds[1].revents)
            return -1;
        while (CALL3(__NR_read, signals, info, sizeof(info)) == sizeof(info))
            if (info[0] != SIGCHLD)
                CALL2(__NR_kill, program, info[0]);
        if (reap(program, &status))
            return status;
    }
}

void init_main(long *stack) __attribute__((used));

void init_main(long *stack)
{
    long argc = stack[0];
    char **argv = (char **)(stack + 1), **environment = argv + argc + 1;
    unsigned long all = ~0ul, old_mask = 0;
    int container, program, status;

    if (argc < 3)
        leave(125);
    container = argv[1][0] == 'c';
    CALL3(__NR_fcntl, REPORT_FD, F_SETFD, FD_CLOEXEC);
    CALL5(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    /* The program, which has the same user, must not trace us; itself it becomes dumpable by its execve. */
    CALL5(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (!container)
        CALL5(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    /* Blocked signals stay pending instead of being ignored, also those to process 1. */
    CALL4(__NR_rt_sigprocmask, SIG_BLOCK, &all, &old_mask, SIGNAL_SET_SIZE);

    program = start(old_mask, argv + 2, environment);
    status = watch(program);
    if (!container)
        kill_children();
    if (status < 0)
        leave(125);
    report(REPORT_ENDED, status);
    leave(0);
}
