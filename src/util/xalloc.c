#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/xalloc.h"

static void *check(void *p)
{
    if (!p) {
        fputs("slipway: out of memory\n", stderr);
        abort();
    }
    return p;
}

void *xmalloc(size_t size)
{
    return check(malloc(size ? size : 1));
}

void *xcalloc(size_t count, size_t size)
{
    return check(calloc(count ? count : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t size)
{
    return check(realloc(p, size ? size : 1));
}

void *xreallocarray(void *p, size_t count, size_t size)
{
    return check(reallocarray(p, count ? count : 1, size ? size : 1));
}

void *xmemdup(const void *p, size_t size)
{
    void *copy = xmalloc(size);

    if (size)
        memcpy(copy, p, size);
    return copy;
}

char *xstrdup(const char *s)
{
    return check(strdup(s));
}

char *xstrdup_null(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

char *xstrndup(const char *s, size_t n)
{
    return check(strndup(s, n));
}

char *xvasprintf(const char *format, va_list args)
{
    char *s = NULL;

    if (vasprintf(&s, format, args) < 0)
        check(NULL);
    return check(s);
}

char *xasprintf(const char *format, ...)
{
    va_list args;
    char *s;

    va_start(args, format);
    s = xvasprintf(format, args);
    va_end(args);
    return s;
}
