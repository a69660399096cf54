#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include "store/hot-directory.h"
#include "util/test.h"

struct fixture {
    char *base, *parent, *owner;
};

static int setup(void **state)
{
    struct fixture *f = xnew0(struct fixture);

    f->base = test_directory_new();
    f->parent = fs_join(f->base, "shm");
    f->owner = fs_join(f->base, "data");
    assert_int_equal(mkdir(f->parent, 0777), 0);
    assert_int_equal(mkdir(f->owner, 0700), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    test_directory_remove(f->base);
    free(f->parent);
    free(f->owner);
    free(f);
    return 0;
}

static struct hot_directory *claim(struct fixture *f)
{
    cleanup_error struct error error = ERROR_INIT;
    struct hot_directory *directory = NULL;

    assert_ok(hot_directory_claim(f->parent, f->owner, &directory, &error), &error);
    return directory;
}

static char *put(const char *directory, const char *name)
{
    cleanup_error struct error error = ERROR_INIT;
    char *path = fs_join(directory, name);

    assert_ok(fs_write_atomic(path, "content", 7, 0444, &error), &error);
    return path;
}

static void test_found_again(void **state)
{
    struct fixture *f = *state;
    struct hot_directory *directory = claim(f);
    cleanup_free char *path = xstrdup(hot_directory_path(directory));
    cleanup_free char *file = put(path, "file");

    hot_directory_release(directory);
    assert_true(fs_exists(file));
    directory = claim(f);
    assert_string_equal(hot_directory_path(directory), path);
    assert_true(fs_exists(file));
    assert_int_equal(unlink(file), 0);
    hot_directory_release(directory);
    assert_false(fs_exists(path));
}

/* A process that is killed loses its lock and nothing else: as when its descriptor is closed. */
static void test_sweep(void **state)
{
    struct fixture *f = *state;
    struct hot_directory *directory = claim(f);
    cleanup_free char *path = xstrdup(hot_directory_path(directory));
    cleanup_free char *file = put(path, "file");

    assert_int_equal(rmdir(f->owner), 0);
    hot_directory_sweep(f->parent);
    assert_true(fs_exists(file)); /* locked */

    hot_directory_release(directory);
    assert_int_equal(mkdir(f->owner, 0700), 0);
    hot_directory_sweep(f->parent);
    assert_true(fs_exists(file)); /* its owner is there */

    assert_int_equal(rmdir(f->owner), 0);
    hot_directory_sweep(f->parent);
    assert_false(fs_exists(path));
}

static void test_sweep_spares_others(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"slipway-", "slipway-0123456789abcdef", "slipway-0123456789abcdeg",
                                        "slipway-0123456789abcdef0", "other-0123456789abcdef"};
    cleanup_free char *link = fs_join(f->parent, "slipway-00000000000000aa");
    cleanup_free char *target = fs_join(f->base, "target");
    cleanup_free char *file = NULL, *owner = NULL;

    assert_int_equal(mkdir(target, 0700), 0);
    owner = fs_join(target, ".owner");
    assert_int_equal(fs_write_atomic(owner, "/nonexistent/x", 14, 0600, NULL), 0);
    assert_int_equal(symlink(target, link), 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        cleanup_free char *path = fs_join(f->parent, names[i]);

        /* The second looks like ours and does not say whose it is; the others say so and are not ours. */
        assert_int_equal(mkdir(path, 0711), 0);
        if (i == 1)
            continue;
        free(owner);
        owner = fs_join(path, ".owner");
        assert_int_equal(fs_write_atomic(owner, "/nonexistent/x", 14, 0600, NULL), 0);
    }
    hot_directory_sweep(f->parent);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        cleanup_free char *path = fs_join(f->parent, names[i]);

        if (!fs_exists(path))
            fail_msg("%s was removed", names[i]);
    }
    free(owner);
    owner = fs_join(target, ".owner");
    assert_true(fs_exists(owner));
}

static void test_refused(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    struct hot_directory *directory = claim(f);
    cleanup_free char *path = xstrdup(hot_directory_path(directory));

    hot_directory_release(directory);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chmod(path, 0777), 0);
    assert_error(hot_directory_claim(f->parent, f->owner, &directory, &error), &error, ERROR_FORBIDDEN, path);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink(f->base, path), 0);
    assert_error(hot_directory_claim(f->parent, f->owner, &directory, &error), &error, ERROR_FORBIDDEN, path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_found_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep_spares_others, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
