/*
 * IDX, NPY and NPZ: tensors as they are, under their own names.
 *
 * Sources are read twice: once to learn the tensors and their statistics, and that every element is there,
 * once to write them. With a split, tensors must agree on the first dimension, which counts the rows.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include "format/archive.h"
#include "format/dictionary.h"
#include "format/idx.h"
#include "format/import-private.h"
#include "format/npy.h"
#include "format/safetensors.h"
#include "format/split.h"
#include "format/spool.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define PIECE       (256 * 1024)
#define CLASSES_MAX 1000

struct item {
    char *name;
    struct tensor_header header;
    uint64_t count;
    double min, max, mean, m2;
    struct dictionary classes; /* of integers of rank 1 */
    bool too_large;            /* one of them is no class: a double does not hold it */
    int tensor[SPLIT_MAX];
};

struct bundle {
    struct import *import;
    int (*read_header)(struct reader *reader, struct tensor_header *ret_header, struct error *error);
    struct item *items;
    size_t count, capacity, at;        /* at: the next one while writing */
    struct safetensors_writer *writer; /* NULL while learning */
    struct split_draw *draw;           /* of the tensor being written; NULL: no split */
    char *buffer;
};

static void bundle_release(struct bundle *bundle)
{
    for (size_t i = 0; i < bundle->count; i++) {
        dictionary_release(&bundle->items[i].classes);
        free(bundle->items[i].name);
    }
    free(bundle->items);
    free(bundle->buffer);
    safetensors_writer_free(bundle->writer);
    split_draw_free(bundle->draw);
}

/* -- names -- */

/* "train-images-idx3-ubyte" is train/x, "t10k-labels…" test/y; others x or y by their rank. */
static char *idx_name(const char *file, int rank)
{
    const char *part = strcasestr(file, "train")                              ? "train/"
                       : strcasestr(file, "t10k") || strcasestr(file, "test") ? "test/"
                                                                              : "";
    const char *name = strcasestr(file, "image") ? "x" : strcasestr(file, "label") ? "y" : rank > 1 ? "x" : "y";

    return xasprintf("%s%s", part, name);
}

/* The file's name without its endings. */
static char *stem_of(const char *file)
{
    char *stem = xstrdup(fs_basename(file));
    static const char *const endings[] = {".gz", ".npy"};

    for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
        size_t length = strlen(stem), n = strlen(endings[i]);

        if (length > n && strcmp(stem + length - n, endings[i]) == 0)
            stem[length - n] = '\0';
    }
    return stem;
}

/* -- elements -- */

#define WIDEN(type)                                                                                                    \
    for (size_t i = 0; i < count; i++) {                                                                               \
        type element;                                                                                                  \
                                                                                                                       \
        memcpy(&element, (const char *)data + i * sizeof(type), sizeof(type));                                         \
        out[i] = (double)element;                                                                                      \
    }                                                                                                                  \
    break

/* Elements as doubles: a loop for each of the common types, which compilers turn into vectors. */
static void widen(enum dtype dtype, const void *data, size_t count, double *out)
{
    switch (dtype) {
    case DTYPE_U8: WIDEN(uint8_t);
    case DTYPE_I16: WIDEN(int16_t);
    case DTYPE_I32: WIDEN(int32_t);
    case DTYPE_I64: WIDEN(int64_t);
    case DTYPE_F32: WIDEN(float);
    case DTYPE_F64: WIDEN(double);
    default:
        for (size_t i = 0; i < count; i++)
            out[i] = tensor_value(dtype, data, i);
        break;
    }
}

static void count_classes(struct item *item, const double *values, size_t count)
{
    for (size_t i = 0; i < count && item->classes.count < CLASSES_MAX && !item->too_large; i++) {
        int64_t key;

        item->too_large = fabs(values[i]) >= 0x1p53;
        if (item->too_large)
            return;
        key = (int64_t)values[i];
        dictionary_add(&item->classes, &key, sizeof(key), CLASSES_MAX);
    }
}

/* Mean and squared deviations of a part are merged into the whole (Chan et al. 1979). */
static void learn_values(struct item *item, const double *values, size_t count)
{
    double min = item->min, max = item->max, sum = 0, m2 = 0, mean, delta, total;
    size_t present = 0;

    for (size_t i = 0; i < count; i++) {
        double v = values[i];

        present += !isnan(v);
        sum += isnan(v) ? 0 : v;
        min = v < min ? v : min;
        max = v > max ? v : max;
    }
    item->min = min;
    item->max = max;
    if (!present)
        return;
    mean = sum / (double)present;
    for (size_t i = 0; i < count; i++) {
        double d = values[i] - mean;

        m2 += isnan(d) ? 0 : d * d;
    }
    delta = mean - item->mean;
    total = (double)item->count + (double)present;
    item->mean += delta * (double)present / total;
    item->m2 += m2 + delta * delta * (double)item->count * (double)present / total;
    item->count += present;
}

static void learn_elements(struct item *item, const void *data, size_t count)
{
    enum dtype dtype = item->header.dtype;
    double values[1024];

    for (size_t at = 0; at < count; at += ARRAY_SIZE(values)) {
        size_t n = count - at < ARRAY_SIZE(values) ? count - at : ARRAY_SIZE(values);

        widen(dtype, (const char *)data + at * dtype_size(dtype), n, values);
        if (dtype_is_integer(dtype) && item->header.rank == 1)
            count_classes(item, values, n);
        learn_values(item, values, n);
    }
}

/* Hands pieces of whole rows to fn, little-endian. */
typedef int (*piece_fn)(struct bundle *bundle, struct item *item, const void *data, uint64_t first_row, size_t rows,
                        struct error *error);

static int learn_piece(struct bundle *bundle, struct item *item, const void *data, uint64_t first_row, size_t rows,
                       struct error *error)
{
    uint64_t per_row = item->header.shape[0] ? item->header.count / item->header.shape[0] : 0;

    learn_elements(item, data, rows * per_row);
    return 0;
}

static size_t row_size(const struct item *item)
{
    return item->header.shape[0] ? item->header.size / item->header.shape[0] : 0;
}

static int each_piece(struct bundle *bundle, struct item *item, struct reader *reader, piece_fn fn, struct error *error)
{
    size_t size = row_size(item), element = dtype_size(item->header.dtype);
    uint64_t rows = item->header.shape[0], step = size && size < PIECE ? PIECE / size : 1;

    if (!item->header.size)
        return 0;
    if (size > LIMIT_LINE)
        return error_set(error, ERROR_TOO_LARGE, "%s: a row has more than %" PRIu64 " bytes", reader_name(reader),
                         (uint64_t)LIMIT_LINE);
    for (uint64_t at = 0; at < rows; at += step) {
        size_t n = rows - at < step ? rows - at : step;
        const char *data;
        size_t available;

        /* The buffer grows with what is really there, not with what the header claims. */
        if (reader_peek(reader, n * size, &data, &available, NULL, error) < 0)
            return -1;
        if (available < n * size)
            return error_set(error, ERROR_INVALID, "%s is cut short: %" PRIu64 " of %" PRIu64 " rows are there",
                             reader_name(reader), at + available / size, rows);
        bundle->buffer = xrealloc(bundle->buffer, n * size);
        memcpy(bundle->buffer, data, n * size);
        reader_consume(reader, n * size);
        if (item->header.big_endian)
            tensor_swap(bundle->buffer, element, n * size / element);
        if (fn(bundle, item, bundle->buffer, at, n, error) < 0 || import_tick(bundle->import, NULL, error) < 0)
            return -1;
    }
    return 0;
}

/* Column-major elements are put in order through a temporary file. */
static int spool_fortran(struct item *item, struct reader *reader, struct spool *spool, struct error *error)
{
    uint64_t left = item->header.size;

    while (left) {
        const char *data;
        size_t available;

        if (reader_peek(reader, 1, &data, &available, NULL, error) < 0)
            return -1;
        if (!available)
            return error_set(error, ERROR_INVALID, "%s is cut short: %" PRIu64 " bytes are missing",
                             reader_name(reader), left);
        available = available < left ? available : left;
        if (spool_write(spool, data, available, error) < 0)
            return -1;
        reader_consume(reader, available);
        left -= available;
    }
    return 0;
}

/* Row r of a column-major tensor: element (r, i, j, …) lies at r + i·n0 + j·n0·n1 + …, so a row in row-major
 * order steps through the trailing dimensions from the last to the first. */
static int each_fortran_row(struct bundle *bundle, struct item *item, const char *data, piece_fn fn,
                            struct error *error)
{
    const struct tensor_header *header = &item->header;
    size_t element = dtype_size(header->dtype), size = row_size(item), per_row = size / element;
    uint64_t strides[LIMIT_TENSOR_RANK], stride = 1;

    for (int d = 0; d < header->rank; d++) {
        strides[d] = stride;
        stride *= header->shape[d];
    }
    bundle->buffer = xrealloc(bundle->buffer, size + 1);
    for (uint64_t row = 0; row < header->shape[0]; row++) {
        for (size_t k = 0; k < per_row; k++) {
            uint64_t from = row, rest = k;

            for (int d = header->rank - 1; d > 0; d--) {
                from += rest % header->shape[d] * strides[d];
                rest /= header->shape[d];
            }
            memcpy(bundle->buffer + k * element, data + from * element, element);
        }
        if (header->big_endian)
            tensor_swap(bundle->buffer, element, per_row);
        if (fn(bundle, item, bundle->buffer, row, 1, error) < 0)
            return -1;
    }
    return 0;
}

static int each_fortran(struct bundle *bundle, struct item *item, struct reader *reader, piece_fn fn,
                        struct error *error)
{
    cleanup_spool struct spool *spool = spool_new(bundle->import->options->directory);
    const void *data;
    int r;

    if (!item->header.size)
        return 0;
    if (row_size(item) > LIMIT_LINE)
        return error_set(error, ERROR_TOO_LARGE, "%s: a row has more than %" PRIu64 " bytes", reader_name(reader),
                         (uint64_t)LIMIT_LINE);
    if (spool_fortran(item, reader, spool, error) < 0 || spool_map(spool, &data, error) < 0)
        return -1;
    r = each_fortran_row(bundle, item, data, fn, error);
    munmap((void *)data, item->header.size);
    return r;
}

static int each_part(struct bundle *bundle, struct item *item, struct reader *reader, piece_fn fn, struct error *error)
{
    const char *data;
    size_t available;

    if (item->header.fortran && item->header.rank > 1) {
        if (each_fortran(bundle, item, reader, fn, error) < 0)
            return -1;
    } else if (each_piece(bundle, item, reader, fn, error) < 0) {
        return -1;
    }
    if (reader_peek(reader, 1, &data, &available, NULL, error) < 0)
        return -1;
    if (available)
        return error_set(error, ERROR_INVALID, "%s has bytes behind its last element", reader_name(reader));
    return 0;
}

/* -- learning -- */

static int learn_tensor(struct bundle *bundle, struct reader *reader, const char *name, struct error *error)
{
    struct item item = {.min = INFINITY, .max = -INFINITY};
    int r;

    if (bundle->count >= LIMIT_TENSORS)
        return error_set(error, ERROR_TOO_LARGE, "more than %d tensors", LIMIT_TENSORS);
    if (bundle->read_header(reader, &item.header, error) < 0)
        return -1;
    if (item.header.rank == 0) { /* a scalar is a row of its own */
        item.header.rank = 1;
        item.header.shape[0] = 1;
    }
    r = each_part(bundle, &item, reader, learn_piece, error);
    if (r < 0) {
        dictionary_release(&item.classes);
        return -1;
    }
    item.name = bundle->read_header == idx_read_header ? idx_name(fs_basename(name), item.header.rank) : xstrdup(name);
    if (bundle->count == bundle->capacity) {
        bundle->capacity = bundle->capacity ? 2 * bundle->capacity : 8;
        bundle->items = xreallocarray(bundle->items, bundle->capacity, sizeof(*bundle->items));
    }
    bundle->items[bundle->count++] = item;
    return 0;
}

/* -- writing -- */

static int write_rows(struct bundle *bundle, struct item *item, const void *data, uint64_t first_row, size_t rows,
                      struct error *error)
{
    size_t size = row_size(item);

    if (!bundle->draw)
        return safetensors_write(bundle->writer, item->tensor[0], data, rows * size, error);
    for (size_t r = 0; r < rows; r++)
        if (safetensors_write(bundle->writer, item->tensor[split_next(bundle->draw, 0)], (const char *)data + r * size,
                              size, error) < 0)
            return -1;
    return 0;
}

static int write_tensor(struct bundle *bundle, struct reader *reader, const char *name, struct error *error)
{
    struct item *item = &bundle->items[bundle->at++];
    struct tensor_header header;

    if (bundle->read_header(reader, &header, error) < 0)
        return -1;
    if (header.dtype != item->header.dtype || header.size != item->header.size)
        return error_set(error, ERROR_INVALID, "%s changed while it was read", reader_name(reader));
    /* Every tensor is drawn anew from the same seed: row i of x and row i of y go to the same part. */
    split_draw_free(bundle->draw);
    bundle->draw = bundle->import->split.count ? split_draw_new(&bundle->import->split, bundle->import->options->seed,
                                                                1, &item->header.shape[0])
                                               : NULL;
    return each_part(bundle, item, reader, write_rows, error);
}

static int add_tensors(struct bundle *bundle, struct error *error)
{
    const struct split_plan *split = &bundle->import->split;

    for (size_t i = 0; i < bundle->count; i++) {
        struct item *item = &bundle->items[i];
        cleanup_split_draw struct split_draw *draw = NULL;
        uint64_t shape[LIMIT_TENSOR_RANK];

        memcpy(shape, item->header.shape, sizeof(shape));
        if (!split->count) {
            item->tensor[0] = safetensors_add(bundle->writer, item->name, item->header.dtype, item->header.rank, shape);
            continue;
        }
        if (shape[0] != bundle->items[0].header.shape[0])
            return error_set(error, ERROR_INVALID,
                             "tensors '%s' and '%s' cannot be split: they have %" PRIu64 " and %" PRIu64 " rows",
                             bundle->items[0].name, item->name, bundle->items[0].header.shape[0], shape[0]);
        draw = split_draw_new(split, bundle->import->options->seed, 1, &item->header.shape[0]);
        for (size_t part = 0; part < split->count; part++) {
            cleanup_free char *name = xasprintf("%s/%s", split->parts[part].name, item->name);

            shape[0] = split_size(draw, part);
            item->tensor[part] = safetensors_add(bundle->writer, name, item->header.dtype, item->header.rank, shape);
        }
    }
    return 0;
}

/* -- schema -- */

static int compare_classes(const void *a_, const void *b_, void *entries_)
{
    const struct dictionary_entry *entries = entries_;
    int64_t a, b;

    memcpy(&a, entries[*(const uint32_t *)a_].key, 8);
    memcpy(&b, entries[*(const uint32_t *)b_].key, 8);
    return a < b ? -1 : a > b;
}

static json_t *describe_classes(const struct item *item)
{
    cleanup_free uint32_t *order = xcalloc(item->classes.count + 1, sizeof(*order));
    json_t *classes = json_array();

    for (size_t i = 0; i < item->classes.count; i++)
        order[i] = i;
    qsort_r(order, item->classes.count, sizeof(*order), compare_classes, item->classes.entries);
    for (size_t i = 0; i < item->classes.count; i++) {
        const struct dictionary_entry *entry = &item->classes.entries[order[i]];
        int64_t value;

        memcpy(&value, entry->key, 8);
        json_array_append_new(classes,
                              json_build("{s:I, s:I}", "value", (json_int_t)value, "count", (json_int_t)entry->count));
    }
    return classes;
}

static json_t *describe_item(const struct item *item)
{
    bool integers = dtype_is_integer(item->header.dtype);
    bool label = item->header.rank == 1 && integers && item->classes.count < CLASSES_MAX && !item->too_large;
    json_t *object = json_object();

    json_set_string(object, "name", item->name);
    json_set_string(object, "role", label ? "label" : "feature");
    json_set_string(object, "kind", integers ? "integer" : "real");
    json_set_string(object, "tensor", item->name);
    json_set_int(object, "count", item->count);
    json_set_int(object, "missing", item->header.count - item->count);
    if (item->count) {
        json_set_number(object, "min", item->min);
        json_set_number(object, "max", item->max);
        json_set_number(object, "mean", item->mean);
        json_set_number(object, "std", sqrt(item->m2 / (double)item->count));
    }
    if (label)
        json_object_set_new(object, "classes", describe_classes(item));
    return object;
}

static void complete_schema(struct bundle *bundle)
{
    json_t *schema = bundle->import->schema, *columns = json_array();
    const struct split_plan *split = &bundle->import->split;
    bool same = true;

    json_set_string(schema, "kind", "tensors");
    for (size_t i = 0; i < bundle->count; i++) {
        same &= bundle->items[i].header.shape[0] == bundle->items[0].header.shape[0];
        json_array_append_new(columns, describe_item(&bundle->items[i]));
    }
    json_object_set_new(schema, "columns", columns);
    if (same)
        json_set_int(schema, "rows", bundle->items[0].header.shape[0]);
    if (split->count) {
        cleanup_split_draw struct split_draw *draw = split_draw_new(split, bundle->import->options->seed, 1,
                                                                    &bundle->items[0].header.shape[0]);

        json_object_set_new(schema, "splits", split_describe(split, draw));
    }
}

/* -- sources -- */

typedef int (*tensor_fn)(struct bundle *bundle, struct reader *reader, const char *name, struct error *error);

struct member {
    struct bundle *bundle;
    tensor_fn fn;
};

/* One file of an NPZ. */
static int on_member(void *userdata, struct archive_entry_view *view, struct error *error)
{
    struct member *member = userdata;
    cleanup_reader struct reader *reader = NULL;
    size_t length = strlen(view->name);
    cleanup_free char *name = NULL;

    if (length < 5 || strcmp(view->name + length - 4, ".npy") != 0)
        return error_set(error, ERROR_INVALID, "'%s' in the archive is not an .npy file; is it an NPZ?", view->name);
    name = xstrndup(view->name, length - 4);
    reader = reader_open_source(archive_entry_read, view, view->name);
    return member->fn(member->bundle, reader, name, error);
}

static int each_source(struct bundle *bundle, tensor_fn fn, struct error *error)
{
    struct import *import = bundle->import;

    import->done = 0;
    for (size_t i = 0; i < import->n_sources; i++) {
        const struct import_source *source = &import->sources[i];
        cleanup_reader struct reader *reader = NULL;
        const char *data;
        size_t length;

        if (import_open(import, i, &reader, error) < 0 || reader_peek(reader, 4, &data, &length, NULL, error) < 0)
            return -1;
        if (bundle->read_header == npy_read_header && length >= 4 && memcmp(data, "PK\3\4", 4) == 0) {
            struct member member = {bundle, fn};

            if (archive_each(source->fd, source->name, on_member, &member, NULL, error) < 0)
                return error_is_set(error) ? error_wrap(error, "%s", source->name) : -1;
        } else {
            cleanup_free char *stem = stem_of(source->name);

            if (fn(bundle, reader, stem, error) < 0)
                return -1;
        }
        import->done += reader_raw_size(reader);
    }
    return 0;
}

static int import_tensors(struct import *import,
                          int (*read_header)(struct reader *, struct tensor_header *, struct error *),
                          struct error *error)
{
    CLEANUP(bundle_release) struct bundle bundle = {.import = import, .read_header = read_header};
    cleanup_free char *text = NULL;

    if (import->options->label || import->options->stratify)
        return error_set(error, ERROR_INVALID, "--label and --stratify are for tables; tensors keep their own names");
    if (each_source(&bundle, learn_tensor, error) < 0)
        return -1;
    if (!bundle.count)
        return error_set(error, ERROR_INVALID, "%s holds no arrays", import->sources[0].name);
    bundle.writer = safetensors_writer_new();
    if (add_tensors(&bundle, error) < 0 || import_finish_sources(import, error) < 0)
        return -1;
    complete_schema(&bundle);
    text = json_text(import->schema);
    safetensors_set_metadata(bundle.writer, "schema", text);
    if (safetensors_begin(bundle.writer, import->fd, error) < 0 || each_source(&bundle, write_tensor, error) < 0)
        return -1;
    return safetensors_finish(bundle.writer, error);
}

int import_idx(struct import *import, struct error *error)
{
    return import_tensors(import, idx_read_header, error);
}

int import_numpy(struct import *import, struct error *error)
{
    return import_tensors(import, npy_read_header, error);
}
