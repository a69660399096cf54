#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "format/table-private.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/map.h"
#include "util/xalloc.h"

#define EXACT_DOUBLE (INT64_C(1) << 53)
#define EXACT_FLOAT  (INT64_C(1) << 24)

struct table *table_new(const struct table_options *options)
{
    struct table *table = xnew0(struct table);

    table->options = options;
    table->spool = spool_new(options->directory);
    return table;
}

struct table *table_free(struct table *table)
{
    if (!table)
        return NULL;
    for (size_t i = 0; i < table->n_columns; i++) {
        struct column *column = &table->columns[i];

        dictionary_release(&column->categories);
        free(column->name);
        free(column->breaker);
        free(column->order);
        free(column->histogram);
    }
    free(table->columns);
    free(table->cells);
    free(table->modes);
    free(table->encoded);
    spool_free(table->spool);
    free(table);
    return NULL;
}

/* -- columns -- */

static struct column *find_column(struct table *table, const char *text, const char *what, struct error *error)
{
    int64_t number;

    for (size_t i = 0; i < table->n_columns; i++)
        if (strcmp(table->columns[i].name, text) == 0)
            return &table->columns[i];
    if (strcmp(text, "last") == 0)
        return &table->columns[table->n_columns - 1];
    if (parse_int(text, 0, table->n_columns - 1, &number, NULL) == 0)
        return &table->columns[number];
    error_set(error, ERROR_INVALID, "there is no column '%s' for %s; columns are %s%s%s%s%s", text, what,
              table->columns[0].name, table->n_columns > 1 ? ", " : "",
              table->n_columns > 1 ? table->columns[1].name : "", table->n_columns > 2 ? ", …, " : "",
              table->n_columns > 2 ? table->columns[table->n_columns - 1].name : "");
    return NULL;
}

static int assign_roles(struct table *table, struct error *error)
{
    const struct table_options *options = table->options;

    if (options->label) {
        table->label = find_column(table, options->label, "--label", error);
        if (!table->label)
            return -1;
        table->label->role = COLUMN_LABEL;
    }
    for (size_t i = 0; options->drop && i < options->drop->count; i++) {
        struct column *column = find_column(table, options->drop->items[i], "--drop", error);

        if (!column)
            return -1;
        if (column == table->label)
            return error_set(error, ERROR_INVALID, "column '%s' cannot be both the label and dropped", column->name);
        column->role = COLUMN_DROPPED;
    }
    if (options->stratify && !table->label)
        return error_set(error, ERROR_INVALID, "a split can only be stratified by a label");
    return 0;
}

int table_start(struct table *table, const struct strvec *names, struct error *error)
{
    cleanup_map struct map seen = MAP_INIT(NULL);

    if (names->count == 0)
        return error_set(error, ERROR_INVALID, "there are no columns");
    if (names->count > LIMIT_CSV_COLUMNS)
        return error_set(error, ERROR_TOO_LARGE, "more than %d columns", LIMIT_CSV_COLUMNS);
    table->columns = xcalloc(names->count, sizeof(*table->columns));
    table->n_columns = names->count;
    for (size_t i = 0; i < names->count; i++) {
        cleanup_json json_t *text = json_string(names->items[i]);

        table->columns[i].name = xstrdup(names->items[i]);
        if (!text)
            return error_set(error, ERROR_INVALID, "the name of column %zu is not UTF-8", i + 1);
        if (map_get(&seen, names->items[i]))
            return error_set(error, ERROR_INVALID, "two columns are called '%s'", names->items[i]);
        map_put(&seen, names->items[i], table);
    }
    if (assign_roles(table, error) < 0)
        return -1;
    table->block_rows = BLOCK_CELLS / table->n_columns;
    table->block_rows = table->block_rows < 1 ? 1 : table->block_rows > BLOCK_ROWS ? BLOCK_ROWS : table->block_rows;
    table->cells = xmalloc(table->n_columns * table->block_rows * sizeof(*table->cells));
    table->modes = xcalloc(table->n_columns, 1);
    table->encoded = xmalloc(8 + table->block_rows * 8);
    return 0;
}

static void begin_block(struct table *table)
{
    table->filled = 0;
    for (size_t i = 0; i < table->n_columns; i++) {
        const struct column *column = &table->columns[i];

        table->modes[i] = column->role == COLUMN_DROPPED ? MODE_SKIP : column->is_text ? MODE_TEXT : MODE_INTEGER;
    }
}

void table_begin_pass(struct table *table)
{
    for (size_t i = 0; i < table->n_columns; i++) {
        struct column *column = &table->columns[i];

        column->is_text |= column->pending_text;
        column->pending_text = column->seen_number = column->any_real = column->rounded = false;
        column->count = column->missing = 0;
        column->mean = column->m2 = 0;
        column->min = INFINITY;
        column->max = -INFINITY;
        column->int_min = INT64_MAX;
        column->int_max = INT64_MIN;
        column->fits_f32 = true;
        dictionary_release(&column->categories);
    }
    spool_clear(table->spool);
    table->rows = 0;
    table->again = false;
    begin_block(table);
}

bool table_is_text(const struct table *table, size_t column)
{
    return table->columns[column].is_text || table->columns[column].role == COLUMN_DROPPED;
}

uint64_t table_rows(const struct table *table)
{
    return table->rows;
}

/* -- blocks -- */

#define NARROW(type, tag_)                                                                                             \
    do {                                                                                                               \
        type *out = (type *)(void *)(table->encoded + 8);                                                              \
        for (size_t r = 0; r < rows; r++)                                                                              \
            out[r] = (type)values[r];                                                                                  \
        tag = tag_;                                                                                                    \
        width = sizeof(type);                                                                                          \
    } while (0)

/* Into the spool: a tag and the values in as few bytes as hold them. */
static int spool_integers(struct table *table, const int64_t *values, size_t rows, int64_t min, int64_t max,
                          struct error *error)
{
    size_t width;
    char tag;

    if (min >= INT8_MIN && max <= INT8_MAX)
        NARROW(int8_t, 'b');
    else if (min >= INT16_MIN && max <= INT16_MAX)
        NARROW(int16_t, 'h');
    else if (min >= INT32_MIN && max <= INT32_MAX)
        NARROW(int32_t, 'i');
    else
        NARROW(int64_t, 'q');
    table->encoded[7] = tag;
    return spool_write(table->spool, table->encoded + 7, 1 + width * rows, error);
}

static int spool_reals(struct table *table, const double *values, size_t rows, bool fits_f32, struct error *error)
{
    size_t width;
    char tag;

    if (fits_f32)
        NARROW(float, 'f');
    else
        NARROW(double, 'd');
    table->encoded[7] = tag;
    return spool_write(table->spool, table->encoded + 7, 1 + width * rows, error);
}

/* Count, mean and sum of squared deviations of a part are merged into the whole (Chan et al. 1979). */
static void merge_moments(struct column *column, uint64_t count, double mean, double m2)
{
    double delta = mean - column->mean, total = (double)column->count + count;

    if (!count)
        return;
    column->mean += delta * count / total;
    column->m2 += m2 + delta * delta * column->count * count / total;
    column->count += count;
}

static int end_integers(struct table *table, struct column *column, const int64_t *values, size_t rows,
                        struct error *error)
{
    int64_t min = INT64_MAX, max = INT64_MIN;
    double sum = 0, m2 = 0, mean;

    for (size_t r = 0; r < rows; r++) {
        min = values[r] < min ? values[r] : min;
        max = values[r] > max ? values[r] : max;
        sum += (double)values[r];
    }
    mean = sum / rows;
    for (size_t r = 0; r < rows; r++) {
        double d = (double)values[r] - mean;

        m2 += d * d;
    }
    column->int_min = min < column->int_min ? min : column->int_min;
    column->int_max = max > column->int_max ? max : column->int_max;
    column->min = (double)min < column->min ? (double)min : column->min;
    column->max = (double)max > column->max ? (double)max : column->max;
    if (min < -EXACT_FLOAT || max > EXACT_FLOAT)
        column->fits_f32 = false;
    merge_moments(column, rows, mean, m2);
    return spool_integers(table, values, rows, min, max, error);
}

static int end_reals(struct table *table, struct column *column, const double *values, size_t rows, struct error *error)
{
    double sum = 0, m2 = 0, mean, min = INFINITY, max = -INFINITY;
    bool fits = true;
    uint64_t count = 0;

    for (size_t r = 0; r < rows; r++) {
        double v = values[r];

        if (isnan(v))
            continue;
        count++;
        sum += v;
        min = v < min ? v : min;
        max = v > max ? v : max;
        fits &= (double)(float)v == v;
    }
    mean = count ? sum / count : 0;
    for (size_t r = 0; r < rows; r++) {
        double d = values[r] - mean;

        m2 += isnan(d) ? 0 : d * d;
    }
    column->any_real = true;
    column->fits_f32 &= fits;
    column->min = min < column->min ? min : column->min;
    column->max = max > column->max ? max : column->max;
    column->missing += rows - count;
    merge_moments(column, count, mean, m2);
    return spool_reals(table, values, rows, fits, error);
}

static int end_text(struct table *table, struct column *column, const int64_t *codes, size_t rows, struct error *error)
{
    for (size_t r = 0; r < rows; r++)
        column->missing += codes[r] < 0;
    column->count = table->rows - column->missing;
    return spool_integers(table, codes, rows, -1, (int64_t)column->categories.count, error);
}

static int end_block(struct table *table, struct error *error)
{
    size_t rows = table->filled;

    for (size_t i = 0; i < table->n_columns && rows; i++) {
        struct column *column = &table->columns[i];
        int64_t *values = table->cells + i * table->block_rows;
        int r = 0;

        if (table->modes[i] == MODE_INTEGER)
            r = end_integers(table, column, values, rows, error);
        else if (table->modes[i] == MODE_REAL)
            r = end_reals(table, column, (double *)(void *)values, rows, error);
        else if (table->modes[i] == MODE_TEXT)
            r = end_text(table, column, values, rows, error);
        if (r < 0)
            return -1;
    }
    begin_block(table);
    return 0;
}

/* -- rows -- */

/* The block's integers of a column become reals, because one is needed. */
static void make_real(struct table *table, size_t i)
{
    int64_t *values = table->cells + i * table->block_rows;

    for (size_t r = 0; r < table->filled; r++) {
        double real = (double)values[r];

        if (values[r] > EXACT_DOUBLE || values[r] < -EXACT_DOUBLE)
            table->columns[i].rounded = true;
        memcpy(&values[r], &real, sizeof(real));
    }
    table->columns[i].seen_number |= table->rows > 0;
    table->modes[i] = MODE_REAL;
}

static int bad_label(struct column *column, uint64_t line, const char *what, struct error *error)
{
    return error_set(error, ERROR_INVALID, "label column '%s' %s in line %" PRIu64, column->name, what, line);
}

/* Text in a column that was taken for numbers. */
static void break_column(struct table *table, struct column *column, const struct cell *cell, uint64_t line)
{
    if (column->pending_text)
        return;
    column->pending_text = true;
    if (column->count || column->seen_number ||
        (table->modes[column - table->columns] == MODE_INTEGER && table->rows > 0)) {
        column->breaker = column->breaker ? column->breaker
                                          : xstrndup(cell->text, cell->length < 60 ? cell->length : 60);
        column->breaker_line = line;
        column->breaker_after = table->rows;
    }
    if (!table->again)
        table->again_at = table->rows < 5000 ? 10000 : 2 * table->rows;
    table->again = true;
}

static int add_text(struct table *table, size_t i, const struct cell *cell, uint64_t line, int64_t *ret_code,
                    struct error *error)
{
    struct column *column = &table->columns[i];

    if (cell->kind == CELL_MISSING) {
        if (column->role == COLUMN_LABEL)
            return bad_label(column, line, "has no value", error);
        *ret_code = -1;
        return 0;
    }
    *ret_code = dictionary_add(&column->categories, cell->text, cell->length, LIMIT_CSV_CATEGORIES);
    if (*ret_code < 0) {
        char first[128] = "";

        if (column->breaker)
            snprintf(first, sizeof(first), " (it is text because of '%s' in line %" PRIu64 ")", column->breaker,
                     column->breaker_line);
        return error_set(error, ERROR_TOO_LARGE,
                         "column '%s' has more than %d distinct texts%s; leave it out with --drop %s", column->name,
                         LIMIT_CSV_CATEGORIES, first, column->name);
    }
    return 0;
}

/* Cells that the loop of table_add does not handle on its own. */
static int add_slowly(struct table *table, size_t i, const struct cell *cell, uint64_t line, struct error *error)
{
    struct column *column = &table->columns[i];
    int64_t *slot = table->cells + i * table->block_rows + table->filled;
    double real;

    if (table->modes[i] == MODE_SKIP)
        return 0;
    if (table->modes[i] == MODE_TEXT)
        return add_text(table, i, cell, line, slot, error);
    if (cell->kind == CELL_TEXT) {
        break_column(table, column, cell, line);
        *slot = 0;
        return 0;
    }
    column->seen_number |= cell->kind != CELL_MISSING;
    if (column->role == COLUMN_LABEL && cell->kind == CELL_MISSING)
        return bad_label(column, line, "has no value", error);
    if (column->role == COLUMN_LABEL && cell->kind == CELL_REAL && !isfinite(cell->real))
        return bad_label(column, line, "is not finite", error);
    if (cell->kind == CELL_INTEGER && table->modes[i] == MODE_INTEGER) {
        *slot = cell->integer;
        return 0;
    }
    if (table->modes[i] == MODE_INTEGER)
        make_real(table, i);
    real = cell->kind == CELL_REAL ? cell->real : cell->kind == CELL_INTEGER ? (double)cell->integer : NAN;
    if (cell->kind == CELL_INTEGER && (cell->integer > EXACT_DOUBLE || cell->integer < -EXACT_DOUBLE))
        column->rounded = true;
    memcpy(slot, &real, sizeof(real));
    return 0;
}

int table_add(struct table *table, const struct cell *cells, uint64_t line, struct error *error)
{
    int64_t *slot = table->cells + table->filled;
    size_t stride = table->block_rows;

    for (size_t i = 0; i < table->n_columns; i++, slot += stride) {
        const struct cell *cell = &cells[i];

        if (cell->kind == CELL_INTEGER && table->modes[i] == MODE_INTEGER)
            *slot = cell->integer;
        else if (cell->kind == CELL_REAL && table->modes[i] == MODE_REAL && &table->columns[i] != table->label)
            memcpy(slot, &cell->real, sizeof(*slot));
        else if (add_slowly(table, i, cell, line, error) < 0)
            return -1;
    }
    if (table->label && !table->label->is_text && !table->again && table->label->categories.count < CLASSES_MAX) {
        size_t i = table->label - table->columns;

        if (table->modes[i] == MODE_INTEGER)
            dictionary_add(&table->label->categories, &table->cells[i * stride + table->filled], 8, CLASSES_MAX);
    }
    table->filled++;
    table->rows++;
    if (table->again)
        table->filled = 0; /* the pass only looks for more columns that break */
    else if (table->filled == table->block_rows && end_block(table, error) < 0)
        return -1;
    return table->again && table->rows >= table->again_at;
}

/* Texts must be UTF-8, because their names go into JSON. */
static int check_categories(struct table *table, struct error *error)
{
    for (size_t i = 0; i < table->n_columns; i++) {
        const struct column *column = &table->columns[i];

        for (size_t k = 0; column->is_text && k < column->categories.count; k++) {
            const struct dictionary_entry *entry = &column->categories.entries[k];
            cleanup_json json_t *text = json_stringn(entry->key, entry->length);

            if (!text)
                return error_set(error, ERROR_INVALID,
                                 "column '%s' holds text that is not UTF-8; convert the file first (iconv -t UTF-8)",
                                 column->name);
        }
    }
    return 0;
}

int table_end_pass(struct table *table, struct error *error)
{
    if (table->again)
        return 1;
    if (end_block(table, error) < 0 || check_categories(table, error) < 0)
        return -1;
    return 0;
}

/* -- reading back -- */

#define WIDEN(type, out)                                                                                               \
    do {                                                                                                               \
        if (spool_read(table->spool, table->encoded, rows * sizeof(type), error) < 0)                                  \
            return -1;                                                                                                 \
        for (size_t r = 0; r < rows; r++)                                                                              \
            (out)[r] = ((const type *)(const void *)table->encoded)[r];                                                \
    } while (0)

int table_read_column(struct table *table, size_t rows, int64_t *integers, double *reals, bool *ret_is_real,
                      struct error *error)
{
    char tag;

    if (spool_read(table->spool, &tag, 1, error) < 0)
        return -1;
    switch (tag) {
    case 'b': WIDEN(int8_t, integers); break;
    case 'h': WIDEN(int16_t, integers); break;
    case 'i': WIDEN(int32_t, integers); break;
    case 'q': WIDEN(int64_t, integers); break;
    case 'f': WIDEN(float, reals); break;
    default: WIDEN(double, reals); break;
    }
    *ret_is_real = tag == 'f' || tag == 'd';
    return 0;
}
