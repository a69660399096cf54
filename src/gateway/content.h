/*
 * Bodies of requests that may come packed.
 */
#pragma once

#include <stddef.h>
#include "gateway/call.h"

/* The body as its Content-Encoding (gzip, deflate, or none) means it, within the endpoint's limit. *ret_owned is to be
 * freed and may be NULL; *ret_data points into it or to the body. */
int content_unpack(const struct call *call, const char *body, size_t length, char **ret_owned, const char **ret_data,
                   size_t *ret_length, struct error *error);
