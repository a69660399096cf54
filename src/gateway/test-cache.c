#include "gateway/cache.h"
#include "util/test.h"
#include "util/xalloc.h"

static struct digest key(int n)
{
    struct digest digest;

    digest_of(&n, sizeof(n), &digest);
    return digest;
}

static void put(struct cache *cache, int n, int64_t until)
{
    struct digest digest = key(n);
    struct cache_entry entry = {.active = true, .scope = xstrdup("admin"), .until_ns = until};

    cache_put(cache, &digest, &entry);
}

static bool has(struct cache *cache, int n, int64_t now)
{
    struct digest digest = key(n);

    return cache_get(cache, &digest, now);
}

static void test_entries_end_at_their_time(void **state)
{
    cleanup_cache struct cache *cache = cache_new(10);

    put(cache, 1, 100);
    assert_true(has(cache, 1, 99));
    assert_false(has(cache, 1, 100));
    assert_int_equal(cache_count(cache), 0);
}

static void test_the_one_unused_longest_goes(void **state)
{
    cleanup_cache struct cache *cache = cache_new(3);

    for (int i = 1; i <= 3; i++)
        put(cache, i, 100);
    assert_true(has(cache, 1, 0));
    put(cache, 4, 100);
    assert_true(has(cache, 1, 0));
    assert_false(has(cache, 2, 0));
    assert_true(has(cache, 3, 0));
    assert_true(has(cache, 4, 0));
}

static void test_replace_remove_clear(void **state)
{
    cleanup_cache struct cache *cache = cache_new(3);
    struct digest one = key(1);

    put(cache, 1, 10);
    put(cache, 1, 20);
    assert_int_equal(cache_count(cache), 1);
    assert_true(has(cache, 1, 15));
    assert_true(cache_remove(cache, &one));
    assert_false(cache_remove(cache, &one));
    put(cache, 1, 10);
    put(cache, 2, 10);
    assert_int_equal(cache_clear(cache), 2);
    assert_int_equal(cache_count(cache), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_end_at_their_time),
        cmocka_unit_test(test_the_one_unused_longest_goes),
        cmocka_unit_test(test_replace_remove_clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
