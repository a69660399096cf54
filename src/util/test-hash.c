#include "util/hash.h"
#include "util/test.h"

/* FIPS 180-4's example for "abc". */
static const char abc[] = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

static void test_digest(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    struct hasher *hasher = hasher_new();
    struct digest whole, streamed, parsed;
    char text[DIGEST_TEXT_SIZE];

    digest_of("abc", 3, &whole);
    assert_string_equal(digest_format(&whole, text), abc);

    hasher_add(hasher, "a", 1);
    hasher_add(hasher, "bc", 2);
    hasher_finish(hasher, &streamed);
    assert_true(digest_equal(&whole, &streamed));

    assert_ok(digest_parse(abc, &parsed, &error), &error);
    assert_true(digest_equal(&whole, &parsed));
}

static void test_a_hasher_is_used_again(void **state)
{
    static const char *const texts[] = {"abc", "", "abc",
                                        "another, longer than a block of sixty-four bytes of SHA-256"};
    cleanup_hasher struct hasher *hasher = hasher_new();

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct digest once, kept;

        digest_of(texts[i], strlen(texts[i]), &once);
        hasher_digest(hasher, texts[i], strlen(texts[i]), &kept);
        if (!digest_equal(&once, &kept))
            fail_msg("'%s', text %zu of the hasher", texts[i], i);
    }
}

static void test_digest_parse_is_strict(void **state)
{
    static const char *const wrong[] = {
        "",
        "sha256:",
        "md5:00",
        "sha256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a",
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015adx",
    };
    cleanup_error struct error error = ERROR_INIT;
    struct digest digest;

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_error(digest_parse(wrong[i], &digest, &error), &error, ERROR_INVALID, "64 hexadecimal");
}

static void test_ids_increase(void **state)
{
    char last[ID_SIZE] = "", id[ID_SIZE];

    for (int i = 0; i < 100000; i++) {
        id_new(id);
        if (strcmp(last, id) >= 0)
            fail_msg("%s came after %s", id, last);
        memcpy(last, id, sizeof(id));
    }
    assert_true(id_is_valid(id));
    assert_int_equal(id[12], '7'); /* version of a UUIDv7 */
    assert_non_null(strchr("89ab", id[16]));
    assert_false(id_is_valid("0190"));
    assert_false(id_is_valid(NULL));
}

static void test_text_forms(void **state)
{
    cleanup_free char *b64 = base64url_encode("\xfb\xff\xfe", 3);
    cleanup_free char *padded = base64url_encode("a", 1);
    uint8_t bytes[2];
    char hex[5];

    assert_string_equal(b64, "-__-");
    assert_string_equal(padded, "YQ");
    hex_encode("\x01\xab", 2, hex);
    assert_string_equal(hex, "01ab");
    assert_true(hex_decode("01ab", bytes, 2));
    assert_int_equal(bytes[1], 0xab);
    assert_false(hex_decode("01a", bytes, 2));
    assert_false(hex_decode("01ag", bytes, 2));
}

static void test_base64_decode(void **state)
{
    static const struct {
        const char *text, *plain;
    } rows[] = {{"", ""}, {"YQ==", "a"}, {"YWI=", "ab"}, {"YWJj", "abc"}, {"YWxpY2U6c2xfLV8=", "alice:sl_-_"}};
    static const char *const wrong[] = {"Y", "YQ", "YQ=", "Y===", "YQ==YQ==", "Y Q=", "YQ==\n", "====", "Y-Q_"};
    size_t length;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_free char *plain = base64_decode(rows[i].text, &length);

        assert_non_null(plain);
        assert_string_equal(plain, rows[i].plain);
        assert_int_equal(length, strlen(rows[i].plain));
    }
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_null(base64_decode(wrong[i], &length));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_a_hasher_is_used_again),
        cmocka_unit_test(test_digest_parse_is_strict),
        cmocka_unit_test(test_ids_increase),
        cmocka_unit_test(test_text_forms),
        cmocka_unit_test(test_base64_decode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
