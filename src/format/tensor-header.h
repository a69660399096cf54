/* What the header of a file of one tensor says. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "format/safetensors.h"

struct tensor_header {
    enum dtype dtype;
    int rank;
    uint64_t shape[LIMIT_TENSOR_RANK];
    uint64_t count, size; /* elements, bytes */
    bool big_endian;
    bool fortran; /* the first index runs fastest */
};

/* Completes count and size; ERROR_INVALID for a shape that overflows. `name` is for the message. */
int tensor_header_check(struct tensor_header *header, const char *name, struct error *error);
/* Big-endian elements become little-endian, in place. */
void tensor_swap(void *data, size_t element_size, size_t count);
