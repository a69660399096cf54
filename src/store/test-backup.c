#include "store/backup.h"
#include "util/limits.h"
#include "util/test.h"

struct fixture {
    char *directory, *data, *hot, *backup, *target;
    struct store *store;
};

static int setup(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    struct fixture *f = xnew0(struct fixture);

    f->directory = test_directory_new();
    f->data = fs_join(f->directory, "data");
    f->hot = fs_join(f->directory, "hot");
    f->backup = fs_join(f->directory, "backup");
    f->target = fs_join(f->directory, "target");
    assert_ok(store_open(&(struct store_options){f->data, f->hot, MIB}, &f->store, &error), &error);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    store_close(f->store);
    test_directory_remove(f->directory);
    free(f->data);
    free(f->hot);
    free(f->backup);
    free(f->target);
    free(f);
    return 0;
}

static struct digest put(struct fixture *f, const char *text)
{
    cleanup_error struct error error = ERROR_INIT;
    struct digest digest;

    assert_ok(vault_put_bytes(f->store->vault, text, strlen(text), &digest, &error), &error);
    return digest;
}

static void write_file(struct fixture *f, const char *name, const char *text)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *path = store_path(f->store, "%s", name);
    cleanup_free char *directory = xstrndup(path, (size_t)(fs_basename(path) - path));

    assert_ok(fs_mkdir_all(directory, 0700, &error), &error);
    assert_ok(fs_write_atomic(path, text, strlen(text), 0640, &error), &error);
}

static json_t *backup(struct fixture *f)
{
    cleanup_error struct error error = ERROR_INIT;
    json_t *summary = store_backup(f->store, f->backup, &error);

    if (!summary)
        fail_msg("store_backup: %s", error.message);
    return summary;
}

static bool has(const char *directory, const char *name)
{
    cleanup_free char *path = fs_join(directory, name);

    return fs_exists(path);
}

static void test_there_and_back(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *summary = NULL, *mark = NULL;
    cleanup_free char *pinned = NULL, *content = NULL, *hot = fs_join(f->directory, "other-hot");
    struct digest digest = put(f, "content");
    struct store *restored = NULL;
    size_t length;

    assert_ok(vault_pin(f->store->vault, &digest, "run:1", &pinned, &error), &error);
    write_file(f, "runs/01/0/log", "a line\n");
    write_file(f, "runs/01/0/out/deep/result", "42");
    write_file(f, "runs/01/0/out/view", "an artifact of that name");
    write_file(f, "runs/01/0/control", "not kept");
    write_file(f, "runs/01/0/work/scratch", "not kept");
    write_file(f, "secrets/key", "secret");
    summary = backup(f);
    assert_int_equal(json_get_int(summary, "blobs", -1), 1);
    assert_true(has(f->backup, "backup.json"));
    assert_false(has(f->backup, "runs/01/0/work"));

    mark = store_restore(f->backup, f->target, &error);
    if (!mark)
        fail_msg("store_restore: %s", error.message);
    assert_true(has(f->target, "runs/01/0/log"));
    assert_true(has(f->target, "runs/01/0/out/deep/result"));
    assert_true(has(f->target, "runs/01/0/out/view"));
    assert_false(has(f->target, "runs/01/0/control"));
    assert_true(has(f->target, "secrets/key"));

    assert_ok(store_open(&(struct store_options){f->target, hot, MIB}, &restored, &error), &error);
    assert_ok(vault_read(restored->vault, &digest, 100, &content, &length, &error), &error);
    assert_string_equal(content, "content");
    {
        cleanup_json json_t *why = vault_why(restored->vault, &digest, &error);

        assert_int_equal(json_array_size(why), 0); /* whoever had pinned it is gone */
    }
    store_close(restored);
}

static void test_again_copies_what_is_new(void **state)
{
    struct fixture *f = *state;
    cleanup_json json_t *first = NULL, *second = NULL, *third = NULL;

    put(f, "one");
    write_file(f, "runs/01/0/log", "12345");
    first = backup(f);
    assert_int_equal(json_get_int(first, "copied_bytes", -1), 3 + 5);
    put(f, "two!");
    second = backup(f);
    assert_int_equal(json_get_int(second, "copied_bytes", -1), 4);
    assert_int_equal(json_get_int(second, "blobs", -1), 2);
    third = backup(f);
    assert_int_equal(json_get_int(third, "copied_bytes", -1), 0);
}

static void test_refuses_other_directories(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *summary = NULL;

    assert_null(store_backup(f->store, f->data, &error));
    assert_int_equal(error.code, ERROR_CONFLICT);
    error_clear(&error);
    assert_null(store_restore(f->target, f->directory, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);
    error_clear(&error);
    /* The directory of a daemon that runs, and one that holds something. */
    summary = backup(f);
    assert_null(store_restore(f->backup, f->data, &error));
    assert_int_equal(error.code, ERROR_CONFLICT);
    error_clear(&error);
    f->store = store_close(f->store);
    assert_null(store_restore(f->backup, f->data, &error));
    assert_int_equal(error.code, ERROR_EXISTS);
}

static char *backup_path(struct fixture *f, const struct digest *digest)
{
    char text[DIGEST_TEXT_SIZE];

    digest_format(digest, text);
    return xasprintf("%s/vault/%.2s/%s", f->backup, text + 7, text + 7);
}

static void test_damage_is_found(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    struct digest digest = put(f, "content");
    cleanup_free char *path = backup_path(f, &digest);
    cleanup_json json_t *summary = backup(f), *again = NULL, *mark = NULL;

    assert_ok(fs_write_atomic(path, "cOntent", 7, 0600, &error), &error);
    assert_null(store_restore(f->backup, f->target, &error));
    assert_int_equal(error.code, ERROR_CORRUPT);
    assert_false(has(f->target, "slipway.db"));
    error_clear(&error);

    assert_int_equal(unlink(path), 0);
    assert_null(store_restore(f->backup, f->target, &error));
    assert_int_equal(error.code, ERROR_CORRUPT);
    error_clear(&error);

    /* Mended, it goes on where it stopped. */
    again = backup(f);
    mark = store_restore(f->backup, f->target, &error);
    if (!mark)
        fail_msg("store_restore: %s", error.message);
    assert_true(has(f->target, "slipway.db"));
}

static void test_damaged_blob_is_not_backed_up(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    struct digest digest = put(f, "content");
    char text[DIGEST_TEXT_SIZE];
    cleanup_free char *path = NULL;

    digest_format(&digest, text);
    path = store_path(f->store, "vault/%.2s/%s", text + 7, text + 7);
    assert_ok(fs_write_atomic(path, "cOntent", 7, 0600, &error), &error);
    assert_null(store_backup(f->store, f->backup, &error));
    assert_int_equal(error.code, ERROR_CORRUPT);
    assert_non_null(strstr(error.message, text));
    assert_false(has(f->backup, "backup.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_there_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_again_copies_what_is_new, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refuses_other_directories, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_blob_is_not_backed_up, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
