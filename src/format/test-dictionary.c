#include "format/dictionary.h"

#include "util/test.h"

static void test_numbers_in_order(void **state)
{
    struct dictionary d = DICTIONARY_INIT;

    assert_int_equal(dictionary_find(&d, "red", 3), -1);
    assert_int_equal(dictionary_add(&d, "red", 3, 3), 0);
    assert_int_equal(dictionary_add(&d, "green", 5, 3), 1);
    assert_int_equal(dictionary_add(&d, "red", 3, 3), 0);
    assert_int_equal(dictionary_add(&d, "re", 2, 3), 2);
    assert_int_equal(dictionary_add(&d, "blue", 4, 3), -1);
    assert_int_equal(dictionary_add(&d, "green", 5, 3), 1);
    assert_int_equal(dictionary_find(&d, "blue", 4), -1);
    assert_int_equal(dictionary_find(&d, "re", 2), 2);
    assert_int_equal(d.count, 3);
    assert_int_equal(d.entries[0].count, 2);
    assert_string_equal(d.entries[2].key, "re");
    dictionary_release(&d);
    assert_int_equal(d.count, 0);
}

static void test_bytes(void **state)
{
    struct dictionary d = DICTIONARY_INIT;

    assert_int_equal(dictionary_add(&d, "", 0, 10), 0);
    assert_int_equal(dictionary_add(&d, "a\0b", 3, 10), 1);
    assert_int_equal(dictionary_add(&d, "a\0c", 3, 10), 2);
    assert_int_equal(dictionary_find(&d, "a", 1), -1);
    assert_int_equal(dictionary_find(&d, "", 0), 0);
    dictionary_release(&d);
}

static void test_many(void **state)
{
    struct dictionary d = DICTIONARY_INIT;

    for (int round = 0; round < 2; round++)
        for (int64_t i = 0; i < 50000; i++) {
            int64_t key = i * 1000003;

            if (dictionary_add(&d, &key, sizeof(key), 50000) != i)
                fail_msg("key %lld is not number %lld", (long long)key, (long long)i);
        }
    assert_int_equal(d.count, 50000);
    assert_int_equal(d.entries[49999].count, 2);
    dictionary_release(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_in_order),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
