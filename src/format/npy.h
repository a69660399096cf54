/*
 * NPY, numpy's own format, versions 1 to 3: magic, version, the length of a header, a Python literal
 * {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }, then the elements.
 *
 * Object arrays (pickles, which run code when loaded), structures, texts and complex numbers are refused.
 */
#pragma once

#include "format/reader.h"
#include "format/tensor-header.h"

/* The reader is at the first element afterwards. */
int npy_read_header(struct reader *reader, struct tensor_header *ret_header, struct error *error);

/* The header for a tensor that is written in row-major order, little-endian; to be freed. */
char *npy_make_header(enum dtype dtype, int rank, const uint64_t *shape, size_t *ret_length);
