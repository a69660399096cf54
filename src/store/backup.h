/*
 * A complete copy of a data directory, made while the daemon works, and the way back.
 *
 *     BACKUP/slipway.db    one snapshot of the database
 *     BACKUP/vault/ab/…    every blob that the snapshot knows, as it is stored, checked after it was copied
 *     BACKUP/runs/…        logs, exit records, artifacts (not what lives only while a run runs)
 *     BACKUP/secrets/
 *     BACKUP/backup.json   {"format":1,"slipway","created_at","schema","blobs","bytes"}: written last
 *
 * A second backup into the same directory copies only what is new, and leaves the older one whole until it
 * is complete. Environments are not copied: they are built again from what the database knows.
 */
#pragma once

#include "store/store.h"

/* The directory is made if needed; ERROR_CONFLICT if something else is in it. Returns what backup.json says,
 * with "directory" and "copied_bytes". NULL on failure. */
json_t *store_backup(struct store *store, const char *directory, struct error *error);

/* Into a data directory that has no database yet; no daemon may run on it. Every blob is checked:
 * ERROR_CORRUPT names the first that is missing or damaged. A database of an older version is brought to
 * the newest. Returns what backup.json says. NULL on failure; calling again goes on where it stopped. */
json_t *store_restore(const char *backup, const char *directory, struct error *error);
