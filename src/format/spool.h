/*
 * Bytes that are written once and then read in order, as often as needed: in memory while they are few, in
 * an unlinked temporary file beyond.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "util/error.h"

struct spool;

/* `directory` for the file; NULL: $TMPDIR, else /tmp. */
struct spool *spool_new(const char *directory);
/* Keeps at most `memory` bytes without a file. */
struct spool *spool_new_with(const char *directory, size_t memory);
struct spool *spool_free(struct spool *spool);
DEFINE_CLEANUP(struct spool *, spool_free)
#define cleanup_spool CLEANUP(spool_free_cleanup)

/* Empties it. */
void spool_clear(struct spool *spool);
int spool_write(struct spool *spool, const void *data, size_t length, struct error *error);
/* To the first byte, for reading. */
void spool_rewind(struct spool *spool);
/* Exactly that many bytes; fewer are a bug of the caller: ERROR_INTERNAL. */
int spool_read(struct spool *spool, void *buffer, size_t length, struct error *error);
uint64_t spool_size(const struct spool *spool);
/* All of it, mapped read-only, until spool_free; munmap it. */
int spool_map(struct spool *spool, const void **ret_data, struct error *error);
