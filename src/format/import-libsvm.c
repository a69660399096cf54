/* libsvm text stays sparse: x as CSR tensors. */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "format/dictionary.h"
#include "format/import-private.h"
#include "format/libsvm.h"
#include "format/safetensors.h"
#include "format/spool.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define TICK_ROWS   4096
#define CLASSES_MAX 1000

/* What is kept of a row beside its values. */
struct head {
    double label;
    int64_t qid;
    uint64_t count;
};

struct sparse {
    struct import *import;
    struct spool *heads, *indices, *values;
    uint64_t rows, stored;
    uint32_t min_index, max_index;
    bool labels_are_integers, has_qid, fits_f32;
    double label_min, label_max;
    struct dictionary classes;
    enum dtype y_dtype, value_dtype;

    size_t parts;
    struct split_draw *draw;
    int indptr[SPLIT_MAX], x_indices[SPLIT_MAX], x_values[SPLIT_MAX], y[SPLIT_MAX], qid[SPLIT_MAX];
    int64_t written[SPLIT_MAX]; /* values so far: the next indptr */
    void *buffer;               /* of one row */
    size_t capacity;
};

static void sparse_release(struct sparse *sparse)
{
    spool_free(sparse->heads);
    spool_free(sparse->indices);
    spool_free(sparse->values);
    split_draw_free(sparse->draw);
    dictionary_release(&sparse->classes);
    free(sparse->buffer);
}

/* A label as it is counted and written where all are whole numbers; elsewhere nobody looks at it, but not every
 * double has an integer. */
static int64_t whole(double label)
{
    return fabs(label) < 0x1p53 ? (int64_t)label : 0;
}

static int add_row(struct sparse *sparse, const struct libsvm_row *row, struct error *error)
{
    struct head head = {row->label, row->has_qid ? row->qid : 0, row->count};
    int64_t label = whole(row->label);

    if (sparse->rows && row->has_qid != sparse->has_qid)
        return error_set(error, ERROR_INVALID, "some rows have a qid and some have none");
    sparse->has_qid = row->has_qid;
    sparse->labels_are_integers &= row->label_is_integer && fabs(row->label) < 0x1p53;
    if (sparse->labels_are_integers && sparse->classes.count < CLASSES_MAX)
        dictionary_add(&sparse->classes, &label, 8, CLASSES_MAX);
    sparse->label_min = row->label < sparse->label_min ? row->label : sparse->label_min;
    sparse->label_max = row->label > sparse->label_max ? row->label : sparse->label_max;
    if (row->count) {
        if (row->indices[0] < sparse->min_index)
            sparse->min_index = row->indices[0];
        if (row->indices[row->count - 1] > sparse->max_index)
            sparse->max_index = row->indices[row->count - 1];
    }
    for (size_t i = 0; i < row->count && sparse->fits_f32; i++)
        sparse->fits_f32 = (double)(float)row->values[i] == row->values[i];
    sparse->rows++;
    sparse->stored += row->count;
    if (spool_write(sparse->heads, &head, sizeof(head), error) < 0 ||
        spool_write(sparse->indices, row->indices, row->count * sizeof(*row->indices), error) < 0)
        return -1;
    return spool_write(sparse->values, row->values, row->count * sizeof(*row->values), error);
}

static int read_rows(struct sparse *sparse, struct error *error)
{
    struct import *import = sparse->import;

    for (size_t source = 0; source < import->n_sources; source++) {
        cleanup_reader struct reader *reader = NULL;
        cleanup_libsvm struct libsvm *libsvm = NULL;
        const struct libsvm_row *row;
        int r;

        if (import_open(import, source, &reader, error) < 0)
            return -1;
        libsvm = libsvm_open(reader);
        while ((r = libsvm_next(libsvm, &row, error)) > 0) {
            if (add_row(sparse, row, error) < 0)
                return error_wrap(error, "%s: line %" PRIu64, import->sources[source].name, libsvm_line(libsvm));
            if (sparse->rows % TICK_ROWS == 0 && import_tick(import, reader, error) < 0)
                return -1;
        }
        if (r < 0)
            return -1;
        import->done += reader_raw_size(reader);
    }
    if (!sparse->rows)
        return error_set(error, ERROR_INVALID, "there are no rows");
    return 0;
}

/* -- out -- */

static int compare_classes(const void *a_, const void *b_, void *entries_)
{
    const struct dictionary_entry *entries = entries_;
    int64_t a, b;

    memcpy(&a, entries[*(const uint32_t *)a_].key, 8);
    memcpy(&b, entries[*(const uint32_t *)b_].key, 8);
    return a < b ? -1 : a > b;
}

static json_t *describe_label(const struct sparse *sparse)
{
    json_t *object = json_object();

    json_set_string(object, "name", "label");
    json_set_string(object, "role", "label");
    json_set_string(object, "kind", sparse->labels_are_integers ? "integer" : "real");
    json_set_string(object, "tensor", "y");
    json_set_int(object, "count", sparse->rows);
    json_set_int(object, "missing", 0);
    json_set_number(object, "min", sparse->label_min);
    json_set_number(object, "max", sparse->label_max);
    if (sparse->labels_are_integers && sparse->classes.count < CLASSES_MAX) {
        cleanup_free uint32_t *order = xcalloc(sparse->classes.count + 1, sizeof(*order));
        json_t *classes = json_array();

        for (size_t i = 0; i < sparse->classes.count; i++)
            order[i] = i;
        qsort_r(order, sparse->classes.count, sizeof(*order), compare_classes, sparse->classes.entries);
        for (size_t i = 0; i < sparse->classes.count; i++) {
            const struct dictionary_entry *entry = &sparse->classes.entries[order[i]];
            int64_t value;

            memcpy(&value, entry->key, 8);
            json_array_append_new(
                classes, json_build("{s:I, s:I}", "value", (json_int_t)value, "count", (json_int_t)entry->count));
        }
        json_object_set_new(object, "classes", classes);
    }
    return object;
}

static uint64_t features_of(const struct sparse *sparse)
{
    if (!sparse->stored)
        return 0;
    return sparse->min_index == 0 ? (uint64_t)sparse->max_index + 1 : sparse->max_index;
}

static void complete_schema(struct sparse *sparse)
{
    struct import *import = sparse->import;
    json_t *schema = import->schema;

    json_set_string(schema, "kind", "sparse");
    json_set_int(schema, "rows", sparse->rows);
    json_set_int(schema, "features", features_of(sparse));
    json_set_int(schema, "stored", sparse->stored);
    json_object_set_new(schema, "shape",
                        json_build("[I, I]", (json_int_t)sparse->rows, (json_int_t)features_of(sparse)));
    json_object_set_new(schema, "columns", json_build("[o]", describe_label(sparse)));
    if (sparse->draw)
        json_object_set_new(schema, "splits", split_describe(&import->split, sparse->draw));
    import_note(import, "feature numbers begin with %d", sparse->min_index == 0 ? 0 : 1);
}

static size_t class_of(const struct sparse *sparse, double label)
{
    int64_t value = whole(label);

    return sparse->import->options->stratify ? dictionary_find(&sparse->classes, &value, 8) : 0;
}

static int make_draw(struct sparse *sparse, struct error *error)
{
    struct import *import = sparse->import;
    cleanup_free uint64_t *counts = NULL;

    sparse->parts = import->split.count ? import->split.count : 1;
    split_draw_free(sparse->draw);
    sparse->draw = NULL;
    if (!import->split.count)
        return 0;
    if (!import->options->stratify) {
        sparse->draw = split_draw_new(&import->split, import->options->seed, 1, &sparse->rows);
        return 0;
    }
    if (!sparse->labels_are_integers || sparse->classes.count >= CLASSES_MAX)
        return error_set(error, ERROR_INVALID, "the split cannot be stratified: the labels are no classes");
    counts = xcalloc(sparse->classes.count + 1, sizeof(*counts));
    for (size_t i = 0; i < sparse->classes.count; i++)
        counts[i] = sparse->classes.entries[i].count;
    sparse->draw = split_draw_new(&import->split, import->options->seed, sparse->classes.count, counts);
    return 0;
}

/* How many values each part gets: the draw is made once to count, and again to write. */
static int count_parts(struct sparse *sparse, uint64_t *counts, struct error *error)
{
    struct head head;

    memset(counts, 0, SPLIT_MAX * sizeof(*counts));
    spool_rewind(sparse->heads);
    for (uint64_t row = 0; row < sparse->rows; row++) {
        if (spool_read(sparse->heads, &head, sizeof(head), error) < 0)
            return -1;
        counts[sparse->draw ? split_next(sparse->draw, class_of(sparse, head.label)) : 0] += head.count;
    }
    return make_draw(sparse, error);
}

static int add_tensor(struct sparse *sparse, struct safetensors_writer *writer, size_t part, const char *name,
                      enum dtype dtype, uint64_t length)
{
    const struct split_plan *split = &sparse->import->split;
    cleanup_free char *full = sparse->draw ? xasprintf("%s/%s", split->parts[part].name, name) : xstrdup(name);

    return safetensors_add(writer, full, dtype, 1, &length);
}

static void add_tensors(struct sparse *sparse, struct safetensors_writer *writer, const uint64_t *counts)
{
    for (size_t part = 0; part < sparse->parts; part++) {
        uint64_t rows = sparse->draw ? split_size(sparse->draw, part) : sparse->rows;

        sparse->indptr[part] = add_tensor(sparse, writer, part, "x.indptr", DTYPE_I64, rows + 1);
        sparse->x_indices[part] = add_tensor(sparse, writer, part, "x.indices", DTYPE_I32, counts[part]);
        sparse->x_values[part] = add_tensor(sparse, writer, part, "x.values", sparse->value_dtype, counts[part]);
        sparse->y[part] = add_tensor(sparse, writer, part, "y", sparse->y_dtype, rows);
        if (sparse->has_qid)
            sparse->qid[part] = add_tensor(sparse, writer, part, "qid", DTYPE_I64, rows);
    }
}

/* One row's indices and values, from the spools to its part. */
static int write_values(struct sparse *sparse, struct safetensors_writer *writer, size_t part, size_t count,
                        struct error *error)
{
    uint32_t *indices;
    double *values;

    if (count * 8 > sparse->capacity) {
        sparse->capacity = count * 16;
        sparse->buffer = xrealloc(sparse->buffer, sparse->capacity);
    }
    indices = sparse->buffer;
    if (spool_read(sparse->indices, indices, count * 4, error) < 0)
        return -1;
    for (size_t i = 0; i < count && sparse->min_index > 0; i++)
        indices[i]--;
    if (safetensors_write(writer, sparse->x_indices[part], indices, count * 4, error) < 0)
        return -1;
    values = sparse->buffer;
    if (spool_read(sparse->values, values, count * 8, error) < 0)
        return -1;
    if (sparse->value_dtype == DTYPE_F32)
        for (size_t i = 0; i < count; i++) {
            float narrow = (float)values[i];

            memcpy((char *)sparse->buffer + 4 * i, &narrow, 4);
        }
    return safetensors_write(writer, sparse->x_values[part], values, count * dtype_size(sparse->value_dtype), error);
}

static int write_row(struct sparse *sparse, struct safetensors_writer *writer, struct error *error)
{
    struct head head;
    int64_t integer;
    size_t part;

    if (spool_read(sparse->heads, &head, sizeof(head), error) < 0)
        return -1;
    part = sparse->draw ? split_next(sparse->draw, class_of(sparse, head.label)) : 0;
    integer = whole(head.label);
    sparse->written[part] += head.count;
    if (safetensors_write(writer, sparse->y[part],
                          sparse->y_dtype == DTYPE_I64 ? (void *)&integer : (void *)&head.label, 8, error) < 0 ||
        safetensors_write(writer, sparse->indptr[part], &sparse->written[part], 8, error) < 0 ||
        (sparse->has_qid && safetensors_write(writer, sparse->qid[part], &head.qid, 8, error) < 0))
        return -1;
    return head.count ? write_values(sparse, writer, part, head.count, error) : 0;
}

static int write_file(struct sparse *sparse, struct error *error)
{
    cleanup_safetensors_writer struct safetensors_writer *writer = safetensors_writer_new();
    cleanup_free char *text = NULL;
    uint64_t counts[SPLIT_MAX];
    int64_t zero = 0;

    sparse->y_dtype = sparse->labels_are_integers ? DTYPE_I64 : DTYPE_F64;
    sparse->value_dtype = sparse->fits_f32 ? DTYPE_F32 : DTYPE_F64;
    if (make_draw(sparse, error) < 0 || count_parts(sparse, counts, error) < 0)
        return -1;
    complete_schema(sparse);
    add_tensors(sparse, writer, counts);
    text = json_text(sparse->import->schema);
    safetensors_set_metadata(writer, "schema", text);
    if (safetensors_begin(writer, sparse->import->fd, error) < 0)
        return -1;
    for (size_t part = 0; part < sparse->parts; part++)
        if (safetensors_write(writer, sparse->indptr[part], &zero, 8, error) < 0)
            return -1;
    spool_rewind(sparse->heads);
    spool_rewind(sparse->indices);
    spool_rewind(sparse->values);
    for (uint64_t row = 0; row < sparse->rows; row++)
        if (write_row(sparse, writer, error) < 0)
            return -1;
    return safetensors_finish(writer, error);
}

int import_libsvm(struct import *import, struct error *error)
{
    const char *directory = import->options->directory;
    CLEANUP(sparse_release)
    struct sparse sparse = {.import = import,
                            .labels_are_integers = true,
                            .fits_f32 = true,
                            .min_index = UINT32_MAX,
                            .label_min = INFINITY,
                            .label_max = -INFINITY};

    if (import->options->label)
        return error_set(error, ERROR_INVALID, "the label of libsvm text is its first field; --label is for columns");
    sparse.heads = spool_new(directory);
    sparse.indices = spool_new(directory);
    sparse.values = spool_new(directory);
    if (read_rows(&sparse, error) < 0 || import_finish_sources(import, error) < 0)
        return -1;
    return write_file(&sparse, error);
}
