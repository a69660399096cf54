/* Rows of tensors as text: CSV and libsvm. */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "format/export-private.h"
#include "format/number.h"
#include "util/fs.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define FLUSH     (256 * KIB) /* written at once */
#define TICK_ROWS 4096

/* -- text on its way out -- */

struct text {
    int fd;
    struct strbuf buffer;
    struct export *export;
    uint64_t rows, total; /* that are through, and of all */
};

static void text_release(struct text *text)
{
    strbuf_release(&text->buffer);
}

static int text_flush(struct text *text, struct error *error)
{
    if (fs_write_all(text->fd, text->buffer.data, text->buffer.length, error) < 0)
        return -1;
    strbuf_reset(&text->buffer);
    return 0;
}

static int end_row(struct text *text, struct error *error)
{
    strbuf_addc(&text->buffer, '\n');
    if (text->buffer.overflowed)
        return error_set(error, ERROR_TOO_LARGE, "a row has more than %" PRIu64 " bytes", (uint64_t)LIMIT_LINE);
    if (text->buffer.length >= FLUSH && text_flush(text, error) < 0)
        return -1;
    return ++text->rows % TICK_ROWS == 0 ? export_tick(text->export, text->rows, text->total, error) : 0;
}

static void add_integer(struct strbuf *out, int64_t value)
{
    char *at = strbuf_reserve(out, NUMBER_TEXT);

    if (at)
        strbuf_commit(out, number_print_integer(value, at));
}

/* `marked`: never looks like an integer, so that it is read back as what it is. */
static void add_real(struct strbuf *out, double value, bool narrow, bool marked)
{
    size_t before = out->length;
    char *at;

    if (!isfinite(value)) {
        strbuf_adds(out, isnan(value) ? "" : value > 0 ? "inf" : "-inf");
        return;
    }
    at = strbuf_reserve(out, NUMBER_TEXT);
    if (!at)
        return;
    strbuf_commit(out, narrow ? number_print_float((float)value, at) : number_print(value, at));
    if (marked && !strpbrk(out->data + before, ".e"))
        strbuf_adds(out, ".0");
}

/* An element of an integer tensor; the upper half of uint64 comes out negative. */
static int64_t read_integer(enum dtype dtype, const char *data)
{
    int64_t value;

    if (dtype != DTYPE_I64 && dtype != DTYPE_U64)
        return (int64_t)tensor_value(dtype, data, 0);
    memcpy(&value, data, sizeof(value));
    return value;
}

static void add_element(struct strbuf *out, enum dtype dtype, const char *data, bool narrow, bool marked)
{
    double value;

    if (dtype == DTYPE_U64 && read_integer(dtype, data) < 0) {
        strbuf_addf(out, "%" PRIu64, (uint64_t)read_integer(dtype, data));
    } else if (dtype_is_integer(dtype)) {
        add_integer(out, read_integer(dtype, data));
    } else {
        value = tensor_value(dtype, data, 0);
        add_real(out, value, narrow || dtype_size(dtype) < 4, marked);
    }
}

/* -- CSV -- */

/* A column of one part. */
struct field {
    const char *data; /* its first element */
    size_t step;      /* bytes to the next row */
    enum dtype dtype;
    bool is_real;               /* in the file it came from */
    const struct strvec *words; /* by code; NULL: numbers */
};

struct csv_export {
    struct export *export;
    struct text text;
    struct strvec *words; /* [column] */
    struct field *fields; /* [column] of the part at hand */
    size_t n_columns;
    const json_t **columns; /* those that have a tensor */
    bool narrow;            /* float32 was asked for: reals have the digits of a float */
};

static void csv_export_release(struct csv_export *csv)
{
    for (size_t i = 0; i < csv->n_columns; i++)
        strvec_release(&csv->words[i]);
    free(csv->words);
    free(csv->fields);
    free(csv->columns);
    text_release(&csv->text);
}

/* As a field of a CSV; to be freed. */
static char *quoted(const char *word)
{
    size_t length = strlen(word);
    char *out, *p;

    if (length && !strpbrk(word, ",\"\r\n") && !strchr(" \t", word[0]) && !strchr(" \t", word[length - 1]))
        return xstrdup(word);
    p = out = xmalloc(2 * length + 3);
    *p++ = '"';
    for (; *word; word++) {
        if (*word == '"')
            *p++ = '"';
        *p++ = *word;
    }
    *p++ = '"';
    *p = '\0';
    return out;
}

static int find_columns(struct csv_export *csv, struct error *error)
{
    const json_t *schema = csv->export->schema, *columns = json_object_get(schema, "columns"), *column, *word;
    size_t count = json_array_size(columns), i, k;

    csv->columns = xcalloc(count + 1, sizeof(*csv->columns));
    csv->words = xcalloc(count + 1, sizeof(*csv->words));
    csv->fields = xcalloc(count + 1, sizeof(*csv->fields));
    csv->narrow = json_get_string(json_object_get(schema, "options"), "dtype", NULL) != NULL;
    json_array_foreach(columns, i, column) {
        if (!json_get_string(column, "tensor", NULL))
            continue;
        json_array_foreach(json_object_get(column, "categories"), k, word)
            strvec_push_take(&csv->words[csv->n_columns], quoted(json_get_string(word, "value", "")));
        csv->columns[csv->n_columns++] = column;
    }
    if (strcmp(json_get_string(schema, "kind", ""), "table") != 0 || !csv->n_columns)
        return error_set(error, ERROR_INVALID, "%s is no table with columns; export it as npy or safetensors%s",
                         csv->export->name,
                         strcmp(json_get_string(schema, "kind", ""), "sparse") == 0 ? ", or as libsvm" : "");
    return 0;
}

static int find_field(struct csv_export *csv, const char *prefix, size_t i, uint64_t *rows, struct error *error)
{
    const json_t *column = csv->columns[i];
    const char *name = json_get_string(column, "tensor", "");
    const struct tensor *tensor = export_find(csv->export, prefix, name);
    uint64_t index = json_get_int(column, "index", 0), width;

    if (!tensor || tensor->rank < 1 || tensor->rank > 2 || (tensor->rank == 2 && index >= tensor->shape[1]) ||
        (i && tensor->shape[0] != *rows))
        return error_set(error, ERROR_INVALID, "%s: tensor %s%s does not fit its column '%s'", csv->export->name,
                         prefix, name, json_get_string(column, "name", ""));
    width = tensor->rank == 2 ? tensor->shape[1] : 1;
    *rows = tensor->shape[0];
    csv->fields[i] = (struct field){
        .data = export_data(csv->export, tensor) + (tensor->rank == 2 ? index * dtype_size(tensor->dtype) : 0),
        .step = width * dtype_size(tensor->dtype),
        .dtype = tensor->dtype,
        .is_real = strcmp(json_get_string(column, "kind", ""), "real") == 0,
        .words = json_is_array(json_object_get(column, "categories")) ? &csv->words[i] : NULL};
    return 0;
}

static int find_fields(struct csv_export *csv, const char *prefix, uint64_t *ret_rows, struct error *error)
{
    uint64_t rows = 0;

    for (size_t i = 0; i < csv->n_columns; i++)
        if (find_field(csv, prefix, i, &rows, error) < 0)
            return -1;
    *ret_rows = rows;
    return 0;
}

static void add_field(struct csv_export *csv, const struct field *field, uint64_t row)
{
    const char *data = field->data + row * field->step;
    struct strbuf *out = &csv->text.buffer;
    int64_t code;

    if (!field->words) {
        add_element(out, field->dtype, data, csv->narrow && field->dtype == DTYPE_F32, field->is_real);
        return;
    }
    code = dtype_is_integer(field->dtype) ? read_integer(field->dtype, data) : -1;
    if (code >= 0 && (uint64_t)code < field->words->count)
        strbuf_adds(out, field->words->items[code]);
}

static int write_rows(struct csv_export *csv, uint64_t rows, struct error *error)
{
    struct strbuf *out = &csv->text.buffer;

    for (uint64_t row = 0; row < rows; row++) {
        size_t before = out->length;

        for (size_t i = 0; i < csv->n_columns; i++) {
            if (i)
                strbuf_addc(out, ',');
            add_field(csv, &csv->fields[i], row);
        }
        if (out->length == before)
            strbuf_adds(out, "NA"); /* a blank line would be no row */
        if (end_row(&csv->text, error) < 0)
            return -1;
    }
    return 0;
}

static int write_header(struct csv_export *csv, struct error *error)
{
    for (size_t i = 0; i < csv->n_columns; i++) {
        cleanup_free char *name = quoted(json_get_string(csv->columns[i], "name", ""));

        if (i)
            strbuf_addc(&csv->text.buffer, ',');
        strbuf_adds(&csv->text.buffer, name);
    }
    return end_row(&csv->text, error);
}

int export_csv(struct export *export, int fd, struct error *error)
{
    CLEANUP(csv_export_release)
    struct csv_export csv = {.export = export, .text = {.fd = fd, .buffer = STRBUF_INIT(LIMIT_LINE), .export = export}};
    uint64_t rows;

    if (find_columns(&csv, error) < 0)
        return -1;
    for (size_t i = 0; i < export->prefixes.count; i++) {
        if (find_fields(&csv, export->prefixes.items[i], &rows, error) < 0)
            return -1;
        csv.text.total += rows;
    }
    if (write_header(&csv, error) < 0)
        return -1;
    for (size_t i = 0; i < export->prefixes.count; i++)
        if (find_fields(&csv, export->prefixes.items[i], &rows, error) < 0 || write_rows(&csv, rows, error) < 0)
            return -1;
    return text_flush(&csv.text, error);
}

/* -- libsvm -- */

/* A vector of the sparse form, or a tensor of the dense one; data NULL: not there. */
struct vector {
    const char *data;
    enum dtype dtype;
    uint64_t length;
};

struct rows {
    struct text text;
    uint64_t count;
    struct vector labels, qids;
    struct vector indptr, indices, values; /* sparse */
    uint64_t width;                        /* dense: `values` has so many columns */
};

static struct vector vector_of(const struct export *export, const char *prefix, const char *name, int rank)
{
    const struct tensor *tensor = export_find(export, prefix, name);
    uint64_t length;

    if (!tensor || tensor->rank != rank || !tensor_count(tensor->rank, tensor->shape, &length))
        return (struct vector){NULL};
    return (struct vector){export_data(export, tensor), tensor->dtype, length};
}

static const char *element(const struct vector *vector, uint64_t i)
{
    return vector->data + i * dtype_size(vector->dtype);
}

static int find_rows(const struct export *export, const char *prefix, struct rows *rows, struct error *error)
{
    const struct tensor *x = export_find(export, prefix, "x");

    rows->labels = vector_of(export, prefix, "y", 1);
    rows->qids = vector_of(export, prefix, "qid", 1);
    rows->indptr = vector_of(export, prefix, "x.indptr", 1);
    rows->indices = vector_of(export, prefix, "x.indices", 1);
    rows->values = vector_of(export, prefix, rows->indptr.data ? "x.values" : "x", rows->indptr.data ? 1 : 2);
    if (rows->indptr.data) {
        if (!rows->values.data || !rows->indices.data || !rows->indptr.length ||
            !dtype_is_integer(rows->indptr.dtype) || !dtype_is_integer(rows->indices.dtype))
            return error_set(error, ERROR_INVALID, "%s: %sx is no sparse matrix", export->name, prefix);
        rows->count = rows->indptr.length - 1;
    } else if (rows->values.data) {
        rows->count = x->shape[0];
        rows->width = x->shape[1];
    } else {
        return error_set(error, ERROR_INVALID,
                         "%s has neither sparse rows nor a matrix %sx; export it as npy or safetensors", export->name,
                         prefix);
    }
    if (!rows->indptr.data && !rows->width)
        return error_set(error, ERROR_INVALID, "%s: %sx has no columns", export->name, prefix);
    if ((rows->labels.data && rows->labels.length != rows->count) ||
        (rows->qids.data && (rows->qids.length != rows->count || !dtype_is_integer(rows->qids.dtype))))
        return error_set(error, ERROR_INVALID, "%s: there are not as many labels as rows", export->name);
    return 0;
}

/* Text features have no place among numbered ones. */
static int check_features(const struct export *export, struct error *error)
{
    const json_t *column;
    size_t i;

    json_array_foreach(json_object_get(export->schema, "columns"), i, column)
        if (strcmp(json_get_string(column, "role", ""), "feature") == 0 &&
            strcmp(json_get_string(column, "kind", ""), "category") == 0)
            return error_set(error, ERROR_INVALID, "column '%s' is text, which libsvm cannot hold; export %s as csv",
                             json_get_string(column, "name", ""), export->name);
    return 0;
}

static int add_pair(struct rows *rows, uint64_t feature, uint64_t at, struct error *error)
{
    double value = tensor_value(rows->values.dtype, rows->values.data, at);
    struct strbuf *out = &rows->text.buffer;

    if (!isfinite(value))
        return error_set(error, ERROR_INVALID,
                         "row %" PRIu64 " has a missing or infinite value, which libsvm cannot hold", rows->text.rows);
    strbuf_addc(out, ' ');
    add_integer(out, (int64_t)feature + 1);
    strbuf_addc(out, ':');
    add_element(out, rows->values.dtype, element(&rows->values, at), false, false);
    return 0;
}

static int add_sparse(struct rows *rows, uint64_t row, struct error *error)
{
    int64_t begin = read_integer(rows->indptr.dtype, element(&rows->indptr, row));
    int64_t end = read_integer(rows->indptr.dtype, element(&rows->indptr, row + 1));

    if (begin < 0 || end < begin || (uint64_t)end > rows->values.length || (uint64_t)end > rows->indices.length)
        return error_set(error, ERROR_INVALID, "the sparse matrix is malformed in row %" PRIu64, row);
    for (int64_t i = begin; i < end; i++)
        if (add_pair(rows, read_integer(rows->indices.dtype, element(&rows->indices, i)), i, error) < 0)
            return -1;
    return 0;
}

static int add_dense(struct rows *rows, uint64_t row, struct error *error)
{
    for (uint64_t i = 0; i < rows->width; i++) {
        uint64_t at = row * rows->width + i;

        if (tensor_value(rows->values.dtype, rows->values.data, at) != 0 && add_pair(rows, i, at, error) < 0)
            return -1;
    }
    return 0;
}

static int write_part(struct rows *rows, struct error *error)
{
    struct strbuf *out = &rows->text.buffer;

    for (uint64_t row = 0; row < rows->count; row++) {
        if (rows->labels.data)
            add_element(out, rows->labels.dtype, element(&rows->labels, row), false, true);
        else
            strbuf_addc(out, '0');
        if (rows->qids.data) {
            strbuf_adds(out, " qid:");
            add_integer(out, read_integer(rows->qids.dtype, element(&rows->qids, row)));
        }
        if ((rows->indptr.data ? add_sparse(rows, row, error) : add_dense(rows, row, error)) < 0 ||
            end_row(&rows->text, error) < 0)
            return -1;
    }
    return 0;
}

static void rows_release(struct rows *rows)
{
    text_release(&rows->text);
}

int export_libsvm(struct export *export, int fd, struct error *error)
{
    CLEANUP(rows_release)
    struct rows rows = {.text = {.fd = fd, .buffer = STRBUF_INIT(LIMIT_LINE), .export = export}};

    if (check_features(export, error) < 0)
        return -1;
    for (size_t i = 0; i < export->prefixes.count; i++) {
        if (find_rows(export, export->prefixes.items[i], &rows, error) < 0)
            return -1;
        rows.text.total += rows.count;
    }
    for (size_t i = 0; i < export->prefixes.count; i++)
        if (find_rows(export, export->prefixes.items[i], &rows, error) < 0 || write_part(&rows, error) < 0)
            return -1;
    return text_flush(&rows.text, error);
}
