#include "gateway/meter.h"
#include "util/clock.h"
#include "util/test.h"

static void test_a_rate_fills_up_to_its_burst(void **state)
{
    cleanup_meters struct meters *meters = meters_new(10);
    const struct rate_limit limit = {.per_second = 2, .burst = 3};
    int64_t now = 1000 * NS_PER_SEC, wait = 0;

    for (int i = 0; i < 3; i++)
        assert_true(meter_take_rate(meters, "a", "x", &limit, now, &wait));
    assert_false(meter_take_rate(meters, "a", "x", &limit, now, &wait));
    assert_int_equal(wait, 1);
    now += NS_PER_SEC / 2;
    assert_true(meter_take_rate(meters, "a", "x", &limit, now, &wait));
    assert_false(meter_take_rate(meters, "a", "x", &limit, now, &wait));
    now += 1000 * NS_PER_SEC;
    for (int i = 0; i < 3; i++)
        assert_true(meter_take_rate(meters, "a", "x", &limit, now, &wait));
    assert_false(meter_take_rate(meters, "a", "x", &limit, now, &wait));
}

static void test_the_wait_of_a_rate_is_enough(void **state)
{
    cleanup_meters struct meters *meters = meters_new(10);
    const struct rate_limit slow = {.per_second = 0.1, .burst = 1};
    int64_t now = NS_PER_SEC, wait = 0;

    assert_true(meter_take_rate(meters, "a", "x", &slow, now, &wait));
    now += NS_PER_SEC / 2;
    assert_false(meter_take_rate(meters, "a", "x", &slow, now, &wait));
    assert_int_equal(wait, 10);
    now += wait * NS_PER_SEC;
    assert_true(meter_take_rate(meters, "a", "x", &slow, now, &wait));
}

static void test_rates_are_of_a_subject_and_an_endpoint(void **state)
{
    cleanup_meters struct meters *meters = meters_new(10);
    const struct rate_limit limit = {.per_second = 1, .burst = 1};
    int64_t wait = 0;

    assert_true(meter_take_rate(meters, "a", "x", &limit, NS_PER_SEC, &wait));
    assert_true(meter_take_rate(meters, "b", "x", &limit, NS_PER_SEC, &wait));
    assert_true(meter_take_rate(meters, "a", "y", &limit, NS_PER_SEC, &wait));
    assert_false(meter_take_rate(meters, "a", "x", &limit, NS_PER_SEC, &wait));
}

static void test_a_quota_ends_with_its_window(void **state)
{
    cleanup_meters struct meters *meters = meters_new(10);
    const struct quota quota = {.requests = 2, .window_ms = 60000};
    int64_t minute = INT64_C(29000000) * 60000, wait = 0;

    assert_true(meter_take_quota(meters, "a", &quota, minute + 1000, &wait));
    assert_true(meter_take_quota(meters, "a", &quota, minute + 2000, &wait));
    assert_false(meter_take_quota(meters, "a", &quota, minute + 2500, &wait));
    assert_int_equal(wait, 58); /* 57.5 s */
    assert_true(meter_take_quota(meters, "b", &quota, minute + 2500, &wait));
    assert_false(meter_take_quota(meters, "a", &quota, minute + 59999, &wait));
    assert_int_equal(wait, 1);
    assert_true(meter_take_quota(meters, "a", &quota, minute + 60000, &wait));
}

static void test_the_longest_unused_is_forgotten(void **state)
{
    cleanup_meters struct meters *meters = meters_new(2);
    const struct quota quota = {.requests = 1, .window_ms = 1000};
    int64_t wait = 0;

    assert_true(meter_take_quota(meters, "a", &quota, 1000, &wait));
    assert_true(meter_take_quota(meters, "b", &quota, 1000, &wait));
    assert_false(meter_take_quota(meters, "a", &quota, 1000, &wait));
    assert_true(meter_take_quota(meters, "c", &quota, 1000, &wait)); /* instead of b */
    assert_int_equal(meters_count(meters), 2);
    assert_false(meter_take_quota(meters, "a", &quota, 1000, &wait));
    assert_true(meter_take_quota(meters, "b", &quota, 1000, &wait));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_rate_fills_up_to_its_burst),
        cmocka_unit_test(test_the_wait_of_a_rate_is_enough),
        cmocka_unit_test(test_rates_are_of_a_subject_and_an_endpoint),
        cmocka_unit_test(test_a_quota_ends_with_its_window),
        cmocka_unit_test(test_the_longest_unused_is_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
