/*
 * What the files of endpoints share: one row of `endpoints`, and the steps that every change of the desired state is
 * made of. All in the caller's transaction.
 */
#pragma once

#include "core/endpoint.h"

struct endpoint_row {
    int64_t id, model;
    char *project, *name, *model_name, *follow;
};
void endpoint_row_release(struct endpoint_row *row);
#define cleanup_endpoint_row CLEANUP(endpoint_row_release)

/* ERROR_NOT_FOUND, also for one that is being removed. project NULL: any. */
int endpoint_row_load(struct db_tx *tx, const char *project, const char *name, struct endpoint_row *ret,
                      struct error *error);
/* Appends an event about the endpoint. Steals data, which may be NULL. */
int endpoint_announce(struct db_tx *tx, const char *type, const struct endpoint_row *e, const char *actor, json_t *data,
                      struct error *error);

/* The version (row) that has the role; 0: none has. */
int endpoint_role(struct db_tx *tx, int64_t endpoint, const char *role, int64_t *ret_version, struct error *error);
/* Gives a version a role instead of the one that it may have, and its share of the requests in per cent. */
int endpoint_set_role(struct db_tx *tx, int64_t endpoint, int64_t version, const char *role, double weight,
                      struct error *error);
/* The number of a version; 0 for row 0. */
int endpoint_version_number(struct db_tx *tx, int64_t version, int64_t *ret_number, struct error *error);
int endpoint_add_deployment(struct db_tx *tx, int64_t endpoint, const char *kind, int64_t number, int64_t previous,
                            const char *actor, int64_t *ret_id, struct error *error);

/* Whatever is on its way to become live, or has a part of the traffic, no longer is and has: pending deployments and
 * the canary. Shadows stay. */
int endpoint_supersede(struct db_tx *tx, int64_t endpoint, struct error *error);
/* Takes the version with this role ("canary", "shadow") out of the routes: it becomes the standby again if it was,
 * and the live version has all requests. The deployment's row is the caller's to close. */
int endpoint_end_trial(struct db_tx *tx, int64_t endpoint, const char *role, struct error *error);
