#include "util/test.h"
#include "http/exchange.h"
#include "util/limits.h"

static int handler(struct http_request *request, struct http_response *response, struct error *error)
{
    return 0;
}

static const char *const kinds[] = {"cold", "hot", NULL};
static const struct http_query_row query[] = {
    {"kind", SCHEMA_STRING, kinds, "which tier"},
    {"count", SCHEMA_INTEGER, NULL, "how many"},
    {"share", SCHEMA_NUMBER, NULL, "how much"},
    {"dry_run", SCHEMA_BOOLEAN, NULL, "only tell"},
    {0},
};
static const struct http_route first[] = {
    {"GET", "/things", SCOPE_VIEW, handler, "list", .query = query, .paged = true},
    {"POST", "/things", SCOPE_DEVELOP, handler, "make"},
    {"GET", "/things/{name}", SCOPE_VIEW, handler, "show"},
    {"GET", "/things/{name}/parts/{part}", SCOPE_VIEW, handler, "part"},
    {"GET", "/things/newest", SCOPE_NONE, handler, "newest"},
    {0},
};
static const struct http_route second[] = {
    {"GET", "/files/{path...}", SCOPE_VIEW, handler, "file"},
    {"DELETE", "/files/{path...}", SCOPE_VIEW, handler, "file"},
    {"PUT", "/files/{path}", SCOPE_VIEW, handler, "file"},
    {"GET", "/files/index", SCOPE_VIEW, handler, "index"},
    {0},
};
static const struct http_route *const tables[] = {first, second, NULL};

struct expectation {
    const char *method, *target;
    const char *path; /* of the row; NULL: fails */
    const char *name, *value;
    int code;
    const char *message; /* part of it */
};

static const struct expectation finds[] = {
    {"GET", "/things", "/things"},
    {"HEAD", "/things?limit=3", "/things"},
    {"POST", "/things", "/things"},
    {"GET", "/things/newest", "/things/newest"},
    {"GET", "/things/old", "/things/{name}", "name", "old"},
    {"GET", "/things/a%2Fb%20c%C3%BC", "/things/{name}", "name", "a/b c\xc3\xbc"},
    {"GET", "/things/a+b", "/things/{name}", "name", "a+b"},
    {"GET", "/things/x/parts/y", "/things/{name}/parts/{part}", "part", "y"},
    {"GET", "/files/a/b/c", "/files/{path...}", "path", "a/b/c"},
    {"GET", "/files/index", "/files/index"},
    {"DELETE", "/files/index", "/files/{path...}", "path", "index"},
    {"PUT", "/files/one", "/files/{path}", "path", "one"},
    {"GET", "/nothing", .code = ERROR_NOT_FOUND, .message = "nothing at /nothing"},
    {"GET", "/things/", .code = ERROR_NOT_FOUND},
    {"GET", "/files/", .code = ERROR_NOT_FOUND},
    {"GET", "//things", .code = ERROR_NOT_FOUND},
    {"GET", "/", .code = ERROR_NOT_FOUND},
    {"GET", "*", .code = ERROR_INVALID, .message = "begin with '/'"},
    {"GET", "/things/%zz", .code = ERROR_INVALID, .message = "two hexadecimal digits"},
    {"GET", "/things/%4", .code = ERROR_INVALID, .message = "two hexadecimal digits"},
    {"GET", "/things/%", .code = ERROR_INVALID, .message = "two hexadecimal digits"},
    {"GET", "/things/%00", .code = ERROR_INVALID, .message = "NUL"},
    {"GET", "/things/%ff", .code = ERROR_INVALID, .message = "UTF-8"},
    {"GET", "/files/a/../b", .code = ERROR_INVALID, .message = "'..'"},
    {"GET", "/files/a/%2e%2e/b", .code = ERROR_INVALID, .message = "'..'"},
    {"GET", "/files/a%2F..%2Fb", .code = ERROR_INVALID, .message = "'..'"},
    {"GET", "/files/a%2f..", .code = ERROR_INVALID, .message = "'..'"},
    {"GET", "/things/.%2fa", .code = ERROR_INVALID, .message = "'.'"},
    {"GET", "/files/a%2F..b%2F.c", "/files/{path...}", "path", "a/..b/.c"},
    {"GET", "/files/./b", .code = ERROR_INVALID, .message = "'.'"},
    {"PATCH", "/things", .code = ERROR_UNSUPPORTED, .message = "use GET, HEAD, POST"},
    {"POST", "/files/x/y", .code = ERROR_UNSUPPORTED, .message = "use DELETE, GET, HEAD"},
};

static void check_failure(const struct expectation *e, int r, const struct error *error)
{
    assert_int_equal(r, -1);
    assert_string_equal(error_code_name(error->code), error_code_name(e->code));
    if (e->message && !strstr(error->message, e->message))
        fail_msg("%s %s: '%s' does not hold '%s'", e->method, e->target, error->message, e->message);
}

static void test_find(void **state)
{
    struct router *router = router_new(tables);

    for (size_t i = 0; i < ARRAY_SIZE(finds); i++) {
        const struct expectation *e = &finds[i];
        cleanup_exchange struct exchange *exchange = exchange_new(e->method, e->target);
        cleanup_error struct error error = ERROR_INIT;
        int r = router_find(router, exchange, &error);

        if (!e->path) {
            check_failure(e, r, &error);
            continue;
        }
        if (r < 0)
            fail_msg("%s %s: %s", e->method, e->target, error.message);
        assert_string_equal(exchange->request.route->path, e->path);
        if (e->name)
            assert_string_equal(http_path_param(&exchange->request, e->name), e->value);
    }
    router_free(router);
}

static void test_allow(void **state)
{
    struct router *router = router_new(tables);
    cleanup_exchange struct exchange *exchange = exchange_new("PATCH", "/things");
    cleanup_error struct error error = ERROR_INIT;

    assert_int_equal(router_find(router, exchange, &error), -1);
    assert_int_equal(exchange->response.status, 405);
    assert_string_equal(exchange->headers.items[0], "Allow");
    assert_string_equal(exchange->headers.items[1], "GET, HEAD, POST");
    router_free(router);
}

static const struct expectation queries[] = {
    {"GET", "/things?kind=hot", .name = "kind", .value = "hot"},
    {"GET", "/things?count=-3&share=.5&dry_run", .name = "count", .value = "-3"},
    {"GET", "/things?limit=5&after=a%26b+c&project=p", .name = "after", .value = "a&b c"},
    {"GET", "/things?", .name = "kind", .value = NULL},
    {"GET", "/things?&&kind=cold&", .name = "kind", .value = "cold"},
    {"GET", "/things?kinds=hot", .code = ERROR_INVALID,
     .message = "unknown query parameter 'kinds'; known are: kind, count"},
    {"GET", "/things?kind=warm", .code = ERROR_INVALID, .message = "must be one of: cold, hot"},
    {"GET", "/things?count=x", .code = ERROR_INVALID, .message = "query parameter 'count'"},
    {"GET", "/things?count=99999999999999999999", .code = ERROR_INVALID, .message = "query parameter 'count'"},
    {"GET", "/things?share=nan", .code = ERROR_INVALID, .message = "query parameter 'share'"},
    {"GET", "/things?dry_run=maybe", .code = ERROR_INVALID, .message = "true or false"},
    {"GET", "/things?limit=many", .code = ERROR_INVALID, .message = "query parameter 'limit'"},
    {"GET", "/things?kind=hot&kind=cold", .code = ERROR_INVALID, .message = "'kind' is given twice"},
    {"GET", "/things?kind=%0", .code = ERROR_INVALID, .message = "two hexadecimal digits"},
    {"GET", "/things/newest?project=p", .code = ERROR_INVALID, .message = "known are: none"},
};

static void test_query(void **state)
{
    struct router *router = router_new(tables);

    for (size_t i = 0; i < ARRAY_SIZE(queries); i++) {
        const struct expectation *e = &queries[i];
        cleanup_exchange struct exchange *exchange = exchange_new(e->method, e->target);
        cleanup_error struct error error = ERROR_INIT;
        const char *value;
        int r;

        assert_int_equal(router_find(router, exchange, &error), 0);
        r = exchange_check_query(exchange, &error);
        if (e->code) {
            check_failure(e, r, &error);
            continue;
        }
        if (r < 0)
            fail_msg("%s: %s", e->target, error.message);
        value = http_query_param(&exchange->request, e->name);
        assert_string_equal(value ?: "(none)", e->value ?: "(none)");
    }
    router_free(router);
}

static void test_too_many_parameters(void **state)
{
    cleanup_map struct map fields = MAP_INIT(free);
    cleanup_error struct error error = ERROR_INIT;
    cleanup_strbuf struct strbuf text = STRBUF_INIT(64 * KIB);

    for (int i = 0; i <= LIMIT_HTTP_QUERY; i++)
        strbuf_addf(&text, "p%d=%d&", i, i);
    assert_int_equal(http_parse_form(text.data, &fields, &error), -1);
    assert_non_null(strstr(error.message, "more than 100"));
}

static void test_page_and_project(void **state)
{
    struct router *router = router_new(tables);
    cleanup_exchange struct exchange *exchange = exchange_new("GET", "/things?limit=5000&after=&project=b");
    cleanup_error struct error error = ERROR_INIT;
    const char *project;

    assert_int_equal(router_find(router, exchange, &error), 0);
    assert_int_equal(exchange_check_query(exchange, &error), 0);
    assert_int_equal(http_page_limit(&exchange->request), LIMIT_PAGE);
    assert_null(http_page_after(&exchange->request));
    assert_int_equal(http_project(&exchange->request, &project, &error), 0);
    assert_string_equal(project, "b");

    exchange->principal.project = strdup("a");
    assert_int_equal(http_project(&exchange->request, &project, &error), -1);
    assert_int_equal(error.code, ERROR_FORBIDDEN);
    router_free(router);
}

static void test_every_code_has_a_status(void **state)
{
    for (int code = ERROR_INVALID; code < ERROR_CODE_COUNT_; code++)
        if (http_status_of(code) < 400 || http_status_of(code) > 599)
            fail_msg("%s has status %d", error_code_name(code), http_status_of(code));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_allow),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_too_many_parameters),
        cmocka_unit_test(test_page_and_project),
        cmocka_unit_test(test_every_code_has_a_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
