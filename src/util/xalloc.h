/*
 * Allocation that cannot fail, for small objects.
 *
 * When the machine has no memory for a few bytes there is nothing sensible left to do: these abort.
 * A size that a stranger controls never comes here unchecked: test it against util/limits.h first
 * and return ERROR_TOO_LARGE.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

void *xmalloc(size_t size) __attribute__((malloc, alloc_size(1), returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, alloc_size(1, 2), returns_nonnull));
void *xrealloc(void *p, size_t size) __attribute__((alloc_size(2), returns_nonnull));
void *xreallocarray(void *p, size_t count, size_t size) __attribute__((returns_nonnull));
void *xmemdup(const void *p, size_t size) __attribute__((returns_nonnull));

char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
/* NULL stays NULL. */
char *xstrdup_null(const char *s) __attribute__((malloc));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *format, ...) __attribute__((malloc, returns_nonnull, format(printf, 1, 2)));
char *xvasprintf(const char *format, va_list args) __attribute__((malloc, returns_nonnull, format(printf, 1, 0)));

/* A zeroed object of a type. */
#define xnew0(type) ((type *)xcalloc(1, sizeof(type)))
