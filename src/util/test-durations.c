#include <math.h>
#include "util/clock.h"
#include "util/durations.h"
#include "util/test.h"

static double quantile_of_one(int64_t ns)
{
    struct durations d = {0};

    durations_add(&d, ns);
    return durations_quantile_ms(&d, 1);
}

static void test_any_duration_is_known_to_a_sixteenth(void **state)
{
    for (int64_t ns = 16 * NS_PER_US; ns < 130 * NS_PER_SEC; ns += ns / 37) {
        double ms = (double)ns / NS_PER_MS, got = quantile_of_one(ns);

        if (fabs(got - ms) > ms / 15.9)
            fail_msg("%g ms is read as %g ms", ms, got);
    }
    assert_true(quantile_of_one(0) <= 0.001);
    assert_true(quantile_of_one(-5) <= 0.001);
    assert_true(quantile_of_one(INT64_MAX) > 100000);
}

static void test_quantiles(void **state)
{
    struct durations d = {0};

    assert_true(isnan(durations_quantile_ms(&d, 0.5)));
    for (int i = 1; i <= 1000; i++)
        durations_add(&d, i * NS_PER_MS);
    assert_int_equal(durations_count(&d), 1000);
    assert_true(fabs(durations_quantile_ms(&d, 0.5) - 500) < 32);
    assert_true(fabs(durations_quantile_ms(&d, 0.99) - 990) < 62);
}

static void test_what_happened_in_between(void **state)
{
    struct durations before = {0}, now = {0};
    cleanup_json json_t *json = NULL;

    for (int i = 0; i < 90; i++)
        durations_add(&before, 10 * NS_PER_MS);
    json = durations_to_json(&before);
    durations_add_json(&now, json);
    assert_memory_equal(&now, &before, sizeof(now));
    for (int i = 0; i < 10; i++)
        durations_add(&now, 500 * NS_PER_MS);
    durations_subtract(&now, &before);
    assert_int_equal(durations_count(&now), 10);
    assert_true(fabs(durations_quantile_ms(&now, 0.5) - 500) < 32);
    /* Who counts from zero again has fewer. */
    durations_subtract(&now, &before);
    assert_int_equal(durations_count(&now), 10);
    durations_add_json(&now, NULL);
    assert_int_equal(durations_count(&now), 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_duration_is_known_to_a_sixteenth),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_what_happened_in_between),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
