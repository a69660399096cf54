#include "core/rule.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/sanitizer.h"
#include "util/test.h"

/* What the program gives for {"metrics":{"accuracy":0.75,"loss":null},"n":3}, as compact text. */
static char *run(const char *program, struct error *error)
{
    static const char text[] = "{\"metrics\":{\"accuracy\":0.75,\"loss\":null},\"n\":3}";
    cleanup_json json_t *document = json_parse(text, strlen(text), NULL), *values = NULL;

    values = rule_run(program, document, error);
    return values ? json_text(values) : NULL;
}

static void test_values(void **state)
{
    static const struct {
        const char *program, *expected;
    } rows[] = {
        {".metrics.accuracy >= 0.5", "[true]"},
        {".metrics.accuracy > 0.99", "[false]"},
        {"{verdict: (.n == 3), reason: \"three\"}", "[{\"verdict\":true,\"reason\":\"three\"}]"},
        {"range(.n)", "[0,1,2]"},
        {"empty", "[]"},
        {"[.metrics[] | numbers] | add", "[0.75]"},
        {"$ENV | length", "[0]"},
        {"def f(x): x * 2; f(.n)", "[6]"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_error struct error error = ERROR_INIT;
        cleanup_free char *got = run(rows[i].program, &error);

        if (!got)
            fail_msg("%s: %s", rows[i].program, error.message);
        assert_string_equal(got, rows[i].expected);
    }
}

static void test_failures_are_named(void **state)
{
    static const struct {
        const char *program;
        enum error_code code;
        const char *text;
    } rows[] = {
        {"", ERROR_INVALID, "empty"},
        {" \n", ERROR_INVALID, "empty"},
        {".metrics.accuracy >=", ERROR_INVALID, "line 1"},
        {".a\n| nosuch(1)", ERROR_INVALID, "line 2"},
        {".metrics.accuracy.x", ERROR_INVALID, "raises an error"},
        {"error(\"no\")", ERROR_INVALID, "no"},
        {"error({a: 1})", ERROR_INVALID, "{\"a\":1}"},
        {"halt", ERROR_INVALID, "halts"},
        {"import \"passwd\" as $p {search: \"/etc\"}; $p", ERROR_INVALID, "does not compile"},
        {"include \"x\" {search: \"/tmp\"}; 1", ERROR_INVALID, "does not compile"},
        {"\"x\" * 100000", ERROR_TOO_LARGE, "bytes"},
        {"range(1000000)", ERROR_TOO_LARGE, "bytes"},
    };

    /* Without a limit on memory (see util/sanitizer.h) only time ends a program. */
    for (size_t i = 0; i < (SANITIZER ? 1 : ARRAY_SIZE(rows)); i++) {
        cleanup_error struct error error = ERROR_INIT;
        cleanup_free char *got = run(rows[i].program, &error);

        if (got)
            fail_msg("%s gives %s", rows[i].program, got);
        if (error.code != rows[i].code || !strstr(error.message, rows[i].text))
            fail_msg("%s: got %s: %s; expected %s with '%s'", rows[i].program, error_code_name(error.code),
                     error.message, error_code_name(rows[i].code), rows[i].text);
    }
}

static void test_endless_and_greedy_programs_end(void **state)
{
    static const struct {
        const char *program;
        enum error_code code;
    } rows[] = {
        {"def f: f; f", ERROR_TIMEOUT},
        {"[range(1e12)] | length", ERROR_TOO_LARGE},
        {"reduce range(60) as $i (\"x\"; . + .) | length", ERROR_TOO_LARGE},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_error struct error error = ERROR_INIT;
        cleanup_free char *got = run(rows[i].program, &error);

        if (got)
            fail_msg("%s gives %s", rows[i].program, got);
        if (error.code != rows[i].code && error.code != ERROR_TIMEOUT)
            fail_msg("%s: got %s: %s", rows[i].program, error_code_name(error.code), error.message);
    }
}

static void test_check_compiles_only(void **state)
{
    cleanup_error struct error error = ERROR_INIT;

    assert_ok(rule_check(".x.y.z | error(\"not now\")", &error), &error);
    assert_error(rule_check("if . then", &error), &error, ERROR_INVALID, "does not compile");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_failures_are_named),
        cmocka_unit_test(test_endless_and_greedy_programs_end),
        cmocka_unit_test(test_check_compiles_only),
    };

    if (argc == 2 && strcmp(argv[1], "rule") == 0)
        return rule_child();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
