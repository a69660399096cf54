#include "core/ref.h"
#include "util/test.h"

static void test_parse(void **state)
{
    static const struct {
        const char *text, *project, *name, *version;
    } rows[] = {
        {"digits", NULL, "digits", NULL},
        {"digits@3", NULL, "digits", "3"},
        {"team-a:digits", "team-a", "digits", NULL},
        {"team-a:vision/digits@3.5", "team-a", "vision/digits", "3.5"},
        {"vision/digits@production", NULL, "vision/digits", "production"},
    };
    cleanup_error struct error error = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_ref struct ref ref = REF_INIT;

        assert_ok(ref_parse(rows[i].text, "model", &ref, &error), &error);
        assert_string_equal(ref.name, rows[i].name);
        assert_int_equal(!ref.project, !rows[i].project);
        assert_int_equal(!ref.version, !rows[i].version);
        if (ref.project)
            assert_string_equal(ref.project, rows[i].project);
        if (ref.version)
            assert_string_equal(ref.version, rows[i].version);
    }
}

static void test_malformed(void **state)
{
    static const char *const texts[] = {"",  "@3",  ":a",   "a:",    "a@", "a@@3", "a/b/c", "a@3/4", "../a", "a/../b",
                                        "A", "a b", "a@ 3", "a:b:c", "/a", "a/",   "-a",    "a@x:y", "a\n",  "a@V1"};
    cleanup_error struct error error = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct ref ref = REF_INIT;

        assert_error(ref_parse(texts[i], "dataset", &ref, &error), &error, ERROR_INVALID, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
