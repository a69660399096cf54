#include "schedule/scale.h"
#include "util/clock.h"
#include "util/test.h"

static const struct scale_rule rule = {
    .min = 1, .max = 8, .queue_time_us = 50000, .down_after_ns = 60 * NS_PER_SEC, .idle_after_ns = 600 * NS_PER_SEC};
static const struct scale_rule to_zero = {
    .min = 0, .max = 8, .queue_time_us = 50000, .down_after_ns = 60 * NS_PER_SEC, .idle_after_ns = 600 * NS_PER_SEC};

static void check(const struct scale_rule *r, struct scale_view view, int64_t wished, const char *reason,
                  int64_t again_ns)
{
    struct scale_decision d = scale_decide(r, &view);

    assert_int_equal(d.wished, wished);
    if (reason)
        assert_string_equal(d.reason, reason);
    else
        assert_null(d.reason);
    assert_int_equal(d.again_ns, again_ns);
}

static struct scale_view seen(int64_t wished, enum load_level level, int64_t queue_time_us)
{
    return (struct scale_view){
        .wished = wished,
        .ready = wished,
        .is_known = true,
        .window = {.level = level, .queue_time_us = queue_time_us, .ready = wished, .requests = level != LOAD_IDLE}};
}

static void test_limits_come_first(void **state)
{
    check(&rule, (struct scale_view){.wished = 0}, 1, "minimum", SCALE_NEVER);
    check(&rule, (struct scale_view){.wished = 9}, 8, "maximum", SCALE_NEVER);
    check(&rule, seen(9, LOAD_OVER, 900000), 8, "maximum", SCALE_NEVER);
    check(&rule, (struct scale_view){.wished = 3}, 3, NULL, SCALE_NEVER);
    check(&to_zero, (struct scale_view){.wished = 0}, 0, NULL, SCALE_NEVER);
}

static void test_grows_at_once_and_in_bounds(void **state)
{
    static const struct {
        int64_t wished, queue_time_us, expected;
    } rows[] = {
        {1, 50001, 2},  {1, 5000000, 2}, {4, 55000, 5},  {4, 75000, 6},
        {4, 100000, 8}, {3, 100000, 6},  {5, 100000, 8}, {7, 50001, 8},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        check(&rule, seen(rows[i].wished, LOAD_OVER, rows[i].queue_time_us), rows[i].expected, "queue_time",
              SCALE_NEVER);
    check(&rule, seen(8, LOAD_OVER, 900000), 8, NULL, SCALE_NEVER);
}

static void test_waits_for_what_it_has_asked_for(void **state)
{
    struct scale_view view = seen(4, LOAD_OVER, 900000);

    view.ready = 3;
    check(&rule, view, 4, NULL, SCALE_NEVER);
    /* They are ready, but the window began before. */
    view.ready = 4;
    view.window.ready = 3;
    check(&rule, view, 4, NULL, SCALE_NEVER);
    view.window.ready = 4;
    check(&rule, view, 8, "queue_time", SCALE_NEVER);
    /* What was seen before the last change says nothing about now. */
    view.is_known = false;
    check(&rule, view, 4, NULL, SCALE_NEVER);
}

static void test_shrinks_slowly(void **state)
{
    struct scale_view view = seen(4, LOAD_SLACK, 0);

    check(&rule, view, 4, NULL, 60 * NS_PER_SEC);
    view.calm_ns = 59 * NS_PER_SEC;
    check(&rule, view, 4, NULL, NS_PER_SEC);
    view.calm_ns = 60 * NS_PER_SEC;
    check(&rule, view, 3, "slack", SCALE_NEVER);
    view.window.level = LOAD_STEADY;
    check(&rule, view, 4, NULL, SCALE_NEVER);
    view = seen(1, LOAD_IDLE, 0);
    view.calm_ns = view.idle_ns = 3600 * NS_PER_SEC;
    check(&rule, view, 1, NULL, SCALE_NEVER);
}

static void test_none_when_nobody_asks(void **state)
{
    struct scale_view view = seen(1, LOAD_IDLE, 0);

    view.calm_ns = view.idle_ns = 100 * NS_PER_SEC;
    check(&to_zero, view, 1, NULL, 500 * NS_PER_SEC);
    view.idle_ns = 600 * NS_PER_SEC;
    check(&to_zero, view, 0, "idle", SCALE_NEVER);
    /* A little traffic keeps one. */
    view.window.level = LOAD_SLACK;
    view.calm_ns = 600 * NS_PER_SEC;
    check(&to_zero, view, 1, NULL, SCALE_NEVER);
    /* With several the nearer of the two times counts. */
    view = seen(3, LOAD_IDLE, 0);
    view.calm_ns = view.idle_ns = 10 * NS_PER_SEC;
    check(&to_zero, view, 3, NULL, 50 * NS_PER_SEC);
    view.calm_ns = 60 * NS_PER_SEC;
    check(&to_zero, view, 2, "slack", SCALE_NEVER);
}

static void test_one_when_somebody_asks(void **state)
{
    struct scale_view view = seen(0, LOAD_OVER, 3000);

    view.window.queued = 1;
    check(&to_zero, view, 1, "request", SCALE_NEVER);
    view.wished = 1; /* it is on its way */
    check(&to_zero, view, 1, NULL, SCALE_NEVER);
    check(&to_zero, seen(0, LOAD_IDLE, 0), 0, NULL, SCALE_NEVER);
}

/* The rule and the load that it brings about: `load` replicas' worth of work, which wait as soon as there are fewer. */
static struct load_window window_of(double load, int64_t ready)
{
    struct load_window w = {.requests = load > 0, .ready = ready, .busy = load < (double)ready ? load : (double)ready};

    w.queue_time_us = load > 0.9 * (double)ready ? 4 * rule.queue_time_us : 0;
    w.level = load_level(&w, rule.queue_time_us);
    return w;
}

/* A load that stays the same: it may grow too far and come back, but what was taken away is not needed again. */
static void test_does_not_flap(void **state)
{
    for (int start = 1; start <= rule.max; start++) {
        for (double load = 0; load <= 7; load += 0.05) {
            struct scale_view view = {.wished = start, .ready = start, .is_known = true};
            bool has_shrunk = false;

            for (int64_t second = 0; second < 3600; second++) {
                struct scale_decision d;

                view.window = window_of(load, view.wished);
                view.calm_ns = view.window.level <= LOAD_SLACK ? view.calm_ns + NS_PER_SEC : 0;
                d = scale_decide(&rule, &view);
                if (has_shrunk && d.wished > view.wished)
                    fail_msg("a load of %.2f: %ld, then %ld again", load, (long)view.wished, (long)d.wished);
                has_shrunk = has_shrunk || d.wished < view.wished;
                if (d.reason)
                    view.calm_ns = 0;
                view.wished = view.ready = d.wished;
            }
            assert_true(load <= 0.9 * (double)view.wished);
        }
    }
}

static void test_levels(void **state)
{
    static const struct {
        struct load_window window;
        enum load_level expected;
    } rows[] = {
        {{.ready = 1}, LOAD_IDLE},
        {{.ready = 0}, LOAD_IDLE},
        {{.ready = 0, .queued = 1, .requests = 1}, LOAD_OVER},
        {{.ready = 1, .queued = 1, .queue_time_us = 40000}, LOAD_STEADY},
        {{.ready = 1, .queued = 1, .queue_time_us = 60000}, LOAD_OVER},
        {{.ready = 4, .requests = 9, .queue_time_us = 60000, .busy = 0.1}, LOAD_OVER},
        {{.ready = 1, .requests = 9, .busy = 0.01}, LOAD_STEADY},
        {{.ready = 2, .requests = 9, .busy = 0.7}, LOAD_SLACK},
        {{.ready = 2, .requests = 9, .busy = 0.71}, LOAD_STEADY},
        {{.ready = 2, .running = 1, .busy = 0.5}, LOAD_SLACK},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_string_equal(load_level_name(load_level(&rows[i].window, 50000)), load_level_name(rows[i].expected));
}

static void test_windows_travel(void **state)
{
    const struct load_window sent = {LOAD_SLACK, 1234, 5, 6, 7, 3, 1.5, 8};
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *object = json_object(), *bad = json_build("{s:s}", "level", "frantic");
    struct load_window got = {0};

    load_write(&sent, object);
    assert_ok(load_read(object, &got, &error), &error);
    assert_int_equal(got.level, sent.level);
    assert_int_equal(got.queue_time_us, 1234);
    assert_int_equal(got.queued, 5);
    assert_int_equal(got.running, 6);
    assert_int_equal(got.requests, 7);
    assert_int_equal(got.ready, 3);
    assert_true(got.busy == 1.5);
    assert_int_equal(got.idle_ms, 8);
    assert_error(load_read(bad, &got, &error), &error, ERROR_INVALID, "frantic");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits_come_first),
        cmocka_unit_test(test_grows_at_once_and_in_bounds),
        cmocka_unit_test(test_waits_for_what_it_has_asked_for),
        cmocka_unit_test(test_shrinks_slowly),
        cmocka_unit_test(test_none_when_nobody_asks),
        cmocka_unit_test(test_one_when_somebody_asks),
        cmocka_unit_test(test_does_not_flap),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_windows_travel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
