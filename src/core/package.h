/*
 * Model packages: a zip that serves without anything else (docs/MODEL_PACKAGE.md).
 *
 * At its top stands model.py or model.R that defines init() and predict(text), or a model of ONNX or XGBoost
 * that needs no code; optionally slipway.yaml. The code of a run is such a package too if it has them.
 */
#pragma once

#include <stdint.h>
#include "store/store.h"
#include "util/json.h"

/* Looks at a zip: names, sizes, defences of format/archive.h, the functions that are defined, the manifest.
 *   {"servable":bool,"reason":null|"…","runtime":"python"|"r"|"onnx"|"xgboost","file":"model.py","functions":["init",…],
 *    "environment":name|null,"concurrency":1,"batch":{"size":32,"delay_us":0}|null,"deterministic":false,
 *    "inputs":[…],"outputs":[…],"files":n,"size":n}
 * "servable" is false, with the reason, for a zip that is sound but not a package. NULL: ERROR_INVALID,
 * ERROR_TOO_LARGE for a zip that is hostile or broken. */
json_t *package_inspect_fd(int fd, struct error *error);
json_t *package_inspect(struct store *store, const char *digest, struct error *error);

/* Requests that one call takes, and how long they wait for each other. False: it takes none together (size 1, delay 0).
 */
bool package_batch(const json_t *package, int64_t *ret_size, int64_t *ret_delay_us);
