#include <malloc.h>
#include <string.h>
#include "schedule/queue.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/test.h"

#define NOW INT64_C(1000000)

static struct queue_item item(int n, double cpus, int gpus, int priority, int64_t lasts_ms)
{
    struct queue_item i = {
        .priority = priority, .lasts_ms = lasts_ms, .need = {.each = {.cpus = cpus, .gpus = gpus}, .nodes = 1}};

    snprintf(i.id, sizeof(i.id), "%032x", n);
    return i;
}

static void add(struct queue *queue, int n, double cpus, int gpus, int priority, int64_t lasts_ms)
{
    struct queue_item i = item(n, cpus, gpus, priority, lasts_ms);

    assert_true(queue_add(queue, &i, QUEUE_READY));
}

/* The number of the next run to start, 0 if none may. */
static int next(struct queue *queue, struct pool *pool, int64_t now)
{
    struct queue_item i;

    return queue_next(queue, pool, now, &i) ? (int)strtol(i.id, NULL, 16) : 0;
}

static void give(struct pool *pool, int n)
{
    char id[ID_SIZE];

    snprintf(id, sizeof(id), "%032x", n);
    pool_give(pool, id);
}

static void test_order(void **state)
{
    struct queue *queue = queue_new();
    struct pool pool;

    pool_init(&pool, 1, GIB, 0, NULL);
    add(queue, 1, 1, 0, 0, 0);
    add(queue, 2, 1, 0, 5, 0);
    add(queue, 3, 1, 0, 5, 0);
    add(queue, 4, 1, 0, -5, 0);
    for (int i = 0; i < 4; i++) {
        static const int expected[] = {2, 3, 1, 4};

        assert_int_equal(next(queue, &pool, NOW), expected[i]);
        assert_int_equal(next(queue, &pool, NOW), 0);
        give(&pool, expected[i]);
    }
    assert_int_equal(queue_count(queue), 0);
    queue_free(queue);
    pool_release(&pool);
}

static void test_order_survives_reinsertion(void **state)
{
    struct queue *queue = queue_new();
    struct pool pool;

    pool_init(&pool, 10, GIB, 0, NULL);
    add(queue, 5, 1, 0, 0, 0);
    add(queue, 3, 1, 0, 0, 0); /* a retry: older, so before */
    add(queue, 9, 1, 0, 0, 0);
    assert_true(queue_set_park(queue, item(3, 0, 0, 0, 0).id, QUEUE_ENVIRONMENT));
    assert_int_equal(next(queue, &pool, NOW), 5);
    assert_true(queue_set_park(queue, item(3, 0, 0, 0, 0).id, QUEUE_READY));
    assert_int_equal(next(queue, &pool, NOW), 3);
    assert_true(queue_remove(queue, item(9, 0, 0, 0, 0).id));
    assert_false(queue_remove(queue, item(9, 0, 0, 0, 0).id));
    assert_int_equal(next(queue, &pool, NOW), 0);
    queue_free(queue);
    pool_release(&pool);
}

/* 4 cores, 3 in use until +100 s. The head needs 4. */
static void test_backfill_within_reservation(void **state)
{
    struct queue *queue = queue_new();
    struct pool pool;

    pool_init(&pool, 4, GIB, 0, NULL);
    add(queue, 1, 3, 0, 0, 100000);
    assert_int_equal(next(queue, &pool, NOW), 1);
    add(queue, 2, 4, 0, 0, 0);      /* head */
    add(queue, 3, 1, 0, 0, 0);      /* without end: would delay the head */
    add(queue, 4, 1, 0, 0, 100001); /* a ms too long */
    add(queue, 5, 1, 0, 0, 100000); /* just right */
    assert_int_equal(next(queue, &pool, NOW), 5);
    assert_int_equal(next(queue, &pool, NOW), 0);
    give(&pool, 5);
    give(&pool, 1);
    assert_int_equal(next(queue, &pool, NOW), 2);
    queue_free(queue);
    pool_release(&pool);
}

/* The head needs 2 of 4 while 3 are held: beside it there is room for others for ever. */
static void test_backfill_beside_head(void **state)
{
    struct queue *queue = queue_new();
    struct pool pool;

    pool_init(&pool, 4, GIB, 0, NULL);
    add(queue, 1, 3, 0, 0, 0); /* holds without end */
    assert_int_equal(next(queue, &pool, NOW), 1);
    add(queue, 2, 2, 0, 0, 0);
    add(queue, 3, 0.5, 0, 0, 1); /* short, but who knows when the holder ends? beside the head it fits */
    add(queue, 4, 0.5, 0, 0, 0);
    assert_int_equal(next(queue, &pool, NOW), 3);
    assert_int_equal(next(queue, &pool, NOW), 4);
    assert_int_equal(next(queue, &pool, NOW), 0);
    give(&pool, 1);
    assert_int_equal(next(queue, &pool, NOW), 2);
    queue_free(queue);
    pool_release(&pool);
}

/* Property: with true run times, no run that becomes head starts later than its first reservation. */
static void test_head_is_never_delayed(void **state)
{
    srandom(7);
    for (int round = 0; round < 200; round++) {
        struct queue *queue = queue_new();
        int64_t reserved = -1, now = NOW, ends[64] = {0};
        struct pool pool;
        int started = 0;

        pool_init(&pool, 8, GIB, 0, NULL);
        add(queue, 1, 5 + (double)(random() % 3), 0, 0, 100 + random() % 50);
        add(queue, 2, 6 + (double)(random() % 3), 0, 0, 50); /* the head, once 1 runs */
        for (int i = 3; i < 40; i++)
            add(queue, i, 0.5 + (double)(random() % 6) / 2, 0, 0, random() % 4 ? 1 + random() % 200 : 0);
        while (started < 2 && now < NOW + 10000) {
            for (int n; (n = next(queue, &pool, now)) != 0;) {
                const struct pool_holder *h = pool_holder(&pool, item(n, 0, 0, 0, 0).id);

                ends[n] = h->ends_at;
                started += n <= 2;
                if (n == 1)
                    reserved = h->ends_at;
                if (n == 2 && now > reserved)
                    fail_msg("round %d: head started at +%d, reserved +%d", round, (int)(now - NOW),
                             (int)(reserved - NOW));
            }
            now++;
            for (int n = 1; n < 64; n++)
                if (ends[n] && ends[n] <= now) {
                    give(&pool, n);
                    ends[n] = 0;
                }
        }
        assert_int_equal(started, 2);
        queue_free(queue);
        pool_release(&pool);
    }
}

static void test_gpus(void **state)
{
    const uint64_t memory[] = {16 * GIB, 80 * GIB, 80 * GIB};
    struct queue *queue = queue_new();
    struct queue_item big = item(1, 1, 1, 0, 0), pair = item(2, 1, 2, 0, 0), too_big = item(3, 1, 3, 0, 0);
    cleanup_free char *first = NULL, *second = NULL;
    enum queue_park park;
    struct pool pool;

    pool_init(&pool, 64, GIB, 3, memory);
    big.need.each.gpu_memory = 40 * GIB;
    too_big.need.each.gpu_memory = 40 * GIB;
    queue_add(queue, &big, QUEUE_READY);
    queue_add(queue, &pair, QUEUE_READY);
    queue_add(queue, &too_big, QUEUE_READY);
    assert_int_equal(next(queue, &pool, NOW), 1);
    assert_int_equal(next(queue, &pool, NOW), 2);
    assert_int_equal(next(queue, &pool, NOW), 0);
    first = pool_gpu_list(pool_holder(&pool, big.id)->amount.gpus, 1, 0);
    second = pool_gpu_list(pool_holder(&pool, pair.id)->amount.gpus, 2, 0);
    assert_string_equal(first, "1");
    assert_string_equal(second, "0,2");
    assert_non_null(queue_find(queue, too_big.id, &park));
    assert_int_equal(park, QUEUE_IMPOSSIBLE);
    queue_free(queue);
    pool_release(&pool);
}

static void check_reason(struct queue *queue, struct pool *pool, int n, const char *reason, int ahead)
{
    json_t *why = queue_why(queue, pool, item(n, 0, 0, 0, 0).id, NOW);

    assert_non_null(why);
    assert_string_equal(json_get_string(why, "reason", ""), reason);
    assert_int_equal(json_get_int(why, "ahead", -1), ahead);
    json_decref(why);
}

static void test_why(void **state)
{
    struct queue *queue = queue_new();
    struct pool pool;

    pool_init(&pool, 4, GIB, 0, NULL);
    add(queue, 1, 3, 0, 0, 60000);
    assert_int_equal(next(queue, &pool, NOW), 1);
    add(queue, 2, 4, 0, 0, 0);
    add(queue, 3, 1, 0, 0, 0);
    add(queue, 4, 2, 0, 0, 0);
    add(queue, 5, 1, 1, 0, 0);
    assert_int_equal(next(queue, &pool, NOW), 0);
    check_reason(queue, &pool, 2, "resources", 0);
    check_reason(queue, &pool, 3, "behind", 1);
    check_reason(queue, &pool, 4, "resources", 2);
    check_reason(queue, &pool, 5, "impossible", 3);
    assert_null(queue_why(queue, &pool, item(77, 0, 0, 0, 0).id, NOW));
    queue_free(queue);
    pool_release(&pool);
}

static void test_pause(void **state)
{
    struct queue_item paused = item(1, 1, 0, 9, 0), later = item(2, 1, 0, 9, 0);
    struct queue *queue = queue_new();
    struct pool pool;

    pool_init(&pool, 1, GIB, 0, NULL);
    paused.not_before = NOW + 1000;
    later.not_before = NOW + 5000;
    assert_true(queue_add(queue, &later, QUEUE_PAUSED));
    assert_true(queue_add(queue, &paused, QUEUE_PAUSED));
    add(queue, 3, 1, 0, 0, 0);
    assert_int_equal(queue_resume(queue, NOW), NOW + 1000);
    check_reason(queue, &pool, 1, "paused", 0);
    assert_int_equal(next(queue, &pool, NOW), 3); /* it holds up nobody */
    give(&pool, 3);
    assert_int_equal(next(queue, &pool, NOW), 0);
    assert_true(queue_set_priority(queue, paused.id, 5));
    assert_int_equal(queue_resume(queue, NOW + 1000), NOW + 5000);
    assert_int_equal(next(queue, &pool, NOW + 1000), 1);
    assert_true(queue_remove(queue, later.id));
    assert_true(queue_resume(queue, NOW + 9000) == POOL_NEVER);
    queue_free(queue);
    pool_release(&pool);
}

static void test_memory_of_a_queued_run(void **state)
{
    enum { RUNS = 100000 };
    size_t before = mallinfo2().uordblks, each;
    struct queue *queue = queue_new();
    struct pool pool;

    pool_init(&pool, 1, GIB, 0, NULL);
    for (int i = 1; i <= RUNS; i++)
        add(queue, i, 1, 0, i % 3, 0);
    each = (mallinfo2().uordblks - before) / RUNS;
    if (each > 1024)
        fail_msg("a queued run takes %zu bytes", each);
    assert_int_equal(next(queue, &pool, NOW), 2);
    assert_int_equal(next(queue, &pool, NOW), 0);
    queue_free(queue);
    pool_release(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_order_survives_reinsertion),
        cmocka_unit_test(test_backfill_within_reservation),
        cmocka_unit_test(test_backfill_beside_head),
        cmocka_unit_test(test_head_is_never_delayed),
        cmocka_unit_test(test_gpus),
        cmocka_unit_test(test_why),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_memory_of_a_queued_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
