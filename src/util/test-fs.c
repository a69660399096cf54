#include <fcntl.h>
#include <sys/wait.h>
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

static void test_write_and_read(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *path = fs_join(*state, "file");
    cleanup_free char *data = NULL, *again = NULL;
    size_t length;

    assert_ok(fs_write_atomic(path, "one\0two", 7, 0640, &error), &error);
    assert_ok(fs_read(path, 100, &data, &length, &error), &error);
    assert_int_equal(length, 7);
    assert_memory_equal(data, "one\0two\0", 8);
    assert_error(fs_read(path, 6, &again, &length, &error), &error, ERROR_TOO_LARGE, "7 bytes");

    assert_ok(fs_write_atomic(path, "", 0, 0640, &error), &error);
    assert_ok(fs_read(path, 100, &again, &length, &error), &error);
    assert_int_equal(length, 0);
}

static void test_failed_write_leaves_nothing(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *path = fs_join(*state, "none/file");

    assert_error(fs_write_atomic(path, "x", 1, 0600, &error), &error, ERROR_NOT_FOUND, "none/file");
    assert_int_equal(fs_tree_size(*state), 0);
}

static void test_directories(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *deep = fs_join(*state, "a/b/c");
    cleanup_free char *file = fs_join(deep, "f");
    cleanup_free char *link = fs_join(deep, "link");
    cleanup_free char *outside = fs_join(*state, "outside");
    cleanup_free char *top = fs_join(*state, "a");

    assert_ok(fs_mkdir_all(deep, 0700, &error), &error);
    assert_ok(fs_mkdir_all(deep, 0700, &error), &error);
    assert_ok(fs_write_atomic(file, "12345", 5, 0600, &error), &error);
    assert_ok(fs_write_atomic(outside, "stays", 5, 0600, &error), &error);
    assert_int_equal(symlink(outside, link), 0);
    assert_int_equal(fs_tree_size(top), 5);
    assert_ok(fs_remove_all(top, &error), &error);
    assert_ok(fs_remove_all(top, &error), &error);
    assert_false(fs_exists(top));
    assert_true(fs_exists(outside)); /* the link was removed, not what it points to */
}

static void test_beneath(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_close int directory = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_free char *link = fs_join(*state, "link");
    cleanup_close int fd = -1;

    assert_int_equal(symlink("/etc/passwd", link), 0);
    fd = fs_open_beneath(directory, "new", O_WRONLY | O_CREAT, 0600, &error);
    assert_true(fd >= 0);
    assert_error(fs_open_beneath(directory, "../x", O_RDONLY, 0, &error), &error, ERROR_IO, "../x");
    assert_error(fs_open_beneath(directory, "/etc/passwd", O_RDONLY, 0, &error), &error, ERROR_IO, "passwd");
    assert_error(fs_open_beneath(directory, "link", O_RDONLY, 0, &error), &error, ERROR_IO, "link");
}

static void test_safe_names(void **state)
{
    static const char *const good[] = {"a", "a/b", "...", "a..b", ".hidden"};
    static const char *const bad[] = {"", "/a", "..", "a/../b", "a//b", "a/", ".", "./a"};

    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        if (!fs_is_safe_name(good[i]))
            fail_msg("'%s' should be safe", good[i]);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (fs_is_safe_name(bad[i]))
            fail_msg("'%s' should not be safe", bad[i]);
}

static void test_lock_is_exclusive(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *path = fs_join(*state, "lock");
    cleanup_close int fd = -1;
    int second;

    assert_ok(fs_lock(path, &fd, &error), &error);
    assert_error(fs_lock(path, &second, &error), &error, ERROR_CONFLICT, "locked by another");
    close(steal_fd(&fd));
    assert_ok(fs_lock(path, &fd, &error), &error);
}

static void test_copy(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *from_path = fs_join(*state, "from"), *to_path = fs_join(*state, "to");
    cleanup_free char *big = xcalloc(1, 300000), *read_back = NULL;
    cleanup_close int from = -1, to = -1;
    size_t length;

    memset(big + 100000, 'x', 100000);
    assert_ok(fs_write_atomic(from_path, big, 300000, 0600, &error), &error);
    from = open(from_path, O_RDONLY | O_CLOEXEC);
    to = open(to_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_ok(fs_copy_fd(from, to, &error), &error);
    assert_ok(fs_read(to_path, MIB, &read_back, &length, &error), &error);
    assert_int_equal(length, 300000);
    assert_memory_equal(read_back, big, 300000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write_and_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_write_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directories, setup, teardown),
        cmocka_unit_test_setup_teardown(test_beneath, setup, teardown),
        cmocka_unit_test(test_safe_names),
        cmocka_unit_test_setup_teardown(test_lock_is_exclusive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_copy, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
