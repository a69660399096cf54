#include <math.h>
#include "core/traffic.h"
#include "util/test.h"

static json_t *parse(const char *text)
{
    cleanup_error struct error error = ERROR_INIT;
    json_t *value = json_parse(text, strlen(text), &error);

    if (!value)
        fail_msg("%s", error.message);
    return value;
}

/* Slot 16 of util/durations.h is 16 µs, slot 80 256 µs. */
static const char before_text[] =
    "{\"instance\":\"a\",\"endpoints\":[{\"name\":\"other\",\"routes\":[]},{\"name\":\"e\",\"routes\":["
    "{\"version\":\"7\",\"outcomes\":{\"ok\":100,\"timeout\":1},\"latency\":{\"slots\":[[16,101]]},"
    "\"queue_time\":{\"slots\":[[1,101]]},\"shadow\":null}]}]}";
static const char now_text[] =
    "{\"instance\":\"a\",\"endpoints\":[{\"name\":\"e\",\"routes\":["
    "{\"version\":\"7\",\"outcomes\":{\"ok\":190,\"timeout\":2,\"invalid\":5,\"cancelled\":4},"
    "\"latency\":{\"slots\":[[16,101],[80,100]]},\"queue_time\":{\"slots\":[[1,201]]},\"shadow\":null},"
    "{\"version\":\"8\",\"outcomes\":{\"ok\":6,\"model_error\":1,\"worker_lost\":1,\"queue_full\":2},"
    "\"latency\":{\"slots\":[[80,10]]},\"queue_time\":{\"slots\":[]},\"shadow\":{\"copies\":10,\"agreed\":6,"
    "\"disagreed\":2,\"failed\":2,\"dropped\":{\"queue_full\":3,\"too_large\":4},\"max_abs\":0.5,\"max_rel\":0.1}}]}]}";

static void assert_number(const json_t *object, const char *key, double expected, double tolerance)
{
    const json_t *value = json_object_get(object, key);

    if (!json_is_number(value) || fabs(json_number_value(value) - expected) > tolerance)
        fail_msg("%s is %s, not %g", key, value ? json_text(value) : "absent", expected);
}

static void assert_null_value(const json_t *object, const char *key)
{
    if (!json_is_null(json_object_get(object, key)))
        fail_msg("%s is not null", key);
}

static void test_between_two_looks(void **state)
{
    cleanup_json json_t *before_status = parse(before_text), *now_status = parse(now_text);
    cleanup_json json_t *before = traffic_counters(before_status, "e", 1000);
    cleanup_json json_t *now = traffic_counters(now_status, "e", 31000);
    cleanup_json json_t *document = traffic_document(now, before, 7, 8);
    const json_t *live = json_object_get(document, "live"), *canary = json_object_get(document, "canary");

    assert_true(traffic_is_comparable(now, before));
    assert_number(document, "seconds", 30, 0);
    assert_number(live, "requests", 100, 0);
    assert_number(live, "errors", 1, 0); /* neither what is invalid nor who leaves */
    assert_number(live, "error_rate", 0.01, 1e-9);
    assert_number(live, "p50_ms", 0.264, 0.01);
    assert_number(live, "queue_p99_ms", 0.002, 0.001);
    assert_null_value(live, "copies");
    assert_null_value(live, "disagreement");
    assert_number(canary, "requests", 10, 0);
    assert_number(canary, "errors", 4, 0);
    assert_number(canary, "error_rate", 0.4, 1e-9);
    assert_null_value(canary, "queue_p50_ms");
    assert_number(canary, "disagreement", 0.25, 1e-9);
    assert_number(canary, "dropped", 7, 0);
    assert_number(canary, "max_abs", 0.5, 0);
}

static void test_another_gateway_begins_again(void **state)
{
    cleanup_json json_t *before_status = parse(before_text), *now_status = parse(now_text);
    cleanup_json json_t *before = NULL, *now = NULL, *live = NULL, *all = NULL, *none = NULL;

    json_set_string(before_status, "instance", "b");
    before = traffic_counters(before_status, "e", 0);
    now = traffic_counters(now_status, "e", 0);
    assert_false(traffic_is_comparable(now, before));
    assert_false(traffic_is_comparable(now, NULL));
    live = traffic_version(now, before, 7);
    assert_number(live, "requests", 201, 0);
    all = traffic_version(now, NULL, 7);
    assert_number(all, "requests", 201, 0);
    none = traffic_version(now, NULL, 9);
    assert_number(none, "requests", 0, 0);
    assert_null_value(none, "error_rate");
    assert_null_value(none, "p99_ms");
}

static void test_an_endpoint_that_is_not_there(void **state)
{
    cleanup_json json_t *status = parse(now_text), *counters = traffic_counters(status, "nobody", 5);
    cleanup_json json_t *none = traffic_version(counters, NULL, 7);

    assert_number(none, "requests", 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_between_two_looks),
        cmocka_unit_test(test_another_gateway_begins_again),
        cmocka_unit_test(test_an_endpoint_that_is_not_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
