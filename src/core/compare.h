/*
 * Differences of two sets of weights, tensor by tensor, in one pass over both mappings.
 *
 * For tensors a (new) and b (base) of the same shape, taken as float64, over the elements that are finite
 * in both:
 *
 *     relative L2   ‖a − b‖₂ / ‖b‖₂          (0 if both are 0, infinity if only b is 0; relative error in
 *                                             the 2-norm: Golub & Van Loan, Matrix Computations, §2.2.3)
 *     cosine        ⟨a, b⟩ / (‖a‖₂ ‖b‖₂)     (1 if both are 0, 0 if one is 0)
 *     max |a − b|
 *
 * Sums are kept in float64 over blocks of 4096 elements that are then added (pairwise-like summation:
 * Higham, Accuracy and Stability of Numerical Algorithms, §4.2), so that the error does not grow with the
 * tensor. The total over all comparable tensors uses the same formulas on the concatenation of them.
 *
 * dtypes: F64 F32 F16 BF16, I8–I64, U8–U64, BOOL. A tensor of another dtype is compared by its bytes only.
 */
#pragma once

#include <stddef.h>
#include "util/json.h"

struct store;

/* Two files of safetensors in memory. A new object, NULL on failure (ERROR_INVALID: one is not safetensors):
 *   {"total":   {"relative_l2","cosine","max_abs","tensors","changed","elements","nan","added","removed",
 *                "reshaped","comparable":bool},
 *    "tensors": [{"name","status":"same|changed|added|removed|reshaped","dtype","dtype_base","shape",
 *                 "shape_base","elements","relative_l2","cosine","max_abs","nan","nan_base"}]}
 * Numbers that are not finite are null. "nan" counts elements that are NaN or infinite. */
json_t *compare_weights(const void *data, size_t length, const void *base, size_t base_length, struct error *error);
/* The same by digest. */
json_t *compare_blobs(struct store *store, const char *digest, const char *base_digest, struct error *error);
