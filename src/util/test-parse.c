#include "util/clock.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/state.h"
#include "util/test.h"

static void test_bytes(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},        {"512", 512}, {"1k", KIB}, {"1500M", 1500 * MIB}, {"1.5G", 1536 * MIB}, {"64KiB", 64 * KIB},
        {"2TB", 2 * TIB}};
    static const char *const bad[] = {"", "M", "1 M", "-1", "1X", "0x10", "1MM", "1e3", "99999999999T", "nan"};
    cleanup_error struct error error = ERROR_INIT;
    uint64_t bytes;

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_ok(parse_bytes(good[i].text, &bytes, &error), &error);
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_error(parse_bytes(bad[i], &bytes, &error), &error, ERROR_INVALID, "is not a size");
}

static void test_durations(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"90", 90000}, {"250ms", 250}, {"1.5h", 5400000}, {"2d", 172800000}, {"5m", 300000}};
    static const char *const bad[] = {"", "h", "5 h", "-5s", "5y", "1e9"};
    cleanup_error struct error error = ERROR_INIT;
    int64_t ms;

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_ok(parse_duration_ms(good[i].text, &ms, &error), &error);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_error(parse_duration_ms(bad[i], &ms, &error), &error, ERROR_INVALID, "is not a duration");
}

static void test_durations_below_a_millisecond(void **state)
{
    static const struct {
        const char *text;
        int64_t us;
    } good[] = {{"0", 0}, {"0.5ms", 500}, {"2ms", 2000}, {"1.25ms", 1250}, {"0.0001ms", 0}, {"1s", 1000000}};
    cleanup_error struct error error = ERROR_INIT;
    int64_t us;

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_ok(parse_duration_us(good[i].text, &us, &error), &error);
        assert_int_equal(us, good[i].us);
    }
    assert_error(parse_duration_us("-1ms", &us, &error), &error, ERROR_INVALID, "is not a duration");
}

static void test_numbers_in_a_time(void **state)
{
    static const struct {
        const char *text;
        double count;
        int64_t ms;
    } good[] = {{"50/s", 50, 1000},    {"0.5/s", 0.5, 1000},   {"100000/day", 100000, 86400000},
                {"10/5m", 10, 300000}, {"7/hour", 7, 3600000}, {"1/250ms", 1, 250},
                {"3/90", 3, 90000}};
    static const char *const bad[] = {"", "50", "50/", "/s", "-1/s", "0/s", "5/0", "5/y", "5 /s", "5/s/s", "x/s"};
    cleanup_error struct error error = ERROR_INIT;
    double count;
    int64_t ms;

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_ok(parse_per(good[i].text, &count, &ms, &error), &error);
        assert_true(count == good[i].count);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_error(parse_per(bad[i], &count, &ms, &error), &error, ERROR_INVALID, "is not so many in a time");
}

static void test_numbers(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    int64_t i;
    double d;

    assert_ok(parse_int("-7", -10, 10, &i, &error), &error);
    assert_int_equal(i, -7);
    assert_error(parse_int("11", -10, 10, &i, &error), &error, ERROR_INVALID, "from -10 to 10");
    assert_error(parse_int(" 1", -10, 10, &i, &error), &error, ERROR_INVALID, "whole number");
    assert_error(parse_int("1x", -10, 10, &i, &error), &error, ERROR_INVALID, "whole number");
    assert_ok(parse_number("1e-3", 0, 1, &d, &error), &error);
    assert_true(d == 1e-3);
    assert_error(parse_number("nan", 0, 1, &d, &error), &error, ERROR_INVALID, "not a number");
    assert_error(parse_number("0x1p3", 0, 10, &d, &error), &error, ERROR_INVALID, "not a number");
}

static void test_names(void **state)
{
    static const char *const bad[] = {
        "", "A", "-a", "a b", "a/b", "ä", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    cleanup_error struct error error = ERROR_INIT;

    assert_ok(parse_name("digits-2.v_1", "dataset", &error), &error);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_error(parse_name(bad[i], "dataset", &error), &error, ERROR_INVALID, "name for a dataset");
}

static void test_formats(void **state)
{
    char b[FORMAT_SIZE];

    assert_string_equal(format_bytes(0, b), "0 B");
    assert_string_equal(format_bytes(1023, b), "1023 B");
    assert_string_equal(format_bytes(1536, b), "1.50 KiB");
    assert_string_equal(format_bytes(GIB * 3 / 2, b), "1.50 GiB");
    assert_string_equal(format_bytes(1023 * KIB + 1000, b), "1.00 MiB");
    assert_string_equal(format_duration_ms(350, b), "350 ms");
    assert_string_equal(format_duration_ms(12400, b), "12.4 s");
    assert_string_equal(format_duration_ms(185000, b), "3m 05s");
    assert_string_equal(format_duration_ms(18720000, b), "5h 12m");
}

static void test_times(void **state)
{
    char b[CLOCK_RFC3339_SIZE];
    int64_t ms;

    assert_string_equal(clock_format_ms(INT64_C(1769862896789), b), "2026-01-31T12:34:56.789Z");
    assert_int_equal(clock_parse_ms("2026-01-31T12:34:56.789Z", &ms), 0);
    assert_int_equal(ms, INT64_C(1769862896789));
    assert_int_equal(clock_parse_ms("2026-01-31T13:34:56.789+01:00", &ms), 0);
    assert_int_equal(ms, INT64_C(1769862896789));
    assert_int_equal(clock_parse_ms("2026-01-31", &ms), -1);
    assert_int_equal(clock_parse_ms("2026-01-31T12:34:56", &ms), -1);
    assert_int_equal(clock_parse_ms("2026-01-31T12:34:56Zx", &ms), -1);
}

enum light { RED, GREEN, BROKEN };
static const struct state_row light_rows[] = {
    [RED] = {"red", STATE_BIT(GREEN) | STATE_BIT(BROKEN)},
    [GREEN] = {"green", STATE_BIT(RED) | STATE_BIT(BROKEN)},
    [BROKEN] = {"broken", 0},
};
static const struct state_machine lights = {"light", light_rows, ARRAY_SIZE(light_rows)};

static void test_states(void **state)
{
    cleanup_error struct error error = ERROR_INIT;

    assert_ok(state_check(&lights, RED, GREEN, &error), &error);
    assert_error(state_check(&lights, BROKEN, RED, &error), &error, ERROR_CONFLICT,
                 "light cannot go from broken to red");
    assert_error(state_check(&lights, RED, RED, &error), &error, ERROR_CONFLICT, "from red to red");
    assert_true(state_is_final(&lights, BROKEN));
    assert_false(state_is_final(&lights, RED));
    assert_int_equal(state_parse(&lights, "green", &error), GREEN);
    assert_error(state_parse(&lights, "blue", &error), &error, ERROR_INVALID, "red, green, broken");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_durations_below_a_millisecond),
        cmocka_unit_test(test_numbers_in_a_time),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_states),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
