/*
 * The CRI log format: what Kubernetes' kubelet, kubectl logs and every log shipper read.
 *
 *     2026-01-31T12:34:56.789012345Z stdout F a whole line
 *     2026-01-31T12:34:56.789012345Z stderr P the beginning of a long line
 *     2026-01-31T12:34:56.789012346Z stderr F and its end
 *
 * A line of output longer than LIMIT_LOG_CHUNK becomes several entries; all but the last are partial (P).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "util/error.h"
#include "util/limits.h"
#include "util/strbuf.h"

enum crilog_stream {
    CRILOG_STDOUT,
    CRILOG_STDERR,
};

const char *crilog_stream_name(enum crilog_stream stream);

struct crilog_entry {
    int64_t time_ns; /* wall clock */
    enum crilog_stream stream;
    bool partial;     /* the next entry of the same stream continues the line */
    const char *text; /* without the newline; not terminated */
    size_t length;
};

/* The most an entry adds around its text: time, stream, tag, spaces, newline. */
#define CRILOG_OVERHEAD 48
/* The longest entry that can be well-formed. */
#define CRILOG_ENTRY_MAX (LIMIT_LOG_CHUNK + CRILOG_OVERHEAD)

/* Appends one entry. The text must hold no newline; `out` must have room (see its `overflowed`). */
void crilog_append(struct strbuf *out, const struct crilog_entry *entry);

/* The first entry of `data`: the bytes it took (with its newline), 0 if its end is not there yet, -1 with
 * ERROR_CORRUPT if it is none. ret_entry->text points into data. */
ssize_t crilog_parse(const char *data, size_t length, struct crilog_entry *ret_entry, struct error *error);

/*
 * Cuts a stream of raw output into entries. Output without a newline waits until one comes, or until
 * LIMIT_LOG_CHUNK bytes are there, or for crilog_flush at the end of the stream.
 */
struct crilog_splitter {
    enum crilog_stream stream;
    struct strbuf pending;
};

#define CRILOG_SPLITTER_INIT(stream_) {(stream_), STRBUF_INIT(LIMIT_LOG_CHUNK)}

/* Takes raw bytes and appends the entries that are complete. Entries never need more than
 * length + (number of newlines + length / LIMIT_LOG_CHUNK + 1) * CRILOG_OVERHEAD bytes beyond what pends. */
void crilog_split(struct crilog_splitter *splitter, int64_t time_ns, const void *data, size_t length,
                  struct strbuf *out);
/* What pends becomes a last full entry. */
void crilog_flush(struct crilog_splitter *splitter, int64_t time_ns, struct strbuf *out);
void crilog_splitter_release(struct crilog_splitter *splitter);
