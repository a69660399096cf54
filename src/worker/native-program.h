/*
 * The worker process of a native model: loads it and answers requests until told to end.
 *
 * Tensors come and go as frames (format/frame.h). predict() takes the JSON of the model's one input, nested or
 * flat where the shape leaves one dimension free, and gives the JSON of its first output, nested.
 */
#pragma once

#include "util/error.h"

/* `runtime` as native_runtime_find() knows it. Returns 0 when the gateway said so. */
int native_program(const char *runtime, const char *environment, const char *path, struct error *error);
