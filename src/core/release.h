/*
 * Release records: the immutable fact sheets of versions, chained by hash.
 *
 * Each model has one chain. A record is JSON in canonical form (compact, keys sorted); its hash is
 *
 *     hash(n) = SHA-256( hash(n-1) ‖ record(n) )      hash(0) = "" ; hashes as text "sha256:…"
 *
 * so that `printf '%s%s' "$previous" "$record" | sha256sum` checks a link. Records are only added:
 *
 *     version   when the version was made: digests of code, environment, data and weights; run, entry,
 *               parameters, resources, seed, metrics at that time, who and when
 *     result    when its run ended well: the final metrics
 *     gate      the verdict, the rule, what it saw, the final metrics
 *     removed   the version was removed; its facts stay
 */
#pragma once

#include <stdint.h>
#include "store/store.h"
#include "util/hash.h"
#include "util/json.h"

/* hash(n) from hash(n-1) and the text of record n. */
void release_hash(const char *previous, const char *record, char ret_hash[DIGEST_TEXT_SIZE]);

/* Appends to the chain of the model. `facts` is borrowed; sequence, kind, project, model, version, who and
 * when are added to it. */
int release_append(struct db_tx *tx, const char *project, const char *model, int64_t version, const char *kind,
                   const json_t *facts, const char *actor, struct error *error);

/* The records of one version in order: [{"sequence","kind","record":{…},"previous","hash"}]. */
json_t *release_records(struct db_tx *tx, const char *project, const char *model, int64_t version, struct error *error);
/* The fact sheet: the `version` record with "metrics_final" and "gate" of the later ones, and "hash" of the
 * last. NULL with ERROR_NOT_FOUND. */
json_t *release_sheet(struct db_tx *tx, const char *project, const char *model, int64_t version, struct error *error);

/* Recomputes every link, checks that each version of the model has its record with the digests that the
 * registry has, and (with blobs) re-reads every code and weights blob that is still there:
 *   {"model","ok","records","head","versions","blobs","broken":null |
 *    {"sequence"|"version","what":"hash|previous|sequence|record|digest|blob","message"}}
 * NULL only if it could not be done; a broken chain is a result. */
json_t *release_verify(struct store *store, const char *project, const char *model, bool blobs, struct error *error);
