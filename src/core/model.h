/*
 * Models: a `type/name` tree of immutable versions.
 *
 *     vision/digits            code versions    1 ─ 2 ─ 3          digest of the package or code zip
 *                              weights          1 ─ 2 ─ 3 ─ 4 ─ 5  generations, one digest each
 *                              versions         … 6 = (2, 4), 7 = (3, 5)
 *
 * A version is a number and a pair: vision/digits@7 is also vision/digits@3.5. Names that move (aliases)
 * point to versions and remember where they pointed. Numbers are given once: after a removal they are not
 * used again.
 *
 * All functions run in the caller's transaction and append their events to the journal in it; `actor` is
 * the one of struct journal_event.
 */
#pragma once

#include <stdint.h>
#include "store/db.h"
#include "util/error.h"
#include "util/json.h"

/* "type/name", both parts by parse_name(). */
int model_check_name(const char *name, struct error *error);
/* An alias begins with a letter, so that it cannot be taken for a number. */
int model_check_alias(const char *alias, struct error *error);

/* What becomes a version. Everything is borrowed. */
struct model_addition {
    const char *project;
    const char *model;         /* "vision/digits"; created when it does not exist */
    const char *code;          /* digest of the zip: the code of the run, or a package */
    uint64_t code_size;        /* bytes */
    const json_t *package;     /* what package_inspect() said; NULL: will be inspected when it is served */
    const char *weights;       /* digest; NULL: the package needs none */
    uint64_t weights_size;     /* bytes */
    const char *weights_name;  /* file name that the program gave; may be NULL */
    const char *run_id;        /* NULL: pushed by hand */
    int64_t generation;        /* of the run, from 1; 0 without a run */
    int64_t step;              /* newest step of the run; -1: unknown */
    const json_t *metrics;     /* newest value of each metric at that time: {"loss":0.3,…}; NULL: {} */
    /* What goes to the release record beside the above: {"job","entry":[…],"parameters":{…},"resources":{…},
     * "environment":{"name","digest"},"data":[{"address","digest"}],"seed"}; NULL: {}. Any further field is
     * kept too. */
    const json_t *facts;
    const char *actor;
};

/* Adds a version with its parts and its release record. A code digest that the model has already keeps its
 * number; every call with weights gives a new weights generation, except that the same (run, generation)
 * is added once: a second call changes nothing and returns the version of the first. The blobs must be in
 * the vault. ret_version (may be NULL) is the number of the version. */
int model_add(struct db_tx *tx, const struct model_addition *addition, int64_t *ret_version, struct error *error);
/* The name under which the intake of runs knows it. */
int model_add_weights(struct db_tx *tx, const struct model_addition *addition, int64_t *ret_version,
                      struct error *error);

/* One version, looked up. Owned strings. */
struct model_version {
    int64_t id;       /* row */
    int64_t model_id; /* row */
    char *project;
    char *model;
    int64_t number;
    int64_t code;
    int64_t weights; /* 0: none */
    char *code_digest;
    char *weights_digest; /* NULL: none */
    char *weights_name;   /* may be NULL */
    uint64_t weights_size;
    char *run_id;       /* NULL: pushed */
    char *alias;        /* the alias it was found by; NULL: by number, or the newest */
    char code_weights[44]; /* "3.5", "3" without weights */
};
#define MODEL_VERSION_INIT {0}
void model_version_clear(struct model_version *version);
#define cleanup_model_version CLEANUP(model_version_clear)

/* text: NULL or "" (the newest), "7", "3.5", "production". ERROR_NOT_FOUND names what there is instead. */
int model_resolve(struct db_tx *tx, const char *project, const char *model, const char *text,
                  struct model_version *ret_version, struct error *error);
/* The newest version that a run made. ERROR_NOT_FOUND. */
int model_resolve_run(struct db_tx *tx, const char *run_id, struct model_version *ret_version, struct error *error);
int model_resolve_id(struct db_tx *tx, int64_t id, struct model_version *ret_version, struct error *error);

/* Row of a model. ERROR_NOT_FOUND. */
int model_find(struct db_tx *tx, const char *project, const char *model, int64_t *ret_id, struct error *error);

/* Remembers what package_inspect() said of a code version. */
int model_set_package(struct db_tx *tx, const struct model_version *version, const json_t *package,
                      struct error *error);

/* -- aliases -- */
/* Points alias to a version. reason: "promoted", "gate_accepted". A second call with the same version
 * changes nothing. */
int model_promote(struct db_tx *tx, const struct model_version *version, const char *alias, const char *reason,
                  const char *actor, struct error *error);
/* Points alias to where it pointed before its last move forward; called again it goes further back.
 * ERROR_CONFLICT if there is nothing to go back to. */
int model_rollback(struct db_tx *tx, const char *project, const char *model, const char *alias, const char *actor,
                   int64_t *ret_version, struct error *error);
int model_remove_alias(struct db_tx *tx, const char *project, const char *model, const char *alias, const char *actor,
                       struct error *error);

/* -- removal -- */
/* ERROR_CONFLICT while an endpoint or an alias uses it; the message says which. The blobs go with the next
 * garbage collection, if nothing else names them; the release records stay. */
int model_remove_version(struct db_tx *tx, const struct model_version *version, const char *actor, struct error *error);
/* All versions and aliases. ERROR_CONFLICT while an endpoint uses one. */
int model_remove(struct db_tx *tx, const char *project, const char *model, const char *actor, struct error *error);

/* -- views: new references, NULL on failure -- */
/* {"project","name","type","newest","versions","aliases":{"production":7},"created_at"} of a page of models
 * in order of name, behind `after` (NULL: from the start). project NULL: all; type NULL: all. */
json_t *model_list(struct db_tx *tx, const char *project, const char *type, const char *after, int limit,
                   struct error *error);
json_t *model_describe(struct db_tx *tx, const char *project, const char *model, struct error *error);
/* {"model","project","version","code","weights","code_weights","code_digest","code_size","weights_digest",
 * "weights_size","weights_name","run","generation","step","metrics","aliases","gate","served_by",
 * "created_at","created_by"} */
json_t *model_version_describe(struct db_tx *tx, int64_t id, struct error *error);
/* Newest first, with numbers below `before` (0: from the newest). */
json_t *model_versions(struct db_tx *tx, const char *project, const char *model, int64_t before, int limit,
                       struct error *error);
/* Moves of aliases, newest first. */
json_t *model_alias_history(struct db_tx *tx, const char *project, const char *model, const char *alias, int limit,
                            struct error *error);
