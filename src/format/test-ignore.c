#include "format/ignore.h"
#include "util/test.h"

static void test_glob(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } rows[] = {
        {"a", "a", true},
        {"a", "b", false},
        {"a", "ab", false},
        {"", "", true},
        {"*", "abc", true},
        {"*", "a/b", false},
        {"*.py", "x.py", true},
        {"*.py", "x.pyc", false},
        {"a*c*e", "abcde", true},
        {"a*c*e", "abcdf", false},
        {"?", "a", true},
        {"?", "/", false},
        {"[a-c]", "b", true},
        {"[a-c]", "d", false},
        {"[!a-c]", "d", true},
        {"[!a]", "/", false},
        {"[abc", "a", false},
        {"**", "a/b/c", true},
        {"**/c", "a/b/c", true},
        {"**/c", "c", true},
        {"**/c", "a/bc", false},
        {"a/**/c", "a/c", true},
        {"a/**/c", "a/x/y/c", true},
        {"a/**", "a/b", true},
        {"a/**", "b/a", false},
        {"*/x", "a/x", true},
        {"*/x", "a/b/x", false},
        {"**/b/*.c", "a/b/b/x.c", true},
        {"[]]", "]", true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (glob_matches(rows[i].pattern, rows[i].text) != rows[i].matches)
            fail_msg("'%s' on '%s': expected %d", rows[i].pattern, rows[i].text, rows[i].matches);
}

/* Hostile patterns cost no exponential time. */
static void test_glob_time(void **state)
{
    char text[4001];

    memset(text, 'a', 4000);
    text[4000] = '\0';
    assert_false(glob_matches("*a*a*a*a*a*a*a*a*a*a*a*a*b", text));
    assert_false(glob_matches("**a**a**a**a**a**a**a**a**b", text));
}

static void test_rules(void **state)
{
    cleanup_ignore struct ignore ignore = IGNORE_INIT;

    ignore_add_lines(&ignore, "# no\n\n*.log\r\nbuild/\n/top\nsub/file\n!keep.log\n   \n!\n/\n");
    assert_true(ignore_matches(&ignore, "a/b/x.log", false));
    assert_false(ignore_matches(&ignore, "keep.log", false));
    assert_true(ignore_matches(&ignore, "a/build", true));
    assert_false(ignore_matches(&ignore, "a/build", false));
    assert_true(ignore_matches(&ignore, "top", false));
    assert_false(ignore_matches(&ignore, "a/top", false));
    assert_true(ignore_matches(&ignore, "sub/file", false));
    assert_false(ignore_matches(&ignore, "a/sub/file", false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_glob),
        cmocka_unit_test(test_glob_time),
        cmocka_unit_test(test_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
