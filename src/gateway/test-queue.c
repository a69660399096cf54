#include "format/wire.h"
#include "gateway/call.h"
#include "gateway/queue.h"
#include "util/test.h"

static struct call call_of(int priority)
{
    return (struct call){.priority = priority, .kind = WIRE_PREDICT};
}

static void test_the_important_first_and_equals_in_order(void **state)
{
    static const int priorities[] = {0, -10, 10, 0, 3, 10, -1, 0}, order[] = {2, 5, 4, 0, 3, 7, 6, 1};
    struct call calls[ARRAY_SIZE(priorities)];
    struct call_queue queue;

    call_queue_init(&queue);
    assert_null(call_queue_first(&queue));
    assert_null(call_queue_last(&queue));
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        calls[i] = call_of(priorities[i]);
        list_init(&calls[i].link);
        call_queue_push(&queue, &calls[i], 1);
    }
    assert_ptr_equal(call_queue_last(&queue), &calls[1]);
    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        struct call *call = call_queue_first(&queue);

        assert_int_equal(call - calls, order[i]);
        call_queue_remove(&queue, call);
    }
    assert_int_equal(queue.count, 0);
    assert_int_equal(queue.occupied, 0);
}

static void test_the_newest_of_the_least_gives_way(void **state)
{
    struct call calls[] = {call_of(1), call_of(-2), call_of(-2), call_of(5)};
    static const int order[] = {2, 1, 0, 3};
    struct call_queue queue;

    call_queue_init(&queue);
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        call_queue_push(&queue, &calls[i], 1);
    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        struct call *call = call_queue_last(&queue);

        assert_int_equal(call - calls, order[i]);
        call_queue_remove(&queue, call);
    }
}

static void test_who_had_a_turn_comes_before_its_equals(void **state)
{
    struct call calls[] = {call_of(0), call_of(0), call_of(0), call_of(1)};
    struct call_queue queue;

    call_queue_init(&queue);
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        call_queue_push(&queue, &calls[i], 1);
    for (size_t i = 0; i < 2; i++)
        call_queue_remove(&queue, &calls[i]);
    call_queue_put_back(&queue, &calls[1]);
    call_queue_put_back(&queue, &calls[0]);
    assert_ptr_equal(call_queue_first(&queue), &calls[3]);
    call_queue_remove(&queue, &calls[3]);
    for (int i = 0; i < 3; i++) {
        assert_ptr_equal(call_queue_first(&queue), &calls[i]);
        call_queue_remove(&queue, &calls[i]);
    }
}

static void test_the_oldest_of_all_levels(void **state)
{
    struct call calls[] = {call_of(0), call_of(9), call_of(-9)};
    struct call_queue queue;

    call_queue_init(&queue);
    assert_int_equal(call_queue_oldest_ns(&queue), INT64_MAX);
    call_queue_push(&queue, &calls[0], 30);
    call_queue_push(&queue, &calls[1], 40);
    assert_int_equal(call_queue_oldest_ns(&queue), 30);
    call_queue_push(&queue, &calls[2], 50);
    call_queue_remove(&queue, &calls[0]);
    assert_int_equal(call_queue_oldest_ns(&queue), 40);
    call_queue_put_back(&queue, &calls[0]);
    assert_int_equal(call_queue_oldest_ns(&queue), 30);
}

static void test_what_no_batch_takes_is_counted(void **state)
{
    struct call text = call_of(0), tensors = {.kind = WIRE_TENSORS};
    struct call_queue queue;

    call_queue_init(&queue);
    call_queue_push(&queue, &text, 1);
    assert_int_equal(queue.alone, 0);
    call_queue_push(&queue, &tensors, 1);
    assert_int_equal(queue.alone, 1);
    call_queue_remove(&queue, &text);
    assert_int_equal(queue.alone, 1);
    call_queue_remove(&queue, &tensors);
    assert_int_equal(queue.alone, 0);
    assert_int_equal(queue.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_important_first_and_equals_in_order),
        cmocka_unit_test(test_the_newest_of_the_least_gives_way),
        cmocka_unit_test(test_who_had_a_turn_comes_before_its_equals),
        cmocka_unit_test(test_the_oldest_of_all_levels),
        cmocka_unit_test(test_what_no_batch_takes_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
