#include <math.h>
#include "load/plot.h"
#include "util/test.h"

static void test_steps_are_round(void **state)
{
    static const double ranges[] = {1, 7, 33, 0.004, 12345};
    static const double expected[] = {0.2, 1, 5, 0.001, 2000};

    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
        if (fabs(plot_step(ranges[i], 5) - expected[i]) > expected[i] * 1e-9)
            fail_msg("step of %g is %g, expected %g", ranges[i], plot_step(ranges[i], 5), expected[i]);
}

static void test_escapes(void **state)
{
    cleanup_strbuf struct strbuf out = STRBUF_INIT(1000);

    html_escape(&out, "<a href=\"x\">&</a>");
    assert_string_equal(out.data, "&lt;a href=&quot;x&quot;&gt;&amp;&lt;/a&gt;");
}

static void test_svg_holds_the_points(void **state)
{
    static const struct plot_point points[] = {{0, 10, 9, 11}, {1, NAN, 0, 0}, {2, 30, 29, 31}};
    const struct plot_series series[] = {{"measured", points, 3, .dots = true}, {"<predicted>", points, 3}};
    const struct plot plot = {"title", "x", "y", series, 2};
    cleanup_strbuf struct strbuf out = STRBUF_INIT(100000);
    const char *dot = NULL;
    int dots = 0;

    plot_svg(&plot, &out);
    for (dot = out.data; (dot = strstr(dot, "<circle")); dot++)
        dots++;
    assert_int_equal(dots, 2); /* not the one that is NaN */
    assert_non_null(strstr(out.data, "&lt;predicted&gt;"));
    assert_null(strstr(out.data, "nan"));
}

static void test_degenerate_data(void **state)
{
    static const struct plot_point one[] = {{5, 0, 0, 0}};
    const struct plot_series series[] = {{"one", one, 1}, {"none", NULL, 0}};
    const struct plot plot = {"t", "x", "y", series, 2};
    cleanup_strbuf struct strbuf out = STRBUF_INIT(100000);

    plot_svg(&plot, &out);
    assert_null(strstr(out.data, "nan"));
    assert_null(strstr(out.data, "inf"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_are_round),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_svg_holds_the_points),
        cmocka_unit_test(test_degenerate_data),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
