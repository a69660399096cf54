#include "store/store.h"
#include "util/limits.h"
#include "util/test.h"

static int setup(void **state)
{
    *state = test_directory_new();
    return 0;
}

static int teardown(void **state)
{
    test_directory_remove(*state);
    return 0;
}

static void test_open_twice(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *data = fs_join(*state, "data"), *hot = fs_join(*state, "hot");
    cleanup_free char *socket = NULL, *db = fs_join(data, "slipway.db");
    struct store_options options = {data, hot, MIB};
    struct store *store = NULL, *second = NULL;

    assert_ok(store_open(&options, &store, &error), &error);
    assert_true(fs_exists(db));
    assert_string_equal(store->directory, data);
    socket = store_path(store, "runs/%d/%s", 7, "0");
    assert_true(strncmp(socket, data, strlen(data)) == 0);
    assert_string_equal(socket + strlen(data), "/runs/7/0");

    assert_error(store_open(&options, &second, &error), &error, ERROR_CONFLICT, "another daemon");
    assert_null(second);
    store_close(store);
    assert_ok(store_open(&options, &store, &error), &error);
    store_close(store);
}

static void test_all_survives(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *data = fs_join(*state, "data"), *hot = fs_join(*state, "hot");
    struct store_options options = {data, hot, MIB};
    struct store *store = NULL;
    struct digest digest;
    int64_t newest = 0;

    assert_ok(store_open(&options, &store, &error), &error);
    assert_ok(vault_put_bytes(store->vault, "abc", 3, &digest, &error), &error);
    {
        cleanup_tx struct db_tx tx = DB_TX_INIT;

        assert_ok(db_begin_write(store->db, &tx, &error), &error);
        assert_ok(journal_append(&tx, &(struct journal_event){"slipway.x.y", "x/1"}, NULL, &error), &error);
        assert_ok(db_commit(&tx, &error), &error);
    }
    store_close(store);

    assert_ok(store_open(&options, &store, &error), &error);
    assert_true(vault_has(store->vault, &digest));
    {
        cleanup_tx struct db_tx tx = DB_TX_INIT;

        assert_ok(db_begin_read(store->db, &tx, &error), &error);
        assert_ok(journal_newest(&tx, &newest, &error), &error);
    }
    assert_int_equal(newest, 1);
    store_close(store);
}

static void test_not_a_directory(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *file = fs_join(*state, "file"), *below = fs_join(file, "data");
    struct store *store = NULL;

    assert_ok(fs_write_atomic(file, "x", 1, 0600, &error), &error);
    assert_error(store_open(&(struct store_options){below, NULL, 0}, &store, &error), &error, ERROR_IO, "file");
    assert_null(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_open_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_survives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_a_directory, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
