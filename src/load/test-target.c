#include "load/target.h"
#include "util/test.h"

static void test_urls(void **state)
{
    static const struct {
        const char *url, *host, *port, *unix_path, *path;
    } rows[] = {
        {"http://127.0.0.1:8480/predict/digits?x=1", "127.0.0.1", "8480", NULL, "/predict/digits?x=1"},
        {"http://localhost", "localhost", "80", NULL, "/"},
        {"http://[::1]:99/a", "::1", "99", NULL, "/a"},
        {"http://h?q", "h", "80", NULL, "/?q"},
        {"unix:/run/x.sock:/predict/a", NULL, NULL, "/run/x.sock", "/predict/a"},
        {"unix:/run/x.sock", NULL, NULL, "/run/x.sock", "/"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_error struct error error = ERROR_INIT;
        struct load_target target;

        assert_ok(load_target_parse(rows[i].url, &target, &error), &error);
        assert_string_equal(target.path, rows[i].path);
        if (rows[i].host) {
            assert_string_equal(target.host, rows[i].host);
            assert_string_equal(target.port, rows[i].port);
        } else {
            assert_string_equal(target.unix_path, rows[i].unix_path);
        }
        load_target_release(&target);
    }
}

static void test_wrong_urls(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    struct load_target target;

    assert_error(load_target_parse("ftp://x", &target, &error), &error, ERROR_INVALID, "is not a URL");
    assert_error(load_target_parse("http:///x", &target, &error), &error, ERROR_INVALID, "no host");
    assert_error(load_target_parse("http://[::1/x", &target, &error), &error, ERROR_INVALID, "without ']'");
    assert_error(load_target_parse("http://a/ b", &target, &error), &error, ERROR_INVALID, "no spaces");
    assert_error(load_target_parse("https://a/", &target, &error), &error, ERROR_UNSUPPORTED, "plain HTTP");
}

static void test_request_text(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_strvec struct strvec headers = STRVEC_INIT;
    struct load_target target;
    cleanup_free char *text = NULL;
    size_t length;

    strvec_push(&headers, "X-A: b");
    assert_ok(load_target_parse("http://h/p", &target, &error), &error);
    text = load_request_text(&target, "POST", "tok", &headers, "hi", 2, &length);
    assert_string_equal(text, "POST /p HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer tok\r\nX-A: b\r\n"
                              "Content-Length: 2\r\n\r\nhi");
    assert_int_equal(length, strlen(text));
    load_target_release(&target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_wrong_urls),
        cmocka_unit_test(test_request_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
