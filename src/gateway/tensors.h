/*
 * Tensors between JSON and frames (format/frame.h), for all protocols that write tensors as JSON.
 *
 * A frame is what a worker takes and gives; one that came from a worker is checked (frame_check) before it is read
 * here, and lies in memory of our own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "format/frame.h"
#include "util/json.h"
#include "util/strbuf.h"

/* One tensor that is being written. */
struct tensor_spec {
    const char *name;
    int type; /* enum frame_type */
    int64_t shape[FRAME_RANK];
    uint32_t rank;
    int64_t elements;
};

/* Adds the elements of `value`, whose arrays may be nested in any way; there are exactly spec->elements of them.
 * ERROR_INVALID names the value that does not fit the type. */
int tensor_add_flat(struct strbuf *frame, const struct tensor_spec *spec, const json_t *value, struct error *error);

/* The shape of nested arrays, as their first elements show it. An element of BYTES may be {"b64": base64}. Sets shape,
 * rank and elements. */
int tensor_shape_of(const json_t *value, struct tensor_spec *spec, struct error *error);
/* The same elements, which must be nested as spec->shape says. */
int tensor_add_nested(struct strbuf *frame, const struct tensor_spec *spec, const json_t *value, struct error *error);

/* All elements in one array. ERROR_INTERNAL for what JSON cannot express (NaN, bytes that are no text). */
json_t *tensor_values(const char *frame, const struct frame_entry *entry, struct error *error);
/* Nested as the shape says; bytes that are no text become {"b64": base64}. */
json_t *tensor_nested(const char *frame, const struct frame_entry *entry, struct error *error);
