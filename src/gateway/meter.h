/*
 * How much each token may still ask: a rate for each endpoint (a bucket of requests that fills steadily), and a quota
 * (so many requests in a window of time).
 *
 * A subject is who is counted: all tokens of one client count together, so that short-lived ones cannot be made to
 * get around a limit. Counts live here and not with the remembered token, which is forgotten after a minute. At most
 * `max` counts are kept; a new one pushes out the one that was unused for longest. A gateway that starts has none.
 *
 * Windows are fixed: they begin at multiples of their length since 1970, UTC, so that a day begins at midnight,
 * whenever the gateway was started.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/cleanup.h"

struct meters;

struct meters *meters_new(size_t max);
struct meters *meters_free(struct meters *meters);
DEFINE_CLEANUP(struct meters *, meters_free)
#define cleanup_meters CLEANUP(meters_free_cleanup)

struct rate_limit {
    double per_second, burst; /* a fresh bucket is full: it holds `burst` */
};
struct quota {
    int64_t requests, window_ms; /* requests 0: no quota */
};

/* Takes one request, or returns false and in how many seconds there is one again (rounded up, at least 1). */
bool meter_take_rate(struct meters *meters, const char *subject, const char *endpoint, const struct rate_limit *limit,
                     int64_t now_ns, int64_t *ret_wait_s);
bool meter_take_quota(struct meters *meters, const char *subject, const struct quota *quota, int64_t wall_ms,
                      int64_t *ret_wait_s);
size_t meters_count(const struct meters *meters);
