#include "util/strbuf.h"
#include "util/strvec.h"
#include "util/test.h"

static void test_grows_and_stays_terminated(void **state)
{
    cleanup_strbuf struct strbuf sb = STRBUF_INIT(10000);

    assert_string_equal(sb.data, "");
    for (int i = 0; i < 1000; i++)
        strbuf_addf(&sb, "%d,", i % 10);
    assert_int_equal(sb.length, 2000);
    assert_int_equal(strlen(sb.data), 2000);
    assert_false(sb.overflowed);
}

static void test_cap_is_sticky_and_adds_nothing(void **state)
{
    cleanup_strbuf struct strbuf sb = STRBUF_INIT(5);

    strbuf_adds(&sb, "abcde");
    assert_false(sb.overflowed);
    strbuf_addc(&sb, 'f');
    assert_true(sb.overflowed);
    assert_string_equal(sb.data, "abcde");
    strbuf_adds(&sb, "");
    assert_true(sb.overflowed);
    strbuf_reset(&sb);
    assert_false(sb.overflowed);
    assert_int_equal(sb.length, 0);
}

static void test_consume_and_detach(void **state)
{
    struct strbuf sb = STRBUF_INIT(100);
    size_t length;
    char *text;

    strbuf_adds(&sb, "hello world");
    strbuf_consume(&sb, 6);
    assert_string_equal(sb.data, "world");
    strbuf_truncate(&sb, 2);
    text = strbuf_detach(&sb, &length);
    assert_string_equal(text, "wo");
    assert_int_equal(length, 2);
    assert_int_equal(sb.length, 0);
    free(text);

    text = strbuf_detach(&sb, NULL);
    assert_string_equal(text, "");
    free(text);
}

static void test_strvec(void **state)
{
    cleanup_strvec struct strvec sv = STRVEC_INIT;
    cleanup_free char *joined = NULL;

    strvec_split(&sv, "b,,a", ',');
    assert_int_equal(sv.count, 3);
    assert_null(sv.items[3]);
    assert_true(strvec_contains(&sv, ""));
    strvec_pushf(&sv, "%03d", 7);
    strvec_sort(&sv);
    joined = strvec_join(&sv, "|");
    assert_string_equal(joined, "|007|a|b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows_and_stays_terminated),
        cmocka_unit_test(test_cap_is_sticky_and_adds_nothing),
        cmocka_unit_test(test_consume_and_detach),
        cmocka_unit_test(test_strvec),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
