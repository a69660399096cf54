/*
 * config.json for an OCI runtime: how a node is isolated.
 *
 * The root file system of the host environment is a skeleton: a directory of ours with empty directories and
 * the host's top-level links (/bin → usr/bin), into which only what programs need is bound, read-only: /usr,
 * /etc and the like. What is not named does not exist inside: /root, /home, /var, /run, /srv, /mnt, and the
 * data directory. Secrets within /etc are covered.
 */
#pragma once

#include "engine/engine.h"
#include "engine/gpu.h"
#include "util/strvec.h"

/* What is the same for all nodes of a daemon. */
struct oci_host {
    const char *data_directory;
    char *skeleton; /* path of the prepared root; owned */
    struct strvec visible; /* host directories that are bound, in order: parents before what is mounted in them */
    char *init; /* path of slipway-init, in the skeleton; owned */
    json_t *seccomp; /* owned */
    bool swap; /* this machine swaps, so memory limits must say so */
    int oom_score_adj; /* programs go before the daemon when memory is short; negative: leave */
    const struct gpus *gpus;
};

/* Prepares the skeleton and fills `visible`: the usual directories that exist, what is mounted within them,
 * and `extra` (names from the configuration, may be NULL). */
int oci_skeleton_create(struct oci_host *host, const json_t *extra, struct error *error);
/* Frees what it owns. */
void oci_host_release(struct oci_host *host);

struct oci_node {
    const char *network; /* file of a namespace to join; NULL: a new one */
    const char *name; /* also the control group: /slipway/<name> */
    uid_t uid; /* and gid */
    bool overlay; /* the working directory is an overlay of the code */
};

/* NULL with an error for what cannot be: a mount over a directory of the host, for instance. */
json_t *oci_config(const struct oci_host *host, const struct oci_node *node, const struct engine_spec *spec,
                   struct error *error);
