#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/limits.h"
#include "util/parse.h"

/* A non-negative decimal number at the start of text; returns where it ends, or NULL. strtod() alone
 * would take hexadecimal, "inf" and blanks, too. */
static const char *leading_number(const char *text, double *ret_value)
{
    size_t length = strspn(text, "0123456789.");
    char *end;

    if (!length || length > 40)
        return NULL;
    *ret_value = strtod(text, &end);
    return end == text + length ? end : NULL;
}

int parse_bytes(const char *text, uint64_t *ret_bytes, struct error *error)
{
    static const char units[] = "KMGTP";
    const char *end, *unit;
    double value;

    end = leading_number(text, &value);
    if (!end)
        goto invalid;
    if (*end) {
        unit = strchr(units, toupper((unsigned char)*end));
        if (unit) {
            value = ldexp(value, 10 * (int)(unit - units + 1));
            end++;
        }
        if (*end == 'i')
            end++;
        if (*end == 'B')
            end++;
        if (*end)
            goto invalid;
    }
    if (value >= ldexp(1, 63))
        goto invalid;
    *ret_bytes = (uint64_t)value;
    return 0;

invalid:
    return error_set(error, ERROR_INVALID, "'%.80s' is not a size; write bytes as 512, 1500M or 1.5G", text);
}

/* In parts of a millisecond, of which there are `scale`. */
static int parse_duration(const char *text, double scale, int64_t *ret_value, struct error *error)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"", 1e3}, {"s", 1e3}, {"ms", 1}, {"m", 60e3}, {"h", 3600e3}, {"d", 86400e3}};
    const char *end;
    double value;

    end = leading_number(text, &value);
    for (size_t i = 0; end && i < ARRAY_SIZE(units); i++) {
        if (strcmp(end, units[i].unit) == 0 && value * units[i].ms * scale < ldexp(1, 53)) {
            *ret_value = llround(value * units[i].ms * scale);
            return 0;
        }
    }
    return error_set(error, ERROR_INVALID, "'%.80s' is not a duration; write 90s, 5m, 1.5h, 2d or 250ms", text);
}

int parse_duration_ms(const char *text, int64_t *ret_ms, struct error *error)
{
    return parse_duration(text, 1, ret_ms, error);
}

int parse_duration_us(const char *text, int64_t *ret_us, struct error *error)
{
    return parse_duration(text, 1000, ret_us, error);
}

int parse_per(const char *text, double *ret_count, int64_t *ret_ms, struct error *error)
{
    static const struct {
        const char *name;
        int64_t ms;
    } names[] = {{"s", 1000},       {"sec", 1000},  {"second", 1000},  {"m", 60000},    {"min", 60000},
                 {"minute", 60000}, {"h", 3600000}, {"hour", 3600000}, {"d", 86400000}, {"day", 86400000}};
    double count;
    const char *slash = leading_number(text, &count);
    int64_t ms = 0;

    if (slash && *slash == '/') {
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
            if (strcmp(slash + 1, names[i].name) == 0)
                ms = names[i].ms;
        if (ms || parse_duration_ms(slash + 1, &ms, NULL) == 0) {
            if (ms > 0 && count > 0) {
                *ret_count = count;
                *ret_ms = ms;
                return 0;
            }
        }
    }
    return error_set(error, ERROR_INVALID, "'%.80s' is not so many in a time; write 50/s, 1000/h, 100000/day or 10/5m",
                     text);
}

int parse_int(const char *text, int64_t min, int64_t max, int64_t *ret_value, struct error *error)
{
    long long value;
    char *end;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (errno || end == text || *end || isspace((unsigned char)*text) || value < min || value > max)
        return error_set(error, ERROR_INVALID, "'%.80s' is not a whole number from %" PRId64 " to %" PRId64, text, min,
                         max);
    *ret_value = value;
    return 0;
}

int parse_number(const char *text, double min, double max, double *ret_value, struct error *error)
{
    double value = 0;
    char *end;

    if (strspn(text, "+-0123456789.eE") == strlen(text) && *text) {
        value = strtod(text, &end);
        if (!*end && isfinite(value) && value >= min && value <= max) {
            *ret_value = value;
            return 0;
        }
    }
    return error_set(error, ERROR_INVALID, "'%.80s' is not a number from %.15g to %.15g", text, min, max);
}

int parse_name(const char *text, const char *what, struct error *error)
{
    size_t length = strlen(text);

    if (length >= 1 && length <= LIMIT_NAME && (islower((unsigned char)*text) || isdigit((unsigned char)*text)) &&
        strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == length)
        return 0;
    return error_set(error, ERROR_INVALID,
                     "'%.80s' is not a valid name for a %s: use 1 to %d lower-case letters, digits, '-', '_', "
                     "'.', beginning with a letter or digit",
                     text, what, LIMIT_NAME);
}

char *format_bytes(uint64_t bytes, char buffer[FORMAT_SIZE])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1023.5 && unit + 1 < ARRAY_SIZE(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(buffer, FORMAT_SIZE,
             unit && value < 9.995   ? "%.2f %s"
             : unit && value < 99.95 ? "%.1f %s"
                                     : "%.0f %s",
             value, units[unit]);
    return buffer;
}

char *format_duration_ms(int64_t ms, char buffer[FORMAT_SIZE])
{
    int64_t s = ms / 1000;

    if (ms < 1000)
        snprintf(buffer, FORMAT_SIZE, "%" PRId64 " ms", ms);
    else if (s < 60)
        snprintf(buffer, FORMAT_SIZE, "%.1f s", (double)ms / 1000);
    else if (s < 3600)
        snprintf(buffer, FORMAT_SIZE, "%" PRId64 "m %02" PRId64 "s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(buffer, FORMAT_SIZE, "%" PRId64 "h %02" PRId64 "m", s / 3600, s % 3600 / 60);
    else
        snprintf(buffer, FORMAT_SIZE, "%" PRId64 "d %02" PRId64 "h", s / 86400, s % 86400 / 3600);
    return buffer;
}
