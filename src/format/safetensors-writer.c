#include <assert.h>
#include <errno.h>
#include <string.h>
#include "format/safetensors.h"
#include "util/xalloc.h"

#define DATA_ALIGNMENT 64
#define PIECE          (256 * 1024) /* bytes gathered before they are written */

struct output {
    struct tensor tensor;
    uint64_t written; /* bytes taken, of which `pending` are still in the buffer */
    size_t pending;
    char *buffer; /* NULL before the first small piece and after the last */
};

struct safetensors_writer {
    struct output *outputs;
    int n_outputs, capacity;
    json_t *metadata;
    int fd;
    uint64_t data_offset;
};

struct safetensors_writer *safetensors_writer_new(void)
{
    struct safetensors_writer *writer = xnew0(struct safetensors_writer);

    writer->fd = -1;
    writer->metadata = json_object();
    return writer;
}

struct safetensors_writer *safetensors_writer_free(struct safetensors_writer *writer)
{
    if (!writer)
        return NULL;
    for (int i = 0; i < writer->n_outputs; i++) {
        free(writer->outputs[i].tensor.name);
        free(writer->outputs[i].tensor.shape);
        free(writer->outputs[i].buffer);
    }
    free(writer->outputs);
    json_decref(writer->metadata);
    free(writer);
    return NULL;
}

void safetensors_set_metadata(struct safetensors_writer *writer, const char *key, const char *value)
{
    json_set_string(writer->metadata, key, value);
}

int safetensors_add(struct safetensors_writer *writer, const char *name, enum dtype dtype, int rank,
                    const uint64_t *shape)
{
    struct output *output;

    assert(writer->fd < 0);
    if (writer->n_outputs == writer->capacity) {
        writer->capacity = writer->capacity ? 2 * writer->capacity : 8;
        writer->outputs = xreallocarray(writer->outputs, writer->capacity, sizeof(*writer->outputs));
    }
    output = &writer->outputs[writer->n_outputs];
    *output = (struct output){.tensor = {.name = xstrdup(name), .dtype = dtype, .rank = rank}};
    output->tensor.shape = rank ? xmemdup(shape, rank * sizeof(*shape)) : xcalloc(1, sizeof(*shape));
    return writer->n_outputs++;
}

static int write_at(int fd, const char *data, size_t length, off_t offset, struct error *error)
{
    while (length) {
        ssize_t n = pwrite(fd, data, length, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, errno, "cannot write tensors");
        data += n;
        offset += n;
        length -= n;
    }
    return 0;
}

static int compare_outputs(const void *a_, const void *b_)
{
    const struct output *a = *(struct output *const *)a_, *b = *(struct output *const *)b_;
    size_t size_a = dtype_size(a->tensor.dtype), size_b = dtype_size(b->tensor.dtype);

    if (size_a != size_b)
        return size_a > size_b ? -1 : 1;
    return strcmp(a->tensor.name, b->tensor.name);
}

/* Gives every tensor its place and returns the header's object, or NULL. */
static json_t *lay_out(struct safetensors_writer *writer, struct error *error)
{
    cleanup_free struct output **order = xcalloc(writer->n_outputs + 1, sizeof(*order));
    cleanup_json json_t *root = json_object();
    uint64_t at = 0;

    if (json_object_size(writer->metadata))
        json_object_set(root, "__metadata__", writer->metadata);
    for (int i = 0; i < writer->n_outputs; i++)
        order[i] = &writer->outputs[i];
    qsort(order, writer->n_outputs, sizeof(*order), compare_outputs);
    for (int i = 0; i < writer->n_outputs; i++) {
        struct tensor *tensor = &order[i]->tensor;
        json_t *shape = json_array();
        uint64_t count;

        if (!tensor_count(tensor->rank, tensor->shape, &count) || count > (UINT64_C(1) << 62) / 8) {
            json_decref(shape);
            error_set(error, ERROR_TOO_LARGE, "tensor '%s' is too large", tensor->name);
            return NULL;
        }
        tensor->begin = at;
        tensor->size = count * dtype_size(tensor->dtype);
        at += tensor->size;
        for (int d = 0; d < tensor->rank; d++)
            json_array_append_new(shape, json_integer(tensor->shape[d]));
        if (json_object_get(root, tensor->name)) {
            json_decref(shape);
            error_set(error, ERROR_INVALID, "two tensors are named '%s'", tensor->name);
            return NULL;
        }
        json_object_set_new(root, tensor->name,
                            json_build("{s:s, s:o, s:[I, I]}", "dtype", dtype_name(tensor->dtype), "shape", shape,
                                       "data_offsets", (json_int_t)tensor->begin, (json_int_t)at));
    }
    return steal_ptr(root);
}

int safetensors_begin(struct safetensors_writer *writer, int fd, struct error *error)
{
    cleanup_json json_t *root = lay_out(writer, error);
    cleanup_free char *text = NULL, *header = NULL;
    size_t length, padded;

    if (!root)
        return -1;
    text = json_text(root);
    length = strlen(text);
    padded = (8 + length + DATA_ALIGNMENT - 1) / DATA_ALIGNMENT * DATA_ALIGNMENT;
    if (padded - 8 > LIMIT_SAFETENSORS_HEADER)
        return error_set(error, ERROR_TOO_LARGE, "the tensors' header would have %zu bytes; the limit is %" PRIu64,
                         padded - 8, (uint64_t)LIMIT_SAFETENSORS_HEADER);
    header = xmalloc(padded);
    for (int i = 0; i < 8; i++)
        header[i] = (padded - 8) >> (8 * i) & 0xff;
    memcpy(header + 8, text, length);
    memset(header + 8 + length, ' ', padded - 8 - length);
    if (write_at(fd, header, padded, 0, error) < 0)
        return -1;
    writer->fd = fd;
    writer->data_offset = padded;
    return 0;
}

static int flush(struct safetensors_writer *writer, struct output *output, struct error *error)
{
    uint64_t at = writer->data_offset + output->tensor.begin + output->written - output->pending;
    size_t pending = output->pending;

    output->pending = 0;
    return pending ? write_at(writer->fd, output->buffer, pending, at, error) : 0;
}

int safetensors_write(struct safetensors_writer *writer, int tensor, const void *data, size_t length,
                      struct error *error)
{
    struct output *output = &writer->outputs[tensor];

    assert(writer->fd >= 0);
    if (length > output->tensor.size - output->written)
        return error_set(error, ERROR_INTERNAL, "more than %" PRIu64 " bytes for tensor '%s'", output->tensor.size,
                         output->tensor.name);
    if (output->pending + length > PIECE && flush(writer, output, error) < 0)
        return -1;
    if (length > PIECE) {
        if (write_at(writer->fd, data, length, writer->data_offset + output->tensor.begin + output->written, error) < 0)
            return -1;
        output->written += length;
        return 0;
    }
    if (!output->buffer)
        output->buffer = xmalloc(output->tensor.size < PIECE ? output->tensor.size + 1 : PIECE);
    memcpy(output->buffer + output->pending, data, length);
    output->pending += length;
    output->written += length;
    if (output->written < output->tensor.size)
        return 0;
    if (flush(writer, output, error) < 0)
        return -1;
    free(steal_ptr(output->buffer));
    return 0;
}

int safetensors_finish(struct safetensors_writer *writer, struct error *error)
{
    for (int i = 0; i < writer->n_outputs; i++) {
        struct output *output = &writer->outputs[i];

        if (output->written != output->tensor.size)
            return error_set(error, ERROR_INTERNAL, "tensor '%s' has %" PRIu64 " of %" PRIu64 " bytes",
                             output->tensor.name, output->written, output->tensor.size);
        if (flush(writer, output, error) < 0)
            return -1;
    }
    return 0;
}
