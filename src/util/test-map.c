#include "util/list.h"
#include "util/map.h"
#include "util/test.h"

static int destroyed;

static void destroy(void *value)
{
    destroyed++;
    free(value);
}

static void test_put_get_remove(void **state)
{
    cleanup_map struct map map = MAP_INIT(destroy);
    char key[] = "one";
    char *taken;

    destroyed = 0;
    map_put(&map, key, xstrdup("1"));
    key[0] = 'x'; /* the key was copied */
    assert_string_equal(map_get(&map, "one"), "1");
    assert_null(map_get(&map, "xne"));

    map_put(&map, "one", xstrdup("uno"));
    assert_int_equal(destroyed, 1);
    assert_int_equal(map_count(&map), 1);

    taken = map_take(&map, "one");
    assert_string_equal(taken, "uno");
    assert_int_equal(destroyed, 1);
    free(taken);
    assert_false(map_remove(&map, "one"));
}

static void test_iterates_in_order_and_survives_removal(void **state)
{
    cleanup_map struct map map = MAP_INIT(NULL);
    struct map_iterator it = {0};
    static const char *const keys[] = {"z", "a", "m", "b"};
    size_t seen = 0;

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        map_put(&map, keys[i], (void *)keys[i]);
    while (map_next(&map, &it)) {
        assert_string_equal(it.key, keys[seen++]);
        if (seen % 2)
            map_remove(&map, keys[seen - 1]);
    }
    assert_int_equal(seen, ARRAY_SIZE(keys));
    assert_int_equal(map_count(&map), 2);
}

struct item {
    int value;
    struct list link;
};

static void test_list(void **state)
{
    struct list head = LIST_INIT(head);
    struct item items[3] = {{.value = 0}, {.value = 1}, {.value = 2}};
    struct item *item, *tmp;
    int sum = 0;

    assert_true(list_is_empty(&head));
    assert_null(list_first(&head, struct item, link));
    list_append(&head, &items[1].link);
    list_append(&head, &items[2].link);
    list_prepend(&head, &items[0].link);
    list_for_each(item, &head, link)
        sum = sum * 10 + item->value;
    assert_int_equal(sum, 12);

    list_for_each_safe(item, tmp, &head, link) {
        if (item->value == 1)
            list_unlink(&item->link);
    }
    list_unlink(&items[1].link); /* a second time does nothing */
    assert_ptr_equal(list_first(&head, struct item, link), &items[0]);
    assert_ptr_equal(items[0].link.next, &items[2].link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_get_remove),
        cmocka_unit_test(test_iterates_in_order_and_survives_removal),
        cmocka_unit_test(test_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
