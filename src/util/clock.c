#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "util/clock.h"

static int64_t now(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}

int64_t clock_monotonic_ns(void)
{
    return now(CLOCK_MONOTONIC);
}

int64_t clock_wall_ns(void)
{
    return now(CLOCK_REALTIME);
}

int64_t clock_wall_ms(void)
{
    return now(CLOCK_REALTIME) / NS_PER_MS;
}

static size_t format_seconds(time_t seconds, char buffer[CLOCK_RFC3339_SIZE])
{
    struct tm tm;

    gmtime_r(&seconds, &tm);
    return strftime(buffer, CLOCK_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
}

char *clock_format_ms(int64_t wall_ms, char buffer[CLOCK_RFC3339_SIZE])
{
    size_t n = format_seconds((time_t)(wall_ms / 1000), buffer);

    snprintf(buffer + n, CLOCK_RFC3339_SIZE - n, ".%03uZ", (unsigned)(wall_ms % 1000));
    return buffer;
}

char *clock_format_ns(int64_t wall_ns, char buffer[CLOCK_RFC3339_SIZE])
{
    size_t n = format_seconds((time_t)(wall_ns / NS_PER_SEC), buffer);

    snprintf(buffer + n, CLOCK_RFC3339_SIZE - n, ".%09uZ", (unsigned)(wall_ns % NS_PER_SEC));
    return buffer;
}

int clock_parse_ms(const char *text, int64_t *ret_wall_ms)
{
    struct tm tm = {0};
    int64_t ms = 0, offset = 0;
    int scale = 100;
    const char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

    if (!p)
        return -1;
    if (*p == '.') {
        if (!isdigit((unsigned char)*++p))
            return -1;
        for (; isdigit((unsigned char)*p); p++, scale /= 10)
            ms += (*p - '0') * scale;
    }
    if (*p == 'Z' || *p == 'z') {
        p++;
    } else if (*p == '+' || *p == '-') {
        int sign = *p == '-' ? -1 : 1;
        int hours, minutes, used = 0;

        if (sscanf(p + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 || used != 5)
            return -1;
        offset = sign * (hours * 60 + minutes) * INT64_C(60000);
        p += 6;
    } else {
        return -1;
    }
    if (*p)
        return -1;

    *ret_wall_ms = (int64_t)timegm(&tm) * 1000 + ms - offset;
    return 0;
}
