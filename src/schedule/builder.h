/*
 * Builds environments: a virtual environment for a requirements file, once on a machine.
 *
 *     DATA/environments/<digest>/          the virtual environment; its paths are absolute, so it never moves
 *     DATA/environments/<digest>.log       what venv and pip said
 *     DATA/environments/<digest>.txt       the requirements
 *     DATA/environments/<digest>.status    exit status, written last; "0" marks a complete one
 *     DATA/environments/<digest>.lock      held by the build
 *
 * The build is a child process in a session of its own, so that the daemon may die. After a restart the
 * build is started again: it waits for the lock, finds what the first one made, and ends.
 *
 * All functions belong to the loop's thread, unless they say otherwise.
 */
#pragma once

#include "core/environment.h"
#include "schedule/workers.h"
#include "store/store.h"

struct builder;

/* A build ended; its state is committed. */
typedef void (*builder_fn)(void *userdata, const char *digest, enum build_state state, const char *message);

/* python: NULL: /usr/bin/python3, else the first in PATH. */
struct builder *builder_new(struct store *store, struct loop *loop, struct workers *workers, const char *python,
                            builder_fn fn, void *userdata);
/* Builds that are going on go on. Accepts NULL; returns NULL. */
struct builder *builder_free(struct builder *builder);

/* Goes on with builds that an earlier process began. */
int builder_resume(struct builder *builder, struct error *error);
/* The state of a build as it is now; `again` starts one that failed or is unknown, then it is BUILD_BUILDING.
 * ret_message (to be freed) says why it failed. */
int builder_need(struct builder *builder, const char *digest, bool again, enum build_state *ret_state,
                 char **ret_message, struct error *error);

/* Any thread. Paths are to be freed. */
char *builder_directory(const struct store *store, const char *digest);
char *builder_log(const struct store *store, const char *digest);
/* Identity of the interpreter for environment_create: "3.11.2 x86_64". Starts it once; blocks; any thread. */
int builder_identify(struct builder *builder, char **ret_identity, struct error *error);
