#include <fcntl.h>
#include <sys/mman.h>
#include "gateway/ring.h"
#include "util/test.h"

#define ARENA (64 * RING_PAGE)

static int user; /* any address */

static struct ring_call call_of(const void *body, size_t length)
{
    return (struct ring_call){.kind = WIRE_PREDICT, .body = body, .length = length, .now_ns = 1, .user = &user};
}

/* What an honest worker does with its next submission. */
static struct wire_completion work(struct ring *ring, const char *answer)
{
    uint32_t head = atomic_load(&ring->answers->submit_head);
    const struct wire_submission *entry = &ring->requests->submissions[head % WIRE_SLOTS];
    struct wire_completion completion = {
        .slot = entry->slot, .generation = entry->generation, .length = strlen(answer)};

    atomic_store(&ring->answers->submit_head, head + 1);
    memcpy((char *)ring->answers + ring->answer_offset + entry->slot * RING_STRIDE, answer, strlen(answer));
    return completion;
}

static void complete(struct ring *ring, struct wire_completion completion)
{
    uint32_t tail = atomic_load(&ring->answers->complete_tail);

    ring->answers->completions[tail % WIRE_SLOTS] = completion;
    atomic_store(&ring->answers->complete_tail, tail + 1);
}

static struct ring *ring_with(int n)
{
    struct ring *ring;
    struct ring_call call = call_of("body", 4);

    assert_int_equal(ring_new(ARENA, RING_PAGE * 32, &ring, NULL), 0);
    for (int i = 0; i < n; i++)
        assert_int_equal(ring_submit(ring, &call), i);
    return ring;
}

static void test_requests_and_answers(void **state)
{
    cleanup_ring struct ring *ring = ring_with(0);
    struct ring_answer answer;

    assert_false(ring_take(ring, &answer));
    for (int round = 0; round < 200; round++) {
        struct ring_call call = call_of("12345678", (size_t)(round % 9));
        int slot = ring_submit(ring, &call);

        assert_int_equal(slot, 0);
        assert_int_equal(ring_oldest(ring), slot);
        assert_false(ring_has_started(ring, slot));
        complete(ring, work(ring, "answer"));
        assert_true(ring_has_started(ring, slot));
        assert_true(ring_has_news(ring));
        assert_true(ring_take(ring, &answer));
        assert_ptr_equal(answer.user, &user);
        assert_int_equal(answer.length, 6);
        assert_memory_equal(answer.body, "answer", 6);
        assert_false(ring_take(ring, &answer));
    }
    assert_int_equal(ring->n_used, 0);
    assert_int_equal(ring->bad_answers, 0);
}

static void test_no_more_than_there_is_room_for(void **state)
{
    cleanup_ring struct ring *ring = ring_with(WIRE_SLOTS);
    struct ring_call call = call_of("body", 4);
    struct ring_answer answer;

    assert_int_equal(ring_submit(ring, &call), -1);
    complete(ring, work(ring, ""));
    assert_true(ring_take(ring, &answer));
    assert_int_equal(ring_submit(ring, &call), 0);
    assert_int_equal(ring_oldest(ring), 1);
}

static void test_bodies_share_the_arena(void **state)
{
    cleanup_ring struct ring *ring = ring_with(0);
    static char large[ARENA];
    struct ring_call whole = call_of(large, ARENA), half = call_of(large, ARENA / 2),
                     more = call_of(large, ARENA / 2 + 1);
    struct ring_answer answer;

    assert_int_equal(ring_submit(ring, &whole), 0);
    assert_int_equal(ring_submit(ring, &half), -1);
    complete(ring, work(ring, ""));
    assert_true(ring_take(ring, &answer));
    assert_int_equal(ring_submit(ring, &half), 0);
    assert_int_equal(ring_submit(ring, &more), -1);
    assert_int_equal(ring_submit(ring, &half), 1);
}

static void test_an_abandoned_answer_is_taken_and_names_nobody(void **state)
{
    cleanup_ring struct ring *ring = ring_with(1);
    struct ring_answer answer;

    ring_abandon(ring, 0);
    assert_int_equal(ring->n_used, 1);
    complete(ring, work(ring, "late"));
    assert_true(ring_take(ring, &answer));
    assert_null(answer.user);
    assert_int_equal(ring->n_used, 0);
    assert_int_equal(ring->bad_answers, 0);
}

/* Each lie is counted, changes nothing, and ends the reading. */
static void check_lie(struct wire_completion lie, const char *complaint)
{
    cleanup_ring struct ring *ring = ring_with(2);
    struct wire_completion truth = work(ring, "answer");
    struct ring_answer answer;

    if (lie.generation == 0)
        lie.generation = truth.generation;
    complete(ring, lie);
    complete(ring, truth);
    assert_false(ring_take(ring, &answer));
    assert_false(ring_take(ring, &answer));
    assert_string_equal(ring->complaint, complaint);
    assert_int_equal(ring->bad_answers, 1);
    assert_int_equal(ring->n_used, 2);
}

static void test_lies(void **state)
{
    check_lie((struct wire_completion){.slot = WIRE_SLOTS}, "answered for a slot that does not exist");
    check_lie((struct wire_completion){.slot = UINT32_MAX}, "answered for a slot that does not exist");
    check_lie((struct wire_completion){.slot = 7}, "answered for a slot that it does not own");
    check_lie((struct wire_completion){.generation = 99}, "answered for a slot that it does not own");
    check_lie((struct wire_completion){.status = WIRE_STATUS_COUNT_}, "answered with an unknown status");
    check_lie((struct wire_completion){.place = 2}, "answered in an unknown place");
    check_lie((struct wire_completion){.length = RING_STRIDE + 1}, "answered with an impossible length");
    check_lie((struct wire_completion){.length = UINT64_MAX}, "answered with an impossible length");
    check_lie((struct wire_completion){.place = WIRE_IN_BIG, .length = RING_PAGE * 32 + 1},
              "answered with an impossible length");
}

static void test_answering_twice(void **state)
{
    cleanup_ring struct ring *ring = ring_with(2);
    struct wire_completion truth = work(ring, "answer");
    struct ring_answer answer;

    complete(ring, truth);
    complete(ring, truth);
    assert_true(ring_take(ring, &answer));
    assert_false(ring_take(ring, &answer));
    assert_int_equal(ring->bad_answers, 1);
    assert_int_equal(ring->n_used, 1);
}

static void test_a_cursor_out_of_the_ring(void **state)
{
    cleanup_ring struct ring *ring = ring_with(1);
    struct ring_answer answer;

    atomic_store(&ring->answers->complete_tail, 1000000);
    assert_false(ring_take(ring, &answer));
    assert_string_equal(ring->complaint, "moved its cursor beyond the ring");
}

static void test_wakes_once_a_sleep(void **state)
{
    cleanup_ring struct ring *ring = ring_with(0);
    uint64_t count = 0;

    assert_int_equal(ring_wake(ring), 0);
    assert_int_equal(read(ring->fds[WIRE_FD_WAKE_WORKER], &count, sizeof(count)), -1);
    for (uint32_t nap = 1; nap < 4; nap++) {
        atomic_store(&ring->answers->asleep, nap);
        for (int i = 0; i < 3; i++)
            assert_int_equal(ring_wake(ring), 0);
        assert_int_equal(read(ring->fds[WIRE_FD_WAKE_WORKER], &count, sizeof(count)), sizeof(count));
        assert_int_equal(count, 1);
    }
    /* A counter that the worker filled up. */
    count = UINT64_MAX - 1;
    assert_int_equal(write(ring->fds[WIRE_FD_WAKE_WORKER], &count, sizeof(count)), sizeof(count));
    atomic_store(&ring->answers->asleep, 9);
    assert_int_equal(ring_wake(ring), -1);
}

static void test_a_batch_is_seen_at_once(void **state)
{
    cleanup_ring struct ring *ring = ring_with(0);
    struct ring_call call = call_of("body", 4);

    call.batch = 7;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(ring_submit(ring, &call), i);
        assert_int_equal(atomic_load(&ring->requests->submit_tail), 0);
    }
    assert_int_equal(ring_wake(ring), 0);
    assert_int_equal(atomic_load(&ring->requests->submit_tail), 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ring->requests->submissions[i].batch, 7);
        assert_false(ring_has_started(ring, i));
    }
}

static void test_the_worker_cannot_write_requests_or_resize(void **state)
{
    cleanup_ring struct ring *ring = ring_with(0);
    int requests = ring->fds[WIRE_FD_REQUESTS], answers = ring->fds[WIRE_FD_ANSWERS];

    assert_ptr_equal(mmap(NULL, RING_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, requests, 0), MAP_FAILED);
    assert_int_equal(pwrite(requests, "x", 1, 0), -1);
    assert_int_equal(ftruncate(requests, 0), -1);
    assert_int_equal(ftruncate(answers, 0), -1);
    assert_int_equal(ftruncate(answers, 1 << 30), -1);
    assert_int_equal(fcntl(answers, F_ADD_SEALS, F_SEAL_WRITE), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_and_answers),
        cmocka_unit_test(test_no_more_than_there_is_room_for),
        cmocka_unit_test(test_bodies_share_the_arena),
        cmocka_unit_test(test_an_abandoned_answer_is_taken_and_names_nobody),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_answering_twice),
        cmocka_unit_test(test_a_cursor_out_of_the_ring),
        cmocka_unit_test(test_wakes_once_a_sleep),
        cmocka_unit_test(test_a_batch_is_seen_at_once),
        cmocka_unit_test(test_the_worker_cannot_write_requests_or_resize),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
