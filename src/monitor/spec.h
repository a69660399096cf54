/*
 * spec.json: what the engine asks a monitor to run. Written by the engine (engine/nodes.c), read once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "util/cgroup.h"
#include "util/json.h"
#include "util/strvec.h"

enum monitor_kind {
    MONITOR_PROCESS, /* slipway-init as a child of the monitor */
    MONITOR_OCI,     /* slipway-init as process 1 of a container that an OCI runtime makes from config.json */
};

struct monitor_link {
    char *source;
    char *target; /* below /slipway/ */
};

struct monitor_spec {
    enum monitor_kind kind;
    struct strvec argv, environment; /* process; of a container they are in config.json */
    char *init;                      /* process: path of slipway-init */
    char *runtime;                   /* oci: path of runc or crun */
    char *runtime_root;              /* oci: its state directory */
    char *container;                 /* oci: its name */
    bool owned;                      /* what the program may write belongs to uid and gid */
    uid_t uid;
    gid_t gid;
    char *cgroup;                /* "/slipway/<id>"; NULL: none */
    struct cgroup_limits limits; /* process: enforced by the monitor; a runtime reads config.json */
    char *code;                  /* NULL: none */
    bool overlay;                /* the working directory is an overlay of code; else a copy */
    struct monitor_link *links;  /* process: what a container would have mounted */
    size_t n_links;
    char *params; /* NULL: none */
    int64_t timeout_ms, grace_ms;
    bool restart;
    uint64_t log_limit, output_limit; /* bytes */
};

/* ERROR_INVALID names the field. */
int monitor_spec_load(const char *path, struct monitor_spec **ret_spec, struct error *error);
struct monitor_spec *monitor_spec_free(struct monitor_spec *spec);
DEFINE_CLEANUP(struct monitor_spec *, monitor_spec_free)
#define cleanup_monitor_spec CLEANUP(monitor_spec_free_cleanup)
