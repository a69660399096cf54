/*
 * Exit statuses, in one table, and how an error is told to people.
 */
#pragma once

#include <stdbool.h>
#include "util/error.h"

enum exit_status {
    EXIT_OK = 0,
    EXIT_FAILED = 1, /* the action failed */
    EXIT_USAGE = 2,  /* the command line or a value in it is wrong */
    EXIT_NOT_FOUND = 3,
    EXIT_CONFLICT = 4,    /* exists already, or the state does not allow it now */
    EXIT_DENIED = 5,      /* no token, an unknown one, or one whose scopes do not cover it */
    EXIT_UNAVAILABLE = 6, /* no daemon answers, or it is overloaded: try again later */
    EXIT_REJECTED = 7,    /* a gate said no */
    EXIT_TIMEOUT = 8,
    EXIT_INTERRUPTED = 130, /* Ctrl-C */
};

struct exit_row {
    enum exit_status status;
    const char *meaning;
};
/* Ended by a NULL meaning; for the help and the reference. */
extern const struct exit_row exit_rows[];

enum exit_status exit_status_of(enum error_code code);

/* "slipway: message" and "hint: …" on standard error (hint may be NULL: the general one for the code, if
 * there is one); as JSON {"error":{"code","message","hint"}} where asked for. */
void report_error(const struct error *error, const char *hint, bool json);
