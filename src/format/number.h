/*
 * Numbers in text, read fast and exactly.
 *
 * A double is the one nearest to the decimal, ties to even, as strtod() gives it in the C locale: short
 * mantissas take one exact multiplication or division, longer ones go through 80-bit arithmetic with a
 * check that the second rounding cannot matter (Clinger 1990), and what remains goes to strtod().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum number_kind {
    NUMBER_NONE,    /* no number */
    NUMBER_INTEGER, /* fits into int64_t, written without point and exponent */
    NUMBER_REAL,    /* any other number, infinities included */
};

struct number {
    union {
        int64_t integer;
        double real;
    };
};

/* Reads a number at `p` and sets *ret_end behind it; NUMBER_NONE sets nothing. At least 8 bytes behind
 * `end` must be readable; p[end] itself is not part of the text and must be no digit, letter, sign or
 * point. No blanks are skipped. NaN is no number here. */
enum number_kind number_scan(const char *p, const char *end, const char **ret_end, struct number *ret_number);

/* The same for exactly `length` bytes anywhere, blanks around allowed. */
enum number_kind number_parse(const char *text, size_t length, struct number *ret_number);
