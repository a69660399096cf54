#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>
#include "schedule/workers.h"
#include "util/test.h"

struct counts {
    struct loop *loop;
    atomic_int worked, done;
    int wanted; /* done: ends the loop when so many are */
    int gate[2];
};

static void work(void *userdata)
{
    atomic_fetch_add(&((struct counts *)userdata)->worked, 1);
}

static void done(void *userdata)
{
    struct counts *counts = userdata;

    if (atomic_fetch_add(&counts->done, 1) + 1 == counts->wanted)
        loop_stop(counts->loop);
}

/* Holds the only thread until the test lets it go. */
static void hold(void *userdata)
{
    char byte;

    if (read(((struct counts *)userdata)->gate[0], &byte, 1) != 1)
        abort();
}

static void *let_go_soon(void *userdata)
{
    struct counts *counts = userdata;

    usleep(50 * 1000);
    if (write(counts->gate[1], "x", 1) != 1)
        abort();
    return NULL;
}

static void test_work_then_done(void **state)
{
    struct counts counts = {.loop = loop_new(), .wanted = 100};
    struct workers *workers;

    workers = workers_new(counts.loop, 3);
    for (int i = 0; i < counts.wanted; i++)
        workers_add(workers, work, done, &counts);
    loop_run(counts.loop);
    assert_int_equal(counts.worked, counts.wanted);
    assert_int_equal(counts.done, counts.wanted);
    workers_free(workers);
    loop_free(counts.loop);
}

/* What nobody waits for is done even when the end comes first; what somebody waits for is dropped. */
static void test_end_before_it_began(void **state)
{
    struct counts counts = {.loop = loop_new()};
    struct workers *workers;
    pthread_t helper;

    assert_int_equal(pipe(counts.gate), 0);
    workers = workers_new(counts.loop, 1);
    workers_add(workers, hold, NULL, &counts);
    for (int i = 0; i < 5; i++) {
        workers_add(workers, work, NULL, &counts);
        workers_add(workers, work, done, &counts);
    }
    assert_int_equal(pthread_create(&helper, NULL, let_go_soon, &counts), 0);
    workers_stop(workers);
    workers_add(workers, work, NULL, &counts);
    workers_free(workers);
    pthread_join(helper, NULL);
    assert_in_range(counts.worked, 6, 11); /* the thread may have got to some before the stop */
    assert_int_equal(counts.done, 0);
    loop_free(counts.loop);
    close(counts.gate[0]);
    close(counts.gate[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_work_then_done),
        cmocka_unit_test(test_end_before_it_began),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
