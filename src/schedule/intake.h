/*
 * Takes what a node's monitor wrote into the database: metrics, weights, warnings, states.
 *
 * Exactly once, whenever this process is killed: the byte offset of what is stored is in the row of the
 * node and moves in the transaction of the content. Weights go into the vault before that transaction; done
 * twice that gives the same digest and changes nothing.
 */
#pragma once

#include "store/store.h"
#include "util/hash.h"

struct intake_node {
    char run_id[ID_SIZE];
    int attempt, node;
    const char *directory;
};

struct intake_result {
    bool progress; /* something was stored */
    bool started;  /* the program was started, now or earlier */
    bool more;     /* the file may hold more: call again */
    bool ended;    /* the exit record is stored; the node's state is NODE_EXITED */
    char *corrupt; /* to be freed; the file cannot be read any further, and why; all before is stored */
};

/* Blocks on disk; one call a node at a time. `final`: the node is gone, what its exit.json says is taken if
 * the last line of the intake is not there. */
int intake_take(struct store *store, const struct intake_node *node, bool final, struct intake_result *ret_result,
                struct error *error);
