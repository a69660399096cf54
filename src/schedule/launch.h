/*
 * From a run to what an engine needs to start its nodes: code unpacked, datasets pinned, environment
 * variables of docs/RUN_CONTRACT.md, directories made.
 *
 *     launch_prepare    blocks on disk: a worker thread
 *     launch_node       quick: the orchestrator's thread
 */
#pragma once

#include "core/run.h"
#include "engine/engine.h"
#include "store/store.h"
#include "util/strvec.h"

struct launch {
    const struct run *run; /* borrowed */
    uint64_t gpus;         /* devices of all nodes */
    const char *url;       /* borrowed; NULL: none */
    /* filled by launch_prepare */
    char *code; /* directory; NULL: none */
    char *params;
    char *resume;         /* weights file; NULL: none */
    char *token;          /* NULL: none */
    char *environment;    /* directory of the virtual environment; NULL: host */
    struct strvec mounts; /* source, target, source, target, … */
    int master_port;      /* of several nodes */
};

struct launch *launch_free(struct launch *launch);

int launch_prepare(struct launch *launch, struct store *store, struct error *error);
int launch_node(const struct launch *launch, struct engine *engine, struct store *store, int node, struct error *error);

/* Directory of a node of the run's present attempt, to be freed. */
char *launch_directory(const struct store *store, const char *run_id, int attempt, int node);
/* "<run>/<attempt>/<node>" */
#define LAUNCH_KEY_SIZE 64
char *launch_key(const char *run_id, int attempt, int node, char buffer[LAUNCH_KEY_SIZE]);
bool launch_parse_key(const char *key, char ret_id[ID_SIZE], int *ret_attempt, int *ret_node);

/* Declared for everybody in schedule/orchestrator.h. */
int code_unpack(struct store *store, const char *digest, char **ret_directory, struct error *error);
