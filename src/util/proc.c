#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "util/clock.h"
#include "util/fs.h"
#include "util/proc.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

extern char **environ;

/* Fields of /proc/PID/stat after the command, which is in parentheses and may hold anything. */
static int read_stat(pid_t pid, char *ret_state, uint64_t *ret_start_time)
{
    cleanup_free char *text = NULL;
    char path[64];
    const char *p;
    unsigned long long start;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (fs_read(path, 65536, &text, NULL, NULL) < 0)
        return -1;
    p = strrchr(text, ')');
    if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                     ret_state, &start) != 2)
        return -1;
    *ret_start_time = start;
    return 0;
}

int proc_identify(pid_t pid, struct proc_id *ret_id, struct error *error)
{
    uint64_t start_time;
    char state;

    if (pid <= 0 || read_stat(pid, &state, &start_time) < 0)
        return error_set(error, ERROR_NOT_FOUND, "there is no process %d", (int)pid);
    *ret_id = (struct proc_id){pid, start_time};
    return 0;
}

bool proc_is_alive(const struct proc_id *id)
{
    uint64_t start_time;
    char state;

    return id->pid > 0 && read_stat(id->pid, &state, &start_time) == 0 && start_time == id->start_time &&
           state != 'Z' && state != 'X';
}

int proc_open(const struct proc_id *id, struct error *error)
{
    cleanup_close int fd = (int)syscall(SYS_pidfd_open, id->pid, 0);

    /* The identity is checked after the pidfd is open: if it holds then, the pidfd is of that process. */
    if (fd < 0 || !proc_is_alive(id))
        return error_set(error, ERROR_NOT_FOUND, "process %d is gone", (int)id->pid);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return steal_fd(&fd);
}

int proc_signal(const struct proc_id *id, int signal, struct error *error)
{
    cleanup_close int fd = proc_open(id, NULL);

    if (fd < 0)
        return 0;
    if (syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0) < 0 && errno != ESRCH)
        return error_set_errno(error, errno, "cannot signal process %d", (int)id->pid);
    return 0;
}

int proc_spawn(const struct proc_spawn *spawn, pid_t *ret_pid, struct error *error)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    const int fds[3] = {spawn->stdin_fd, spawn->stdout_fd, spawn->stderr_fd};
    sigset_t none, all;
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    int r;

    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    if (spawn->new_session)
        flags |= POSIX_SPAWN_SETSID;
    posix_spawnattr_setflags(&attributes, flags);

    for (int i = 0; i < 3; i++) {
        if (fds[i] >= 0)
            posix_spawn_file_actions_adddup2(&actions, fds[i], i);
        else
            posix_spawn_file_actions_addopen(&actions, i, "/dev/null", i ? O_WRONLY : O_RDONLY, 0);
    }
    /* dup2 onto itself clears close-on-exec (glibc 2.29 and later). */
    for (size_t i = 0; i < spawn->n_pass_fds; i++)
        posix_spawn_file_actions_adddup2(&actions, spawn->pass_fds[i], spawn->pass_fds[i]);
    if (spawn->directory)
        posix_spawn_file_actions_addchdir_np(&actions, spawn->directory);

    r = posix_spawnp(ret_pid, spawn->argv[0], &actions, &attributes, (char *const *)spawn->argv,
                     spawn->environment ? (char *const *)spawn->environment : environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (r != 0)
        return error_set_errno(error, r, "cannot start %s", spawn->argv[0]);
    return 0;
}

int proc_wait(pid_t pid, int *ret_status, struct error *error)
{
    while (waitpid(pid, ret_status, 0) < 0)
        if (errno != EINTR)
            return error_set_errno(error, errno, "cannot wait for process %d", (int)pid);
    return 0;
}

/* Reads until end of file or deadline; keeps at most max bytes. False at the deadline. */
static bool drain(int fd, int64_t deadline_ns, size_t max, struct strbuf *output)
{
    char buffer[4096];

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left_ms = (deadline_ns - clock_monotonic_ns()) / NS_PER_MS;
        ssize_t n;

        if (left_ms <= 0)
            return false;
        if (poll(&p, 1, (int)left_ms) <= 0)
            continue;
        n = read(fd, buffer, sizeof(buffer));
        if (n <= 0)
            return true;
        if (output->length + (size_t)n > max)
            n = (ssize_t)(max - output->length);
        strbuf_add(output, buffer, (size_t)n);
    }
}

int proc_run(const char *const *argv, size_t max, int timeout_ms, char **ret_output, struct error *error)
{
    cleanup_strbuf struct strbuf output = STRBUF_INIT(max);
    int64_t deadline = clock_monotonic_ns() + timeout_ms * NS_PER_MS;
    struct proc_spawn spawn = {.argv = argv, .stdin_fd = -1};
    cleanup_close int from = -1, to = -1;
    int pipe_fds[2], status;
    bool ended;
    pid_t pid;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "cannot make a pipe");
    from = pipe_fds[0];
    to = pipe_fds[1];
    spawn.stdout_fd = spawn.stderr_fd = to;
    if (proc_spawn(&spawn, &pid, error) < 0)
        return -1;
    close(steal_fd(&to));

    ended = drain(from, deadline, max, &output);
    if (!ended)
        kill(pid, SIGKILL);
    if (proc_wait(pid, &status, error) < 0)
        return -1;
    if (!ended)
        return error_set(error, ERROR_TIMEOUT, "%s did not finish within %d ms", argv[0], timeout_ms);
    if (ret_output)
        *ret_output = strbuf_detach(&output, NULL);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

char *proc_self_path(void)
{
    char *path = realpath("/proc/self/exe", NULL);

    return path ? path : xstrdup("/proc/self/exe");
}
