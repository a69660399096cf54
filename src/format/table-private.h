/* Shared by table.c (rows in) and table-write.c (tensors out). */
#pragma once

#include "format/dictionary.h"
#include "format/spool.h"
#include "format/table.h"

#define BLOCK_CELLS (256 * 1024) /* of a block over all columns: 2 MiB, fits into a second-level cache */
#define BLOCK_ROWS  8192         /* at most */
#define CLASSES_MAX 1000         /* distinct integers of a label that are counted */

enum column_role {
    COLUMN_FEATURE,
    COLUMN_LABEL,
    COLUMN_DROPPED,
};

struct column {
    char *name;
    enum column_role role;
    bool is_text;                         /* categories */
    bool pending_text;                    /* text turned up: categories in the next pass */
    bool seen_number;                     /* in this pass */
    char *breaker;                        /* the text that made a column of numbers one of categories */
    uint64_t breaker_line, breaker_after; /* where, and after how many rows */

    uint64_t count, missing; /* rows with and without value */
    bool any_real;
    bool fits_f32; /* every value is exact as float32 */
    bool rounded;  /* an integer beyond 2^53 stands among reals */
    double min, max, mean, m2;
    int64_t int_min, int_max;
    struct dictionary categories; /* texts; of an integer label its values, as 8 bytes */
    uint32_t *order;              /* code → place among the sorted names */
    uint64_t *histogram;          /* NULL: none */
    int index;                    /* column in x, -1 */
    int tensor[SPLIT_MAX];        /* handles of y or x.NAME */
};

#define HISTOGRAM_BINS 16

/* How cells of one column in one block are held. */
enum block_mode {
    MODE_SKIP,
    MODE_INTEGER,
    MODE_REAL,
    MODE_TEXT,
};

struct table {
    const struct table_options *options;
    struct column *columns;
    size_t n_columns;
    struct column *label; /* NULL: none */
    size_t n_features;    /* numeric ones */
    struct spool *spool;
    uint64_t rows;
    bool again;        /* a column broke in this pass */
    uint64_t again_at; /* rows at which to start again */

    size_t block_rows, filled;
    int64_t *cells; /* [column][block_rows]; doubles by their bits */
    uint8_t *modes; /* [column] */
    char *encoded;  /* a column of a block on its way to the spool */
};

/* One column of the next block from the spool: values into integers or reals. */
int table_read_column(struct table *table, size_t rows, int64_t *integers, double *reals, bool *ret_is_real,
                      struct error *error);
