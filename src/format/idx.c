#include "format/idx.h"

#include <inttypes.h>
#include <string.h>

int tensor_header_check(struct tensor_header *header, const char *name, struct error *error)
{
    if (!tensor_count(header->rank, header->shape, &header->count) || header->count > (UINT64_C(1) << 62) / 8)
        return error_set(error, ERROR_INVALID, "%s claims a shape that overflows", name);
    header->size = header->count * dtype_size(header->dtype);
    return 0;
}

void tensor_swap(void *data, size_t element_size, size_t count)
{
    char *p = data;

    for (size_t i = 0; i < count; i++, p += element_size)
        for (size_t k = 0; k < element_size / 2; k++) {
            char c = p[k];

            p[k] = p[element_size - 1 - k];
            p[element_size - 1 - k] = c;
        }
}

int idx_read_header(struct reader *reader, struct tensor_header *ret_header, struct error *error)
{
    static const struct {
        uint8_t code;
        enum dtype dtype;
    } types[] = {{0x08, DTYPE_U8},  {0x09, DTYPE_I8},  {0x0b, DTYPE_I16},
                 {0x0c, DTYPE_I32}, {0x0d, DTYPE_F32}, {0x0e, DTYPE_F64}};
    struct tensor_header header = {.big_endian = true, .dtype = DTYPE_COUNT_};
    const char *name = reader_name(reader);
    uint64_t expected;
    uint8_t magic[4];

    if (reader_read(reader, magic, sizeof(magic), error) < 0)
        return -1;
    if (magic[0] || magic[1])
        return error_set(error, ERROR_INVALID, "%s is not an IDX file: it does not begin with two zero bytes", name);
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (types[i].code == magic[2])
            header.dtype = types[i].dtype;
    if (header.dtype == DTYPE_COUNT_)
        return error_set(error, ERROR_INVALID, "%s: 0x%02x is not a type of IDX", name, magic[2]);
    header.rank = magic[3];
    if (header.rank < 1 || header.rank > LIMIT_TENSOR_RANK)
        return error_set(error, ERROR_INVALID, "%s: a rank of %d is out of range", name, header.rank);
    for (int i = 0; i < header.rank; i++) {
        uint8_t d[4];

        if (reader_read(reader, d, sizeof(d), error) < 0)
            return -1;
        header.shape[i] = (uint32_t)d[0] << 24 | d[1] << 16 | d[2] << 8 | d[3];
    }
    if (tensor_header_check(&header, name, error) < 0)
        return -1;
    expected = header.size + 4 + 4 * header.rank;
    if (reader_raw_size(reader) && !reader_is_compressed(reader) && reader_raw_size(reader) != expected)
        return error_set(error, ERROR_INVALID, "%s claims %" PRIu64 " bytes of elements, but the file has %" PRIu64,
                         name, header.size, reader_raw_size(reader) - 4 - 4 * header.rank);
    *ret_header = header;
    return 0;
}
