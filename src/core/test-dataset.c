#include "core/dataset.h"
#include "store/db.h"
#include "util/test.h"

struct fixture {
    char *directory;
    struct db *db;
    struct db_tx tx;
};

static int setup(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    struct fixture *f = xnew0(struct fixture);
    cleanup_free char *path = NULL;

    f->directory = test_directory_new();
    path = fs_join(f->directory, "test.db");
    assert_ok(db_open(path, &f->db, &error), &error);
    assert_ok(db_begin_write(f->db, &f->tx, &error), &error);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    db_end(&f->tx);
    db_close(f->db);
    test_directory_remove(f->directory);
    free(f);
    return 0;
}

static void create(struct fixture *f, const char *name, json_t *lineage)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *schema = json_build("{s:s}", "kind", "table");
    struct dataset_file files[2] = {{.name = (char *)DATASET_TENSORS, .size = 100}, {.name = (char *)"a/b", .size = 5}};
    struct dataset_create c = {.project = "default",
                               .name = name,
                               .actor = "local",
                               .files = files,
                               .n_files = 2,
                               .schema = schema,
                               .lineage = lineage,
                               .rows = 10};

    digest_of(name, strlen(name), &files[0].digest);
    digest_of("b", 1, &files[1].digest);
    assert_ok(dataset_create(&f->tx, &c, NULL, &error), &error);
}

static void test_create_and_resolve(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    static const struct {
        const char *text;
        int64_t version;
    } rows[] = {{"digits", 3}, {"digits@latest", 3}, {"digits@1", 1}, {"default:digits@2", 2}};
    struct dataset_info none;

    for (int i = 0; i < 3; i++)
        create(f, "digits", NULL);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;

        assert_ok(dataset_resolve(&f->tx, "default", rows[i].text, &info, &error), &error);
        assert_int_equal(info.version, rows[i].version);
        assert_int_equal(info.size, 105);
        assert_int_equal(info.rows, 10);
        assert_int_equal(info.n_files, 2);
        assert_string_equal(info.files[0].name, "a/b");
    }
    assert_error(dataset_resolve(&f->tx, "default", "digits@9", &none, &error), &error, ERROR_NOT_FOUND,
                 "dataset digits@9 does not exist; the newest is digits@3");
    assert_error(dataset_resolve(&f->tx, "default", "digit", &none, &error), &error, ERROR_NOT_FOUND,
                 "there are digits");
    assert_error(dataset_resolve(&f->tx, "other", "digits", &none, &error), &error, ERROR_NOT_FOUND, "other");
    assert_error(dataset_resolve(&f->tx, "default", "digits@x", &none, &error), &error, ERROR_INVALID, "digits@x");
    assert_error(dataset_resolve(&f->tx, "default", "a/digits", &none, &error), &error, ERROR_INVALID, "");
}

static void test_create_invalid(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    struct dataset_file good = {.name = (char *)"a"}, bad = {.name = (char *)"../a"};
    struct dataset_file twice[2] = {{.name = (char *)"a"}, {.name = (char *)"a"}};
    struct dataset_create c = {.project = "default", .name = "x", .files = &good, .n_files = 1, .rows = -1};

    c.name = "Bad Name";
    assert_error(dataset_create(&f->tx, &c, NULL, &error), &error, ERROR_INVALID, "");
    c.name = "x";
    c.project = "nowhere";
    assert_error(dataset_create(&f->tx, &c, NULL, &error), &error, ERROR_NOT_FOUND, "nowhere");
    c.project = "default";
    c.files = &bad;
    assert_error(dataset_create(&f->tx, &c, NULL, &error), &error, ERROR_INVALID, "../a");
    c.files = twice;
    c.n_files = 2;
    assert_error(dataset_create(&f->tx, &c, NULL, &error), &error, ERROR_INVALID, "two files");
    c.n_files = 0;
    assert_error(dataset_create(&f->tx, &c, NULL, &error), &error, ERROR_INVALID, "at least one");
}

static void test_numbers_are_never_used_twice(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;

    create(f, "digits", NULL);
    create(f, "digits", NULL);
    assert_ok(dataset_remove(&f->tx, "default", "digits", false, "local", &error), &error);
    assert_error(dataset_resolve(&f->tx, "default", "digits", &info, &error), &error, ERROR_NOT_FOUND, "digits");
    create(f, "digits", NULL);
    assert_ok(dataset_resolve(&f->tx, "default", "digits", &info, &error), &error);
    assert_int_equal(info.version, 3);
}

static void test_remove_in_use(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;

    create(f, "digits", NULL);
    assert_ok(dataset_resolve(&f->tx, "default", "digits@1", &info, &error), &error);
    assert_ok(dataset_use(&f->tx, &info, "run", "r1", true, &error), &error);
    assert_ok(dataset_use(&f->tx, &info, "run", "r1", true, &error), &error);
    assert_ok(dataset_use(&f->tx, &info, "model", "vision/digits@7", false, &error), &error);
    assert_error(dataset_remove(&f->tx, "default", "digits@1", false, "local", &error), &error, ERROR_CONFLICT,
                 "used by run r1, model vision/digits@7");
    assert_error(dataset_remove(&f->tx, "default", "digits@1", true, "local", &error), &error, ERROR_CONFLICT,
                 "used by run r1;");
    assert_ok(dataset_release(&f->tx, "run", "r1", &error), &error);
    assert_error(dataset_remove(&f->tx, "default", "digits", false, "local", &error), &error, ERROR_CONFLICT,
                 "used by model vision/digits@7 (--force");
    assert_ok(dataset_remove(&f->tx, "default", "digits@1", true, "local", &error), &error);
}

static void test_views(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;
    cleanup_json json_t *lineage = json_build("{s:[s]}", "parents", "alpha@1");
    cleanup_json json_t *list = NULL, *versions = NULL, *described = NULL, *seen = NULL;

    create(f, "alpha", NULL);
    create(f, "beta", lineage);
    create(f, "beta", lineage);
    list = dataset_list(&f->tx, "default", NULL, 10, &error);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_get_string(json_array_get(list, 1), "name", ""), "beta");
    assert_int_equal(json_get_int(json_array_get(list, 1), "versions", 0), 2);
    json_decref(list);
    list = dataset_list(&f->tx, "default", "alpha", 10, &error);
    assert_int_equal(json_array_size(list), 1);
    versions = dataset_versions(&f->tx, "default", "beta", 2, 10, &error);
    assert_int_equal(json_array_size(versions), 1);
    assert_string_equal(json_get_string(json_array_get(versions, 0), "address", ""), "beta@1");

    assert_ok(dataset_resolve(&f->tx, "default", "alpha", &info, &error), &error);
    assert_ok(dataset_use(&f->tx, &info, "run", "r1", false, &error), &error);
    described = dataset_describe(&f->tx, &info, &error);
    assert_string_equal(json_get_string(json_object_get(described, "schema"), "kind", ""), "table");
    assert_int_equal(json_array_size(json_object_get(described, "files")), 2);
    seen = dataset_lineage(&f->tx, &info, &error);
    assert_int_equal(json_array_size(json_object_get(seen, "children")), 2);
    assert_int_equal(json_array_size(json_object_get(seen, "used_by")), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_create_and_resolve, setup, teardown),
        cmocka_unit_test_setup_teardown(test_create_invalid, setup, teardown),
        cmocka_unit_test_setup_teardown(test_numbers_are_never_used_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_remove_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(test_views, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
