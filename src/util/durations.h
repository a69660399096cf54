/*
 * How long things took, counted in buckets that two programs can agree on: what one counts the other can subtract,
 * to see what happened between two looks.
 *
 * Buckets are powers of two, each split into 16 equal parts (after HdrHistogram, G. Tene), from 1 µs to 2^27 µs (134
 * s), so that a quantile is known to 1/16 (6 %); what is longer counts as that. 3 KiB each; adding is O(1).
 */
#pragma once

#include <stdint.h>
#include "util/json.h"

#define DURATIONS_PARTS 16
#define DURATIONS_SLOTS (24 * DURATIONS_PARTS)

struct durations {
    uint64_t slots[DURATIONS_SLOTS];
};

void durations_add(struct durations *durations, int64_t ns);
uint64_t durations_count(const struct durations *durations);
/* The time in ms that a share q (0 to 1) of them did not exceed; NaN while there are none. */
double durations_quantile_ms(const struct durations *durations, double q);

/* [[slot,count],…] of those that hold something. */
json_t *durations_to_json(const struct durations *durations);
/* Adds what durations_to_json() gave; what is none is ignored. */
void durations_add_json(struct durations *durations, const json_t *json);
/* Takes away what was counted earlier; slots that would become negative become 0. */
void durations_subtract(struct durations *durations, const struct durations *earlier);
