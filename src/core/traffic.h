/*
 * What the versions of an endpoint did over a time: from two looks at the gateway's counters.
 *
 *     counters of then ─┐
 *                       ├─▶ statistics ─▶ document ─▶ rules (core/rule.h)
 *     counters of now ──┘
 *
 * Counters of a gateway that was started in between begin at 0: then the time begins there, too. Only JSON in and out,
 * no database; the gateway's status is that of gateway/control.h with "detail".
 */
#pragma once

#include <stdint.h>
#include "util/json.h"

/* Of one endpoint:
 * {"instance","time_ms","versions":{"7":{"outcomes":{…},"latency":[…],"queue_time":[…],"shadow":{…}}}}; an endpoint
 * that the gateway does not know has no versions. */
json_t *traffic_counters(const json_t *status, const char *endpoint, int64_t now_ms);
/* True if both are of one gateway, so that they can be subtracted. */
bool traffic_is_comparable(const json_t *counters, const json_t *before);

/* One version between two looks; before NULL: since the gateway was started.
 * {"requests","errors","error_rate","p50_ms","p99_ms","queue_p50_ms","queue_p99_ms","copies","agreed","disagreed",
 * "failed","dropped","disagreement","max_abs","max_rel"}; what cannot be said without a request, and what concerns
 * copies of a version that gets none, is null. Errors are what a model or its replicas did wrong: neither a request
 * that is invalid nor a client that leaves. */
json_t *traffic_version(const json_t *counters, const json_t *before, int64_t version);

/* What rules see: {"canary":{…},"live":{…},"seconds":n}, with the statistics above. */
json_t *traffic_document(const json_t *counters, const json_t *before, int64_t live, int64_t canary);
