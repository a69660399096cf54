#include "format/deflate.h"
#include "util/test.h"
#include "util/xalloc.h"

static void test_round_trip(void **state)
{
    static const size_t sizes[] = {0, 1, 1000, 300000};

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        for (int form = DEFLATE_GZIP; form <= DEFLATE_ZLIB; form++) {
            cleanup_free char *data = xcalloc(1, sizes[i] + 1), *packed = NULL, *got = NULL;
            size_t n, m;

            for (size_t k = 0; k < sizes[i]; k++)
                data[k] = (char)(k * 31 % 251);
            deflate_pack(form, data, sizes[i], &packed, &n);
            assert_int_equal(deflate_unpack(packed, n, 300000, &got, &m, NULL), 0);
            assert_int_equal(m, sizes[i]);
            assert_memory_equal(got, data, m);
        }
    }
}

static void test_limits_and_damage(void **state)
{
    cleanup_free char *zeros = xcalloc(1, 10000000), *packed = NULL, *got = NULL;
    struct error error = ERROR_INIT;
    size_t n, m;

    deflate_pack(DEFLATE_GZIP, zeros, 10000000, &packed, &n);
    assert_int_equal(deflate_unpack(packed, n, 9999999, &got, &m, &error), -1);
    assert_int_equal(error.code, ERROR_TOO_LARGE);
    error_clear(&error);
    assert_int_equal(deflate_unpack(packed, n - 1, 10000000, &got, &m, NULL), -1);
    assert_int_equal(deflate_unpack("nonsense", 8, 100, &got, &m, NULL), -1);
    assert_int_equal(deflate_unpack("", 0, 100, &got, &m, NULL), -1);
}

static void test_names(void **state)
{
    assert_int_equal(deflate_form_parse("GZip"), DEFLATE_GZIP);
    assert_int_equal(deflate_form_parse("br"), -1);
    assert_int_equal(deflate_form_accepted("br, deflate;q=0.5, gzip;q=0"), DEFLATE_ZLIB);
    assert_int_equal(deflate_form_accepted("deflate, gzip"), DEFLATE_GZIP);
    assert_int_equal(deflate_form_accepted(NULL), DEFLATE_NONE);
    assert_int_equal(deflate_form_accepted("identity"), DEFLATE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_limits_and_damage),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
