/*
 * Logged requests of endpoints, as the vault has them: segments of JSON lines (gateway/record.h), rows that name them.
 *
 * A row keeps its blob alive, and goes with its endpoint. An endpoint keeps its newest LIMIT_REQUEST_LOG_KEPT segments,
 * fewer where they pass LIMIT_REQUEST_LOG_KEPT_BYTES.
 */
#pragma once

#include <stdint.h>
#include "store/store.h"
#include "util/json.h"
#include "util/limits.h"

#define REQUEST_SEGMENT_MAX (8 * MIB) /* bytes; a segment is a LIMIT_REQUEST_LOG_SEGMENT and one write at most */

struct request_segment {
    const char *endpoint;     /* its name */
    struct digest digest;     /* of the blob, which is there already */
    int64_t lines, bytes;
    int64_t first_ms, last_ms; /* arrival of the requests of its first and of its last line */
};

/* Adds the row, and removes those that are too old. Adding a segment again changes nothing. Nor does one that nobody
 * would look for: no such endpoint is served, or one that is younger than the segment's first line, which then is of
 * another endpoint of the same name. */
int request_log_add(struct db_tx *tx, const struct request_segment *segment, struct error *error);

struct request_filter {
    const char *version, *outcome; /* NULL: any */
    int limit;                     /* lines, at most LIMIT_REQUEST_LOG_LINES */
    const char *after; /* a cursor: from there on; "": from the oldest to the newest of now. NULL: the newest ones */
};

/* An array of events, oldest first, which ends early at LIMIT_REQUEST_LOG_REPLY bytes. *ret_next is where to go on, to
 * be freed; NULL: there is no more, or the newest were asked for. Reads blobs, and begins transactions of its own.
 * ERROR_NOT_FOUND without such an endpoint. */
int request_log_read(struct store *store, const char *project, const char *endpoint,
                     const struct request_filter *filter, json_t **ret_events, char **ret_next, struct error *error);
