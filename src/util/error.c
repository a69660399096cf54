#include <assert.h>
#include <errno.h>
#include <string.h>
#include "util/error.h"
#include "util/utf8.h"
#include "util/xalloc.h"

static const char *const names[] = {
    [ERROR_NONE] = "none",
    [ERROR_INVALID] = "invalid_argument",
    [ERROR_NOT_FOUND] = "not_found",
    [ERROR_EXISTS] = "already_exists",
    [ERROR_CONFLICT] = "conflict",
    [ERROR_UNAUTHENTICATED] = "unauthenticated",
    [ERROR_FORBIDDEN] = "forbidden",
    [ERROR_TOO_LARGE] = "too_large",
    [ERROR_RATE_LIMITED] = "rate_limited",
    [ERROR_UNAVAILABLE] = "unavailable",
    [ERROR_TIMEOUT] = "timeout",
    [ERROR_CANCELLED] = "cancelled",
    [ERROR_NO_SPACE] = "no_space",
    [ERROR_CORRUPT] = "corrupt",
    [ERROR_UNSUPPORTED] = "unsupported",
    [ERROR_IO] = "io",
    [ERROR_INTERNAL] = "internal",
};
_Static_assert(ARRAY_SIZE(names) == ERROR_CODE_COUNT_, "every error code has a name");

static enum error_code code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT: return ERROR_NO_SPACE;
    case ENOENT: return ERROR_NOT_FOUND;
    case EEXIST: return ERROR_EXISTS;
    case ETIMEDOUT: return ERROR_TIMEOUT;
    default: return ERROR_IO;
    }
}

int error_setv(struct error *error, enum error_code code, const char *format, va_list args)
{
    assert(code > ERROR_NONE && code < ERROR_CODE_COUNT_);

    if (!error)
        return -1;
    assert(error->code == ERROR_NONE && "an error is set once; use error_wrap()");

    error->code = code;
    error->message = utf8_repair(xvasprintf(format, args));
    return -1;
}

int error_set(struct error *error, enum error_code code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    error_setv(error, code, format, args);
    va_end(args);
    return -1;
}

int error_set_errno(struct error *error, int errnum, const char *format, ...)
{
    cleanup_free char *message = NULL;
    va_list args;

    va_start(args, format);
    message = xvasprintf(format, args);
    va_end(args);

    error_set(error, code_of_errno(errnum), "%s: %s", message, strerrordesc_np(errnum) ?: "unknown error");
    if (error)
        error->sys_errno = errnum;
    return -1;
}

int error_wrap(struct error *error, const char *format, ...)
{
    cleanup_free char *prefix = NULL;
    cleanup_free char *old = NULL;
    va_list args;

    if (!error)
        return -1;
    assert(error->code != ERROR_NONE);

    va_start(args, format);
    prefix = xvasprintf(format, args);
    va_end(args);

    old = steal_ptr(error->message);
    error->message = xasprintf("%s: %s", utf8_repair(prefix), old);
    return -1;
}

void error_move(struct error *dst, struct error *src)
{
    if (dst) {
        assert(dst->code == ERROR_NONE);
        *dst = *src;
        *src = (struct error)ERROR_INIT;
    } else {
        error_clear(src);
    }
}

void error_clear(struct error *error)
{
    if (!error)
        return;
    free(error->message);
    *error = (struct error)ERROR_INIT;
}

const char *error_code_name(enum error_code code)
{
    assert(code < ERROR_CODE_COUNT_);
    return names[code];
}

enum error_code error_code_parse(const char *name)
{
    for (size_t i = 1; name && i < ARRAY_SIZE(names); i++)
        if (strcmp(names[i], name) == 0)
            return (enum error_code)i;
    return ERROR_INTERNAL;
}
