/*
 * The vault: immutable blobs, named by the SHA-256 of their content.
 *
 *     DATA/vault/ab/abcdef…           cold tier: raw, or
 *     DATA/vault/ab/abcdef….zst       compressed with zstd where that saves at least an eighth
 *     DATA/vault/incoming/            uploads in progress; emptied at start
 *     DATA/vault/spill/abcdef…        raw files of pinned blobs that do not fit into the hot tier
 *     HOT/abcdef…                     hot tier: raw, page-aligned files in memory, mode 0444
 *
 * A put is durable when it returns: written, hashed, fsynced, renamed, directory fsynced. The same
 * content is stored once. The hot tier has a byte budget; blobs that are pinned stay, the others go in
 * order of last use.
 *
 * What keeps a blob alive are rows of other tables, found through the root queries in vault-roots.c, and
 * pins. A blob that nothing names is removed by the garbage collector, but never within the grace period
 * after it was put (somebody may be about to name it).
 *
 * A blob that is found damaged is set aside (….corrupt) and reported; storing its content again mends it.
 *
 * Thread-safe. Puts and loads block on disk: not for the orchestrator's thread unless small. Puts, pins and
 * the collector write to the database themselves: the caller holds no write transaction.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "store/db.h"
#include "util/error.h"
#include "util/hash.h"
#include "util/json.h"

struct vault;

struct vault_options {
    const char *directory;     /* cold tier */
    const char *hot_directory; /* NULL: a private directory under /dev/shm; close removes all but the pinned */
    uint64_t hot_budget;       /* bytes; 0: half of what the hot tier's file system has free */
};

int vault_open(struct db *db, const struct vault_options *options, struct vault **ret_vault, struct error *error);
struct vault *vault_close(struct vault *vault);

/* -- put -- */
struct vault_put;
/* Then vault_put_write any number of times, then finish (frees) or abort (frees). */
int vault_put_begin(struct vault *vault, struct vault_put **ret_put, struct error *error);
int vault_put_write(struct vault_put *put, const void *data, size_t length, struct error *error);
/* If `expected` is not NULL the content must have that digest, else ERROR_CORRUPT. ret_size may be NULL. */
int vault_put_finish(struct vault_put *put, const struct digest *expected, struct digest *ret_digest,
                     uint64_t *ret_size, struct error *error);
struct vault_put *vault_put_abort(struct vault_put *put);
DEFINE_CLEANUP(struct vault_put *, vault_put_abort)
#define cleanup_put CLEANUP(vault_put_abort_cleanup)

int vault_put_bytes(struct vault *vault, const void *data, size_t length, struct digest *ret_digest,
                    struct error *error);
/* From the descriptor's current position to its end. */
int vault_put_fd(struct vault *vault, int fd, struct digest *ret_digest, uint64_t *ret_size, struct error *error);
/* The same; content that does not have the expected digest is not stored: ERROR_CORRUPT. */
int vault_put_expected(struct vault *vault, int fd, const struct digest *expected, uint64_t *ret_size,
                       struct error *error);
int vault_put_path(struct vault *vault, const char *path, struct digest *ret_digest, uint64_t *ret_size,
                   struct error *error);

/* -- get -- */
bool vault_has(struct vault *vault, const struct digest *digest);
/* Size of the content in bytes. ERROR_NOT_FOUND. */
int vault_size(struct vault *vault, const struct digest *digest, uint64_t *ret_size, struct error *error);
/* A read-only descriptor of the raw content, at position 0; the content is loaded into the hot tier if it
 * fits, else into an unlinked file. The first load checks the digest: ERROR_CORRUPT. */
int vault_get(struct vault *vault, const struct digest *digest, int *ret_fd, struct error *error);
/* All of it, mapped read-only and page-aligned; munmap() when done. */
int vault_map(struct vault *vault, const struct digest *digest, const void **ret_data, size_t *ret_length,
              struct error *error);
/* Small blobs as a NUL-terminated string, to be freed. */
int vault_read(struct vault *vault, const struct digest *digest, size_t max, char **ret_data, size_t *ret_length,
               struct error *error);

/* -- pin -- */
/* Loads it into the hot tier and keeps it there until unpinned by the same owner ("run:<id>",
 * "endpoint:<name>"). Returns the path of the raw, read-only file (mode 0444, a source for bind mounts), to
 * be freed. What does not fit into the hot tier is pinned on disk instead. Pins survive a restart of the
 * daemon (table pins) with their files; after a reboot of the machine pin again: same owner, same path. */
int vault_pin(struct vault *vault, const struct digest *digest, const char *owner, char **ret_path,
              struct error *error);
/* Removes all pins of an owner. */
int vault_unpin(struct vault *vault, const char *owner, struct error *error);

/* -- keep house -- */
/* Re-reads a blob and checks its digest. */
int vault_verify(struct vault *vault, const struct digest *digest, struct error *error);

/* {"blobs":n,"bytes":n,"kept":n,"dry_run":b,"removed":[{"digest","size"}…],"removed_bytes":n}; dry_run only
 * reports. Files that no row knows (a crash in the middle of a put) count as removed, with "orphan":true. */
json_t *vault_gc(struct vault *vault, bool dry_run, int64_t grace_ms, struct error *error);
/* Why a blob is alive: [{"kind":"dataset","address":"digits@3"}, {"kind":"pin","address":"run:…"}]. */
json_t *vault_why(struct vault *vault, const struct digest *digest, struct error *error);
/* {"blobs","bytes","stored_bytes","hot_bytes","hot_budget","pinned_bytes","hot_directory"} */
json_t *vault_stats(struct vault *vault, struct error *error);
