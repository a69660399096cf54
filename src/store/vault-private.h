/*
 * What vault.c and vault-gc.c share.
 */
#pragma once

#include <pthread.h>
#include "store/vault-cold.h"
#include "store/vault-hot.h"
#include "store/vault.h"
#include "util/map.h"

struct vault {
    struct db *db;
    char *directory; /* cold tier */
    struct hot *hot;

    /* Held for reading while a put makes a blob known, for writing while the collector removes some. Taken
     * before the database's write lock. */
    pthread_rwlock_t gc_lock;

    pthread_mutex_t lock; /* pins in the table and in the hot tier change together */
    struct map checked;   /* raw cold files that were hashed by this process; under lock */
};

struct blob {
    struct digest digest;
    char text[DIGEST_TEXT_SIZE];
    uint64_t size, stored_size;
    enum blob_encoding encoding;
};

/* The hex part of a digest's text. */
static inline const char *digest_hex(const char text[DIGEST_TEXT_SIZE])
{
    return text + 7;
}

/* Where a blob's file is below a vault's directory; to be freed. */
char *vault_cold_path(const char *directory, const char *hex, enum blob_encoding encoding);
/* Where a pinned blob's raw file is when it does not fit into memory; to be freed. */
char *vault_spill_path(const struct vault *vault, const char *hex);
