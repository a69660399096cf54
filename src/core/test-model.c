#include "core/endpoint.h"
#include "core/model.h"
#include "core/release.h"
#include "store/journal.h"
#include "util/hash.h"
#include "util/test.h"

struct fixture {
    char *directory;
    struct db *db;
    struct db_tx tx;
    struct error error;
};

static int setup(void **state)
{
    struct fixture *f = xnew0(struct fixture);
    cleanup_free char *path = NULL;

    f->directory = test_directory_new();
    path = fs_join(f->directory, "test.db");
    assert_ok(db_open(path, &f->db, &f->error), &f->error);
    assert_ok(db_begin_write(f->db, &f->tx, &f->error), &f->error);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    db_end(&f->tx);
    db_close(f->db);
    test_directory_remove(f->directory);
    error_clear(&f->error);
    free(f);
    return 0;
}

/* The digest of a text, as text. */
static const char *digest(const char *text)
{
    static char buffers[8][DIGEST_TEXT_SIZE];
    static int at;
    struct digest d;

    digest_of(text, strlen(text), &d);
    return digest_format(&d, buffers[at++ % 8]);
}

static int64_t add(struct fixture *f, const char *model, const char *code, const char *weights, const char *run,
                   int64_t generation)
{
    const struct model_addition addition = {
        .project = "default",
        .model = model,
        .code = digest(code),
        .code_size = 10,
        .weights = weights ? digest(weights) : NULL,
        .weights_size = 20,
        .run_id = run,
        .generation = generation,
        .step = -1,
        .actor = "token:test",
    };
    int64_t version = 0;

    assert_ok(model_add_weights(&f->tx, &addition, &version, &f->error), &f->error);
    return version;
}

static void check_address(struct fixture *f, const char *text, int64_t number, const char *pair)
{
    cleanup_model_version struct model_version v = MODEL_VERSION_INIT;

    assert_ok(model_resolve(&f->tx, "default", "vision/digits", text, &v, &f->error), &f->error);
    assert_int_equal(v.number, number);
    assert_string_equal(v.code_weights, pair);
}

static void check_no_address(struct fixture *f, const char *text, enum error_code code, const char *message)
{
    cleanup_model_version struct model_version v = MODEL_VERSION_INIT;

    assert_error(model_resolve(&f->tx, "default", "vision/digits", text, &v, &f->error), &f->error, code, message);
}

static void resolve(struct fixture *f, const char *text, struct model_version *ret)
{
    assert_ok(model_resolve(&f->tx, "default", "vision/digits", text, ret, &f->error), &f->error);
}

static void promote(struct fixture *f, const char *text, const char *alias)
{
    cleanup_model_version struct model_version v = MODEL_VERSION_INIT;

    resolve(f, text, &v);
    assert_ok(model_promote(&f->tx, &v, alias, "promoted", NULL, &f->error), &f->error);
}

static void test_names(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    static const char *const bad[] = {"",           "digits",   "/digits", "vision/",
                                      "vision/a/b", "Vision/x", "../etc",  "a/..b c"};

    assert_ok(model_check_name("vision/digits-2.x", &error), &error);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (model_check_name(bad[i], &error) == 0)
            fail_msg("'%s' was taken", bad[i]);
        error_clear(&error);
    }
    assert_ok(model_check_alias("production", &error), &error);
    assert_error(model_check_alias("7up", &error), &error, ERROR_INVALID, "digit");
    assert_error(model_check_alias("a b", &error), &error, ERROR_INVALID, "alias");
}

static void test_numbers_and_addresses(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(add(f, "vision/digits", "c1", "w1", "run-a", 1), 1);
    assert_int_equal(add(f, "vision/digits", "c1", "w2", "run-a", 2), 2);
    assert_int_equal(add(f, "vision/digits", "c2", "w3", "run-b", 1), 3);
    assert_int_equal(add(f, "vision/digits", "c1", "w4", "run-c", 1), 4);
    assert_int_equal(add(f, "text/other", "c1", "w1", "run-d", 1), 1);

    check_address(f, NULL, 4, "1.4");
    check_address(f, "", 4, "1.4");
    check_address(f, "3", 3, "2.3");
    check_address(f, "2.3", 3, "2.3");
    check_address(f, "1.2", 2, "1.2");
    promote(f, "2", "production");
    check_address(f, "production", 2, "1.2");

    check_no_address(f, "9", ERROR_NOT_FOUND, "the newest is vision/digits@4");
    check_no_address(f, "2.1", ERROR_NOT_FOUND, "does not exist");
    check_no_address(f, "staging", ERROR_NOT_FOUND, "it has production");
    check_no_address(f, "1.x", ERROR_INVALID, "not a version");
    check_no_address(f, "0", ERROR_INVALID, "not a version");
    check_no_address(f, "-1", ERROR_INVALID, "alias");
    check_no_address(f, "99999999999999999999", ERROR_INVALID, "not a version");
}

static void test_a_generation_is_added_once(void **state)
{
    struct fixture *f = *state;
    int64_t records;

    assert_int_equal(add(f, "vision/digits", "c1", "w1", "run-a", 1), 1);
    assert_int_equal(add(f, "vision/digits", "c1", "w1", "run-a", 1), 1);
    assert_int_equal(add(f, "vision/digits", "c1", "w1", "run-a", 2), 2); /* equal bytes, another generation */
    assert_int_equal(add(f, "vision/digits", "c1", "w1", "run-a", 1), 1);
    assert_ok(db_query_int(&f->tx, &records, &f->error, "SELECT count(*) FROM releases", ""), &f->error);
    assert_int_equal(records, 2);

    /* Pushed by hand, the same pair is the same version. */
    assert_int_equal(add(f, "vision/digits", "c9", NULL, NULL, 0), 3);
    assert_int_equal(add(f, "vision/digits", "c9", NULL, NULL, 0), 3);
    check_address(f, "3", 3, "2");
}

static int64_t roll_back(struct fixture *f)
{
    int64_t version = 0;

    assert_ok(model_rollback(&f->tx, "default", "vision/digits", "production", NULL, &version, &f->error), &f->error);
    return version;
}

static void test_rollback_walks_back(void **state)
{
    struct fixture *f = *state;

    for (int i = 1; i <= 4; i++)
        add(f, "vision/digits", "c1", "w", "run-a", i);
    promote(f, "1", "production");
    assert_error(model_rollback(&f->tx, "default", "vision/digits", "production", NULL, NULL, &f->error), &f->error,
                 ERROR_CONFLICT, "no earlier version");
    promote(f, "2", "production");
    promote(f, "2", "production"); /* no move */
    promote(f, "3", "production");
    assert_int_equal(roll_back(f), 2);
    promote(f, "4", "production");
    assert_int_equal(roll_back(f), 2);
    assert_int_equal(roll_back(f), 1);
    check_address(f, "production", 1, "1.1");
    assert_error(model_rollback(&f->tx, "default", "vision/digits", "production", NULL, NULL, &f->error), &f->error,
                 ERROR_CONFLICT, "no earlier version");
    assert_error(model_rollback(&f->tx, "default", "vision/digits", "staging", NULL, NULL, &f->error), &f->error,
                 ERROR_NOT_FOUND, "no alias");
}

static void test_removal_is_refused_while_used(void **state)
{
    struct fixture *f = *state;
    cleanup_model_version struct model_version one = MODEL_VERSION_INIT, two = MODEL_VERSION_INIT;
    const struct endpoint_options options = ENDPOINT_OPTIONS_INIT;
    int64_t deployment, count;

    add(f, "vision/digits", "c1", "w1", "run-a", 1);
    add(f, "vision/digits", "c1", "w2", "run-a", 2);
    promote(f, "1", "production");
    resolve(f, "1", &one);
    resolve(f, "2", &two);
    assert_error(model_remove_version(&f->tx, &one, NULL, &f->error), &f->error, ERROR_CONFLICT, "alias production");
    assert_ok(endpoint_create(&f->tx, "default", "digits", &two, &options, NULL, &deployment, &f->error), &f->error);
    assert_error(model_remove_version(&f->tx, &two, NULL, &f->error), &f->error, ERROR_CONFLICT, "endpoint digits");
    assert_error(model_remove(&f->tx, "default", "vision/digits", NULL, &f->error), &f->error, ERROR_CONFLICT,
                 "endpoint digits");
    assert_ok(endpoint_remove(&f->tx, "default", "digits", NULL, &f->error), &f->error);
    assert_ok(model_remove_version(&f->tx, &two, NULL, &f->error), &f->error);
    check_no_address(f, "2", ERROR_NOT_FOUND, "newest is vision/digits@1");

    /* A number is given once, and the code stays as long as a version has it. */
    assert_int_equal(add(f, "vision/digits", "c1", "w3", "run-b", 1), 3);
    check_address(f, "3", 3, "1.3");
    assert_ok(db_query_int(&f->tx, &count, &f->error, "SELECT count(*) FROM model_weights", ""), &f->error);
    assert_int_equal(count, 2);

    assert_ok(db_exec(&f->tx, &f->error, "DELETE FROM endpoints", ""), &f->error);
    assert_ok(model_remove(&f->tx, "default", "vision/digits", NULL, &f->error), &f->error);
    check_no_address(f, NULL, ERROR_NOT_FOUND, "no model vision/digits");
    assert_int_equal(add(f, "vision/digits", "c1", "w9", "run-c", 1), 4);
}

static void test_views(void **state)
{
    struct fixture *f = *state;
    cleanup_json json_t *list = NULL, *versions = NULL, *history = NULL;
    const json_t *newest;

    add(f, "vision/digits", "c1", "w1", "run-a", 1);
    add(f, "vision/digits", "c1", "w2", "run-a", 2);
    add(f, "text/spam", "c1", NULL, NULL, 0);
    promote(f, "2", "production");
    promote(f, "2", "candidate");

    list = model_list(&f->tx, "default", NULL, NULL, 10, &f->error);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_get_string(json_array_get(list, 0), "name", ""), "text/spam");
    assert_int_equal(json_get_int(json_object_get(json_array_get(list, 1), "aliases"), "production", 0), 2);
    json_decref(list);
    list = model_list(&f->tx, NULL, "vision", "vision/a", 10, &f->error);
    assert_int_equal(json_array_size(list), 1);

    versions = model_versions(&f->tx, "default", "vision/digits", 0, 10, &f->error);
    assert_int_equal(json_array_size(versions), 2);
    newest = json_array_get(versions, 0);
    assert_string_equal(json_get_string(newest, "code_weights", ""), "1.2");
    assert_string_equal(json_string_value(json_array_get(json_object_get(newest, "aliases"), 0)), "candidate");
    assert_true(json_is_null(json_object_get(newest, "gate")));

    history = model_alias_history(&f->tx, "default", "vision/digits", "production", 10, &f->error);
    assert_int_equal(json_array_size(history), 1);
}

/* The hash of each record as anybody can compute it from the text. */
static void test_chain_links(void **state)
{
    struct fixture *f = *state;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    char previous[DIGEST_TEXT_SIZE] = "";
    int count = 0;

    add(f, "vision/digits", "c1", "w1", "run-a", 1);
    add(f, "vision/digits", "c1", "w2", "run-a", 2);
    add(f, "vision/other", "c1", "w2", "run-b", 1);
    assert_ok(db_query(&f->tx, &rows, &f->error,
                       "SELECT record, previous, hash FROM releases WHERE model = 'vision/digits' ORDER BY sequence",
                       ""),
              &f->error);
    while (db_next(&rows, &f->error) > 0) {
        cleanup_free char *text = xasprintf("%s%s", previous, db_text(&rows, 0));

        assert_string_equal(db_text(&rows, 1), previous);
        assert_string_equal(db_text(&rows, 2), digest(text));
        snprintf(previous, sizeof(previous), "%s", db_text(&rows, 2));
        count++;
    }
    assert_int_equal(count, 2);
}

static void test_sheet(void **state)
{
    struct fixture *f = *state;
    cleanup_json json_t *facts = json_build("{s:[s], s:{s:i}}", "entry", "python3", "parameters", "seed", 7);
    cleanup_json json_t *metrics = json_build("{s:f}", "accuracy", 0.5);
    cleanup_json json_t *gate = json_build("{s:s, s:{s:f}}", "verdict", "accepted", "metrics", "accuracy", 0.75);
    cleanup_json json_t *sheet = NULL;
    const struct model_addition addition = {.project = "default",
                                            .model = "vision/digits",
                                            .code = digest("c"),
                                            .weights = digest("w"),
                                            .run_id = "r",
                                            .generation = 1,
                                            .step = 9,
                                            .facts = facts,
                                            .metrics = metrics};

    assert_ok(model_add(&f->tx, &addition, NULL, &f->error), &f->error);
    assert_ok(release_append(&f->tx, "default", "vision/digits", 1, "gate", gate, NULL, &f->error), &f->error);
    sheet = release_sheet(&f->tx, "default", "vision/digits", 1, &f->error);
    assert_non_null(sheet);
    assert_int_equal(json_get_int(json_object_get(sheet, "parameters"), "seed", 0), 7);
    assert_true(json_get_number(json_object_get(sheet, "metrics"), "accuracy", 0) == 0.5);
    assert_true(json_get_number(json_object_get(sheet, "metrics_final"), "accuracy", 0) == 0.75);
    assert_string_equal(json_get_string(json_object_get(sheet, "gate"), "verdict", ""), "accepted");
    assert_string_equal(json_get_string(json_object_get(sheet, "code"), "digest", ""), digest("c"));
    assert_int_equal(json_get_int(sheet, "step", 0), 9);
    assert_null(release_sheet(&f->tx, "default", "vision/digits", 2, &f->error));
    assert_int_equal(f->error.code, ERROR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test_setup_teardown(test_numbers_and_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_generation_is_added_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rollback_walks_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removal_is_refused_while_used, setup, teardown),
        cmocka_unit_test_setup_teardown(test_views, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chain_links, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sheet, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
