/*
 * All that is kept: database, vault and journal of one data directory.
 *
 *     DATA/slipway.db   DATA/vault/   DATA/runs/<run>/<node>/   DATA/secrets/   DATA/environments/
 *     DATA/slipway.sock   DATA/slipway.lock
 */
#pragma once

#include "store/db.h"
#include "store/journal.h"
#include "store/vault.h"

struct store {
    char *directory; /* absolute */
    int lock_fd;
    struct db *db;
    struct vault *vault;
    struct journal *journal;
};

struct store_options {
    const char *directory;
    const char *hot_directory; /* NULL: default of the vault */
    uint64_t hot_budget;       /* 0: default of the vault */
};

/* Creates what is missing, takes the lock (ERROR_CONFLICT: another daemon runs on it), migrates. */
int store_open(const struct store_options *options, struct store **ret_store, struct error *error);
struct store *store_close(struct store *store);
/* A path below the data directory, to be freed. */
char *store_path(const struct store *store, const char *format, ...) __attribute__((format(printf, 2, 3)));
