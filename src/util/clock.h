/*
 * Time. Durations and monotonic instants are nanoseconds in int64_t; wall-clock instants that are
 * stored or shown are milliseconds since the Unix epoch (`_ms`).
 */
#pragma once

#include <stdint.h>

#define NS_PER_US  INT64_C(1000)
#define NS_PER_MS  INT64_C(1000000)
#define NS_PER_SEC INT64_C(1000000000)

/* CLOCK_MONOTONIC, ns. */
int64_t clock_monotonic_ns(void);
/* CLOCK_REALTIME, ns and ms since the epoch. */
int64_t clock_wall_ns(void);
int64_t clock_wall_ms(void);

#define CLOCK_RFC3339_SIZE 32
/* "2026-01-31T12:34:56.789Z" (RFC 3339, UTC, ms). Returns buffer. */
char *clock_format_ms(int64_t wall_ms, char buffer[CLOCK_RFC3339_SIZE]);
/* "2026-01-31T12:34:56.789012345Z" with nanoseconds, as the CRI log format wants. Returns buffer. */
char *clock_format_ns(int64_t wall_ns, char buffer[CLOCK_RFC3339_SIZE]);
/* Parses RFC 3339 with Z or an offset. -1 if it is none. */
int clock_parse_ms(const char *text, int64_t *ret_wall_ms);
