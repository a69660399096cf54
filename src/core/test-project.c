#include "core/project.h"
#include "core/token.h"
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

static void test_create_show_remove(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *project = NULL;

    assert_ok(project_check(&f->tx, PROJECT_DEFAULT, &error), &error);
    assert_ok(project_create(&f->tx, "team-a", "the first", "local", &error), &error);
    assert_error(project_create(&f->tx, "team-a", NULL, "local", &error), &error, ERROR_EXISTS, "team-a");
    assert_error(project_create(&f->tx, "Team", NULL, "local", &error), &error, ERROR_INVALID, "Team");
    assert_error(project_check(&f->tx, "team-b", &error), &error, ERROR_NOT_FOUND, "default, team-a");

    project = project_show(&f->tx, "team-a", &error);
    assert_string_equal(json_get_string(project, "description", ""), "the first");
    assert_int_equal(json_get_int(project, "runs", -1), 0);
    assert_null(project_show(&f->tx, "team-b", &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);
    error_clear(&error);

    assert_ok(project_remove(&f->tx, "team-a", "local", &error), &error);
    assert_error(project_check(&f->tx, "team-a", &error), &error, ERROR_NOT_FOUND, "team-a");
    assert_error(project_remove(&f->tx, "team-a", "local", &error), &error, ERROR_NOT_FOUND, "team-a");
    assert_error(project_remove(&f->tx, "default", "local", &error), &error, ERROR_CONFLICT, "always");
}

static void test_remove_takes_no_content_with_it(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_token struct token token = TOKEN_INIT;
    cleanup_free char *secret = NULL;
    struct token none;

    assert_ok(project_create(&f->tx, "team-a", NULL, "local", &error), &error);
    assert_ok(token_create(&f->tx, &(struct token_options){"t", "view", "team-a", 0}, "local", &token, &secret, &error),
              &error);
    assert_ok(db_exec(&f->tx, &error,
                      "INSERT INTO jobs (project, name, definition, created_at, updated_at, created_by) "
                      "VALUES ('team-a', 'j', '{}', 0, 0, 'local')",
                      NULL),
              &error);
    assert_error(project_remove(&f->tx, "team-a", "local", &error), &error, ERROR_CONFLICT, "1 jobs");
    assert_ok(db_exec(&f->tx, &error, "DELETE FROM jobs", NULL), &error);
    assert_ok(project_remove(&f->tx, "team-a", "local", &error), &error);
    assert_error(token_check(&f->tx, secret, &none, &error), &error, ERROR_UNAUTHENTICATED, "");
}

static void test_list_is_paged(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *next = NULL, *end = NULL;
    cleanup_json json_t *first = NULL, *second = NULL;

    assert_ok(project_create(&f->tx, "a", NULL, "local", &error), &error);
    assert_ok(project_create(&f->tx, "z", NULL, "local", &error), &error);
    first = project_list(&f->tx, NULL, 2, &next, &error);
    assert_int_equal(json_array_size(first), 2);
    assert_string_equal(next, "default");
    second = project_list(&f->tx, next, 2, &end, &error);
    assert_int_equal(json_array_size(second), 1);
    assert_string_equal(json_get_string(json_array_get(second, 0), "name", ""), "z");
    assert_null(end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_create_show_remove, setup, teardown),
        cmocka_unit_test_setup_teardown(test_remove_takes_no_content_with_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list_is_paged, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
