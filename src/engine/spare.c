#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "engine/spare.h"
#include "util/limits.h"
#include "util/proc.h"
#include "util/xalloc.h"

struct spare {
    const char *program;
    char *data_directory;
    pid_t pid; /* 0: none */
    int fd;    /* the other end of its standard input */
};

struct spare *spare_new(const char *program, const char *data_directory)
{
    struct spare *spare = xnew0(struct spare);

    spare->program = program;
    spare->data_directory = xstrdup(data_directory);
    spare->fd = -1;
    return spare;
}

static void drop(struct spare *spare)
{
    if (!spare->pid)
        return;
    close(steal_fd(&spare->fd));
    kill(spare->pid, SIGKILL);
    waitpid(spare->pid, NULL, 0);
    spare->pid = 0;
}

struct spare *spare_free(struct spare *spare)
{
    if (spare) {
        drop(spare);
        free(spare->data_directory);
        free(spare);
    }
    return NULL;
}

void spare_prepare(struct spare *spare)
{
    const char *argv[] = {spare->program, "monitor", "--wait", spare->data_directory, NULL};
    struct proc_spawn spawn = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .directory = "/", .new_session = true};
    cleanup_close int ours = -1, theirs = -1;
    int pair[2];

    if (spare->pid || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return;
    ours = pair[0];
    theirs = pair[1];
    spawn.stdin_fd = theirs;
    if (proc_spawn(&spawn, &spare->pid, NULL) < 0)
        spare->pid = 0;
    else
        spare->fd = steal_fd(&ours);
}

pid_t spare_take(struct spare *spare, const char *directory)
{
    cleanup_free char *line = xasprintf("%s\n", directory);
    size_t length = strlen(line);
    pid_t pid = spare->pid;

    /* One that was killed meanwhile is found out by the write; afterwards it is a monitor that was killed. */
    if (!pid || waitpid(pid, NULL, WNOHANG) != 0) {
        if (pid)
            close(steal_fd(&spare->fd));
        spare->pid = 0;
        return 0;
    }
    if (send(spare->fd, line, length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)length) {
        drop(spare);
        return 0;
    }
    close(steal_fd(&spare->fd));
    spare->pid = 0;
    return pid;
}
