#include "format/number.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "util/cleanup.h"
#include "util/xalloc.h"

#define MAX_DIGITS 19 /* that always fit into 64 bits */

static const double exact_powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                      1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

#if LDBL_MANT_DIG == 64
static const long double wide_powers[] = {1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,  1e7L,  1e8L,  1e9L,
                                          1e10L, 1e11L, 1e12L, 1e13L, 1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L,
                                          1e20L, 1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L, 1e27L};

/* 10^27 and any 64-bit mantissa are exact in 80 bits, so the product is rounded once, to 64 bits. The second
 * rounding to 53 is right unless the 11 bits it drops are exactly one half: then it is not known on which
 * side the true value lies. */
static bool convert_wide(uint64_t mantissa, int exponent, double *ret)
{
    long double value = mantissa;
    uint64_t bits;

    if (exponent < -27 || exponent > 27)
        return false;
    value = exponent < 0 ? value / wide_powers[-exponent] : value * wide_powers[exponent];
    memcpy(&bits, &value, sizeof(bits));
    if ((bits & 0x7ff) == 0x400)
        return false;
    *ret = (double)value;
    return true;
}
#else
static bool convert_wide(uint64_t mantissa, int exponent, double *ret)
{
    return false;
}
#endif

static double convert_slow(const char *p, size_t length)
{
    char buffer[512], *copy = length < sizeof(buffer) ? buffer : xmalloc(length + 1);
    double value;

    memcpy(copy, p, length);
    copy[length] = '\0';
    value = strtod(copy, NULL); /* the program keeps the C locale for numbers */
    if (copy != buffer)
        free(copy);
    return value;
}

/* Eight characters at once: true if all are digits, and then their value. */
static inline bool eight_digits(const char *p, uint64_t *ret)
{
    uint64_t v;

    memcpy(&v, p, 8);
    if (((v & 0xf0f0f0f0f0f0f0f0) | (((v + 0x0606060606060606) & 0xf0f0f0f0f0f0f0f0) >> 4)) != 0x3333333333333333)
        return false;
    v = (v & 0x0f0f0f0f0f0f0f0f) * 2561 >> 8;
    v = (v & 0x00ff00ff00ff00ff) * 6553601 >> 16;
    *ret = (v & 0x0000ffff0000ffff) * 42949672960001 >> 32;
    return true;
}

static inline bool is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

/* Adds digits to the mantissa; how many there were is p's way. */
static inline const char *scan_digits(const char *p, uint64_t *mantissa)
{
    uint64_t m = *mantissa;
    uint64_t eight;

    while (is_digit(*p)) {
        if (is_digit(p[1]) && is_digit(p[2]) && eight_digits(p, &eight)) {
            m = m * 100000000 + eight;
            p += 8;
        } else {
            m = m * 10 + (*p++ - '0');
        }
    }
    *mantissa = m;
    return p;
}

/* "inf" and "infinity" in any case. */
static enum number_kind scan_word(const char *p, const char *end, bool negative, const char **ret_end,
                                  struct number *ret_number)
{
    size_t length;

    if (end - p >= 8 && strncasecmp(p, "infinity", 8) == 0)
        length = 8;
    else if (end - p >= 3 && strncasecmp(p, "inf", 3) == 0)
        length = 3;
    else
        return NUMBER_NONE;
    *ret_end = p + length;
    ret_number->real = negative ? -__builtin_inf() : __builtin_inf();
    return NUMBER_REAL;
}

/* The exponent behind 'e'; false if there are no digits. Saturates. */
static bool scan_exponent(const char **p, int64_t *ret)
{
    const char *q = *p + 1;
    bool negative = *q == '-';
    int64_t value = 0;

    if (*q == '-' || *q == '+')
        q++;
    if (!is_digit(*q))
        return false;
    for (; is_digit(*q); q++)
        if (value < 100000)
            value = value * 10 + (*q - '0');
    *ret = negative ? -value : value;
    *p = q;
    return true;
}

enum number_kind number_scan(const char *p, const char *end, const char **ret_end, struct number *ret_number)
{
    const char *begin = p, *digits, *first;
    bool negative = *p == '-', has_point = false;
    uint64_t mantissa = 0;
    int64_t exponent = 0, written = 0;
    size_t count;
    double value;

    if (*p == '-' || *p == '+')
        p++;
    digits = p;
    p = scan_digits(p, &mantissa);
    count = p - digits;
    if (*p == '.') {
        const char *fraction = ++p;

        p = scan_digits(p, &mantissa);
        has_point = true;
        count += p - fraction;
        exponent = fraction - p;
    }
    if (count == 0)
        return scan_word(digits, end, negative, ret_end, ret_number);
    if ((*p | 0x20) == 'e' && scan_exponent(&p, &written))
        has_point = true;
    *ret_end = p;
    if (count > MAX_DIGITS) {
        /* Leading zeros do not count. */
        for (first = digits; *first == '0' || *first == '.'; first++)
            count -= *first == '0';
    }
    if (!has_point && count <= MAX_DIGITS && mantissa <= (uint64_t)INT64_MAX + negative) {
        ret_number->integer = negative ? (int64_t)-mantissa : (int64_t)mantissa;
        return NUMBER_INTEGER;
    }
    exponent += written;
    if (count <= MAX_DIGITS && mantissa <= (UINT64_C(1) << 53) && exponent >= -22 && exponent <= 22)
        value = exponent < 0 ? (double)mantissa / exact_powers[-exponent] : (double)mantissa * exact_powers[exponent];
    else if (count > MAX_DIGITS || !convert_wide(mantissa, exponent, &value)) {
        ret_number->real = convert_slow(begin, p - begin);
        return NUMBER_REAL;
    }
    ret_number->real = negative ? -value : value;
    return NUMBER_REAL;
}

enum number_kind number_parse(const char *text, size_t length, struct number *ret_number)
{
    char buffer[1200]; /* the longest double in full has 1,077 characters */
    const char *end;
    enum number_kind kind;

    while (length && (*text == ' ' || *text == '\t')) {
        text++;
        length--;
    }
    while (length && (text[length - 1] == ' ' || text[length - 1] == '\t'))
        length--;
    if (length == 0 || length >= sizeof(buffer) - 8)
        return NUMBER_NONE;
    memcpy(buffer, text, length);
    memset(buffer + length, 0, 8);
    kind = number_scan(buffer, buffer + length, &end, ret_number);
    return kind != NUMBER_NONE && end == buffer + length ? kind : NUMBER_NONE;
}

/* -- printing -- */

static size_t print_digits(uint64_t value, char *out)
{
    char reversed[20];
    size_t count = 0;

    do
        reversed[count++] = (char)('0' + value % 10);
    while (value /= 10);
    for (size_t i = 0; i < count; i++)
        out[i] = reversed[count - 1 - i];
    return count;
}

size_t number_print_integer(int64_t value, char out[NUMBER_TEXT])
{
    if (value >= 0)
        return print_digits(value, out);
    out[0] = '-';
    return 1 + print_digits(-(uint64_t)value, out + 1);
}

/* digits / 10^decimals as text, from the back: the point, and zeros before the first digit. */
static size_t print_decimals(uint64_t digits, int decimals, char *out)
{
    uint64_t power = 1;
    size_t length;

    for (int i = 0; i < decimals; i++)
        power *= 10;
    length = print_digits(digits / power, out);
    if (!decimals)
        return length;
    out[length++] = '.';
    digits %= power;
    for (int i = decimals - 1; i >= 0; i--, digits /= 10)
        out[length + i] = (char)('0' + digits % 10);
    return length + decimals;
}

static bool reads_back(double read, double value, bool narrow)
{
    return narrow ? (float)read == (float)value : read == value;
}

static size_t print_real(double value, bool narrow, char *out)
{
    static const int precisions[] = {6, 7, 8, 9, 15, 16, 17};
    double magnitude = fabs(value);
    size_t sign = signbit(value) != 0;

    out[0] = '-';
    /* A mantissa below 2^53 and a power of ten up to 10^22 are exact, and their quotient is rounded once,
     * just as number_scan() does it. */
    for (int decimals = 0; decimals <= 15; decimals++) {
        double digits = nearbyint(magnitude * exact_powers[decimals]);

        if (digits >= 0x1p53)
            break;
        if (reads_back(digits / exact_powers[decimals], magnitude, narrow))
            return sign + print_decimals((uint64_t)digits, decimals, out + sign);
    }
    for (size_t i = narrow ? 0 : 4;; i++) {
        int length = snprintf(out, NUMBER_TEXT, "%.*g", precisions[i], value);

        if (i + 1 == ARRAY_SIZE(precisions) || reads_back(strtod(out, NULL), value, narrow))
            return length;
    }
}

size_t number_print(double value, char out[NUMBER_TEXT])
{
    return print_real(value, false, out);
}

size_t number_print_float(float value, char out[NUMBER_TEXT])
{
    return print_real(value, true, out);
}
