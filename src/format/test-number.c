#include "format/number.h"

#include <math.h>
#include "util/hash.h"
#include "util/test.h"

static double parse_real(const char *text)
{
    struct number number = {{0}};
    enum number_kind kind = number_parse(text, strlen(text), &number);

    if (kind == NUMBER_NONE)
        fail_msg("'%s' is no number", text);
    return kind == NUMBER_INTEGER ? (double)number.integer : number.real;
}

static void expect_as_strtod(const char *text)
{
    double got = parse_real(text), expected = strtod(text, NULL);

    if (memcmp(&got, &expected, 8) != 0)
        fail_msg("'%s': got %a, strtod says %a", text, got, expected);
}

static void test_integers(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
    } rows[] = {
        {"0", 0},
        {"-0", 0},
        {"+7", 7},
        {"007", 7},
        {" 12 ", 12},
        {"12345678", 12345678},
        {"123456789", 123456789},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
        {"00000000000000000000000000000001", 1},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct number number = {{0}};

        assert_int_equal(number_parse(rows[i].text, strlen(rows[i].text), &number), NUMBER_INTEGER);
        if (number.integer != rows[i].value)
            fail_msg("'%s': got %lld", rows[i].text, (long long)number.integer);
    }
}

static void test_reals(void **state)
{
    static const char *const texts[] = {
        "0.0",
        "-0.0",
        "1.",
        ".5",
        "1e5",
        "1E-5",
        "3.141592653589793",
        "0.1",
        "0.3",
        "1e22",
        "1e23",
        "1e-22",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "9007199254740993",
        "9007199254740993.0",
        "9007199254740992.9999999999999999",
        "1e308",
        "1e309",
        "-1e309",
        "4.9e-324",
        "2e-324",
        "2.2250738585072011e-308",
        "1.7976931348623157e308",
        "1e99999999999",
        "1e-99999999999",
        "0e99999",
        "123456789012345678901234567890",
        "0.000000000000000000000000000000012345678901234567",
        "8.5",
        "7.0000000000000000000000000000000001",
        "1.00000000000000011102230246251565",
        "inf",
        "-inf",
        "Infinity",
        "-INFINITY",
        "100000000000000016777215",
        "100000000000000016777216",
        "5e-324",
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        expect_as_strtod(texts[i]);
}

static void test_random_reals(void **state)
{
    static const int digits[] = {17, 16, 15, 6, 3, 19, 25};

    for (int i = 0; i < 100000; i++) {
        char text[512];
        uint64_t bits;
        double value;

        random_bytes(&bits, sizeof(bits));
        memcpy(&value, &bits, 8);
        if (i % 2)
            value = ldexp((double)(bits >> 11), -(int)(bits % 80));
        if (!isfinite(value))
            continue;
        snprintf(text, sizeof(text), i % 3 ? "%.*g" : i % 2 ? "%.*e" : "%.*f", digits[i % ARRAY_SIZE(digits)], value);
        expect_as_strtod(text);
    }
}

static void test_no_numbers(void **state)
{
    static const char *const texts[] = {"",    "-",   "+",   ".",  "-.",   "e5", "1e",  "1e+", "1.2.3", "1-",    "0x10",
                                        "1 2", "nan", "NaN", "in", "infi", "1f", "--1", "+-1", "1,5",   "1_000", "a"};
    struct number number;

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (number_parse(texts[i], strlen(texts[i]), &number) != NUMBER_NONE)
            fail_msg("'%s' passes for a number", texts[i]);
}

static void check_print(double value)
{
    char text[NUMBER_TEXT + 8] = "";
    struct number number = {{0}};
    size_t length = number_print(value, text);
    enum number_kind kind = number_parse(text, length, &number);
    double read = kind == NUMBER_INTEGER ? (double)number.integer : number.real;

    if (kind == NUMBER_NONE || read != value || strtod(text, NULL) != value || length >= NUMBER_TEXT)
        fail_msg("%a is printed as '%.*s', which reads as %a", value, (int)length, text, read);
    memset(text, 0, sizeof(text));
    length = number_print_float((float)value, text);
    if ((float)strtod(text, NULL) != (float)value)
        fail_msg("%a as a float is printed as '%.*s'", value, (int)length, text);
}

static void test_print(void **state)
{
    static const struct {
        double value;
        const char *text, *as_float;
    } rows[] = {
        {0, "0", "0"},
        {-1, "-1", "-1"},
        {0.1, "0.1", "0.1"},
        {1e6, "1000000", "1000000"},
        {-2.5, "-2.5", "-2.5"},
        {0.1f, "0.10000000149011612", "0.1"},
        {0.05, "0.05", "0.05"},
        {1e300, "1e+300", NULL},
        {123456.789, "123456.789", "123456.79"},
        {-1e-7, "-0.0000001", "-0.0000001"},
    };
    uint64_t bits = 88172645463325252;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        char text[NUMBER_TEXT + 1] = "";

        number_print(rows[i].value, text);
        assert_string_equal(text, rows[i].text);
        if (!rows[i].as_float)
            continue;
        memset(text, 0, sizeof(text));
        number_print_float((float)rows[i].value, text);
        assert_string_equal(text, rows[i].as_float);
    }
    for (int i = 0; i < 50000; i++) {
        double value, few;

        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        memcpy(&value, &bits, sizeof(value));
        few = (double)(int32_t)bits / 1000;
        if (isfinite(value) && fabs(value) < 3e38)
            check_print(value);
        check_print(few);
    }
}

static void test_print_integer(void **state)
{
    static const int64_t values[] = {0, 9, 10, -1, -10, 1234567890123, INT64_MAX, INT64_MIN};

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        char text[NUMBER_TEXT + 1] = "", expected[NUMBER_TEXT];

        snprintf(expected, sizeof(expected), "%lld", (long long)values[i]);
        assert_int_equal(number_print_integer(values[i], text), strlen(expected));
        assert_string_equal(text, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),   cmocka_unit_test(test_reals), cmocka_unit_test(test_random_reals),
        cmocka_unit_test(test_no_numbers), cmocka_unit_test(test_print), cmocka_unit_test(test_print_integer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
