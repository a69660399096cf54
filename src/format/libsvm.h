/*
 * libsvm/SVMlight text: "label [qid:n] index:value index:value … # comment" a line.
 *
 * Indices must ascend within a line and be at most LIMIT_LIBSVM_INDEX. Values must be finite.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "format/reader.h"
#include "util/error.h"

struct libsvm_row {
    double label;
    bool label_is_integer;
    bool has_qid;
    int64_t qid;
    uint32_t *indices; /* as written */
    double *values;
    size_t count;
};

struct libsvm;

/* `reader` is borrowed. */
struct libsvm *libsvm_open(struct reader *reader);
struct libsvm *libsvm_free(struct libsvm *libsvm);
DEFINE_CLEANUP(struct libsvm *, libsvm_free)
#define cleanup_libsvm CLEANUP(libsvm_free_cleanup)

/* 1, 0 at the end, -1; the row is valid until the next call. */
int libsvm_next(struct libsvm *libsvm, const struct libsvm_row **ret_row, struct error *error);
uint64_t libsvm_line(const struct libsvm *libsvm);
