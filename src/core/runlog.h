/*
 * Reads the log of a node (CRI format, one line of output a line):
 *
 *     2026-01-31T12:34:56.789012345Z stdout F text
 *
 * A line that was split because it was long comes as several entries with `partial` set on all but the last.
 * Positions are byte offsets of the file, so that a reader resumes exactly where it was.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include "util/error.h"

struct runlog_entry {
    const char *time; /* RFC 3339, not terminated: see time_length */
    size_t time_length;
    bool is_stderr;
    bool partial;
    const char *text; /* not terminated */
    size_t length;
    int64_t end; /* offset behind the entry */
};

/* Returns 0 to go on, 1 to stop behind this entry. */
typedef int (*runlog_fn)(void *userdata, const struct runlog_entry *entry);

/*
 * Hands out the complete entries from byte `offset` on, reading at most about `max` bytes. *ret_offset is
 * where to go on; it equals `offset` if there is nothing new. A file that is not there (yet) is empty. An
 * offset inside of an entry starts at the next one.
 */
int runlog_read(const char *path, int64_t offset, size_t max, runlog_fn fn, void *userdata, int64_t *ret_offset,
                struct error *error);
/* The offset from which on at least the last `lines` lines follow. */
int runlog_tail(const char *path, int lines, int64_t *ret_offset, struct error *error);
