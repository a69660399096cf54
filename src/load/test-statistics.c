#include <math.h>
#include "load/histogram.h"
#include "load/statistics.h"
#include "util/test.h"

static void assert_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance))
        fail_msg("%.12g is not %.12g ± %g", value, expected, tolerance);
}

static void test_laplace(void **state)
{
    /* Table values of the normal distribution. */
    assert_near(laplace_inverse(0.95), 1.959963985, 1e-8);
    assert_near(laplace_inverse(0.99), 2.575829304, 1e-8);
    assert_near(laplace_inverse(0.6826894921), 1.0, 1e-8);
    assert_near(laplace_inverse(0), 0, 1e-12);
}

static void test_sample(void **state)
{
    struct sample sample = {0};
    static const double values[] = {2, 4, 4, 4, 5, 5, 7, 9};

    for (size_t i = 0; i < ARRAY_SIZE(values); i++)
        sample_add(&sample, values[i]);
    assert_near(sample.mean, 5, 1e-12);
    assert_near(sample_deviation(&sample), sqrt(32.0 / 7), 1e-12);
    assert_near(sample_accuracy(&sample, 0.95), 1.959963985 * sqrt(32.0 / 7) / sqrt(8), 1e-7);
    /* (1.96 * 2.138 / 0.1)^2 = 1756.06 */
    assert_int_equal(sample_needed(&sample, 0.95, 0.1), 1757);
    assert_int_equal(sample_needed(&sample, 0.95, 100), STATISTICS_PRELIMINARY);
}

static void test_exponential_has_its_mean(void **state)
{
    struct random_source source, again;
    struct sample sample = {0};

    random_source_init(&source, 7);
    random_source_init(&again, 7);
    for (int i = 0; i < 200000; i++) {
        double x = random_exponential(&source, 3);

        assert_true(x >= 0);
        assert_true(x == random_exponential(&again, 3));
        sample_add(&sample, x);
    }
    assert_near(sample.mean, 3, 5 * 3 / sqrt(200000)); /* five standard errors */
    assert_near(sample_deviation(&sample), 3, 0.05);   /* of an exponential: the mean */
}

static void test_histogram(void **state)
{
    cleanup_histogram struct histogram *h = histogram_new(), *other = histogram_new();

    assert_int_equal(histogram_quantile(h, 0.5), 0);
    for (int64_t i = 1; i <= 100000; i++)
        histogram_record(i % 2 ? h : other, i * 1000);
    histogram_add(h, other);
    assert_int_equal(histogram_count(h), 100000);
    assert_near((double)histogram_quantile(h, 0.5), 50e6, 50e6 / 1024);
    assert_near((double)histogram_quantile(h, 0.99), 99e6, 99e6 / 1024);
    assert_int_equal(histogram_quantile(h, 1), 100000 * 1000);
    assert_near(histogram_mean(h), 50000.5e3, 1);
    assert_int_equal(histogram_max(h), 100000 * 1000);

    histogram_record(h, -5);
    histogram_record(h, INT64_MAX);
    assert_int_equal(histogram_quantile(h, 0), 0);
}

static void test_histogram_error_is_bounded(void **state)
{
    for (int64_t v = 1; v < INT64_C(1) << 50; v = v * 3 / 2 + 1) {
        cleanup_histogram struct histogram *h = histogram_new();

        histogram_record(h, v);
        histogram_record(h, INT64_C(1) << 51);
        assert_near((double)histogram_quantile(h, 0.5), (double)v, (double)v / 1024);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_laplace),
        cmocka_unit_test(test_sample),
        cmocka_unit_test(test_exponential_has_its_mean),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_histogram_error_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
