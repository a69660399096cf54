/*
 * The journal: everything that happened, as CloudEvents 1.0 with a gap-free sequence number.
 *
 * An event is appended in the transaction of the change that it tells of: either both are there or
 * neither. Sequence numbers start at 1 and have no gaps, because there is one writer.
 *
 *   {"specversion":"1.0","id":"42","sequence":42,"source":"/slipway","type":"slipway.run.running",
 *    "subject":"run/0190…","project":"default","time":"…","actor":"token:alice","data":{…}}
 *
 * Types are "slipway.<object>.<what>", in the past tense or a state's name. Subjects are
 * "<object>/<address>".
 */
#pragma once

#include <stdint.h>
#include "store/db.h"

struct journal_event {
    const char *type;    /* "slipway.dataset.created" */
    const char *subject; /* "dataset/digits@3" */
    const char *project; /* NULL: belongs to no project */
    const char *actor;   /* who caused it: "token:NAME", "local", "system"; NULL: "system" */
    json_t *data;        /* borrowed; NULL: {} */
};

/* ret_sequence may be NULL. */
int journal_append(struct db_tx *tx, const struct journal_event *event, int64_t *ret_sequence, struct error *error);

struct journal_filter {
    int64_t after;       /* events with a greater number */
    const char *project; /* NULL: all */
    const char *type;    /* prefix, e.g. "slipway.run."; NULL: all */
    const char *subject; /* exact; NULL: all */
    int limit;
    bool newest;         /* the last `limit` of them instead of the first */
};

/* A new array of CloudEvents in order. NULL on failure. */
json_t *journal_read(struct db_tx *tx, const struct journal_filter *filter, struct error *error);
/* The newest number, 0 for an empty journal. */
int journal_newest(struct db_tx *tx, int64_t *ret_sequence, struct error *error);

/* Wakes those who follow. A listener is called after each commit with the newest number, on the thread
 * that committed: it must only post to a loop or signal a condition. */
struct journal;
struct journal_listener;
typedef void (*journal_fn)(void *userdata, int64_t newest);

struct journal *journal_new(struct db *db);
struct journal *journal_free(struct journal *journal);
struct journal_listener *journal_listen(struct journal *journal, journal_fn fn, void *userdata);
/* After it returns the listener is not called any more. Accepts NULL. */
void journal_unlisten(struct journal *journal, struct journal_listener *listener);
