/*
 * Projects: the name spaces of everything else. `default` is always there.
 *
 * Events: slipway.project.created, slipway.project.removed.
 */
#pragma once

#include <stdbool.h>
#include "store/db.h"

#define PROJECT_DEFAULT "default"

int project_create(struct db_tx *tx, const char *name, const char *description, const char *actor, struct error *error);
/* ERROR_NOT_FOUND that names those there are. */
int project_check(struct db_tx *tx, const char *name, struct error *error);
/* ERROR_CONFLICT while anything is in it; its tokens end with it. */
int project_remove(struct db_tx *tx, const char *name, const char *actor, struct error *error);

/* {"name","description","created_at","datasets","jobs","runs","models","endpoints"}. NULL on failure. */
json_t *project_show(struct db_tx *tx, const char *name, struct error *error);
/* By name, behind `after` (NULL: from the start). *ret_next is to be freed; NULL: that was all. */
json_t *project_list(struct db_tx *tx, const char *after, int limit, char **ret_next, struct error *error);
