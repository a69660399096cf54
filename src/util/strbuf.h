/*
 * A growable string with a cap.
 *
 * Invariants: `data` is NUL-terminated and never NULL; `length` <= `max`. An addition that would pass
 * `max` adds nothing and sets `overflowed`, which is sticky: add freely, then check once at the end.
 *
 *     cleanup_strbuf struct strbuf line = STRBUF_INIT(LIMIT_LOG_LINE);
 *     strbuf_addf(&line, "%s=%d", key, value);
 *     if (line.overflowed)
 *         return error_set(error, ERROR_TOO_LARGE, ...);
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include "util/cleanup.h"

struct strbuf {
    char *data;
    size_t length;
    size_t capacity; /* bytes allocated; 0 while data points to the shared empty string */
    size_t max;
    bool overflowed;
};

extern char strbuf_empty[];

#define STRBUF_INIT(max_) {strbuf_empty, 0, 0, (max_), false}

void strbuf_init(struct strbuf *sb, size_t max);
/* Frees the memory; the buffer can be used again with the same cap. */
void strbuf_release(struct strbuf *sb);
/* Empties it and keeps the memory. */
void strbuf_reset(struct strbuf *sb);
/* The string, to be freed by the caller; the buffer is empty afterwards. */
char *strbuf_detach(struct strbuf *sb, size_t *ret_length);

void strbuf_add(struct strbuf *sb, const void *data, size_t length);
void strbuf_adds(struct strbuf *sb, const char *s);
void strbuf_addc(struct strbuf *sb, char c);
void strbuf_addf(struct strbuf *sb, const char *format, ...) __attribute__((format(printf, 2, 3)));
void strbuf_addv(struct strbuf *sb, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
/* Makes room for `extra` more bytes and returns where they go, or NULL past the cap; follow with
 * strbuf_commit() for as many as were written. */
char *strbuf_reserve(struct strbuf *sb, size_t extra);
void strbuf_commit(struct strbuf *sb, size_t written);
/* Removes bytes from the front. */
void strbuf_consume(struct strbuf *sb, size_t count);
void strbuf_truncate(struct strbuf *sb, size_t length);

#define cleanup_strbuf CLEANUP(strbuf_release)
