/*
 * How much there is of everything, for `slipway status` and /metrics.
 */
#pragma once

#include "store/db.h"

/* {"runs":{state: count},"replicas":{state: count},"datasets":n,"models":n,"endpoints":n};
 * of all projects. */
int summary_describe(struct db_tx *tx, json_t **ret_summary, struct error *error);
