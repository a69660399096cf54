#include "format/safetensors.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include "util/map.h"
#include "util/xalloc.h"

#define LENGTH_SIZE 8

static uint64_t read_u64(const void *p)
{
    const uint8_t *b = p;
    uint64_t v = 0;

    for (int i = 7; i >= 0; i--)
        v = v << 8 | b[i];
    return v;
}

static int bad_tensor(struct error *error, const char *name, const char *what)
{
    return error_set(error, ERROR_INVALID, "tensor '%.200s' %s", name, what);
}

/* A JSON integer that is not negative. */
static bool get_u64(const json_t *value, uint64_t *ret)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *ret = json_integer_value(value);
    return true;
}

static int parse_shape(struct tensor *tensor, const json_t *shape, struct error *error)
{
    if (!json_is_array(shape))
        return bad_tensor(error, tensor->name, "has no array 'shape'");
    if (json_array_size(shape) > LIMIT_TENSOR_RANK)
        return bad_tensor(error, tensor->name, "has too many dimensions (at most 32)");
    tensor->rank = json_array_size(shape);
    tensor->shape = xcalloc(tensor->rank ? tensor->rank : 1, sizeof(*tensor->shape));
    for (int i = 0; i < tensor->rank; i++)
        if (!get_u64(json_array_get(shape, i), &tensor->shape[i]))
            return bad_tensor(error, tensor->name, "has a shape with something else than integers from 0");
    return 0;
}

/* Fills a tensor whose name is set. */
static int parse_tensor(struct tensor *tensor, const json_t *value, struct error *error)
{
    const json_t *dtype = json_object_get(value, "dtype"), *offsets = json_object_get(value, "data_offsets");
    uint64_t end, count;

    if (!json_is_object(value) || json_object_size(value) != 3)
        return bad_tensor(error, tensor->name, "is not an object of exactly dtype, shape and data_offsets");
    if (!json_is_string(dtype))
        return bad_tensor(error, tensor->name, "has no string 'dtype'");
    if (dtype_parse(json_string_value(dtype), &tensor->dtype, error) < 0)
        return error_wrap(error, "tensor '%.200s'", tensor->name);
    if (parse_shape(tensor, json_object_get(value, "shape"), error) < 0)
        return -1;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !get_u64(json_array_get(offsets, 0), &tensor->begin) || !get_u64(json_array_get(offsets, 1), &end))
        return bad_tensor(error, tensor->name, "needs 'data_offsets' of two integers from 0");
    if (end < tensor->begin)
        return bad_tensor(error, tensor->name, "ends before it begins");
    if (!tensor_count(tensor->rank, tensor->shape, &count) || count > (UINT64_C(1) << 62) / dtype_size(tensor->dtype))
        return bad_tensor(error, tensor->name, "has a shape that overflows");
    tensor->size = end - tensor->begin;
    if (count * dtype_size(tensor->dtype) != tensor->size)
        return error_set(error, ERROR_INVALID,
                         "tensor '%.200s' needs %" PRIu64 " bytes for its shape, but its offsets span %" PRIu64,
                         tensor->name, count * dtype_size(tensor->dtype), tensor->size);
    return 0;
}

static int compare_tensors(const void *a_, const void *b_)
{
    const struct tensor *a = a_, *b = b_;

    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* Data must be covered exactly once. */
static int check_layout(const struct safetensors *file, struct error *error)
{
    uint64_t at = 0;

    for (size_t i = 0; i < file->n_tensors; i++) {
        const struct tensor *tensor = &file->tensors[i];

        if (tensor->begin < at)
            return bad_tensor(error, tensor->name, "overlaps the one before it");
        if (tensor->begin > at)
            return bad_tensor(error, tensor->name, "leaves a hole before its data");
        if (tensor->size > file->data_size - at)
            return bad_tensor(error, tensor->name, "ends beyond the end of the file");
        at += tensor->size;
    }
    if (at != file->data_size)
        return error_set(error, ERROR_INVALID, "%" PRIu64 " bytes behind the last tensor belong to none",
                         file->data_size - at);
    return 0;
}

static int check_metadata(const json_t *metadata, struct error *error)
{
    const char *key;
    json_t *value;

    if (!json_is_object(metadata))
        return error_set(error, ERROR_INVALID, "__metadata__ is not an object");
    json_object_foreach((json_t *)metadata, key, value)
        if (!json_is_string(value))
            return error_set(error, ERROR_INVALID, "'%.200s' in __metadata__ is not a string", key);
    return 0;
}

static int parse_header(const char *header, size_t length, uint64_t data_size, struct safetensors **ret_file,
                        struct error *error)
{
    cleanup_safetensors struct safetensors *file = xnew0(struct safetensors);
    cleanup_json json_t *root = NULL;
    struct map *index = xnew0(struct map);
    const char *key;
    json_t *value;

    file->index_ = index;
    file->metadata = json_object();
    file->data_offset = LENGTH_SIZE + length;
    file->data_size = data_size;
    if (length == 0 || header[0] != '{')
        return error_set(error, ERROR_INVALID, "the header does not begin with '{'");
    root = json_parse(header, length, error);
    if (!root)
        return error_wrap(error, "header");
    if (!json_is_object(root))
        return error_set(error, ERROR_INVALID, "the header is not an object");
    if (json_object_size(root) > LIMIT_TENSORS)
        return error_set(error, ERROR_TOO_LARGE, "%zu tensors, the limit is %d", json_object_size(root), LIMIT_TENSORS);
    file->tensors = xcalloc(json_object_size(root) + 1, sizeof(*file->tensors));
    json_object_foreach(root, key, value) {
        struct tensor *tensor = &file->tensors[file->n_tensors];

        if (strcmp(key, "__metadata__") == 0) {
            if (check_metadata(value, error) < 0)
                return -1;
            json_decref(file->metadata);
            file->metadata = json_incref(value);
            continue;
        }
        tensor->name = xstrdup(key);
        file->n_tensors++;
        if (parse_tensor(tensor, value, error) < 0)
            return -1;
    }
    qsort(file->tensors, file->n_tensors, sizeof(*file->tensors), compare_tensors);
    if (check_layout(file, error) < 0)
        return -1;
    for (size_t i = 0; i < file->n_tensors; i++)
        map_put(index, file->tensors[i].name, &file->tensors[i]);
    *ret_file = steal_ptr(file);
    return 0;
}

/* Checks what the first eight bytes claim against the size of the file. */
static int check_length(uint64_t file_size, const void *first, uint64_t *ret_length, struct error *error)
{
    uint64_t length;

    if (file_size < LENGTH_SIZE)
        return error_set(error, ERROR_INVALID, "%" PRIu64 " bytes are too few for a safetensors file", file_size);
    length = read_u64(first);
    if (length > LIMIT_SAFETENSORS_HEADER)
        return error_set(error, ERROR_INVALID, "it claims a header of %" PRIu64 " bytes; the limit is %" PRIu64, length,
                         (uint64_t)LIMIT_SAFETENSORS_HEADER);
    if (length > file_size - LENGTH_SIZE)
        return error_set(error, ERROR_INVALID,
                         "it claims a header of %" PRIu64 " bytes, but the file has only %" PRIu64, length, file_size);
    *ret_length = length;
    return 0;
}

int safetensors_parse(const void *data, size_t length, const char *name, struct safetensors **ret_file,
                      struct error *error)
{
    uint64_t header = 0;

    if (check_length(length, data, &header, error) < 0 ||
        parse_header((const char *)data + LENGTH_SIZE, header, length - LENGTH_SIZE - header, ret_file, error) < 0)
        return error_wrap(error, "%s is not a valid safetensors file", name);
    return 0;
}

static int read_at(int fd, void *buffer, size_t length, off_t offset, struct error *error)
{
    char *p = buffer;

    while (length) {
        ssize_t n = pread(fd, p, length, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, errno, "cannot read");
        if (n == 0)
            return error_set(error, ERROR_INVALID, "the file was cut while it was read");
        p += n;
        offset += n;
        length -= n;
    }
    return 0;
}

static int open_checked(int fd, struct safetensors **ret_file, struct error *error)
{
    cleanup_free char *header = NULL;
    char first[LENGTH_SIZE];
    struct stat st;
    uint64_t length = 0;

    if (fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "cannot stat");
    if (!S_ISREG(st.st_mode))
        return error_set(error, ERROR_INVALID, "it is not a regular file");
    if (st.st_size >= LENGTH_SIZE && read_at(fd, first, sizeof(first), 0, error) < 0)
        return -1;
    if (check_length(st.st_size, first, &length, error) < 0)
        return -1;
    header = xmalloc(length + 1);
    if (read_at(fd, header, length, LENGTH_SIZE, error) < 0)
        return -1;
    return parse_header(header, length, st.st_size - LENGTH_SIZE - length, ret_file, error);
}

int safetensors_open(int fd, const char *name, struct safetensors **ret_file, struct error *error)
{
    if (open_checked(fd, ret_file, error) < 0)
        return error_wrap(error, "%s is not a valid safetensors file", name);
    return 0;
}

struct safetensors *safetensors_free(struct safetensors *file)
{
    if (!file)
        return NULL;
    for (size_t i = 0; i < file->n_tensors; i++) {
        free(file->tensors[i].name);
        free(file->tensors[i].shape);
    }
    free(file->tensors);
    json_decref(file->metadata);
    map_release(file->index_);
    free(file->index_);
    free(file);
    return NULL;
}

const struct tensor *safetensors_find(const struct safetensors *file, const char *name)
{
    return map_get(file->index_, name);
}

json_t *safetensors_describe(const struct safetensors *file)
{
    json_t *all = json_object();

    for (size_t i = 0; i < file->n_tensors; i++) {
        const struct tensor *tensor = &file->tensors[i];
        json_t *one = json_object(), *shape = json_array();

        json_set_string(one, "dtype", dtype_name(tensor->dtype));
        for (int d = 0; d < tensor->rank; d++)
            json_array_append_new(shape, json_integer(tensor->shape[d]));
        json_object_set_new(one, "shape", shape);
        json_set_int(one, "size", tensor->size);
        json_object_set_new(all, tensor->name, one);
    }
    return all;
}
