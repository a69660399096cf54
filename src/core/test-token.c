#include "core/project.h"
#include "core/token.h"
#include "store/journal.h"
#include "util/clock.h"
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

static char *create(struct fixture *f, const char *name, const char *scopes, const char *project, int64_t ttl_ms)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_token struct token token = TOKEN_INIT;
    char *secret = NULL;

    assert_ok(
        token_create(&f->tx, &(struct token_options){name, scopes, project, ttl_ms}, "local", &token, &secret, &error),
        &error);
    return secret;
}

/* The events of the journal with this type prefix, as text. */
static char *events_of(struct fixture *f, const char *type)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *events = journal_read(&f->tx, &(struct journal_filter){.type = type, .limit = 100}, &error);

    assert_non_null(events);
    return json_text(events);
}

static void test_create_and_check(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_token struct token token = TOKEN_INIT;
    cleanup_free char *secret = create(f, "alice", " develop  predict:digits develop ", "default", 60000);
    cleanup_free char *other = create(f, NULL, "view", NULL, 0);
    cleanup_free char *events = NULL;

    assert_true(strncmp(secret, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) == 0);
    assert_int_equal(strlen(secret), strlen(TOKEN_PREFIX) + 43);
    assert_ok(token_check(&f->tx, secret, &token, &error), &error);
    assert_string_equal(token.name, "alice");
    assert_string_equal(token.scopes, "develop predict:digits");
    assert_string_equal(token.project, "default");
    assert_true(token.expires_at > clock_wall_ms());
    token_release(&token);

    assert_ok(token_check(&f->tx, other, &token, &error), &error);
    assert_string_equal(token.name, token.id);
    assert_null(token.project);
    assert_int_equal(token.expires_at, 0);

    events = events_of(f, "slipway.token.created");
    assert_non_null(strstr(events, "token/alice"));
    assert_null(strstr(events, secret + strlen(TOKEN_PREFIX)));
}

static void test_unknown_secrets(void **state)
{
    struct fixture *f = *state;
    static const char *const secrets[] = {"", "x", TOKEN_PREFIX, "slw_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                                          "' OR 1=1 --"};
    cleanup_error struct error error = ERROR_INIT;
    struct token token;

    for (size_t i = 0; i < ARRAY_SIZE(secrets); i++)
        assert_error(token_check(&f->tx, secrets[i], &token, &error), &error, ERROR_UNAUTHENTICATED, "unknown");
}

static void test_expired(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *secret = create(f, "short", "view", NULL, 1);
    struct token token;

    assert_ok(db_exec(&f->tx, &error, "UPDATE tokens SET expires_at = 1000", NULL), &error);
    assert_error(token_check(&f->tx, secret, &token, &error), &error, ERROR_UNAUTHENTICATED, "1970-01-01");
}

static void test_revoked(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *secret = create(f, "bob", "view", NULL, 0), *again = NULL, *events = NULL;
    cleanup_token struct token token = TOKEN_INIT, copy = TOKEN_INIT;

    assert_error(token_create(&f->tx, &(struct token_options){"bob", "view", NULL, 0}, "local", &copy, &again, &error),
                 &error, ERROR_EXISTS, "bob");
    assert_error(token_revoke(&f->tx, "bob", "default", "local", &error), &error, ERROR_NOT_FOUND, "bob");
    assert_ok(token_revoke(&f->tx, "bob", NULL, "local", &error), &error);
    assert_error(token_check(&f->tx, secret, &token, &error), &error, ERROR_UNAUTHENTICATED, "revoked");
    assert_error(token_revoke(&f->tx, "bob", NULL, "local", &error), &error, ERROR_NOT_FOUND, "bob");
    events = events_of(f, "slipway.token.revoked");
    assert_non_null(strstr(events, "token/bob"));

    /* The name is free again. */
    again = create(f, "bob", "develop", NULL, 0);
    assert_ok(token_check(&f->tx, again, &token, &error), &error);
}

static void test_bad_options(void **state)
{
    static const struct {
        struct token_options options;
        enum error_code code;
        const char *message;
    } rows[] = {
        {{"a", "", NULL, 0}, ERROR_INVALID, "needs a scope"},
        {{"a", "  ", NULL, 0}, ERROR_INVALID, "needs a scope"},
        {{"a", "root", NULL, 0}, ERROR_INVALID, "'root'"},
        {{"a", "view predict:", NULL, 0}, ERROR_INVALID, "endpoint"},
        {{"a", "predict:Not A Name", NULL, 0}, ERROR_INVALID, "endpoint"},
        {{"a", "admin", "default", 0}, ERROR_INVALID, "admin"},
        {{"A B", "view", NULL, 0}, ERROR_INVALID, "token"},
        {{"a", "view", "nowhere", 0}, ERROR_NOT_FOUND, "nowhere"},
        {{"a", "view", NULL, -1}, ERROR_INVALID, "past"},
    };
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct token token = TOKEN_INIT;
        char *secret = NULL;

        assert_error(token_create(&f->tx, &rows[i].options, "local", &token, &secret, &error), &error, rows[i].code,
                     rows[i].message);
        assert_null(secret);
    }
}

static void test_levels(void **state)
{
    assert_int_equal(token_level("view"), TOKEN_LEVEL_VIEW);
    assert_int_equal(token_level("view develop"), TOKEN_LEVEL_DEVELOP);
    assert_int_equal(token_level("predict:x admin view"), TOKEN_LEVEL_ADMIN);
    assert_int_equal(token_level("predict:x"), TOKEN_LEVEL_NONE);
    assert_true(token_allows_predict("view predict:x", "x"));
    assert_false(token_allows_predict("view predict:x", "xy"));
    assert_false(token_allows_predict("view predict:xy", "x"));
    assert_true(token_allows_predict("predict:*", "x"));
    assert_true(token_allows_predict("admin", "x"));
    assert_false(token_allows_predict("develop", "x"));
}

static void test_of_a_run(void **state)
{
    static const char run[] = "01900000000000000000000000000001";
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *first = NULL, *second = NULL, *next = NULL;
    cleanup_token struct token token = TOKEN_INIT;
    cleanup_json json_t *list = NULL;

    assert_ok(token_create_for_run(&f->tx, run, "default", &first, &error), &error);
    assert_ok(token_check(&f->tx, first, &token, &error), &error);
    assert_string_equal(token.run_id, run);
    assert_string_equal(token.project, "default");
    token_release(&token);

    assert_ok(token_create_for_run(&f->tx, run, "default", &second, &error), &error);
    assert_error(token_check(&f->tx, first, &token, &error), &error, ERROR_UNAUTHENTICATED, "");
    assert_ok(token_check(&f->tx, second, &token, &error), &error);
    assert_ok(token_revoke_run(&f->tx, run, &error), &error);
    token_release(&token);
    assert_error(token_check(&f->tx, second, &token, &error), &error, ERROR_UNAUTHENTICATED, "");
    assert_ok(token_revoke_run(&f->tx, run, &error), &error);

    list = token_list(&f->tx, NULL, true, NULL, 10, &next, &error);
    assert_int_equal(json_array_size(list), 0);
}

static void test_client_credentials(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *secret = create(f, "app", "develop predict:*", "default", 3600000), *issued = NULL;
    cleanup_token struct token client = TOKEN_INIT, token = TOKEN_INIT, none = TOKEN_INIT;

    assert_ok(token_check(&f->tx, secret, &client, &error), &error);
    assert_ok(token_issue(&f->tx, &client, "predict:digits view", 60000, &token, &issued, &error), &error);
    assert_string_equal(token.scopes, "predict:digits view");
    assert_string_equal(token.name, "app");
    assert_string_equal(token.client_id, client.id);
    assert_true(token.expires_at <= clock_wall_ms() + 60000);
    assert_error(token_issue(&f->tx, &token, NULL, 60000, &none, &issued, &error), &error, ERROR_FORBIDDEN, "issued");
    assert_error(token_issue(&f->tx, &client, "admin", 60000, &none, &issued, &error), &error, ERROR_INVALID, "admin");
    token_release(&token);

    /* Not longer than the client's own, and with all its scopes where none is named. */
    free(steal_ptr(issued));
    assert_ok(token_issue(&f->tx, &client, NULL, 86400000, &token, &issued, &error), &error);
    assert_int_equal(token.expires_at, client.expires_at);
    assert_string_equal(token.scopes, "develop predict:*");
    assert_ok(token_check(&f->tx, issued, &none, &error), &error);
    token_release(&none);

    assert_ok(token_revoke(&f->tx, "app", NULL, "local", &error), &error);
    assert_error(token_check(&f->tx, issued, &none, &error), &error, ERROR_UNAUTHENTICATED, "");
}

static void test_narrow_client(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *secret = create(f, "app", "view predict:digits", NULL, 0), *issued = NULL;
    cleanup_token struct token client = TOKEN_INIT, none = TOKEN_INIT;
    static const char *const wanted[] = {"develop", "admin", "predict:other", "predict:*"};

    assert_ok(token_check(&f->tx, secret, &client, &error), &error);
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
        assert_error(token_issue(&f->tx, &client, wanted[i], 1000, &none, &issued, &error), &error, ERROR_FORBIDDEN,
                     wanted[i]);
}

static void test_touch_is_coarse(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *secret = create(f, "a", "view", NULL, 0);
    cleanup_token struct token token = TOKEN_INIT;

    assert_ok(token_check(&f->tx, secret, &token, &error), &error);
    assert_int_equal(token.last_used_at, 0);
    assert_ok(token_touch(&f->tx, token.id, &error), &error);
    assert_int_equal(db_changes(&f->tx), 1);
    assert_ok(token_touch(&f->tx, token.id, &error), &error);
    assert_int_equal(db_changes(&f->tx), 0);
}

static void test_list_is_paged(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *next = NULL;
    cleanup_json json_t *first = NULL, *second = NULL, *all = NULL;

    for (int i = 0; i < 5; i++) {
        cleanup_free char *name = xasprintf("t%d", i);
        cleanup_free char *secret = create(f, name, "view", i == 0 ? "default" : NULL, 0);
    }
    assert_ok(token_revoke(&f->tx, "t4", NULL, "local", &error), &error);
    first = token_list(&f->tx, NULL, false, NULL, 3, &next, &error);
    assert_int_equal(json_array_size(first), 3);
    assert_string_equal(json_get_string(json_array_get(first, 0), "name", ""), "t3");
    assert_non_null(next);
    {
        cleanup_free char *end = NULL;

        second = token_list(&f->tx, NULL, false, next, 3, &end, &error);
        assert_int_equal(json_array_size(second), 1);
        assert_null(end);
        json_decref(second);
        second = token_list(&f->tx, "default", false, NULL, 3, &end, &error);
        assert_int_equal(json_array_size(second), 1);
        all = token_list(&f->tx, NULL, true, NULL, 10, &end, &error);
        assert_int_equal(json_array_size(all), 5);
        assert_false(json_is_null(json_object_get(json_array_get(all, 0), "revoked_at")));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_create_and_check, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown_secrets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expired, setup, teardown),
        cmocka_unit_test_setup_teardown(test_revoked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_options, setup, teardown),
        cmocka_unit_test(test_levels),
        cmocka_unit_test_setup_teardown(test_of_a_run, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_credentials, setup, teardown),
        cmocka_unit_test_setup_teardown(test_narrow_client, setup, teardown),
        cmocka_unit_test_setup_teardown(test_touch_is_coarse, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list_is_paged, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
