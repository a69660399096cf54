/*
 * Metrics of runs: named series of points (step, time, value), kept in the order in which the program wrote
 * them. A point's identity is the number of its intake line, so that storing a line again changes nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "store/db.h"

/* Where a group of lines comes from. */
struct metric_source {
    const char *run_id;
    int attempt, node;
};

/* Remembers the series of one source between lines of a transaction; zero it at the start, release it at the
 * end. Not to be kept beyond a transaction that rolled back. */
struct metric_writer {
    struct metric_source source;
    struct map *series; /* name → id */
    double last_step;
    bool has_step;
};

void metric_writer_init(struct metric_writer *writer, const struct metric_source *source);
void metric_writer_release(struct metric_writer *writer);

/*
 * Stores one line: `values` is an object of numbers and nulls; "step" among them is the step of the others.
 * ERROR_TOO_LARGE beyond LIMIT_METRIC_NAMES names of the run.
 */
int metric_write(struct db_tx *tx, struct metric_writer *writer, int64_t sequence, int64_t time_ms,
                 const json_t *values, struct error *error);

struct metric_query {
    const char *run_id;
    const char *name; /* NULL: all */
    int attempt;      /* 0: all */
    int node;         /* -1: all */
    int64_t after;    /* points with a greater sequence number; for following */
    int points;       /* at most so many a series, downsampled; 0: all */
};

/*
 * [{"name","attempt","node","count","min","max","last","points":[[step,time_ms,value,sequence],…]}] ordered
 * by name, attempt, node. Downsampling keeps the first and the last point and of each bucket the smallest and
 * the largest, so that no spike disappears.
 */
json_t *metric_read(struct db_tx *tx, const struct metric_query *query, struct error *error);
/* {"loss": 0.31, …}: the last finite value of each name in the newest attempt, node 0 first. */
json_t *metric_last(struct db_tx *tx, const char *run_id, struct error *error);
