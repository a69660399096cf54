/*
 * Tensors between the gateway and a worker, in one piece of memory: what predict_tensors() takes and gives.
 *
 *     [magic, count][entry × count][padding][data of entry 0][padding][data of entry 1] …
 *
 * Little-endian, row-major; data begins at multiples of 64 bytes, so that it can be used where it lies. BYTES
 * elements are a u32 length and that many bytes each, as in the binary form of the Open Inference Protocol.
 * The layout is libc only: the worker's side shares it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "util/error.h"
#include "util/strbuf.h"

#define FRAME_MAGIC   UINT32_C(0x31465753) /* "SWF1" */
#define FRAME_RANK    8
#define FRAME_NAME    128 /* with NUL */
#define FRAME_ALIGN   64
#define FRAME_TENSORS 1024

enum frame_type {
    FRAME_BOOL,
    FRAME_UINT8,
    FRAME_UINT16,
    FRAME_UINT32,
    FRAME_UINT64,
    FRAME_INT8,
    FRAME_INT16,
    FRAME_INT32,
    FRAME_INT64,
    FRAME_FP16,
    FRAME_FP32,
    FRAME_FP64,
    FRAME_BYTES,
    FRAME_TYPE_COUNT_
};

struct frame_header {
    uint32_t magic, count;
};

struct frame_entry {
    char name[FRAME_NAME];
    uint32_t type, rank;
    int64_t shape[FRAME_RANK];
    uint64_t offset, length; /* of the data, bytes from the start of the frame */
};

/* "FP32" as the protocol names it; NULL past the end. */
const char *frame_type_name(uint32_t type);
/* -1 if there is none of this name. */
int frame_type_parse(const char *name);
/* Bytes of an element; 0 for BYTES. */
size_t frame_type_size(uint32_t type);

/* Elements of a shape; -1 for negative dimensions or a product beyond 2^40. */
int64_t frame_elements(const int64_t *shape, uint32_t rank);

/* Checks a frame from a stranger, which nobody may change meanwhile: everything lies inside, lengths fit shapes
 * and types, names are UTF-8 and end. Afterwards the entries can be used without further checks. */
int frame_check(const void *frame, size_t length, struct error *error);

static inline uint32_t frame_count(const void *frame)
{
    return ((const struct frame_header *)frame)->count;
}

static inline const struct frame_entry *frame_entries(const void *frame)
{
    return (const struct frame_entry *)(const void *)((const char *)frame + sizeof(struct frame_header));
}

/* An element, wherever it lies; half precision as its bits. Nothing of BYTES. */
union frame_value {
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
};
union frame_value frame_value(uint32_t type, const void *at);

/* Writing: begin with room for `count` entries, then for each add its data (any number of strbuf_add calls
 * between begin and end of an entry), in order. */
void frame_begin(struct strbuf *frame, uint32_t count);
void frame_begin_entry(struct strbuf *frame, uint32_t index, const char *name, uint32_t type, const int64_t *shape,
                       uint32_t rank);
void frame_end_entry(struct strbuf *frame, uint32_t index);
