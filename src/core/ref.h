/*
 * Addresses of versioned things as people write them: [project:]name[@version].
 *
 *     digits   digits@3   digits@latest   team-a:digits@3   vision/digits@production   vision/digits@3.5
 *
 * The name is one part, or two joined by '/'; what a version means is up to the thing.
 */
#pragma once

#include "util/error.h"

struct ref {
    char *project; /* NULL: not given */
    char *name;
    char *version; /* NULL: not given; never empty */
};

#define REF_INIT {NULL, NULL, NULL}

/* `what` is the kind of thing, for the message. */
int ref_parse(const char *text, const char *what, struct ref *ret_ref, struct error *error);
void ref_release(struct ref *ref);
#define cleanup_ref CLEANUP(ref_release)
