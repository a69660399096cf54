#include "store/vault-roots.h"
#include "store/vault.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/test.h"

struct fixture {
    char *directory, *cold, *hot;
    struct db *db;
    struct vault *vault;
};

static int setup(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    struct fixture *f = xnew0(struct fixture);
    cleanup_free char *path = NULL;

    f->directory = test_directory_new();
    path = fs_join(f->directory, "test.db");
    f->cold = fs_join(f->directory, "vault");
    f->hot = fs_join(f->directory, "hot");
    assert_ok(db_open(path, &f->db, &error), &error);
    assert_ok(vault_open(f->db, &(struct vault_options){f->cold, f->hot, 64 * MIB}, &f->vault, &error), &error);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    vault_close(f->vault);
    db_close(f->db);
    test_directory_remove(f->directory);
    free(f->cold);
    free(f->hot);
    free(f);
    return 0;
}

static struct digest put(struct fixture *f, const char *text)
{
    cleanup_error struct error error = ERROR_INIT;
    struct digest digest;

    assert_ok(vault_put_bytes(f->vault, text, strlen(text), &digest, &error), &error);
    return digest;
}

static json_t *gc(struct fixture *f, bool dry_run, int64_t grace_ms)
{
    cleanup_error struct error error = ERROR_INIT;
    json_t *result = vault_gc(f->vault, dry_run, grace_ms, &error);

    if (!result)
        fail_msg("vault_gc: %s", error.message);
    return result;
}

static size_t removed_by(struct fixture *f, bool dry_run, int64_t grace_ms)
{
    cleanup_json json_t *result = gc(f, dry_run, grace_ms);

    return json_array_size(json_object_get(result, "removed"));
}

static void test_removes_what_nothing_names(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *path = NULL;
    cleanup_json json_t *result = NULL;
    struct digest kept = put(f, "kept"), garbage = put(f, "garbage");
    char text[DIGEST_TEXT_SIZE];

    assert_ok(vault_pin(f->vault, &kept, "run:1", &path, &error), &error);

    /* Within the grace period nothing goes. */
    assert_int_equal(removed_by(f, false, 60000), 0);
    assert_true(vault_has(f->vault, &garbage));
    /* A dry run only reports. */
    assert_int_equal(removed_by(f, true, 0), 1);
    assert_true(vault_has(f->vault, &garbage));

    result = gc(f, false, 0);
    assert_int_equal(json_get_int(result, "blobs", 0), 2);
    assert_int_equal(json_get_int(result, "kept", 0), 1);
    assert_int_equal(json_get_int(result, "removed_bytes", 0), strlen("garbage"));
    assert_string_equal(json_get_string(json_array_get(json_object_get(result, "removed"), 0), "digest", ""),
                        digest_format(&garbage, text));
    assert_false(vault_has(f->vault, &garbage));
    assert_true(vault_has(f->vault, &kept));
    assert_int_equal(fs_tree_size(f->cold), strlen("kept"));
    assert_int_equal(fs_tree_size(f->hot), strlen("kept"));

    assert_ok(vault_unpin(f->vault, "run:1", &error), &error);
    assert_int_equal(removed_by(f, false, 0), 1);
    assert_int_equal(fs_tree_size(f->cold), 0);
    assert_int_equal(fs_tree_size(f->hot), 0);
}

static void test_why(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    struct digest digest = put(f, "content");
    cleanup_json json_t *nothing = vault_why(f->vault, &digest, &error);
    cleanup_json json_t *why = NULL;
    cleanup_free char *path = NULL;

    assert_int_equal(json_array_size(nothing), 0);
    assert_ok(vault_pin(f->vault, &digest, "endpoint:digits", &path, &error), &error);
    why = vault_why(f->vault, &digest, &error);
    assert_int_equal(json_array_size(why), 1);
    assert_string_equal(json_get_string(json_array_get(why, 0), "kind", ""), "pin");
    assert_string_equal(json_get_string(json_array_get(why, 0), "address", ""), "endpoint:digits");
}

static void test_more_than_a_batch(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    assert_ok(db_begin_write(f->db, &tx, &error), &error);
    for (int i = 0; i < 1234; i++) {
        char digest[DIGEST_TEXT_SIZE];

        snprintf(digest, sizeof(digest), "sha256:%064d", i);
        assert_ok(db_exec(&tx, &error, "INSERT INTO blobs VALUES (?, 10, 10, 'raw', 0)", "s", digest), &error);
    }
    assert_ok(db_commit(&tx, &error), &error);
    assert_int_equal(removed_by(f, true, 0), 1234);
    assert_int_equal(removed_by(f, false, 0), 1234);
    assert_int_equal(removed_by(f, false, 0), 0);
}

static void test_orphans(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    struct digest digest = put(f, "known");
    cleanup_free char *pinned = NULL, *text = xcalloc(1, DIGEST_TEXT_SIZE), *directory = NULL, *path = NULL;
    cleanup_free char *aside = NULL;
    struct digest orphan;

    assert_ok(vault_pin(f->vault, &digest, "run:1", &pinned, &error), &error);
    digest_of("lost", 4, &orphan);
    digest_format(&orphan, text);
    directory = xasprintf("%s/%.2s", f->cold, text + 7);
    path = xasprintf("%s/%s", directory, text + 7);
    aside = xasprintf("%s.corrupt", path);
    assert_ok(fs_mkdir_all(directory, 0700, &error), &error);
    assert_ok(fs_write_atomic(path, "lost", 4, 0444, &error), &error);
    assert_ok(fs_write_atomic(aside, "left", 4, 0444, &error), &error);

    assert_int_equal(removed_by(f, false, 60000), 0);
    assert_int_equal(removed_by(f, true, -2000), 1);
    assert_true(fs_exists(path));
    assert_int_equal(removed_by(f, false, -2000), 1);
    assert_false(fs_exists(path));
    assert_true(fs_exists(aside));
    assert_true(vault_has(f->vault, &digest));
}

static void test_every_root_can_be_asked(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    assert_ok(db_begin_read(f->db, &tx, &error), &error);
    for (size_t i = 0; i < vault_roots_count; i++) {
        cleanup_free char *sql = xasprintf("SELECT COUNT(digest) + COUNT(address) FROM (%s)", vault_roots[i].query);
        int64_t n = -1;

        assert_ok(db_query_int(&tx, &n, &error, sql, NULL), &error);
        assert_int_equal(n, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_removes_what_nothing_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_why, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_than_a_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_orphans, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_root_can_be_asked, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
