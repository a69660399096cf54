/*
 * gzip and deflate (zlib's form), whole texts in memory, within a limit (zlib underneath; the only place that
 * sees it).
 */
#pragma once

#include <stddef.h>
#include "util/error.h"

enum deflate_form { DEFLATE_NONE, DEFLATE_GZIP, DEFLATE_ZLIB };

/* Unpacks either form; what follows the end is an error. ERROR_TOO_LARGE beyond max bytes, however it was packed.
 * *ret_data is to be freed. */
int deflate_unpack(const void *data, size_t length, size_t max, char **ret_data, size_t *ret_length,
                   struct error *error);
/* *ret_data is to be freed. */
void deflate_pack(enum deflate_form form, const void *data, size_t length, char **ret_data, size_t *ret_length);

/* "gzip", "x-gzip", "deflate", "identity" of Content-Encoding; -1 for anything else. */
int deflate_form_parse(const char *name);
/* The best of an Accept-Encoding header that we speak; NULL is DEFLATE_NONE. */
enum deflate_form deflate_form_accepted(const char *header);
/* "gzip", "deflate"; NULL for DEFLATE_NONE. */
const char *deflate_form_name(enum deflate_form form);
