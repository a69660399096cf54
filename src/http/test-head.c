#include "http/head.h"
#include "util/test.h"
#include "util/xalloc.h"

static int parse(const char *text, struct head *head, char **ret_data)
{
    *ret_data = xstrdup(text);
    assert_int_equal(head_end(*ret_data, strlen(text), 0), strlen(text));
    return head_parse(*ret_data, strlen(text), head, NULL);
}

static void test_fields(void **state)
{
    cleanup_free char *data = NULL;
    struct head head;

    assert_int_equal(
        parse("POST /a%20b?x=1 HTTP/1.1\r\nHost: h\r\ncontent-length:\t12 \r\nX: a b\r\n\r\n", &head, &data), 0);
    assert_string_equal(head.method, "POST");
    assert_string_equal(head.path, "/a%20b");
    assert_string_equal(head.query, "x=1");
    assert_int_equal(head.content_length, 12);
    assert_string_equal(head_get(&head, "x"), "a b");
    assert_null(head_get(&head, "Y"));
    assert_true(head.keep_alive);
}

static void test_connections(void **state)
{
    static const struct {
        const char *text;
        bool keep;
    } rows[] = {
        {"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n", false},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_free char *data = NULL;
        struct head head;

        assert_int_equal(parse(rows[i].text, &head, &data), 0);
        assert_int_equal(head.keep_alive, rows[i].keep);
    }
}

static void test_refusals(void **state)
{
    static const char *const rows[] = {
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
        "GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: \x01\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_free char *data = NULL;
        struct head head;

        if (parse(rows[i], &head, &data) == 0)
            fail_msg("was taken: %s", rows[i]);
    }
}

/* However a chunked body is cut, the content is the same and what follows is left. */
static void test_chunks_in_pieces(void **state)
{
    static const char text[] = "4\r\nWiki\r\n6;name=v\r\npedia \r\n0\r\nTrailer: x\r\n\r\nGET /";
    size_t end = sizeof(text) - 1 - 5;

    for (size_t cut = 0; cut <= end; cut++) {
        struct chunks chunks = {0};
        char data[100], got[100];
        size_t n = cut, used = 0, total = 0;

        memcpy(data, text, sizeof(text));
        assert_int_equal(chunks_decode(&chunks, data, &n, &used), 0);
        assert_int_equal(used, cut);
        memcpy(got, data, n);
        total = n;
        n = sizeof(text) - 1 - cut;
        assert_int_equal(chunks_decode(&chunks, data + cut, &n, &used), 0);
        assert_true(chunks.done);
        assert_int_equal(cut == end ? cut : cut + used, end);
        memcpy(got + total, data + cut, n);
        assert_int_equal(total + n, 10);
        assert_memory_equal(got, "Wikipedia ", 10);
    }
}

static void test_chunks_that_are_wrong(void **state)
{
    static const char *const rows[] = {"x",        "\r\n",   "1\n",     "1\r\nab",
                                       "1\r\na\n", "-1\r\n", "0x1\r\n", "111111111111111111\r\n"};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_free char *data = xstrdup(rows[i]);
        struct chunks chunks = {0};
        size_t n = strlen(data), used;

        if (chunks_decode(&chunks, data, &n, &used) == 0)
            fail_msg("was taken: %s", rows[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_connections),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_chunks_in_pieces),
        cmocka_unit_test(test_chunks_that_are_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
