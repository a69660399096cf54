/*
 * The one way to report a failure that is expected.
 *
 * A function that can fail takes `struct error *error` as its last parameter and returns -1 (or NULL)
 * after it has set it. The caller owns the object, declares it with `cleanup_error` and looks at it
 * only after a failure. An error is set once: setting one that is set already is a bug and aborts.
 * On the way up it is wrapped, so that the message reads from the outside in:
 *
 *     cleanup_error struct error error = ERROR_INIT;
 *     if (vault_put_file(vault, path, &digest, &error) < 0)
 *         return error_wrap(error, "cannot store weights of run %s", id);
 *
 * `error` may be NULL where a caller does not care why; the return value still tells.
 *
 * Bugs are not errors: assert(). Running out of memory for a small object is not an error: see xalloc.h.
 * Nobody logs and returns an error: who handles it, logs it once.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include "util/cleanup.h"

/* Stable and machine-readable. The names (error_code_name) are part of the HTTP API and of `--json`;
 * api/error.c and cli/error.c map them to HTTP and exit statuses. */
enum error_code {
    ERROR_NONE = 0,
    ERROR_INVALID,         /* invalid_argument: what was given is wrong, whatever the state */
    ERROR_NOT_FOUND,       /* not_found */
    ERROR_EXISTS,          /* already_exists */
    ERROR_CONFLICT,        /* conflict: the state does not allow it now (in use, wrong state) */
    ERROR_UNAUTHENTICATED, /* unauthenticated: no token, or one that is unknown or expired */
    ERROR_FORBIDDEN,       /* forbidden: the token's scopes do not cover it */
    ERROR_TOO_LARGE,       /* too_large: over a limit of util/limits.h */
    ERROR_RATE_LIMITED,    /* rate_limited */
    ERROR_UNAVAILABLE,     /* unavailable: try again later */
    ERROR_TIMEOUT,         /* timeout */
    ERROR_CANCELLED,       /* cancelled: the other side went away, or somebody asked to stop */
    ERROR_NO_SPACE,        /* no_space: disk or memory tier is full */
    ERROR_CORRUPT,         /* corrupt: data at rest fails its check */
    ERROR_UNSUPPORTED,     /* unsupported: this build or this machine cannot do it */
    ERROR_IO,              /* io: a system call failed; sys_errno says how */
    ERROR_INTERNAL,        /* internal: should not happen, but is survivable */
    ERROR_CODE_COUNT_
};

struct error {
    enum error_code code;
    int sys_errno; /* 0 where no system call was involved */
    char *message; /* a sentence without final stop; owned; UTF-8, whatever it quotes */
};

#define ERROR_INIT {ERROR_NONE, 0, NULL}

/* All setters return -1, so that `return error_set(...)` reports and returns. */
int error_set(struct error *error, enum error_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));
int error_setv(struct error *error, enum error_code code, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

/* "<message>: <strerror>". ENOSPC/EDQUOT become ERROR_NO_SPACE, ENOENT ERROR_NOT_FOUND, EEXIST
 * ERROR_EXISTS, ETIMEDOUT ERROR_TIMEOUT; all else ERROR_IO. */
int error_set_errno(struct error *error, int errnum, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Prefixes the message: "<format>: <old message>". */
int error_wrap(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Moves src into dst (which must be clear); src is clear afterwards. */
void error_move(struct error *dst, struct error *src);

void error_clear(struct error *error);

const char *error_code_name(enum error_code code);
/* ERROR_INTERNAL for a name that is not known. */
enum error_code error_code_parse(const char *name);

static inline bool error_is_set(const struct error *error)
{
    return error && error->code != ERROR_NONE;
}

#define cleanup_error CLEANUP(error_clear)
