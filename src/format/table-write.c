#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "format/table-private.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define HISTOGRAM_CELLS 50000000 /* larger tables go without */

/* -- what the tensors will be -- */

static bool is_matrix_column(const struct column *column)
{
    return column->role == COLUMN_FEATURE && !column->is_text;
}

static bool is_real(const struct column *column)
{
    return column->any_real;
}

/* The smallest dtype that holds all numeric features exactly. */
static enum dtype choose_dtype(const struct table *table)
{
    int64_t min = 0, max = 0;
    bool reals = false, fits_f32 = true;

    for (size_t i = 0; i < table->n_columns; i++) {
        const struct column *column = &table->columns[i];

        if (!is_matrix_column(column) || column->count + column->missing == 0)
            continue;
        reals |= is_real(column);
        fits_f32 &= column->fits_f32;
        min = column->int_min < min ? column->int_min : min;
        max = column->int_max > max ? column->int_max : max;
    }
    if (reals)
        return fits_f32 ? DTYPE_F32 : DTYPE_F64;
    if (min >= 0)
        return max <= UINT8_MAX ? DTYPE_U8 : max <= UINT16_MAX ? DTYPE_U16 : max <= UINT32_MAX ? DTYPE_U32 : DTYPE_I64;
    if (min >= INT8_MIN && max <= INT8_MAX)
        return DTYPE_I8;
    if (min >= INT16_MIN && max <= INT16_MAX)
        return DTYPE_I16;
    return min >= INT32_MIN && max <= INT32_MAX ? DTYPE_I32 : DTYPE_I64;
}

/* A dtype that was asked for must be able to hold what is there. */
static int force_dtype(const struct table *table, enum dtype smallest, enum dtype *ret_dtype, struct error *error)
{
    static const struct {
        enum dtype dtype;
        double min, max;
    } integers[] = {
        {DTYPE_U8, 0, UINT8_MAX},          {DTYPE_I8, INT8_MIN, INT8_MAX}, {DTYPE_U16, 0, UINT16_MAX},
        {DTYPE_I16, INT16_MIN, INT16_MAX}, {DTYPE_U32, 0, UINT32_MAX},     {DTYPE_I32, INT32_MIN, INT32_MAX},
        {DTYPE_I64, -0x1p63, 0x1p63},
    };
    enum dtype dtype;

    if (dtype_parse(table->options->dtype, &dtype, error) < 0)
        return error_wrap(error, "--dtype");
    *ret_dtype = dtype;
    if (dtype == DTYPE_F32 || dtype == DTYPE_F64)
        return 0;
    for (size_t k = 0; k < ARRAY_SIZE(integers); k++) {
        if (integers[k].dtype != dtype)
            continue;
        for (size_t i = 0; i < table->n_columns; i++) {
            const struct column *column = &table->columns[i];

            if (is_matrix_column(column) &&
                (is_real(column) || column->min < integers[k].min || column->max > integers[k].max))
                return error_set(error, ERROR_INVALID,
                                 "column '%s' (%g to %g%s) does not fit into %s; the smallest that holds all is %s",
                                 column->name, column->min, column->max, is_real(column) ? ", not all whole" : "",
                                 dtype_numpy_name(dtype), dtype_numpy_name(smallest));
        }
        return 0;
    }
    return error_set(error, ERROR_UNSUPPORTED, "a table cannot be imported as %s", dtype_numpy_name(dtype));
}

/* Names in the order of their bytes, so that codes do not depend on the order of rows. */
static int compare_names(const void *a_, const void *b_, void *entries_)
{
    const struct dictionary_entry *entries = entries_;
    const struct dictionary_entry *a = &entries[*(const uint32_t *)a_], *b = &entries[*(const uint32_t *)b_];
    int r = memcmp(a->key, b->key, a->length < b->length ? a->length : b->length);

    return r ? r : a->length < b->length ? -1 : a->length > b->length;
}

static int compare_integers(const void *a_, const void *b_, void *entries_)
{
    const struct dictionary_entry *entries = entries_;
    int64_t a, b;

    memcpy(&a, entries[*(const uint32_t *)a_].key, 8);
    memcpy(&b, entries[*(const uint32_t *)b_].key, 8);
    return a < b ? -1 : a > b;
}

/* Indices of the entries in order; to be freed. */
static uint32_t *sorted_entries(const struct column *column)
{
    const struct dictionary *d = &column->categories;
    uint32_t *sorted = xcalloc(d->count + 1, sizeof(*sorted));

    for (size_t i = 0; i < d->count; i++)
        sorted[i] = i;
    qsort_r(sorted, d->count, sizeof(*sorted), column->is_text ? compare_names : compare_integers, d->entries);
    return sorted;
}

static void number_categories(struct column *column)
{
    cleanup_free uint32_t *sorted = sorted_entries(column);

    free(column->order);
    column->order = xcalloc(column->categories.count + 1, sizeof(*column->order));
    for (size_t i = 0; i < column->categories.count; i++)
        column->order[sorted[i]] = i;
}

static bool has_classes(const struct column *label)
{
    return label->is_text || (!is_real(label) && label->categories.count < CLASSES_MAX);
}

/* -- schema -- */

static json_t *describe_counts(const struct column *column)
{
    cleanup_free uint32_t *sorted = sorted_entries(column);
    json_t *counts = json_array();

    for (size_t i = 0; i < column->categories.count; i++) {
        const struct dictionary_entry *entry = &column->categories.entries[sorted[i]];
        json_t *value;
        int64_t integer;

        if (column->is_text) {
            value = json_stringn(entry->key, entry->length);
        } else {
            memcpy(&integer, entry->key, 8);
            value = json_integer(integer);
        }
        json_array_append_new(counts, json_build("{s:o, s:I}", "value", value, "count", (json_int_t)entry->count));
    }
    return counts;
}

static json_t *describe_column(const struct column *column, enum dtype x_dtype)
{
    static const char *const roles[] = {
        [COLUMN_FEATURE] = "feature", [COLUMN_LABEL] = "label", [COLUMN_DROPPED] = "dropped"};
    json_t *object = json_object();
    cleanup_free char *tensor = column->is_text ? xasprintf("x.%s", column->name) : xstrdup("x");

    json_set_string(object, "name", column->name);
    json_set_string(object, "role", roles[column->role]);
    if (column->role == COLUMN_DROPPED)
        return object;
    json_set_string(object, "kind", column->is_text ? "category" : is_real(column) ? "real" : "integer");
    json_set_string(object, "tensor", column->role == COLUMN_LABEL ? "y" : tensor);
    if (column->index >= 0) {
        json_set_int(object, "index", column->index);
        json_set_string(object, "dtype", dtype_name(x_dtype));
    }
    json_set_int(object, "count", column->count);
    json_set_int(object, "missing", column->missing);
    if (!column->is_text && column->count) {
        if (is_real(column)) {
            json_set_number(object, "min", column->min);
            json_set_number(object, "max", column->max);
        } else {
            json_set_int(object, "min", column->int_min);
            json_set_int(object, "max", column->int_max);
        }
        json_set_number(object, "mean", column->mean);
        json_set_number(object, "std", sqrt(column->m2 / column->count));
    }
    if (column->histogram) {
        json_t *bins = json_array();

        for (int i = 0; i < HISTOGRAM_BINS; i++)
            json_array_append_new(bins, json_integer(column->histogram[i]));
        json_object_set_new(object, "histogram", bins);
    }
    if (column->is_text || (column->role == COLUMN_LABEL && has_classes(column)))
        json_object_set_new(object, column->is_text ? "categories" : "classes", describe_counts(column));
    return object;
}

static void add_notes(const struct table *table, enum dtype x_dtype, json_t *notes)
{
    cleanup_free char *x = xasprintf("x is %s%s", dtype_numpy_name(x_dtype),
                                     table->options->dtype ? ", as asked for" : ", the smallest that is exact");

    if (table->n_features)
        json_array_append_new(notes, json_string(x));
    for (size_t i = 0; i < table->n_columns; i++) {
        const struct column *column = &table->columns[i];
        cleanup_free char *note = NULL;

        if (column->breaker && column->role != COLUMN_DROPPED)
            note = xasprintf("column '%s' is taken as text because of '%s' in line %" PRIu64 " (after %" PRIu64
                             " rows of numbers); name it with --missing if it stands for no value",
                             column->name, column->breaker, column->breaker_line, column->breaker_after);
        else if (column->rounded)
            note = xasprintf("column '%s' mixes integers beyond 2^53 with fractions: those are rounded", column->name);
        if (note)
            json_array_append_new(notes, json_string(note));
    }
}

/* -- passes over the spool -- */

struct scratch {
    int64_t *integers;
    double *reals;
};

static void scratch_release(struct scratch *scratch)
{
    free(scratch->integers);
    free(scratch->reals);
}

static struct scratch scratch_new(const struct table *table)
{
    return (struct scratch){xcalloc(table->block_rows, sizeof(int64_t)), xcalloc(table->block_rows, sizeof(double))};
}

static void count_bins(struct column *column, const struct scratch *scratch, bool real, size_t rows)
{
    double scale = column->max > column->min ? HISTOGRAM_BINS / (column->max - column->min) : 0;

    for (size_t r = 0; r < rows; r++) {
        double v = real ? scratch->reals[r] : (double)scratch->integers[r];
        double bin = (v - column->min) * scale;

        if (!isnan(bin))
            column->histogram[bin >= HISTOGRAM_BINS ? HISTOGRAM_BINS - 1 : (int)bin]++;
    }
}

static int make_histograms(struct table *table, struct error *error)
{
    CLEANUP(scratch_release) struct scratch scratch = scratch_new(table);

    if (table->rows == 0 || table->n_columns > HISTOGRAM_CELLS / table->rows)
        return 0;
    spool_rewind(table->spool);
    for (uint64_t at = 0; at < table->rows; at += table->block_rows) {
        size_t rows = table->rows - at < table->block_rows ? table->rows - at : table->block_rows;

        for (size_t i = 0; i < table->n_columns; i++) {
            struct column *column = &table->columns[i];
            bool real;

            if (column->role == COLUMN_DROPPED)
                continue;
            if (table_read_column(table, rows, scratch.integers, scratch.reals, &real, error) < 0)
                return -1;
            if (column->is_text || !column->count || !isfinite(column->max - column->min))
                continue;
            if (!column->histogram)
                column->histogram = xcalloc(HISTOGRAM_BINS, sizeof(*column->histogram));
            count_bins(column, &scratch, real, rows);
        }
    }
    return 0;
}

#define STORE(type)                                                                                                    \
    do {                                                                                                               \
        type *o = (type *)out;                                                                                         \
        if (real)                                                                                                      \
            for (size_t r = 0; r < rows; r++)                                                                          \
                o[r * stride] = (type)scratch->reals[r];                                                               \
        else                                                                                                           \
            for (size_t r = 0; r < rows; r++)                                                                          \
                o[r * stride] = (type)scratch->integers[r];                                                            \
    } while (0)

/* A column into its place in row-major order. */
static void store_column(void *out, enum dtype dtype, size_t stride, const struct scratch *scratch, bool real,
                         size_t rows)
{
    switch (dtype) {
    case DTYPE_U8: STORE(uint8_t); break;
    case DTYPE_I8: STORE(int8_t); break;
    case DTYPE_U16: STORE(uint16_t); break;
    case DTYPE_I16: STORE(int16_t); break;
    case DTYPE_U32: STORE(uint32_t); break;
    case DTYPE_I32: STORE(int32_t); break;
    case DTYPE_I64: STORE(int64_t); break;
    case DTYPE_F32: STORE(float); break;
    default: STORE(double); break;
    }
}

/* -- the file -- */

struct output {
    struct table *table;
    struct safetensors_writer *writer;
    struct split_draw *draw; /* NULL: no split */
    size_t parts;            /* 1 without a split */
    enum dtype x_dtype, y_dtype;
    int x[SPLIT_MAX], y[SPLIT_MAX];
    char *x_rows, *y_rows; /* a block's matrix and labels */
    int32_t *codes;        /* [text column][block_rows] */
    uint8_t *part_of;      /* [row] */
};

static void output_release(struct output *output)
{
    safetensors_writer_free(output->writer);
    split_draw_free(output->draw);
    free(output->x_rows);
    free(output->y_rows);
    free(output->codes);
    free(output->part_of);
}

static int make_draw(struct output *output, struct error *error)
{
    struct table *table = output->table;
    const struct table_options *options = table->options;
    const struct column *label = table->label;
    cleanup_free uint64_t *counts = NULL;

    output->parts = 1;
    if (!options->split || !options->split->count)
        return 0;
    output->parts = options->split->count;
    if (!options->stratify) {
        output->draw = split_draw_new(options->split, options->seed, 1, &table->rows);
        return 0;
    }
    if (!has_classes(label))
        return error_set(error, ERROR_INVALID, "the split cannot be stratified by '%s': it has no classes, but %s",
                         label->name, is_real(label) ? "fractions" : "more than 1000 distinct numbers");
    counts = xcalloc(label->categories.count + 1, sizeof(*counts));
    for (size_t i = 0; i < label->categories.count; i++)
        counts[label->order[i]] = label->categories.entries[i].count;
    output->draw = split_draw_new(options->split, options->seed, label->categories.count, counts);
    return 0;
}

static int add_tensor(struct output *output, size_t part, const char *name, enum dtype dtype, uint64_t columns)
{
    const struct table *table = output->table;
    uint64_t shape[2] = {output->draw ? split_size(output->draw, part) : table->rows, columns};
    cleanup_free char *full = output->draw ? xasprintf("%s/%s", table->options->split->parts[part].name, name)
                                           : xstrdup(name);

    return safetensors_add(output->writer, full, dtype, columns ? 2 : 1, shape);
}

static void add_tensors(struct output *output)
{
    struct table *table = output->table;

    for (size_t part = 0; part < output->parts; part++) {
        if (table->n_features)
            output->x[part] = add_tensor(output, part, "x", output->x_dtype, table->n_features);
        if (table->label)
            output->y[part] = add_tensor(output, part, "y", output->y_dtype, 0);
        for (size_t i = 0; i < table->n_columns; i++) {
            struct column *column = &table->columns[i];
            cleanup_free char *name = xasprintf("x.%s", column->name);

            if (column->role == COLUMN_FEATURE && column->is_text)
                column->tensor[part] = add_tensor(output, part, name, DTYPE_I32, 0);
        }
    }
}

static void complete_schema(const struct output *output, json_t *schema)
{
    const struct table *table = output->table;
    json_t *columns = json_array(), *notes = json_object_get(schema, "notes");

    json_set_string(schema, "kind", "table");
    json_set_int(schema, "rows", table->rows);
    if (output->draw)
        json_object_set_new(schema, "splits", split_describe(table->options->split, output->draw));
    for (size_t i = 0; i < table->n_columns; i++)
        json_array_append_new(columns, describe_column(&table->columns[i], output->x_dtype));
    json_object_set_new(schema, "columns", columns);
    if (!notes) {
        notes = json_array();
        json_object_set_new(schema, "notes", notes);
    }
    add_notes(table, output->x_dtype, notes);
}

/* Reads a block's columns into x_rows, y_rows and codes. */
static int read_block(struct output *output, struct scratch *scratch, size_t rows, struct error *error)
{
    struct table *table = output->table;
    int32_t *codes = output->codes;

    for (size_t i = 0; i < table->n_columns; i++) {
        struct column *column = &table->columns[i];
        bool real;

        if (column->role == COLUMN_DROPPED)
            continue;
        if (table_read_column(table, rows, scratch->integers, scratch->reals, &real, error) < 0)
            return -1;
        if (column->is_text)
            for (size_t r = 0; r < rows; r++)
                scratch->integers[r] = scratch->integers[r] < 0 ? -1 : column->order[scratch->integers[r]];
        if (column->role == COLUMN_LABEL) {
            store_column(output->y_rows, output->y_dtype, 1, scratch, real, rows);
        } else if (column->is_text) {
            store_column(codes, DTYPE_I32, 1, scratch, false, rows);
            codes += table->block_rows;
        } else {
            store_column(output->x_rows + column->index * dtype_size(output->x_dtype), output->x_dtype,
                         table->n_features, scratch, real, rows);
        }
    }
    return 0;
}

static size_t class_of(const struct output *output, size_t row)
{
    const struct column *label = output->table->label;

    if (!output->table->options->stratify)
        return 0;
    if (label->is_text)
        return ((int32_t *)(void *)output->y_rows)[row];
    return label->order[dictionary_find(&label->categories, output->y_rows + 8 * row, 8)];
}

/* Rows [from, from + count) of the block to one part. */
static int write_run(struct output *output, size_t part, size_t from, size_t count, struct error *error)
{
    struct table *table = output->table;
    size_t width = table->n_features * dtype_size(output->x_dtype), y_size = dtype_size(output->y_dtype);
    const int32_t *codes = output->codes;

    if (width &&
        safetensors_write(output->writer, output->x[part], output->x_rows + from * width, count * width, error) < 0)
        return -1;
    if (table->label &&
        safetensors_write(output->writer, output->y[part], output->y_rows + from * y_size, count * y_size, error) < 0)
        return -1;
    for (size_t i = 0; i < table->n_columns; i++) {
        const struct column *column = &table->columns[i];

        if (column->role != COLUMN_FEATURE || !column->is_text)
            continue;
        if (safetensors_write(output->writer, column->tensor[part], codes + from, count * 4, error) < 0)
            return -1;
        codes += table->block_rows;
    }
    return 0;
}

static int write_block(struct output *output, size_t rows, struct error *error)
{
    if (!output->draw)
        return write_run(output, 0, 0, rows, error);
    for (size_t r = 0; r < rows; r++)
        output->part_of[r] = split_next(output->draw, class_of(output, r));
    for (size_t from = 0, to; from < rows; from = to) {
        for (to = from + 1; to < rows && output->part_of[to] == output->part_of[from]; to++)
            ;
        if (write_run(output, output->part_of[from], from, to - from, error) < 0)
            return -1;
    }
    return 0;
}

static int write_rows(struct output *output, struct error *error)
{
    struct table *table = output->table;
    CLEANUP(scratch_release) struct scratch scratch = scratch_new(table);
    size_t n_text = 0;

    for (size_t i = 0; i < table->n_columns; i++)
        n_text += table->columns[i].role == COLUMN_FEATURE && table->columns[i].is_text;
    output->x_rows = xmalloc(table->block_rows * table->n_features * 8 + 8);
    output->y_rows = xmalloc(table->block_rows * 8);
    output->codes = xmalloc(table->block_rows * n_text * sizeof(*output->codes) + 8);
    output->part_of = xmalloc(table->block_rows);
    spool_rewind(table->spool);
    for (uint64_t at = 0; at < table->rows; at += table->block_rows) {
        size_t rows = table->rows - at < table->block_rows ? table->rows - at : table->block_rows;

        if (read_block(output, &scratch, rows, error) < 0 || write_block(output, rows, error) < 0)
            return -1;
    }
    return 0;
}

static int prepare(struct output *output, struct error *error)
{
    struct table *table = output->table;

    for (size_t i = 0; i < table->n_columns; i++) {
        struct column *column = &table->columns[i];

        column->index = is_matrix_column(column) ? (int)table->n_features++ : -1;
        if (column->is_text || column->role == COLUMN_LABEL)
            number_categories(column);
    }
    if (table->label)
        output->y_dtype = table->label->is_text ? DTYPE_I32 : is_real(table->label) ? DTYPE_F64 : DTYPE_I64;
    output->x_dtype = choose_dtype(table);
    if (table->options->dtype && force_dtype(table, output->x_dtype, &output->x_dtype, error) < 0)
        return -1;
    return make_draw(output, error);
}

int table_write(struct table *table, int fd, json_t *schema, struct error *error)
{
    CLEANUP(output_release) struct output output = {.table = table, .writer = safetensors_writer_new()};
    cleanup_free char *text = NULL;

    if (table->rows == 0)
        return error_set(error, ERROR_INVALID, "there are no rows");
    if (prepare(&output, error) < 0 || make_histograms(table, error) < 0)
        return -1;
    add_tensors(&output);
    complete_schema(&output, schema);
    text = json_text(schema);
    safetensors_set_metadata(output.writer, "schema", text);
    if (safetensors_begin(output.writer, fd, error) < 0 || write_rows(&output, error) < 0)
        return -1;
    return safetensors_finish(output.writer, error);
}
