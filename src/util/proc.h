/*
 * Processes: start them without fork(), know them without trusting a bare pid.
 *
 * A pid is reused; a process is identified by pid and start time (field 22 of /proc/PID/stat, in clock
 * ticks since boot), or by a pidfd that was opened while the identity held.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "util/error.h"

struct proc_id {
    pid_t pid;
    uint64_t start_time; /* clock ticks since boot; 0: no process */
};

/* ERROR_NOT_FOUND if there is no such process. */
int proc_identify(pid_t pid, struct proc_id *ret_id, struct error *error);
/* True while the very process lives (a zombie does not count). */
bool proc_is_alive(const struct proc_id *id);
/* A pidfd for the very process, or -1 with ERROR_NOT_FOUND. */
int proc_open(const struct proc_id *id, struct error *error);
/* Sends a signal to the very process. Not found is not an error: returns 0. */
int proc_signal(const struct proc_id *id, int signal, struct error *error);

struct proc_spawn {
    const char *const *argv;        /* argv[0] is searched in PATH unless it has a slash */
    const char *const *environment; /* NULL: inherit */
    const char *directory;          /* NULL: inherit */
    int stdin_fd, stdout_fd, stderr_fd; /* -1: /dev/null */
    const int *pass_fds;            /* kept open at the same numbers; all others are close-on-exec */
    size_t n_pass_fds;
    bool new_session;               /* setsid: survives the terminal and the parent's group */
};

/* posix_spawn with all signals at default and unblocked. */
int proc_spawn(const struct proc_spawn *spawn, pid_t *ret_pid, struct error *error);
/* Waits for a child; *ret_status as waitpid gives it. */
int proc_wait(pid_t pid, int *ret_status, struct error *error);

/* Runs a program to its end and collects its output (stdout and stderr together, at most max bytes,
 * the rest is dropped). Returns its exit status (128 + signal if killed) or -1 if it could not start
 * or outlived timeout_ms (it is killed then). ret_output may be NULL, else it is to be freed. */
int proc_run(const char *const *argv, size_t max, int timeout_ms, char **ret_output, struct error *error);

/* Absolute path of the running executable; to be freed by the caller. */
char *proc_self_path(void);
