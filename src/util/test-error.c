#include <errno.h>
#include "util/test.h"

static void test_set_and_wrap(void **state)
{
    cleanup_error struct error error = ERROR_INIT;

    assert_int_equal(error_set(&error, ERROR_NOT_FOUND, "no %s", "dataset"), -1);
    assert_int_equal(error.code, ERROR_NOT_FOUND);
    assert_int_equal(error_wrap(&error, "run %d", 7), -1);
    assert_string_equal(error.message, "run 7: no dataset");
}

static void test_errno_becomes_a_code(void **state)
{
    static const struct {
        int errnum;
        enum error_code code;
    } rows[] = {{ENOSPC, ERROR_NO_SPACE}, {EDQUOT, ERROR_NO_SPACE},   {ENOENT, ERROR_NOT_FOUND},
                {EEXIST, ERROR_EXISTS},   {ETIMEDOUT, ERROR_TIMEOUT}, {EIO, ERROR_IO}};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_error struct error error = ERROR_INIT;

        error_set_errno(&error, rows[i].errnum, "cannot write");
        assert_int_equal(error.code, rows[i].code);
        assert_int_equal(error.sys_errno, rows[i].errnum);
    }
}

static void test_null_is_allowed(void **state)
{
    assert_int_equal(error_set(NULL, ERROR_IO, "x"), -1);
    assert_int_equal(error_set_errno(NULL, EIO, "x"), -1);
    assert_int_equal(error_wrap(NULL, "x"), -1);
    error_clear(NULL);
}

static void test_move(void **state)
{
    cleanup_error struct error a = ERROR_INIT, b = ERROR_INIT;

    error_set(&a, ERROR_TIMEOUT, "late");
    error_move(&b, &a);
    assert_false(error_is_set(&a));
    assert_int_equal(b.code, ERROR_TIMEOUT);
    assert_string_equal(b.message, "late");
}

static void test_names_round_trip(void **state)
{
    for (int code = 1; code < ERROR_CODE_COUNT_; code++)
        assert_int_equal(error_code_parse(error_code_name(code)), code);
    assert_int_equal(error_code_parse("nonsense"), ERROR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_and_wrap),     cmocka_unit_test(test_errno_becomes_a_code),
        cmocka_unit_test(test_null_is_allowed),  cmocka_unit_test(test_move),
        cmocka_unit_test(test_names_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
