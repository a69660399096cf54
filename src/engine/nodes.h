/*
 * Nodes that have a monitor on this machine: what the drivers local and process share.
 *
 * A driver turns an engine_spec into the document spec.json (see monitor/spec.h) and hands it over; starting
 * the monitor, watching it and its files, stopping, reattaching and tidying up after it is done here.
 *
 * Watching takes one inotify instance with one watch a node, and a pidfd a node. When a monitor is gone
 * without an exit record, what is left of its node is killed first and ENGINE_LOST told then.
 */
#pragma once

#include <sys/types.h>
#include "engine/engine.h"
#include "util/cgroup.h"

struct nodes;

/* `program` is the slipway executable; NULL: the one that runs. Cgroups are borrowed. */
struct nodes *nodes_new(struct engine *engine, const struct cgroups *cgroups, const char *program);
struct nodes *nodes_free(struct nodes *nodes);

/* Steals document. ERROR_EXISTS for a key that is known. */
int nodes_launch(struct nodes *nodes, const char *key, const char *directory, json_t *document, struct error *error);
int nodes_signal(struct nodes *nodes, const char *key, int signal, const char *reason, struct error *error);
int nodes_attach(struct nodes *nodes, const char *key, const char *directory, struct error *error);
int nodes_forget(struct nodes *nodes, const char *key, struct error *error);
int nodes_weigh(struct nodes *nodes, const char *key, double part, struct error *error);
json_t *nodes_stats(struct nodes *nodes, const char *key, struct error *error);
/* A text of the node's document, by its key there; NULL without one. Borrowed until the node is forgotten. */
const char *nodes_text(struct nodes *nodes, const char *key, const char *name);
/* Whether the document of a node that was not forgotten has this text. */
bool nodes_have_text(struct nodes *nodes, const char *name, const char *text);
/* Whether a node that was not forgotten runs as this user. */
bool nodes_use_uid(struct nodes *nodes, uid_t uid);
