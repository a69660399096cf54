/*
 * A histogram of durations with bounded relative error, after HdrHistogram (G. Tene): buckets of powers of
 * two, each split into 2^10 equal parts, so that any recorded value is known to 1/1024 (0.1 %).
 *
 * Values are nanoseconds, 0 to 2^62. Recording is O(1) and allocates nothing.
 */
#pragma once

#include <stdint.h>
#include "util/cleanup.h"

struct histogram;

struct histogram *histogram_new(void);
struct histogram *histogram_free(struct histogram *histogram);
DEFINE_CLEANUP(struct histogram *, histogram_free)
#define cleanup_histogram CLEANUP(histogram_free_cleanup)

void histogram_record(struct histogram *histogram, int64_t ns);
void histogram_add(struct histogram *to, const struct histogram *from);
uint64_t histogram_count(const struct histogram *histogram);
/* The least value that at least a share q (0 to 1) of the recorded ones do not exceed; 0 while empty. */
int64_t histogram_quantile(const struct histogram *histogram, double q);
double histogram_mean(const struct histogram *histogram);
int64_t histogram_max(const struct histogram *histogram);
