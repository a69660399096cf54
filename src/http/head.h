/*
 * The head of an HTTP/1.1 request: request line and headers, parsed strictly and in place.
 *
 * Strict means RFC 9112 without what it allows for old peers, because whatever two parsers read differently is a
 * way to smuggle requests: lines end with CR LF, no white space before a colon, no folded lines, no control
 * characters, one Host, one Content-Length of digits alone, never both it and Transfer-Encoding, and of that
 * "chunked" alone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/error.h"

#define HEAD_FIELDS 100

struct head_field {
    const char *name, *value;
};

struct head {
    const char *method;
    const char *path;  /* as sent, without the query */
    const char *query; /* NULL: none */
    struct head_field fields[HEAD_FIELDS];
    size_t n_fields;
    uint64_t content_length; /* 0 without one */
    bool has_length, chunked, keep_alive, expects_continue;
    const char *authorization, *content_type; /* also among the fields; looked at for every request */
};

/* Where the head ends: the offset behind its empty line, or 0 if it is not complete. `from` is an offset that
 * was looked at already. */
size_t head_end(const char *data, size_t length, size_t from);

/* Parses data[0..length), which head_end() found; strings point into it. On failure ERROR_INVALID, or
 * ERROR_UNSUPPORTED (what HTTP allows and we don't do), or ERROR_TOO_LARGE (too many fields). */
int head_parse(char *data, size_t length, struct head *ret_head, struct error *error);

/* NULL if absent. */
const char *head_get(const struct head *head, const char *name);

/* Chunked bodies, as far as they came: moves the content to the front of data. */
struct chunks {
    int state;
    uint64_t left;      /* bytes of the present chunk */
    uint32_t overhead;  /* bytes of size lines and trailers since the last data */
    bool done;
};
/* Decodes data[0..*length) in place; *length becomes that of the content, *ret_used what was consumed (all,
 * unless the body ended before). -1 if it is malformed. */
int chunks_decode(struct chunks *chunks, char *data, size_t *length, size_t *ret_used);
