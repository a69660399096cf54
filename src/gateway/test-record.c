#include "gateway/record.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/test.h"
#include "util/xalloc.h"

static void test_bodies(void **state)
{
    static const struct {
        const char *data;
        size_t length, max;
        const char *text, *base64; /* one of them */
        bool truncated;
    } rows[] = {
        {"", 0, 10, "", NULL, false},
        {"hi", 2, 10, "hi", NULL, false},
        {"hi", 2, 2, "hi", NULL, false},
        {"hello", 5, 2, "he", NULL, true},
        {"hello", 5, 0, "", NULL, true},
        {"gr\xc3\xbc\xc3\x9f", 6, 6, "gr\xc3\xbc\xc3\x9f", NULL, false},
        {"gr\xc3\xbc\xc3\x9f", 6, 5, "gr\xc3\xbc", NULL, true},      /* a character that was cut is left out */
        {"\xf0\x9f\x98\x80", 4, 3, "", NULL, true},
        {"gr\xc3", 3, 10, NULL, "Z3LD", false},                      /* nothing was cut: it is no text */
        {"\xff\xfe"
         "abcdef",
         8, 6, NULL, "//5hYmNk", true},
        {"a\0b", 3, 10, NULL, "YQBi", false},
        {"a\tb\n\"\\", 6, 10, "a\tb\n\"\\", NULL, false},
        {"\xed\xa0\x80", 3, 10, NULL, "7aCA", false},                /* a surrogate */
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct record_body body = {0};
        cleanup_json json_t *value = NULL;

        record_keep(&body, "text/plain", rows[i].data, rows[i].length, rows[i].max);
        value = record_body_describe(&body);
        assert_string_equal(json_get_string(value, "content_type", ""), "text/plain");
        assert_int_equal(json_get_int(value, "size", -1), rows[i].length);
        assert_int_equal(json_get_bool(value, "truncated", !rows[i].truncated), rows[i].truncated);
        assert_string_equal(json_get_string(value, "text", "none"), rows[i].text ? rows[i].text : "none");
        assert_string_equal(json_get_string(value, "base64", "none"), rows[i].base64 ? rows[i].base64 : "none");
        record_body_release(&body);
    }
}

static void test_a_header_that_is_no_text(void **state)
{
    struct record_body body = {0};
    cleanup_json json_t *value = NULL;

    record_keep(&body, "text/\xff", "x", 1, 1);
    value = record_body_describe(&body);
    assert_string_equal(json_get_string(value, "content_type", ""), "text/?");
    record_body_release(&body);
    record_keep(&body, NULL, "x", 1, 1);
    json_decref(value);
    value = record_body_describe(&body);
    assert_null(json_object_get(value, "content_type"));
    record_body_release(&body);
}

static json_t *parse_line(const struct record *record, const struct record_context *context)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *line = record_line(record, context);
    json_t *event = json_parse(line, strlen(line), &error);

    assert_null(strchr(line, '\n'));
    assert_non_null(event);
    return event;
}

static void test_an_event(void **state)
{
    struct record record = {.status = 200,
                            .outcome = OUTCOME_OK,
                            .queue_ns = 100 * NS_PER_US,
                            .run_ns = 3900 * NS_PER_US,
                            .client = (char *)"alice"};
    const struct record_context context = {.endpoint = "digits",
                                           .version = "7",
                                           .code_weights = "3.5",
                                           .protocol = "predict",
                                           .trace = "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\xff",
                                           .arrived_ms = 1769862896789,
                                           .latency_ns = 4200 * NS_PER_US};
    cleanup_json json_t *event = NULL, *expected = NULL;

    record_keep(&record.request, NULL, "line\nbreak", 10, 100);
    record_keep(&record.response, "text/plain", "two", 3, 1);
    event = parse_line(&record, &context);
    assert_true(id_is_valid(json_get_string(event, "id", "")));
    json_object_del(event, "id");
    expected = json_build(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:{s:s, s:s, s:s, s:i, s:s, s:f, s:f, s:f, s:s, s:s, s:{s:i, s:b, s:s}, "
        "s:{s:s, s:i, s:b, s:s}}}",
        "specversion", "1.0", "source", "/endpoints/digits", "type", "slipway.request", "subject", "7", "time",
        "2026-01-31T12:34:56.789Z", "datacontenttype", "application/json", "data", "version", "7", "code_weights",
        "3.5", "protocol", "predict", "status", 200, "outcome", "ok", "latency_ms", 4.2, "queue_ms", 0.1, "run_ms", 3.9,
        "trace_id", "0102030405060708090a0b0c0d0e0fff", "client", "alice", "request", "size", 10, "truncated", 0,
        "text", "line\nbreak", "response", "content_type", "text/plain", "size", 3, "truncated", 1, "text", "t");
    {
        cleanup_free char *got = json_text(event), *wanted = json_text(expected);

        assert_string_equal(got, wanted);
    }
    record_body_release(&record.request);
    record_body_release(&record.response);
}

/* What is not known is not there: a CloudEvent has no null attribute. */
static void test_an_event_of_little(void **state)
{
    struct record record = {.outcome = OUTCOME_CANCELLED, .queue_ns = -1, .run_ns = -1};
    const struct record_context context = {.endpoint = "e", .version = "", .protocol = "oip", .arrived_ms = 1000};
    static const char *const absent[] = {"status", "queue_ms", "run_ms",   "trace_id",
                                         "client", "request",  "response", "code_weights"};
    cleanup_json json_t *event = parse_line(&record, &context), *other = parse_line(&record, &context);
    const json_t *data = json_object_get(event, "data");

    assert_null(json_object_get(event, "subject"));
    assert_string_equal(json_get_string(data, "outcome", ""), "cancelled");
    for (size_t i = 0; i < ARRAY_SIZE(absent); i++)
        assert_null(json_object_get(data, absent[i]));
    assert_string_not_equal(json_get_string(event, "id", ""), json_get_string(other, "id", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_a_header_that_is_no_text),
        cmocka_unit_test(test_an_event),
        cmocka_unit_test(test_an_event_of_little),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
