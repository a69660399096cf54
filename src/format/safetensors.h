/*
 * safetensors: named tensors in one file that every framework maps into memory.
 *
 *     u64 little-endian   length N of the header
 *     N bytes             JSON: {"__metadata__":{str:str…},
 * NAME:{"dtype","shape","data_offsets":[begin,end]}…} the rest            tensor data, little-endian,
 * row-major, offsets relative to here
 *
 * Reading checks everything before it allocates by it: the header is at most LIMIT_SAFETENSORS_HEADER and
 * lies in the file; begins with '{'; names are unique; dtype is known; rank, element count and byte count
 * do not overflow and match the offsets; data has neither holes nor overlaps and ends with the file. All
 * failures are ERROR_INVALID with the tensor's name.
 *
 * Writing pads the header with spaces so that data begins at a multiple of 64 bytes (8 are customary; 64
 * suits vector units), and orders tensors by descending alignment, then name, as the reference does.
 */
#pragma once

#include <stdbool.h>
#include <inttypes.h>
#include "util/error.h"
#include "util/json.h"
#include "util/limits.h"

enum dtype {
    DTYPE_BOOL,
    DTYPE_U8,
    DTYPE_I8,
    DTYPE_F8_E5M2,
    DTYPE_F8_E4M3,
    DTYPE_U16,
    DTYPE_I16,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_U32,
    DTYPE_I32,
    DTYPE_F32,
    DTYPE_U64,
    DTYPE_I64,
    DTYPE_F64,
    DTYPE_COUNT_
};

/* "U8", "F32", … as in the file; NULL if out of range. */
const char *dtype_name(enum dtype dtype);
/* "uint8", "float32", … as numpy says. */
const char *dtype_numpy_name(enum dtype dtype);
/* ERROR_INVALID lists what is known. */
int dtype_parse(const char *name, enum dtype *ret_dtype, struct error *error);
bool dtype_is_integer(enum dtype dtype); /* booleans included */
/* Bytes of an element. */
size_t dtype_size(enum dtype dtype);

struct tensor {
    char *name;
    enum dtype dtype;
    int rank;        /* 0: a scalar */
    uint64_t *shape; /* rank numbers */
    uint64_t begin;  /* bytes from the start of the data */
    uint64_t size;   /* bytes */
};

/* Elements of a shape; false on overflow of 2^62. */
bool tensor_count(int rank, const uint64_t *shape, uint64_t *ret_count);

/* The header of a file. */
struct safetensors {
    struct tensor *tensors; /* in order of begin */
    size_t n_tensors;
    json_t *metadata;     /* object of strings; never NULL */
    uint64_t data_offset; /* where data begins in the file */
    uint64_t data_size;
    void *index_;
};

/* From a descriptor (position is not used nor moved). `name` is for messages. */
int safetensors_open(int fd, const char *name, struct safetensors **ret_file, struct error *error);
/* From memory, e.g. a mapping. */
int safetensors_parse(const void *data, size_t length, const char *name, struct safetensors **ret_file,
                      struct error *error);
struct safetensors *safetensors_free(struct safetensors *file);
DEFINE_CLEANUP(struct safetensors *, safetensors_free)
#define cleanup_safetensors CLEANUP(safetensors_free_cleanup)

/* NULL if absent. */
const struct tensor *safetensors_find(const struct safetensors *file, const char *name);
/* {"NAME":{"dtype":"F32","shape":[…],"size":n}…}, for people and for the API. */
json_t *safetensors_describe(const struct safetensors *file);

/*
 * Writing. Declare every tensor, begin, then write each one's bytes in any order and any pieces:
 *
 *     writer = safetensors_writer_new();
 *     x = safetensors_add(writer, "x", DTYPE_F32, 2, (uint64_t[]){n, 64});
 *     safetensors_set_metadata(writer, "schema", text);
 *     safetensors_begin(writer, fd, error);
 *     safetensors_write(writer, x, bytes, length, error);     appends to x
 *     safetensors_finish(writer, error);                      all bytes there? fsync is the caller's
 *
 * Pieces of a tensor are gathered in a buffer and written at its place.
 */
struct safetensors_writer;
struct safetensors_writer *safetensors_writer_new(void);
struct safetensors_writer *safetensors_writer_free(struct safetensors_writer *writer);
DEFINE_CLEANUP(struct safetensors_writer *, safetensors_writer_free)
#define cleanup_safetensors_writer CLEANUP(safetensors_writer_free_cleanup)

void safetensors_set_metadata(struct safetensors_writer *writer, const char *key, const char *value);
/* Returns the handle for safetensors_write. Names must be unique (checked by begin). */
int safetensors_add(struct safetensors_writer *writer, const char *name, enum dtype dtype, int rank,
                    const uint64_t *shape);
int safetensors_begin(struct safetensors_writer *writer, int fd, struct error *error);
int safetensors_write(struct safetensors_writer *writer, int tensor, const void *data, size_t length,
                      struct error *error);
/* ERROR_INTERNAL if a tensor has fewer bytes than declared. */
int safetensors_finish(struct safetensors_writer *writer, struct error *error);

/* Value of an element as double (64-bit integers beyond 2^53 are rounded); `data` is the tensor's bytes. */
double tensor_value(enum dtype dtype, const void *data, uint64_t index);
float half_to_float(uint16_t half);
float bfloat16_to_float(uint16_t bits);
