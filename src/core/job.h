/*
 * A job: the definition that runs are made of, and its numbered code versions.
 *
 * The definition is the body of a run without "job": every field is a default that a run may override.
 * Code versions are digests of reproducible archives, numbered from 1; pushing content that the newest
 * version has already makes none.
 */
#pragma once

#include "store/db.h"
#include "util/hash.h"
#include "util/schema.h"

extern const struct schema job_schema;
extern const struct schema job_create_schema;
extern const struct schema job_code_schema;

struct job {
    int64_t id;
    char *project;
    char *name;
    json_t *definition;
    int64_t created_at, updated_at;
    char *created_by;
};

struct job *job_free(struct job *job);
DEFINE_CLEANUP(struct job *, job_free)
#define cleanup_job CLEANUP(job_free_cleanup)

/* ERROR_EXISTS. definition: as the body of a run; a "code" in it becomes code version 1. */
int job_create(struct db_tx *tx, const char *project, const char *actor, const char *name, const json_t *definition,
               struct error *error);
int job_load(struct db_tx *tx, const char *project, const char *name, struct job **ret_job, struct error *error);
/* Sets the fields that are given; null removes one. */
int job_update(struct db_tx *tx, struct job *job, const json_t *changes, const char *actor, struct error *error);
/* ERROR_CONFLICT while runs of it live; ended runs stay. */
int job_delete(struct db_tx *tx, const struct job *job, const char *actor, struct error *error);
/* [job_to_json…] ordered by name, after the name `after` (NULL: from the start). */
json_t *job_list(struct db_tx *tx, const char *project, const char *after, int limit, struct error *error);
/* {"name","project","definition","code_versions","newest_code","created_at",…}; NULL on failure. */
json_t *job_to_json(struct db_tx *tx, const struct job *job, struct error *error);

/* Returns the number of the version with that content: a new one unless the newest has it. */
int job_push_code(struct db_tx *tx, const struct job *job, const struct digest *digest, uint64_t size, const char *note,
                  const char *actor, int *ret_version, struct error *error);
/* version 0: the newest. ERROR_NOT_FOUND. */
int job_code(struct db_tx *tx, const struct job *job, int version, struct digest *ret_digest, int *ret_version,
             struct error *error);
/* [{"version","digest","size","note","created_at","created_by"}] newest first. */
json_t *job_code_list(struct db_tx *tx, const struct job *job, struct error *error);
