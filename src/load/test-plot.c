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
    const struct plot_series series[] = {{"measured", points, 3, PLOT_DOTS},
                                         {"<predicted>", points, 3, PLOT_DASHED},
                                         {"interval", points, 3, PLOT_BAND}};
    const struct plot plot = {"title", "x", "y", series, 3};
    cleanup_strbuf struct strbuf out = STRBUF_INIT(100000);
    const char *dot = NULL;
    int dots = 0;

    plot_svg(&plot, &out);
    for (dot = out.data; (dot = strstr(dot, "class='dot'")); dot++)
        dots++;
    assert_int_equal(dots, 2); /* not the one that is NaN */
    assert_non_null(strstr(out.data, "&lt;predicted&gt;"));
    assert_null(strstr(out.data, "nan"));
}

/* The axis of shares gives each nine the same width. */
static void test_nines(void **state)
{
    static const struct plot_point points[] = {{0, 1}, {0.9, 2}, {0.99, 3}, {0.999, 4}};
    const struct plot_series series[] = {{"latency", points, 4}};
    const struct plot plot = {"t", "x", "y", series, 1, .nines = true};
    cleanup_strbuf struct strbuf out = STRBUF_INIT(100000);

    plot_svg(&plot, &out);
    /* from 72 to 696, a third each */
    assert_non_null(strstr(out.data, "d='M72.0 "));
    assert_non_null(strstr(out.data, "L280.0 "));
    assert_non_null(strstr(out.data, "L488.0 "));
    assert_non_null(strstr(out.data, "L696.0 "));
    assert_non_null(strstr(out.data, ">0 %<"));
    assert_non_null(strstr(out.data, ">90 %<"));
    assert_non_null(strstr(out.data, ">99.9 %<"));
}

static void test_numbers(void **state)
{
    static const struct {
        double value;
        const char *text;
    } rows[] = {
        {0, "0"},           {0.25, "0.25"},      {4.15446, "4.154"},       {999.9, "999.9"},           {1000, "1,000"},
        {9999.7, "10,000"}, {-10000, "-10,000"}, {1234567.4, "1,234,567"}, {123456789, "123,456,789"}, {1e20, "1e+20"},
    };
    char buffer[PLOT_NUMBER_SIZE];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_string_equal(plot_number(rows[i].value, buffer), rows[i].text);
}

static void test_degenerate_data(void **state)
{
    static const struct plot_point one[] = {{5, 0, 0, 0}};
    const struct plot_series series[] = {{"one", one, 1}, {"none", NULL, 0}, {"no band", NULL, 0, PLOT_BAND}};
    const struct plot plot = {"t", "x", "y", series, 3};
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
        cmocka_unit_test(test_nines),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_degenerate_data),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
