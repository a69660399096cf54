#include <string.h>
#include "gateway/answers.h"
#include "util/test.h"
#include "util/xalloc.h"

#define COST(n) ((n) + ANSWERS_OVERHEAD)

struct fixture {
    struct loop *loop;
    struct answers *answers;
    struct answers_share *share;
    struct list route;
};

static void start(struct fixture *f, uint64_t max, uint64_t share)
{
    f->loop = loop_new();
    f->answers = answers_new(f->loop, max);
    f->share = answers_share_new(share);
    list_init(&f->route);
}

static void end(struct fixture *f)
{
    answers_free(f->answers);
    answers_share_unref(f->share);
    loop_free(f->loop);
}

static struct digest key(uint64_t route, const char *body)
{
    struct digest digest;

    answers_key(route, 1, body, strlen(body), &digest);
    return digest;
}

static void put(struct fixture *f, struct answers_share *share, struct list *route, const char *body, size_t length)
{
    struct digest digest = key(1, body);
    char *answer = xmalloc(length + 1);

    memset(answer, *body, length);
    answers_put_take(f->answers, share, route, &digest, answer, length);
}

static bool has(struct fixture *f, const char *body)
{
    struct digest digest = key(1, body);
    size_t length;

    return answers_get(f->answers, &digest, &length);
}

static void test_what_was_put_is_found(void **state)
{
    struct fixture f;
    struct digest digest = key(1, "a");
    const char *answer;
    size_t length = 0;

    start(&f, 1 << 20, 1 << 20);
    assert_null(answers_get(f.answers, &digest, &length));
    put(&f, f.share, &f.route, "a", 3);
    answer = answers_get(f.answers, &digest, &length);
    assert_int_equal(length, 3);
    assert_memory_equal(answer, "aaa", 3);
    put(&f, f.share, &f.route, "a", 5); /* again: the newer one */
    answer = answers_get(f.answers, &digest, &length);
    assert_int_equal(length, 5);
    assert_memory_equal(answer, "aaaaa", 5);
    assert_int_equal(f.share->count, 1);
    assert_int_equal(f.share->size, COST(5));
    put(&f, f.share, &f.route, "empty", 0);
    assert_true(has(&f, "empty"));
    end(&f);
}

static void test_route_kind_and_body_make_the_key(void **state)
{
    struct digest digests[5];

    answers_key(1, 1, "ab", 2, &digests[0]);
    answers_key(2, 1, "ab", 2, &digests[1]);
    answers_key(1, 2, "ab", 2, &digests[2]);
    answers_key(1, 1, "a", 1, &digests[3]);
    answers_key(1, 1, "ab\0", 3, &digests[4]);
    for (size_t i = 0; i < ARRAY_SIZE(digests); i++)
        for (size_t j = 0; j < i; j++)
            assert_false(digest_equal(&digests[i], &digests[j]));
}

static void test_the_one_unused_longest_goes(void **state)
{
    struct fixture f;

    start(&f, 1 << 20, 3 * COST(10));
    put(&f, f.share, &f.route, "a", 10);
    put(&f, f.share, &f.route, "b", 10);
    put(&f, f.share, &f.route, "c", 10);
    assert_true(has(&f, "a"));
    put(&f, f.share, &f.route, "d", 10);
    assert_false(has(&f, "b"));
    assert_true(has(&f, "a") && has(&f, "c") && has(&f, "d"));
    put(&f, f.share, &f.route, "e", 10 + COST(10)); /* as large as two */
    assert_false(has(&f, "a") || has(&f, "c"));
    assert_true(has(&f, "d") && has(&f, "e"));
    put(&f, f.share, &f.route, "f", 4 * COST(10)); /* larger than all: nothing gives way to it */
    assert_true(has(&f, "d") && has(&f, "e"));
    assert_false(has(&f, "f"));
    assert_int_equal(f.share->count, 2);
    end(&f);
}

static void test_all_shares_together_are_bounded(void **state)
{
    struct fixture f;
    struct answers_share *other = answers_share_new(2 * COST(10));
    struct list route;

    start(&f, 3 * COST(10), 2 * COST(10));
    list_init(&route);
    put(&f, f.share, &f.route, "a", 10);
    put(&f, f.share, &f.route, "b", 10);
    put(&f, other, &route, "c", 10);
    put(&f, other, &route, "d", 10);
    assert_false(has(&f, "a"));
    assert_true(has(&f, "b") && has(&f, "c") && has(&f, "d"));
    put(&f, other, &route, "e", 10); /* its own oldest before that of others */
    assert_false(has(&f, "c"));
    assert_true(has(&f, "b"));
    assert_int_equal(f.share->size, COST(10));
    assert_int_equal(other->size, 2 * COST(10));
    end(&f);
    answers_share_unref(other);
}

static void test_a_route_that_is_gone_is_forgotten(void **state)
{
    struct fixture f;
    struct list route;

    start(&f, 1 << 30, 1 << 30);
    list_init(&route);
    answers_forget(NULL, &route);
    answers_forget(f.answers, &route);
    for (int i = 0; i < 2 * ANSWERS_SWEEP + 1; i++) {
        char text[16];

        snprintf(text, sizeof(text), "%d", i);
        put(&f, f.share, &route, text, 1);
    }
    put(&f, f.share, &f.route, "stays", 1);
    answers_forget(f.answers, &route);
    assert_true(list_is_empty(&route));
    for (int i = 0; i < 100 && f.share->count > 1; i++)
        loop_run_once(f.loop, 10);
    assert_int_equal(f.share->count, 1);
    assert_int_equal(f.share->size, COST(1));
    assert_true(has(&f, "stays"));
    end(&f);
}

/* An endpoint may go before the entries of its routes are freed. */
static void test_a_share_outlives_its_endpoint(void **state)
{
    struct fixture f;

    start(&f, 1 << 20, 1 << 20);
    put(&f, f.share, &f.route, "a", 10);
    answers_forget(f.answers, &f.route);
    answers_share_unref(f.share);
    f.share = NULL;
    loop_run_once(f.loop, 10);
    assert_false(has(&f, "a"));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_put_is_found),
        cmocka_unit_test(test_route_kind_and_body_make_the_key),
        cmocka_unit_test(test_the_one_unused_longest_goes),
        cmocka_unit_test(test_all_shares_together_are_bounded),
        cmocka_unit_test(test_a_route_that_is_gone_is_forgotten),
        cmocka_unit_test(test_a_share_outlives_its_endpoint),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
