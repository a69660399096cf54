/* CSV files and JSON lines: rows of cells for table.h. */
#include <inttypes.h>
#include <string.h>
#include "format/csv.h"
#include "format/import-private.h"
#include "format/jsonl.h"
#include "format/table.h"
#include "util/xalloc.h"

#define TICK_ROWS 4096

/* -- CSV -- */

struct csv_import {
    struct import *import;
    struct table *table;
    size_t n_columns; /* 0 before the first file's first row */
    bool has_header;
    char separator;
    bool *suspects; /* [column] texts in a first row that is taken as data; NULL: looked at, or none */
};

static int parse_separator(const char *text, char *ret, struct error *error)
{
    if (!text) {
        *ret = 0;
        return 0;
    }
    *ret = strcmp(text, "tab") == 0 || strcmp(text, "\\t") == 0 ? '\t' : text[0];
    if ((*ret != '\t' && strlen(text) != 1) || strchr("\"\n\r", *ret))
        return error_set(error, ERROR_INVALID, "the separator is one character, or 'tab', not '%s'", text);
    return 0;
}

static char *trimmed(const struct cell *cell)
{
    const char *p = cell->text;
    size_t length = cell->length;

    while (length && (*p == ' ' || *p == '\t')) {
        p++;
        length--;
    }
    while (length && (p[length - 1] == ' ' || p[length - 1] == '\t'))
        length--;
    return xstrndup(p, length);
}

/* A header is a first row in which no field is a number and not all are empty. */
static int decide_header(struct csv_import *csv, const struct cell *cells, size_t count, struct error *error)
{
    const char *wanted = csv->import->options->header;
    size_t texts = 0, numbers = 0;

    if (wanted && strcmp(wanted, "auto") != 0) {
        if (strcmp(wanted, "yes") != 0 && strcmp(wanted, "no") != 0)
            return error_set(error, ERROR_INVALID, "--header is yes, no or auto, not '%s'", wanted);
        csv->has_header = wanted[0] == 'y';
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        texts += cells[i].kind == CELL_TEXT;
        numbers += cells[i].kind == CELL_INTEGER || cells[i].kind == CELL_REAL;
    }
    csv->has_header = texts && !numbers;
    import_note(csv->import, csv->has_header ? "the first row is taken as column names"
                                             : "there is no row of column names; columns are called c0, c1, …");
    return 0;
}

/* Remembers where a first row of data holds text. */
static void suspect_header(struct csv_import *csv, const struct cell *cells, size_t count)
{
    const char *wanted = csv->import->options->header;

    if (csv->has_header || (wanted && strcmp(wanted, "auto") != 0))
        return;
    csv->suspects = xcalloc(count, sizeof(*csv->suspects));
    for (size_t i = 0; i < count; i++)
        csv->suspects[i] = cells[i].kind == CELL_TEXT;
}

/* Texts above numbers look like a header that has numbers in it, e.g. "150,4,setosa,versicolor". Taking it
 * for one might lose a row, so it is only said. */
static void check_suspects(struct csv_import *csv, const struct cell *cells, size_t count)
{
    cleanup_free bool *suspects = steal_ptr(csv->suspects);
    size_t above = 0;

    for (size_t i = 0; i < count; i++) {
        if (suspects[i] && cells[i].kind != CELL_INTEGER && cells[i].kind != CELL_REAL)
            return;
        above += suspects[i];
    }
    if (above)
        import_note(csv->import,
                    "the first row has text above numbers, so that %zu columns are taken as text; if it is "
                    "a header, import with --header yes",
                    above);
}

/* Columns from the first row of the first file. */
static int start_columns(struct csv_import *csv, const struct cell *cells, size_t count, struct error *error)
{
    cleanup_strvec struct strvec names = STRVEC_INIT;

    if (decide_header(csv, cells, count, error) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        char *name = csv->has_header ? trimmed(&cells[i]) : NULL;

        if (name && *name) {
            strvec_push_take(&names, name);
        } else {
            free(name);
            strvec_pushf(&names, "c%zu", i);
        }
    }
    csv->n_columns = count;
    suspect_header(csv, cells, count);
    if (table_start(csv->table, &names, error) < 0)
        return -1;
    table_begin_pass(csv->table);
    return 0;
}

/* One file. 0, 1: all files again, -1. */
static int read_file(struct csv_import *csv, size_t source, struct error *error)
{
    struct import *import = csv->import;
    cleanup_reader struct reader *reader = NULL;
    cleanup_csv struct csv *rows = NULL;
    const struct cell *cells;
    size_t count, ticks = 0;
    bool first = true;
    int r;

    if (import_open(import, source, &reader, error) < 0 || csv_open(reader, csv->separator, &rows, error) < 0)
        return -1;
    for (size_t i = 0; import->options->missing && i < import->options->missing->count; i++)
        csv_add_missing(rows, import->options->missing->items[i]);
    for (size_t i = 0; i < csv->n_columns; i++)
        if (table_is_text(csv->table, i))
            csv_set_text(rows, i);
    while ((r = csv_next(rows, &cells, &count, error)) > 0) {
        if (first && !csv->n_columns && start_columns(csv, cells, count, error) < 0)
            return error_is_set(error) ? error_wrap(error, "%s", import->sources[source].name) : -1;
        if (count != csv->n_columns)
            return error_set(error, ERROR_INVALID, "%s has %zu columns, %s has %zu", import->sources[source].name,
                             count, import->sources[0].name, csv->n_columns);
        if (first && csv->has_header) {
            first = false;
            continue;
        }
        if (!first && csv->suspects)
            check_suspects(csv, cells, count);
        first = false;
        r = table_add(csv->table, cells, csv_line(rows), error);
        if (r < 0)
            return error_wrap(error, "%s", import->sources[source].name);
        if (r > 0)
            return 1;
        if (++ticks % TICK_ROWS == 0 && import_tick(import, reader, error) < 0)
            return -1;
    }
    return r;
}

static int read_all(struct csv_import *csv, struct error *error)
{
    struct import *import = csv->import;
    int r = 0;

    import->done = 0;
    for (size_t i = 0; i < import->n_sources && r == 0; i++) {
        r = read_file(csv, i, error);
        if (r == 0 && i + 1 < import->n_sources)
            import->done = import->total / import->n_sources * (i + 1);
    }
    if (r == 0 && !csv->n_columns)
        return error_set(error, ERROR_INVALID, "%s is empty", import->sources[0].name);
    return r == 0 ? table_end_pass(csv->table, error) : r;
}

static struct table_options options_for_table(const struct import *import)
{
    return (struct table_options){.label = import->options->label,
                                  .drop = import->options->drop,
                                  .dtype = import->options->dtype,
                                  .split = &import->split,
                                  .seed = import->options->seed,
                                  .stratify = import->options->stratify,
                                  .directory = import->options->directory};
}

static void csv_import_release(struct csv_import *csv)
{
    free(csv->suspects);
}

int import_csv(struct import *import, struct error *error)
{
    struct table_options options = options_for_table(import);
    cleanup_table struct table *table = table_new(&options);
    CLEANUP(csv_import_release) struct csv_import csv = {.import = import, .table = table};
    int r;

    if (parse_separator(import->options->separator, &csv.separator, error) < 0)
        return -1;
    while ((r = read_all(&csv, error)) > 0)
        table_begin_pass(table);
    if (r < 0 || import_finish_sources(import, error) < 0)
        return -1;
    return table_write(table, import->fd, import->schema, error);
}

/* -- JSON lines -- */

static int read_objects(struct import *import, struct table *table, bool *started, struct error *error)
{
    int r = 0;

    import->done = 0;
    for (size_t source = 0; source < import->n_sources && r == 0; source++) {
        cleanup_reader struct reader *reader = NULL;
        cleanup_jsonl struct jsonl *rows = NULL;
        const struct cell *cells;
        size_t ticks = 0;

        if (import_open(import, source, &reader, error) < 0)
            return -1;
        rows = jsonl_open(reader);
        while ((r = jsonl_next(rows, &cells, error)) > 0) {
            if (!*started) {
                if (table_start(table, jsonl_names(rows), error) < 0)
                    return error_wrap(error, "%s", import->sources[source].name);
                table_begin_pass(table);
                *started = true;
            }
            r = table_add(table, cells, jsonl_line(rows), error);
            if (r < 0)
                return error_wrap(error, "%s", import->sources[source].name);
            if (r > 0)
                return 1;
            if (++ticks % TICK_ROWS == 0 && import_tick(import, reader, error) < 0)
                return -1;
        }
    }
    if (r == 0 && !*started)
        return error_set(error, ERROR_INVALID, "%s is empty", import->sources[0].name);
    return r == 0 ? table_end_pass(table, error) : r;
}

int import_jsonl(struct import *import, struct error *error)
{
    struct table_options options = options_for_table(import);
    cleanup_table struct table *table = table_new(&options);
    bool started = false;
    int r;

    while ((r = read_objects(import, table, &started, error)) > 0)
        table_begin_pass(table);
    if (r < 0 || import_finish_sources(import, error) < 0)
        return -1;
    return table_write(table, import->fd, import->schema, error);
}
