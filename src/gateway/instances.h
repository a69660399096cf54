/*
 * Requests that are lists of instances, as TensorFlow Serving, KServe v1 and MLflow have them.
 *
 * A model with a signature (inputs in its slipway.yaml) gets tensors: the rows of its one input, or by name those of
 * each. A model without one takes text: each instance is a request of its own (parts.h), a string as it is and
 * anything else as its JSON text; what comes back is taken as JSON where it is JSON, else as a string.
 *
 *     rows       [1, 2]  [[1, 2], [3, 4]]  [{"x": 1, "y": 2}, …]     one element an instance
 *     columns    [[1, 2], [3, 4]]  {"x": [1, 3], "y": [2, 4]}        one value an input
 *     table      names ["x", "y"], rows [[1, 2], [3, 4]]             a data frame
 *
 * A table is one matrix for a model of one input, unless its columns are called like the inputs; for text, each row
 * is an object.
 *
 * The decoders set call->kind and call->encoded, or call->parts. Values are borrowed.
 */
#pragma once

#include "gateway/call.h"
#include "util/json.h"

/* `what` is what the request calls it: "instances". */
int instances_decode_rows(struct call *call, const json_t *rows, const char *what, struct error *error);
int instances_decode_columns(struct call *call, const json_t *columns, const char *what, struct error *error);
/* names: array of strings, or NULL. */
int instances_decode_table(struct call *call, const json_t *names, const json_t *rows, struct error *error);

enum instances_form { INSTANCES_ROWS, INSTANCES_COLUMNS };

/* The worker's answer (unless call->parts has it). Of one output its values; of several, a list of objects for rows and
 * an object of lists for columns. NULL on failure: the model's answer makes no sense. */
json_t *instances_encode(const struct call *call, const char *body, size_t length, enum instances_form form,
                         struct error *error);
