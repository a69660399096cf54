/*
 * Rows of mixed cells become tensors: the part of an import that CSV and JSON lines share.
 *
 * A pass over the rows finds kinds, categories and statistics, and spools the values in blocks of columns,
 * each column of a block in the narrowest form that holds it. Then the tensors are laid out and written from
 * the spool. Nothing grows with the number of rows but the spool.
 *
 * Every column begins as a number. If text turns up in one that had numbers, it is a column of categories,
 * and the rows must be read again: table_add says when.
 *
 *     table_start(table, names, count, error);
 *     do {
 *         table_begin_pass(table);
 *         while (a row) if ((r = table_add(table, cells, line, error)) != 0) break;    -1 error, 1 again
 *     } while (r >= 0 && table_end_pass(table));
 *     table_write(table, …);
 *
 * Numeric features are the matrix `x` [rows, features] of the smallest dtype that holds all of them exactly;
 * the label is `y` (int64, float64, or int32 codes of categories); text features are int32 codes `x.NAME`,
 * -1 where missing. With a split each name is prefixed by "part/".
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "format/cell.h"
#include "format/safetensors.h"
#include "format/split.h"
#include "util/error.h"
#include "util/json.h"
#include "util/strvec.h"

struct table_options {
    const char *label;         /* name, number of the column from 0, or "last"; NULL: none */
    const struct strvec *drop; /* columns to leave out; NULL: none */
    const char *dtype;         /* of x; NULL: the smallest that is exact */
    const struct split_plan *split;
    uint64_t seed;
    bool stratify;         /* by label */
    const char *directory; /* of the spool; NULL: the default */
};

struct table;

/* Options are borrowed. */
struct table *table_new(const struct table_options *options);
struct table *table_free(struct table *table);
DEFINE_CLEANUP(struct table *, table_free)
#define cleanup_table CLEANUP(table_free_cleanup)

/* Columns by name; ERROR_INVALID for names that are there twice, or a label that is not. */
int table_start(struct table *table, const struct strvec *names, struct error *error);
void table_begin_pass(struct table *table);
/* True if the column's cells need not be parsed as numbers. */
bool table_is_text(const struct table *table, size_t column);
/* 0, 1: read all rows again from the first, -1. `line` is for messages. */
int table_add(struct table *table, const struct cell *cells, uint64_t line, struct error *error);
/* 1: read all rows again. */
int table_end_pass(struct table *table, struct error *error);
uint64_t table_rows(const struct table *table);

/* Adds tensors and metadata key "schema" to a new file. `schema` already holds what the importer knows of
 * sources and options; it is completed. */
int table_write(struct table *table, int fd, json_t *schema, struct error *error);
