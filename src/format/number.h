/*
 * Numbers in text, read fast and exactly.
 *
 * A double is the one nearest to the decimal, ties to even, as strtod() gives it in the C locale: short
 * mantissas take one exact multiplication or division, longer ones go through 80-bit arithmetic with a
 * check that the second rounding cannot matter (Clinger 1990), and what remains goes to strtod().
 * The other way there are few digits that read back as the same number.
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

#define NUMBER_TEXT 32 /* room for any number */

/* Writes the number so that number_scan() gives it back, in decimals where few do; whole numbers have no
 * point. Finite ones only. Returns the length; nothing is terminated. */
size_t number_print(double value, char out[NUMBER_TEXT]);
/* The same for a number that is read back as a double and then rounded to float: fewer digits do. */
size_t number_print_float(float value, char out[NUMBER_TEXT]);
size_t number_print_integer(int64_t value, char out[NUMBER_TEXT]);
