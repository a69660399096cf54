/*
 * CSV as RFC 4180 has it, and its relatives: any one-byte separator, quotes with doubled quotes inside,
 * line ends LF, CRLF or CR, also inside of quotes; a UTF-8 byte order mark is skipped; blank lines are
 * skipped. Every row must have as many fields as the first: ERROR_INVALID names the line.
 *
 * Fields that look like numbers come as numbers, quoted or not; blanks around are allowed there. Empty
 * fields and the words NA, N/A, NaN, null, None, ? (and what csv_add_missing named) are missing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "format/cell.h"
#include "format/reader.h"
#include "util/error.h"

struct csv;

/* `reader` is borrowed. separator 0: the one of , tab ; | that cuts the first lines evenly. */
int csv_open(struct reader *reader, char separator, struct csv **ret_csv, struct error *error);
struct csv *csv_free(struct csv *csv);
DEFINE_CLEANUP(struct csv *, csv_free)
#define cleanup_csv CLEANUP(csv_free_cleanup)

/* Another word for a missing value. */
void csv_add_missing(struct csv *csv, const char *word);
/* Fields of this column are not looked at as numbers. */
void csv_set_text(struct csv *csv, size_t column);

/* The next row: 1, 0 at the end, -1. Cells are valid until the next call. */
int csv_next(struct csv *csv, const struct cell **ret_cells, size_t *ret_count, struct error *error);
/* Number of the line in which the last row began, from 1. */
uint64_t csv_line(const struct csv *csv);
char csv_separator(const struct csv *csv);
