#include <unistd.h>
#include "cli/error.h"
#include "util/json.h"
#include "util/test.h"

static void test_every_status_is_explained(void **state)
{
    for (int code = ERROR_NONE + 1; code < ERROR_CODE_COUNT_; code++) {
        enum exit_status status = exit_status_of((enum error_code)code);
        bool found = false;

        for (const struct exit_row *row = exit_rows; row->meaning; row++)
            found = found || row->status == status;
        if (!found || status == EXIT_OK)
            fail_msg("%s gives exit status %d", error_code_name((enum error_code)code), status);
    }
    assert_int_equal(exit_status_of(ERROR_INVALID), 2);
    assert_int_equal(exit_status_of(ERROR_NOT_FOUND), 3);
    assert_int_equal(exit_status_of(ERROR_EXISTS), 4);
    assert_int_equal(exit_status_of(ERROR_FORBIDDEN), 5);
    assert_int_equal(exit_status_of(ERROR_UNAVAILABLE), 6);
    assert_int_equal(exit_status_of(ERROR_INTERNAL), 1);
}

/* What report_error writes to standard error, to be freed. */
static char *reported(const char *hint, bool json)
{
    cleanup_error struct error error = ERROR_INIT;
    FILE *file = tmpfile();
    char *text = xcalloc(1, 1000);
    int saved = dup(STDERR_FILENO);

    assert_non_null(file);
    error_set(&error, ERROR_UNAUTHENTICATED, "the token \"x\" is unknown");
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    report_error(&error, hint, json);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    assert_true(fread(text, 1, 999, file) > 0);
    fclose(file);
    return text;
}

static void test_report(void **state)
{
    cleanup_free char *general = reported(NULL, false), *own = reported("do this", false), *json = reported("do", true);
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *value = json_parse(json, strlen(json), &error);
    const json_t *inner;

    assert_string_equal(general, "slipway: the token \"x\" is unknown\n"
                                 "hint: give a token with --token or SLIPWAY_TOKEN\n");
    assert_string_equal(own, "slipway: the token \"x\" is unknown\nhint: do this\n");
    assert_non_null(value);
    inner = json_object_get(value, "error");
    assert_string_equal(json_get_string(inner, "code", ""), "unauthenticated");
    assert_string_equal(json_get_string(inner, "message", ""), "the token \"x\" is unknown");
    assert_string_equal(json_get_string(inner, "hint", ""), "do");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_status_is_explained),
        cmocka_unit_test(test_report),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
