#include "format/preview.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include "format/safetensors.h"
#include "util/xalloc.h"

#define VALUES      16 /* of a tensor that is no table */
#define TENSORS     100
#define ROW_COLUMNS 1000

static int read_element(int fd, const struct safetensors *file, const struct tensor *tensor, uint64_t index,
                        json_t **ret_value, struct error *error)
{
    size_t size = dtype_size(tensor->dtype);
    char element[8];
    double value;

    if (pread(fd, element, size, file->data_offset + tensor->begin + index * size) != (ssize_t)size)
        return error_set_errno(error, errno, "cannot read tensor %s", tensor->name);
    value = tensor_value(tensor->dtype, element, 0);
    if (tensor->dtype == DTYPE_I64) {
        int64_t integer;

        memcpy(&integer, element, 8);
        *ret_value = json_integer(integer);
    } else if (isnan(value) || isinf(value)) {
        *ret_value = json_null();
    } else if (tensor->dtype == DTYPE_F16 || tensor->dtype == DTYPE_BF16 || tensor->dtype == DTYPE_F32 ||
               tensor->dtype == DTYPE_F64) {
        *ret_value = json_real(value);
    } else {
        *ret_value = json_integer((json_int_t)value);
    }
    return 0;
}

static json_t *category_of(const json_t *column, json_t *code)
{
    const json_t *categories = json_object_get(column, "categories");
    json_int_t index = json_integer_value(code);
    json_t *value = index < 0 ? NULL : json_object_get(json_array_get(categories, index), "value");

    if (!json_is_array(categories))
        return code;
    json_decref(code);
    return value ? json_incref(value) : json_null();
}

/* The prefix of the first split, "" without one; to be freed. */
static char *first_prefix(const json_t *schema)
{
    const char *name = json_get_string(json_array_get(json_object_get(schema, "splits"), 0), "name", NULL);

    return name ? xasprintf("%s/", name) : xstrdup("");
}

static int read_cell(int fd, const struct safetensors *file, const json_t *column, const char *prefix, uint64_t row,
                     json_t **ret_value, struct error *error)
{
    cleanup_free char *name = xasprintf("%s%s", prefix, json_get_string(column, "tensor", "x"));
    const struct tensor *tensor = safetensors_find(file, name);
    uint64_t index = json_get_int(column, "index", 0);
    json_t *value;

    if (!tensor || tensor->rank < 1 || tensor->rank > 2 || row >= tensor->shape[0] ||
        (tensor->rank == 2 && index >= tensor->shape[1])) {
        *ret_value = json_null();
        return 0;
    }
    if (tensor->rank == 2)
        row = row * tensor->shape[1] + index;
    if (read_element(fd, file, tensor, row, &value, error) < 0)
        return -1;
    *ret_value = category_of(column, value);
    return 0;
}

static uint64_t rows_of(const struct safetensors *file, const json_t *columns, const char *prefix)
{
    const json_t *column;
    size_t i;

    json_array_foreach(columns, i, column) {
        cleanup_free char *name = xasprintf("%s%s", prefix, json_get_string(column, "tensor", ""));
        const struct tensor *tensor = safetensors_find(file, name);

        if (tensor && tensor->rank)
            return tensor->shape[0];
    }
    return 0;
}

static json_t *table_rows(int fd, const struct safetensors *file, const json_t *schema, int rows, struct error *error)
{
    const json_t *columns = json_object_get(schema, "columns"), *column;
    cleanup_json json_t *names = json_array(), *out = json_array();
    cleanup_free char *prefix = first_prefix(schema);
    uint64_t available = rows_of(file, columns, prefix);
    size_t i;

    json_array_foreach(columns, i, column)
        if (json_object_get(column, "tensor") && json_array_size(names) < ROW_COLUMNS)
            json_array_append_new(names, json_string(json_get_string(column, "name", "")));
    for (uint64_t row = 0; row < available && row < (uint64_t)rows; row++) {
        json_t *cells = json_array();

        json_array_append_new(out, cells);
        json_array_foreach(columns, i, column) {
            json_t *value;

            if (!json_object_get(column, "tensor") || json_array_size(cells) >= ROW_COLUMNS)
                continue;
            if (read_cell(fd, file, column, prefix, row, &value, error) < 0)
                return NULL;
            json_array_append_new(cells, value);
        }
    }
    return json_build("{s:O, s:O}", "columns", names, "rows", out);
}

static json_t *first_values(int fd, const struct safetensors *file, struct error *error)
{
    cleanup_json json_t *tensors = json_array();

    for (size_t i = 0; i < file->n_tensors && i < TENSORS; i++) {
        const struct tensor *tensor = &file->tensors[i];
        uint64_t count = tensor->size / dtype_size(tensor->dtype);
        json_t *one = json_object(), *shape = json_array(), *values = json_array();

        json_array_append_new(tensors, one);
        json_set_string(one, "name", tensor->name);
        json_set_string(one, "dtype", dtype_name(tensor->dtype));
        for (int d = 0; d < tensor->rank; d++)
            json_array_append_new(shape, json_integer(tensor->shape[d]));
        json_object_set_new(one, "shape", shape);
        json_object_set_new(one, "values", values);
        for (uint64_t k = 0; k < count && k < VALUES; k++) {
            json_t *value;

            if (read_element(fd, file, tensor, k, &value, error) < 0)
                return NULL;
            json_array_append_new(values, value);
        }
    }
    return json_build("{s:O}", "tensors", tensors);
}

json_t *preview_rows(int fd, const json_t *schema, int rows, struct error *error)
{
    cleanup_safetensors struct safetensors *file = NULL;

    if (safetensors_open(fd, "the dataset", &file, error) < 0)
        return NULL;
    if (strcmp(json_get_string(schema, "kind", ""), "table") == 0)
        return table_rows(fd, file, schema, rows, error);
    return first_values(fd, file, error);
}
