/*
 * IDX, the format of MNIST: two zero bytes, a type, a rank, the dimensions as big-endian u32, then the
 * elements, big-endian, row-major.
 */
#pragma once

#include "format/reader.h"
#include "format/tensor-header.h"

/* The reader is at the first element afterwards. A claimed size is held against a known size of the file. */
int idx_read_header(struct reader *reader, struct tensor_header *ret_header, struct error *error);
