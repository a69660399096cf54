/*
 * The program under slipway-init: starts it (as a child, or through an OCI runtime), signals it, learns how
 * it ended.
 *
 *     program_start ──▶ on_started (executed) ──▶ on_ended, after init and everything below it is gone
 *                  └──▶ on_ended with failure set (it could not be executed)
 *
 * A runtime is run once, detached: it makes the container and goes away; the container's first process, init,
 * becomes our child because we are its subreaper. All children of this program end in program_child().
 */
#pragma once

#include <sys/types.h>
#include "monitor/spec.h"
#include "util/loop.h"

struct program_end {
    char *failure; /* why it could not be started; NULL if it was */
    int status;    /* as wait() gives it */
};

struct program_callbacks {
    void (*on_started)(void *userdata, pid_t pid);
    void (*on_ended)(void *userdata, const struct program_end *end);
};

struct program;

struct program *program_new(const char *directory, const struct monitor_spec *spec, struct loop *loop,
                            const struct program_callbacks *callbacks, void *userdata);
/* What still runs is killed. */
struct program *program_free(struct program *program);
DEFINE_CLEANUP(struct program *, program_free)

/* Descriptors 1 and 2 are borrowed. */
int program_start(struct program *program, const int output_fds[2], struct error *error);
/* SIGKILL ends everything in it; others go to the program through init. Remembered until init is known. */
void program_signal(struct program *program, int signal);
/* A child of ours ended (from SIGCHLD). */
void program_child(struct program *program, pid_t pid, int status);
