#include <stdio.h>
#include "cli/error.h"
#include "cli/terminal.h"
#include "util/json.h"

const struct exit_row exit_rows[] = {
    {EXIT_OK, "done"},
    {EXIT_FAILED, "the action failed"},
    {EXIT_USAGE, "the command line, or a value in it, is wrong"},
    {EXIT_NOT_FOUND, "something that was named does not exist"},
    {EXIT_CONFLICT, "it exists already, or its state does not allow this now"},
    {EXIT_DENIED, "no token, an unknown or expired one, or one whose scopes do not cover this"},
    {EXIT_UNAVAILABLE, "no daemon answers, or it is overloaded: try again later"},
    {EXIT_REJECTED, "a gate rejected the version"},
    {EXIT_TIMEOUT, "it took longer than it may"},
    {EXIT_INTERRUPTED, "interrupted from the keyboard"},
    {0, NULL},
};

/* One row an error code; a code that is not here ends with EXIT_FAILED and has no general hint. */
static const struct {
    enum exit_status status;
    const char *hint;
} rows[ERROR_CODE_COUNT_] = {
    [ERROR_INVALID] = {EXIT_USAGE, NULL},
    [ERROR_NOT_FOUND] = {EXIT_NOT_FOUND, NULL},
    [ERROR_EXISTS] = {EXIT_CONFLICT, NULL},
    [ERROR_CONFLICT] = {EXIT_CONFLICT, NULL},
    [ERROR_UNAUTHENTICATED] = {EXIT_DENIED, "give a token with --token or SLIPWAY_TOKEN"},
    [ERROR_FORBIDDEN] = {EXIT_DENIED, NULL},
    [ERROR_UNAVAILABLE] = {EXIT_UNAVAILABLE, NULL},
    [ERROR_RATE_LIMITED] = {EXIT_UNAVAILABLE, NULL},
    [ERROR_TIMEOUT] = {EXIT_TIMEOUT, NULL},
    [ERROR_CANCELLED] = {EXIT_INTERRUPTED, NULL},
    [ERROR_NO_SPACE] = {EXIT_FAILED, "see what is kept with 'slipway status', free it with 'slipway gc'"},
    [ERROR_CORRUPT] = {EXIT_FAILED, "'slipway doctor' looks closer"},
    [ERROR_UNSUPPORTED] = {EXIT_FAILED, "'slipway doctor' says what this machine can do and what is missing"},
};

enum exit_status exit_status_of(enum error_code code)
{
    return rows[code].status ? rows[code].status : EXIT_FAILED;
}

void report_error(const struct error *error, const char *hint, bool json)
{
    bool colours = terminal_has_colours(stderr);

    if (!hint)
        hint = rows[error->code].hint;
    fflush(stdout);
    if (json) {
        cleanup_json json_t *value = json_build("{s:{s:s, s:s*, s:s*}}", "error", "code", error_code_name(error->code),
                                                "message", error->message, "hint", hint);
        cleanup_free char *text = json_text(value);

        fprintf(stderr, "%s\n", text);
        return;
    }
    fprintf(stderr, "%sslipway:%s %s\n", colours ? terminal_colour(COLOUR_RED) : "", colours ? terminal_colour_off : "",
            error->message);
    if (hint)
        fprintf(stderr, "hint: %s\n", hint);
}
