/*
 * A buffered byte stream for parsers: a file, gzip inside a file (seen by its magic bytes), memory, or any
 * source that can fill a buffer. Input never has to fit into memory.
 *
 *     cleanup_reader struct reader *reader = NULL;
 *     if (reader_open_path("train.csv.gz", &reader, error) < 0) ...
 *     while ((r = reader_line(reader, LIMIT_LINE, &line, &length, error)) > 0) ...
 *
 * What a call returns points into the buffer and is valid until the next call. Behind the buffered bytes
 * there is always a NUL and READER_PADDING - 1 more readable bytes, so that scanners may look ahead.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "util/error.h"

#define READER_PADDING 64

struct reader;

/* Fills at most `size` bytes; returns how many, 0 at the end, -1 with the error set. */
typedef ssize_t (*reader_fill_fn)(void *userdata, void *buffer, size_t size, struct error *error);

/* Reads from the descriptor's start (it is duplicated; it must be a regular file for reader_rewind).
 * `name` is for messages. */
int reader_open_fd(int fd, const char *name, struct reader **ret_reader, struct error *error);
int reader_open_path(const char *path, struct reader **ret_reader, struct error *error);
/* The memory must outlive the reader. */
struct reader *reader_open_memory(const void *data, size_t length, const char *name);
struct reader *reader_open_source(reader_fill_fn fill, void *userdata, const char *name);
struct reader *reader_close(struct reader *reader);
DEFINE_CLEANUP(struct reader *, reader_close)
#define cleanup_reader CLEANUP(reader_close_cleanup)

const char *reader_name(const struct reader *reader);

/* Makes at least `min` bytes available unless the input ends before. ret_end may be NULL. */
int reader_peek(struct reader *reader, size_t min, const char **ret_data, size_t *ret_length, bool *ret_end,
                struct error *error);
/* Drops bytes that a peek showed. */
void reader_consume(struct reader *reader, size_t count);
/* Exactly `length` bytes; ERROR_INVALID says at which byte the input ended. */
int reader_read(struct reader *reader, void *buffer, size_t length, struct error *error);
int reader_skip(struct reader *reader, uint64_t length, struct error *error);
/* The next line without its end ("\n" or "\r\n"); 1, 0 at the end of input, -1. Longer than max bytes is
 * ERROR_TOO_LARGE. */
int reader_line(struct reader *reader, size_t max, const char **ret_line, size_t *ret_length, struct error *error);
/* Back to the first byte. ERROR_UNSUPPORTED for a pipe or a source. */
int reader_rewind(struct reader *reader, struct error *error);

/* Bytes consumed of what the parser sees. */
uint64_t reader_offset(const struct reader *reader);
/* For progress: bytes of the file read and its size (before decompression); size 0: unknown. */
uint64_t reader_raw_offset(const struct reader *reader);
uint64_t reader_raw_size(const struct reader *reader);
/* True if gzip is being unpacked. */
bool reader_is_compressed(const struct reader *reader);
