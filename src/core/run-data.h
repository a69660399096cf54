/* The datasets of a run (internal to the files of core/run.h). */
#pragma once

#include "store/db.h"

/* {"name","address","files":[{"name","digest","size"}]} of a dataset's version as it is now; NULL on failure. */
json_t *run_resolve_dataset(struct db_tx *tx, const char *project, const char *address, struct error *error);
/* Records the run as an active user of all datasets of its spec; fails if one is gone. */
int run_use_datasets(struct db_tx *tx, const char *project, const char *run_id, const json_t *spec,
                     struct error *error);
