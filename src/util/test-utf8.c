#include "util/json.h"
#include "util/test.h"
#include "util/utf8.h"
#include "util/xalloc.h"

static void test_characters(void **state)
{
    assert_int_equal(utf8_next(""), 0);
    assert_int_equal(utf8_next("a"), 1);
    assert_int_equal(utf8_next("é"), 2);
    assert_int_equal(utf8_next("€"), 3);
    assert_int_equal(utf8_next("\xf0\x9f\x9a\xa2"), 4);
    assert_int_equal(utf8_next("\x80"), -1);
    assert_int_equal(utf8_next("\xc3"), -1);             /* cut */
    assert_int_equal(utf8_next("\xc0\xaf"), -1);         /* not the shortest form */
    assert_int_equal(utf8_next("\xe0\x80\xaf"), -1);     /* the same */
    assert_int_equal(utf8_next("\xed\xa0\x80"), -1);     /* a surrogate */
    assert_int_equal(utf8_next("\xf4\x90\x80\x80"), -1); /* beyond U+10FFFF */
    assert_int_equal(utf8_next("\xff"), -1);
}

static void check_repair(const char *text, const char *expected)
{
    cleanup_free char *copy = xstrdup(text);

    assert_string_equal(utf8_repair(copy), expected);
}

static void test_repair(void **state)
{
    check_repair("", "");
    check_repair("Kühlschrank €", "Kühlschrank €");
    check_repair("cut \xe2\x82", "cut ?");
    check_repair("\xe2\x82x\xff\xfey", "?x??y");
    assert_true(utf8_is_valid("Kühlschrank €") && utf8_is_valid(""));
    assert_false(utf8_is_valid("cut \xe2\x82"));
    check_repair("\xed\xa0\x80", "???");
}

/* What is repaired can be JSON, whatever the bytes. */
static void test_json_takes_it(void **state)
{
    for (unsigned a = 1; a < 256; a++) {
        for (unsigned b = 1; b < 256; b++) {
            char text[] = {(char)a, (char)b, (char)(a ^ 0x40 ? a ^ 0x40 : 1), 'x', 0};
            cleanup_json json_t *string = json_string(utf8_repair(text));

            if (!string)
                fail_msg("bytes %02x %02x", a, b);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_repair),
        cmocka_unit_test(test_json_takes_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
