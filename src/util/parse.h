/*
 * Text that people write for quantities, and back.
 *
 * All parsers take the whole string; ERROR_INVALID says what was found and what would be right.
 */
#pragma once

#include <stdint.h>
#include "util/error.h"

/* Bytes: "1500M", "1.5G", "64KiB", "512" (k, M, G, T are powers of 1024, as memory limits use them). */
int parse_bytes(const char *text, uint64_t *ret_bytes, struct error *error);
/* Seconds: "90", "90s", "5m", "5h", "2d", "250ms", "1.5h". Result in ms. */
int parse_duration_ms(const char *text, int64_t *ret_ms, struct error *error);
/* The same in µs, for what is shorter: "0.5ms". */
int parse_duration_us(const char *text, int64_t *ret_us, struct error *error);
/* So many in a time: "50/s", "100000/day", "10/5m". Units are s, m, h, d, their names (second, minute, hour, day), or
 * any duration. */
int parse_per(const char *text, double *ret_count, int64_t *ret_ms, struct error *error);
int parse_int(const char *text, int64_t min, int64_t max, int64_t *ret_value, struct error *error);
/* Finite numbers only, always with '.' whatever the locale. */
int parse_number(const char *text, double min, double max, double *ret_value, struct error *error);
/* A name of ours: 1 to LIMIT_NAME characters of a-z 0-9 - _ . that begins with a letter or digit.
 * `what` is the kind of thing, for the message. */
int parse_name(const char *text, const char *what, struct error *error);

#define FORMAT_SIZE 32
/* "1.5 GiB", three significant digits. Returns buffer. */
char *format_bytes(uint64_t bytes, char buffer[FORMAT_SIZE]);
/* "350 ms", "12.4 s", "3m 05s", "5h 12m", "2d 03h". Returns buffer. */
char *format_duration_ms(int64_t ms, char buffer[FORMAT_SIZE]);
