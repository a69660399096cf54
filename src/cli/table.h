/*
 * JSON for people: aligned columns that fit the terminal.
 *
 *     static const struct table_column columns[] = {
 *         {"NAME", "name"},
 *         {"VERSION", "version", TABLE_NUMBER},
 *         {"SIZE", "size", TABLE_BYTES},
 *         {"AGE", "created_at", TABLE_AGE},
 *         {"DESCRIPTION", "description", .shrink = true},
 *         {}
 *     };
 *     print_items(invocation, columns, items, "there are no datasets yet");
 *
 * Widths count characters as a terminal shows them (UTF-8, wide and combining ones). On a terminal, rows
 * do not wrap: columns that may shrink are cut with "…", then others that hold text; numbers are not. In a
 * pipe nothing is cut. Control characters in
 * values are shown escaped, so that data cannot drive the terminal.
 */
#pragma once

#include <stdio.h>
#include "util/json.h"

enum table_format {
    TABLE_TEXT,     /* strings and booleans as they are, numbers in full, arrays joined with ", " */
    TABLE_NUMBER,   /* right-aligned; reals with six significant digits */
    TABLE_BYTES,    /* "1.50 GiB" */
    TABLE_AGE,      /* RFC 3339 text → "5m 02s" (ago), "now" within a second */
    TABLE_TIME,     /* RFC 3339 text → local time "2026-01-31 12:34:56" */
    TABLE_DURATION, /* ms → "12.4 s" */
    TABLE_STATE,    /* a state name, coloured by what it means */
    TABLE_DIGEST,   /* "sha256:…" → its first 12 digits */
    TABLE_PERCENT,  /* 0.953 → "95.3 %" */
};

struct table_column {
    const char *title; /* NULL ends the table */
    const char *key;   /* of the object; "resources.cpus" reaches into objects */
    enum table_format format;
    bool shrink;                       /* may be cut where the terminal is too narrow */
    char *(*text)(const json_t *item); /* instead of key and format; to be freed; NULL: nothing */
};

/* A list of objects, one a line below the titles. Absent and null values show as "-". */
void table_print(FILE *out, const struct table_column *columns, const json_t *items);
/* One object: a line for each column whose value is there. */
void table_print_object(FILE *out, const struct table_column *columns, const json_t *object);
/* The text of one cell, to be freed; NULL if there is no value. */
char *table_cell(const struct table_column *column, const json_t *item);
