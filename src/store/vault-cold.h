/*
 * The vault's files on disk: written once as a stream that is hashed and, where it pays, compressed.
 *
 * The first MiB is compressed on trial; when that saves less than an eighth the file is stored raw, so that
 * content which does not compress costs one MiB of work. Memory stays at a few MiB whatever the size.
 */
#pragma once

#include <stdint.h>
#include "util/error.h"
#include "util/hash.h"

enum blob_encoding { BLOB_RAW, BLOB_ZSTD };

/* "raw", "zstd": as in the table blobs. */
const char *blob_encoding_name(enum blob_encoding encoding);
enum blob_encoding blob_encoding_parse(const char *name);

struct cold_file {
    struct digest digest;
    uint64_t size;        /* of the content */
    uint64_t stored_size; /* of the file */
    enum blob_encoding encoding;
};

struct cold_writer;
/* Creates the file at path (which must not exist), mode 0444. */
int cold_writer_new(const char *path, struct cold_writer **ret_writer, struct error *error);
int cold_writer_add(struct cold_writer *writer, const void *data, size_t length, struct error *error);
/* Writes what is left. The file is complete, but not synced. */
int cold_writer_finish(struct cold_writer *writer, struct cold_file *ret_file, struct error *error);
int cold_writer_sync(struct cold_writer *writer, struct error *error);
/* Closes; leaves the file where it is. Accepts NULL; returns NULL. */
struct cold_writer *cold_writer_free(struct cold_writer *writer);
DEFINE_CLEANUP(struct cold_writer *, cold_writer_free)
#define cleanup_cold_writer CLEANUP(cold_writer_free_cleanup)

/* Reads a stored file from its start, hashes the content and copies it to `to` (-1: nowhere). Stops with
 * ERROR_CORRUPT when it is not the content of that digest. */
int cold_read(int from, enum blob_encoding encoding, const struct digest *expected, int to, struct error *error);
