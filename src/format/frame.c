#include <string.h>
#include "format/frame.h"
#include "util/utf8.h"

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [FRAME_BOOL] = {"BOOL", 1},     [FRAME_UINT8] = {"UINT8", 1},   [FRAME_UINT16] = {"UINT16", 2},
    [FRAME_UINT32] = {"UINT32", 4}, [FRAME_UINT64] = {"UINT64", 8}, [FRAME_INT8] = {"INT8", 1},
    [FRAME_INT16] = {"INT16", 2},   [FRAME_INT32] = {"INT32", 4},   [FRAME_INT64] = {"INT64", 8},
    [FRAME_FP16] = {"FP16", 2},     [FRAME_FP32] = {"FP32", 4},     [FRAME_FP64] = {"FP64", 8},
    [FRAME_BYTES] = {"BYTES", 0},
};
_Static_assert(ARRAY_SIZE(types) == FRAME_TYPE_COUNT_, "a row for each type");

const char *frame_type_name(uint32_t type)
{
    return type < FRAME_TYPE_COUNT_ ? types[type].name : NULL;
}

int frame_type_parse(const char *name)
{
    for (int i = 0; i < FRAME_TYPE_COUNT_; i++) {
        if (!strcmp(types[i].name, name))
            return i;
    }
    return -1;
}

size_t frame_type_size(uint32_t type)
{
    return types[type].size;
}

union frame_value frame_value(uint32_t type, const void *at)
{
    union frame_value value = {0};

    memcpy(&value, at, frame_type_size(type));
    return value;
}

int64_t frame_elements(const int64_t *shape, uint32_t rank)
{
    int64_t n = 1;

    for (uint32_t i = 0; i < rank; i++) {
        if (shape[i] < 0 || __builtin_mul_overflow(n, shape[i], &n) || n > INT64_C(1) << 40)
            return -1;
    }
    return n;
}

static int check_bytes(const char *data, uint64_t length, int64_t elements)
{
    for (int64_t i = 0; i < elements; i++) {
        uint32_t n;

        if (length < sizeof(n))
            return -1;
        memcpy(&n, data, sizeof(n));
        if (n > length - sizeof(n))
            return -1;
        data += sizeof(n) + n;
        length -= sizeof(n) + n;
    }
    return length ? -1 : 0;
}

static int check_entry(const char *frame, size_t length, const struct frame_entry *entry, struct error *error)
{
    int64_t elements;

    if (!memchr(entry->name, '\0', sizeof(entry->name)))
        return error_set(error, ERROR_INVALID, "the name of a tensor is too long");
    if (!utf8_is_valid(entry->name))
        return error_set(error, ERROR_INVALID, "the name of a tensor is not UTF-8");
    if (entry->type >= FRAME_TYPE_COUNT_ || entry->rank > FRAME_RANK)
        return error_set(error, ERROR_INVALID, "tensor %s has an unknown type or rank", entry->name);
    elements = frame_elements(entry->shape, entry->rank);
    if (elements < 0)
        return error_set(error, ERROR_INVALID, "tensor %s has an impossible shape", entry->name);
    if (entry->offset > length || entry->length > length - entry->offset)
        return error_set(error, ERROR_INVALID, "tensor %s lies outside of its frame", entry->name);
    if (entry->type == FRAME_BYTES ? check_bytes(frame + entry->offset, entry->length, elements) < 0
                                   : entry->length != (uint64_t)elements * types[entry->type].size)
        return error_set(error, ERROR_INVALID, "the data of tensor %s do not fit its shape", entry->name);
    return 0;
}

int frame_check(const void *frame, size_t length, struct error *error)
{
    const struct frame_header *header = frame;
    const struct frame_entry *entries;

    if (length < sizeof(*header) || header->magic != FRAME_MAGIC)
        return error_set(error, ERROR_INVALID, "not a frame of tensors");
    if (header->count > FRAME_TENSORS || length < sizeof(*header) + header->count * sizeof(*entries))
        return error_set(error, ERROR_INVALID, "a frame of tensors is cut short");
    entries = frame_entries(frame);
    for (uint32_t i = 0; i < header->count; i++) {
        if (check_entry(frame, length, &entries[i], error) < 0)
            return -1;
    }
    return 0;
}

void frame_begin(struct strbuf *frame, uint32_t count)
{
    struct frame_header header = {FRAME_MAGIC, count};
    size_t size = count * sizeof(struct frame_entry);
    char *room;

    strbuf_add(frame, &header, sizeof(header));
    room = strbuf_reserve(frame, size);
    if (!room)
        return;
    memset(room, 0, size);
    strbuf_commit(frame, size);
}

static struct frame_entry *entry_at(struct strbuf *frame, uint32_t index)
{
    return (struct frame_entry *)(void *)(frame->data + sizeof(struct frame_header)) + index;
}

void frame_begin_entry(struct strbuf *frame, uint32_t index, const char *name, uint32_t type, const int64_t *shape,
                       uint32_t rank)
{
    static const char zeros[FRAME_ALIGN];
    struct frame_entry *entry;

    strbuf_add(frame, zeros, (FRAME_ALIGN - frame->length % FRAME_ALIGN) % FRAME_ALIGN);
    if (frame->overflowed)
        return;
    entry = entry_at(frame, index);
    memcpy(entry->name, name, strnlen(name, sizeof(entry->name) - 1));
    entry->type = type;
    entry->rank = rank;
    memcpy(entry->shape, shape, rank * sizeof(*shape));
    entry->offset = frame->length;
}

void frame_end_entry(struct strbuf *frame, uint32_t index)
{
    if (!frame->overflowed)
        entry_at(frame, index)->length = frame->length - entry_at(frame, index)->offset;
}
