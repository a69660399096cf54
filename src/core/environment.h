/*
 * Environments: what code runs in.
 *
 *   host       the host's root file system, read-only; always there, is not stored
 *   python     a requirements file that becomes a virtual environment; variants for cpu and gpu
 *
 * An environment "NAME@VERSION" is immutable and names two builds by digest (of the requirements, the
 * interpreter's version and the machine's architecture). A build lies in DATA/environments/<digest>/, is made
 * once on a machine and shared read-only by all runs:
 *
 *     building ──▶ ready                    failed ──▶ building (asked for again)
 *         └──────▶ failed
 *
 * Here are rules and storage; schedule/builder.h makes the builds.
 */
#pragma once

#include "store/db.h"
#include "util/schema.h"
#include "util/state.h"

enum build_state {
    BUILD_BUILDING,
    BUILD_READY,
    BUILD_FAILED,
    BUILD_STATE_COUNT_,
};
extern const struct state_machine build_states;

extern const struct schema environment_schema;
extern const struct schema environment_create_schema;

#define ENVIRONMENT_DIGEST_SIZE 65 /* 64 hex digits and NUL */

struct environment {
    char *name;
    int version;
    char digest[2][ENVIRONMENT_DIGEST_SIZE]; /* [0] cpu, [1] gpu */
    char *requirements[2];
};
void environment_release(struct environment *environment);
#define cleanup_environment CLEANUP(environment_release)

/* `python` is the interpreter's identity ("3.11.2 x86_64"). requirements_gpu NULL: as cpu. If the newest
 * version has the same content it is returned and nothing is written. */
int environment_create(struct db_tx *tx, const char *project, const char *actor, const char *name,
                       const char *requirements_cpu, const char *requirements_gpu, const char *python, int *ret_version,
                       struct error *error);
/* address: NAME or NAME@VERSION. */
int environment_load(struct db_tx *tx, const char *project, const char *address, struct environment *ret_environment,
                     struct error *error);
/* ERROR_CONFLICT while a run that is alive uses it. */
int environment_delete(struct db_tx *tx, const char *project, const char *address, const char *actor,
                       struct error *error);
json_t *environment_list(struct db_tx *tx, const char *project, struct error *error);
json_t *environment_to_json(struct db_tx *tx, const char *project, const char *address, struct error *error);

/* Digest of a variant's content, as named above. */
void environment_digest(const char *requirements, const char *python, char ret_digest[ENVIRONMENT_DIGEST_SIZE]);

struct build {
    enum build_state state;
    char *reason, *message, *requirements;
    uint64_t size;
    int64_t started_at, ended_at;
};
void build_release(struct build *build);
#define cleanup_build CLEANUP(build_release)

/* ERROR_NOT_FOUND: never asked for. */
int build_load(struct db_tx *tx, const char *digest, struct build *ret_build, struct error *error);
/* Creates the row, or moves it; writes slipway.environment.<state>. */
int build_set_state(struct db_tx *tx, const char *digest, const char *requirements, enum build_state state,
                    const char *reason, const char *message, uint64_t size, struct error *error);
