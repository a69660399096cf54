#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include "util/clock.h"
#include "util/loop.h"
#include "util/test.h"

struct trace {
    struct loop *loop;
    char text[64];
    struct loop_source *source;
    int pipe[2];
    int count;
};

static void note(struct trace *trace, char c)
{
    size_t n = strlen(trace->text);

    assert_true(n + 1 < sizeof(trace->text));
    trace->text[n] = c;
}

static void note_a(void *userdata)
{
    note(userdata, 'a');
}

static void note_b_and_stop(void *userdata)
{
    struct trace *trace = userdata;

    note(trace, 'b');
    loop_stop(trace->loop);
}

static void test_timers_fire_in_order(void **state)
{
    cleanup_loop struct loop *loop = loop_new();
    struct trace trace = {.loop = loop};
    struct loop_source *removed;

    loop_add_timer(loop, 20 * NS_PER_MS, note_b_and_stop, &trace);
    removed = loop_add_timer(loop, 5 * NS_PER_MS, note_a, &trace);
    for (int i = 0; i < 3; i++)
        loop_add_timer(loop, (10 - i) * NS_PER_MS, note_a, &trace);
    loop_remove(removed);
    loop_run(loop);
    assert_string_equal(trace.text, "aaab");
}

static void count_to_three(void *userdata)
{
    struct trace *trace = userdata;

    if (++trace->count == 3) {
        trace->source = loop_remove(trace->source);
        loop_stop(trace->loop);
    }
}

static void test_interval_removes_itself(void **state)
{
    cleanup_loop struct loop *loop = loop_new();
    struct trace trace = {.loop = loop};

    trace.source = loop_add_interval(loop, NS_PER_MS, count_to_three, &trace);
    loop_run(loop);
    loop_run_once(loop, 5);
    assert_int_equal(trace.count, 3);
}

static void read_and_stop(void *userdata, uint32_t events)
{
    struct trace *trace = userdata;
    char c;

    assert_true(events & EPOLLIN);
    assert_int_equal(read(trace->pipe[0], &c, 1), 1);
    note(trace, c);
    trace->source = loop_remove(trace->source);
    loop_stop(trace->loop);
}

static void test_descriptor(void **state)
{
    cleanup_loop struct loop *loop = loop_new();
    struct trace trace = {.loop = loop};

    assert_int_equal(pipe(trace.pipe), 0);
    trace.source = loop_add_fd(loop, trace.pipe[0], EPOLLIN, read_and_stop, &trace);
    loop_run_once(loop, 0);
    assert_string_equal(trace.text, "");
    assert_int_equal(write(trace.pipe[1], "x", 1), 1);
    loop_run(loop);
    assert_string_equal(trace.text, "x");
    close(trace.pipe[0]);
    close(trace.pipe[1]);
}

static void count_post(void *userdata)
{
    struct trace *trace = userdata;

    if (++trace->count == 4000)
        loop_stop(trace->loop);
}

static void *post_many(void *userdata)
{
    struct trace *trace = userdata;

    for (int i = 0; i < 1000; i++)
        loop_post(trace->loop, count_post, trace);
    return NULL;
}

static void test_post_from_threads(void **state)
{
    cleanup_loop struct loop *loop = loop_new();
    struct trace trace = {.loop = loop};
    pthread_t threads[4];

    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &trace), 0);
    loop_run(loop);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(trace.count, 4000);
}

static void on_signal(void *userdata, int signal)
{
    struct trace *trace = userdata;

    trace->count = signal;
    loop_stop(trace->loop);
}

static void test_signal(void **state)
{
    cleanup_loop struct loop *loop = loop_new();
    struct trace trace = {.loop = loop};

    loop_add_signal(loop, SIGUSR1, on_signal, &trace);
    kill(getpid(), SIGUSR1);
    loop_run(loop);
    assert_int_equal(trace.count, SIGUSR1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers_fire_in_order),
        cmocka_unit_test(test_interval_removes_itself),
        cmocka_unit_test(test_descriptor),
        cmocka_unit_test(test_post_from_threads),
        cmocka_unit_test(test_signal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
