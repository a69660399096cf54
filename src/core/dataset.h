/*
 * Datasets: immutable, versioned bundles of named tensors and/or files.
 *
 * A version is a list of files in the vault. Imported ones have a file "data.safetensors" whose metadata
 * key "schema" says what the columns are (format/import.h); others hold any files as they were. Version
 * numbers are never used twice, not even after a removal.
 *
 * What uses a version is recorded by the user: a run while it is queued or going on (active), a model
 * version whose release record names it. An active use cannot be forced away.
 *
 *     CLI: slipway dataset …     HTTP: /api/v1/datasets     run: /slipway/data/<name>/<file>
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "store/db.h"
#include "util/error.h"
#include "util/hash.h"
#include "util/json.h"

#define DATASET_TENSORS "data.safetensors"

struct dataset_file {
    char *name; /* relative, safe (fs_is_safe_name) */
    struct digest digest;
    uint64_t size;
};

/* One version. */
struct dataset_info {
    int64_t id; /* of the row in dataset_versions */
    char *project;
    char *name;
    int64_t version;
    char *address; /* "digits@3" */
    int64_t rows;  /* -1: unknown */
    uint64_t size; /* bytes of all files */
    struct dataset_file *files;
    size_t n_files;
};

#define DATASET_INFO_INIT {0}
void dataset_info_release(struct dataset_info *info);
#define cleanup_dataset_info CLEANUP(dataset_info_release)

/* "digits@3", "digits" or "digits@latest" (newest), "team-a:digits@3"; without a prefix `project` holds.
 * ERROR_NOT_FOUND names the newest version, or similar names. */
int dataset_resolve(struct db_tx *tx, const char *project, const char *text, struct dataset_info *ret_info,
                    struct error *error);

/* A new version of a dataset, which is created if it is new. */
struct dataset_create {
    const char *project;
    const char *name;
    const char *actor;       /* for the journal */
    const char *description; /* NULL: none */
    const struct dataset_file *files;
    size_t n_files;
    json_t *schema;  /* borrowed; NULL: none */
    json_t *lineage; /* borrowed; NULL: none. {"sources":[{"name","digest","size"}],"options":{…},
                        "run":id?,"parents":["digits@1"]?} */
    int64_t rows;    /* -1: unknown */
};
/* Event slipway.dataset.created. The blobs must be in the vault already. */
int dataset_create(struct db_tx *tx, const struct dataset_create *create, struct dataset_info *ret_info,
                   struct error *error);

/* Records that something uses the version: kind "run", "model", "endpoint"; its address ("0190…",
 * "vision/digits@7"). Recording it twice is fine. Active: must stay while the use lasts. */
int dataset_use(struct db_tx *tx, const struct dataset_info *info, const char *kind, const char *address, bool active,
                struct error *error);
/* The use is over; it stays as lineage. */
int dataset_release(struct db_tx *tx, const char *kind, const char *address, struct error *error);

/* Removes one version ("digits@3") or all ("digits"). ERROR_CONFLICT lists what uses it; `force` removes
 * in spite of uses that are not active. Event slipway.dataset.removed. */
int dataset_remove(struct db_tx *tx, const char *project, const char *text, bool force, const char *actor,
                   struct error *error);

/* The newest version of each dataset with summary: [{"name","project","version","versions","rows","size",
 * "created_at","description"}…] by name, after `after` (NULL: from the start). */
json_t *dataset_list(struct db_tx *tx, const char *project, const char *after, int limit, struct error *error);
/* All versions of one, newest first, below `before` (0: from the newest). */
json_t *dataset_versions(struct db_tx *tx, const char *project, const char *name, int64_t before, int limit,
                         struct error *error);
/* One version with files, schema and lineage. */
json_t *dataset_describe(struct db_tx *tx, const struct dataset_info *info, struct error *error);
/* {"address","sources":[…],"options":{…},"run","parents":[…],"children":[…],"used_by":[{"kind","address",
 * "active"}…]} */
json_t *dataset_lineage(struct db_tx *tx, const struct dataset_info *info, struct error *error);
