/*
 * Rules that end canaries and shadows by themselves: jq programs (core/rule.h) over what the version did beside the
 * live one (traffic_document() in core/traffic.h), since it began.
 *
 *     abort_if    looked at from the first request on, and first of the two: the version is withdrawn
 *     promote_if  looked at when `after` is reached (requests that the version had, and time): it becomes live
 *
 * A rule gives true or false, or {"verdict":true,"reason":"text"}. One that gives anything else, raises an error or
 * does not end changes nothing; why is kept with the deployment until it can be evaluated. A decision is kept with the
 * deployment and in its event, with the document that the rule saw.
 */
#pragma once

#include <stdint.h>
#include "store/store.h"
#include "util/json.h"

/* Of a canary that names no rule to abort it: it fails clearly more often than the live version. */
#define TRIAL_ABORT_IF ".canary.requests >= 50 and .canary.error_rate > (.live.error_rate // 0) + 0.05"
/* What a rule to promote waits for where nothing is said. */
#define TRIAL_AFTER_REQUESTS 100
#define TRIAL_AFTER_MS       60000

/* Checks both rules of the options of endpoint_try() and adds what is not there; kind "canary" or "shadow". Starts
 * child processes: neither in a transaction nor on the orchestrator's thread. */
int trial_check(const char *kind, json_t *options, struct error *error);

/* Stores the gateway's counters of now for those that are about to begin. */
int trials_begin(struct db_tx *tx, const json_t *status, struct error *error);

/* Looks at all rules of all that run, with the gateway's status of now. Blocks while rules run: worker threads.
 * *ret_ended: how many were promoted or aborted. A failure of one is no failure of the others; the last one is
 * returned. */
int trials_judge(struct store *store, const json_t *status, int *ret_ended, struct error *error);
