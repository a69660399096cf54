/*
 * Which OCI runtime works here, found out by running a container with everything that nodes use.
 *
 * The verdict is kept in a file, with what it depends on (kernel, program, our version), so that a daemon
 * that starts again need not try again.
 */
#pragma once

#include "engine/oci.h"

struct runtime {
    char *path;    /* /usr/bin/runc */
    char *version; /* "runc 1.1.5" */
    char *note;    /* what was tried and does not work; NULL: nothing */
    bool overlay;  /* a working directory can be an overlay */
};

/* Tries `only` (NULL: crun, then runc; crun is the faster). `root`: state directory for the runtime.
 * ERROR_UNSUPPORTED says what each of them said. */
int runtime_choose(const struct oci_host *host, const char *only, const char *root, struct runtime *ret_runtime,
                   struct error *error);
void runtime_release(struct runtime *runtime);
