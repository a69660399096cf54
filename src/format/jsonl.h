/*
 * JSON lines: an object a line, all with the columns of the first. An absent key or null is a missing value;
 * a key that the first object lacks is an error. An array of numbers is as many columns, "key[0]", "key[1]",
 * …, of the same length in every line. true and false are texts. Nested objects are refused.
 */
#pragma once

#include <stdint.h>
#include "format/cell.h"
#include "format/reader.h"
#include "util/error.h"
#include "util/strvec.h"

struct jsonl;

/* `reader` is borrowed. */
struct jsonl *jsonl_open(struct reader *reader);
struct jsonl *jsonl_free(struct jsonl *jsonl);
DEFINE_CLEANUP(struct jsonl *, jsonl_free)
#define cleanup_jsonl CLEANUP(jsonl_free_cleanup)

/* The next row, one cell for each of jsonl_names(): 1, 0 at the end, -1. Valid until the next call. */
int jsonl_next(struct jsonl *jsonl, const struct cell **ret_cells, struct error *error);
/* Columns; known after the first row. */
const struct strvec *jsonl_names(const struct jsonl *jsonl);
uint64_t jsonl_line(const struct jsonl *jsonl);
