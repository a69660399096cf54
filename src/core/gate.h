/*
 * Gates: a rule decides whether what a run made is accepted.
 *
 * A gate is asked for in the transaction in which its run ends well (gate_request), and decided soon after
 * on another thread (gate_decide), because the comparison of weights reads them all. What is pending when
 * the daemon dies is decided after it came back. On acceptance the alias moves in the transaction that
 * records the verdict.
 *
 * The rule is a jq program (core/rule.h), or a short form (below), over the document
 *
 *   {"metrics":  {"accuracy":0.97,…}            final value of each metric of the run
 *    "history":  {"accuracy":[[step,value],…]}  all values, thinned to at most 1000 a metric
 *    "champion": {"version":6,"code_weights":"3.4","metrics":{…}} | null    who holds the alias
 *    "weights":  {"relative_l2","cosine","max_abs","changed","tensors","nan","comparable"} | null
 *                                               against the champion's (core/compare.h)
 *    "version":  {"number","code_weights"},
 *    "run":      {"id","parameters","attempt","duration_ms",…}}
 *
 * and gives true or false, or {"verdict":true,"reason":"text"}. Anything else, an error or an endless program
 * is the verdict "failed", which promotes nothing.
 *
 * The short form is comparisons of metrics and numbers, joined by "and", "or", "not" and parentheses:
 *     accuracy >= 0.95 and (champion == null or accuracy >= champion.accuracy - 0.01)
 *     loss < champion.loss
 * A jq program that reads a missing metric gets null, and null is less than any number: `.metrics.loss < 0.5` is
 * true for a run that reports no loss. The reason of the verdict names the metrics that were missing.
 *
 * In the short form a metric that is missing or not finite makes its comparison false; without a champion a comparison
 * with it is true (the first model has nothing to beat).
 */
#pragma once

#include <stdint.h>
#include "store/store.h"
#include "util/json.h"

/* Checks rule and alias when a run is submitted; ERROR_INVALID says where the rule is wrong. alias may be
 * NULL. Starts a child process: not on the orchestrator's thread. */
int gate_check(const char *rule, const char *alias, struct error *error);

/* The jq program of a rule; to be freed. Text that is not in short form is returned as it is. */
char *gate_translate(const char *rule);

/* "accuracy, champion.loss": metrics that a jq program reads by name and that the document does not have, or not
 * as a number; to be freed. NULL: none. They are null to jq, which sorts null before all numbers. */
char *gate_missing(const char *program, const json_t *document);

/* Asks for a verdict on the newest version that the run made. A second call for a run changes nothing. The
 * final metrics of the run are read when it is decided. */
int gate_request(struct db_tx *tx, const char *run_id, const char *project, const char *model, const char *rule,
                 const char *alias, struct error *error);

/* Decides the oldest pending gate. 1: one was decided; 0: none is pending; -1: could not be done. Blocks;
 * any thread, each gate is decided once. */
int gate_decide(struct store *store, struct error *error);

/* {"run","project","model","version","rule","alias","state","reason","seen","champion","created_at",
 * "decided_at"}. NULL with ERROR_NOT_FOUND. */
json_t *gate_of_run(struct db_tx *tx, const char *run_id, struct error *error);
/* Newest first, with ids below `before` (0: from the newest). project, model NULL: all. */
json_t *gate_list(struct db_tx *tx, const char *project, const char *model, int64_t before, int limit,
                  struct error *error);

/* Appends the `result` record (final metrics) of one version whose run succeeded without a gate. 1: one was
 * written; 0: none is left. */
int gate_record_result(struct store *store, struct error *error);
