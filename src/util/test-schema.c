#include <math.h>
#include "util/limits.h"
#include "util/schema.h"
#include "util/test.h"

static const char *const sizes[] = {"small", "large", NULL};

static const struct schema_field part_fields[] = {
    {"cpus", SCHEMA_NUMBER, SCHEMA_REQUIRED, .min = 0, .max = 64, .doc = "cores"},
    {},
};
static const struct schema part_schema = {"Part", part_fields, "a part"};

static const struct schema_field fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 1, .max = 5},
    {"count", SCHEMA_INTEGER},
    {"size", SCHEMA_STRING, .values = sizes},
    {"tags", SCHEMA_ARRAY, .item = SCHEMA_STRING, .max = 2},
    {"part", SCHEMA_OBJECT, .object = &part_schema, .flags = SCHEMA_NULLABLE},
    {"parts", SCHEMA_ARRAY, .item = SCHEMA_OBJECT, .object = &part_schema},
    {"labels", SCHEMA_MAP, .item = SCHEMA_STRING},
    {"when", SCHEMA_TIME},
    {},
};
static const struct schema whole_schema = {"Whole", fields, "a whole"};

static void check(const char *text, const char *expected)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *value = json_parse(text, strlen(text), &error);
    int r;

    if (!value)
        fail_msg("%s: %s", text, error.message);
    r = schema_check(&whole_schema, value, &error);
    if (!expected && r < 0)
        fail_msg("%s: %s", text, error.message);
    if (expected && (r == 0 || !strstr(error.message, expected)))
        fail_msg("%s: got '%s', expected '%s'", text, r ? error.message : "success", expected);
}

static void test_check(void **state)
{
    check("{\"name\":\"abc\"}", NULL);
    check("{\"name\":\"abc\",\"part\":null,\"count\":-3,\"tags\":[],\"labels\":{\"a\":\"b\"}}", NULL);
    check("{}", "field 'name' is missing");
    check("{\"name\":7}", "field 'name' must be a string, not an integer");
    check("{\"name\":\"\"}", "at least 1 characters long, not 0");
    check("{\"name\":\"abcdef\"}", "at most 5 characters long, not 6");
    check("{\"name\":\"a\",\"nmae\":1}", "unknown field 'nmae'; known are: name, count");
    check("{\"name\":\"a\",\"count\":1.5}", "must be an integer, not a number");
    check("{\"name\":\"a\",\"size\":\"tiny\"}", "must be one of: small, large");
    check("{\"name\":\"a\",\"tags\":[\"x\",3]}", "field 'tags[1]' must be a string, not an integer");
    check("{\"name\":\"a\",\"tags\":[\"x\",\"y\",\"z\"]}", "at most 2 elements long");
    check("{\"name\":\"a\",\"part\":{\"cpus\":65}}", "field 'part.cpus' must be at most 64");
    check("{\"name\":\"a\",\"part\":{}}", "field 'part.cpus' is missing");
    check("{\"name\":\"a\",\"parts\":[{\"cpus\":1},{\"gpus\":1}]}", "unknown field 'parts[1].gpus'");
    check("{\"name\":\"a\",\"labels\":{\"k\":1}}", "field 'labels.k' must be a string");
    check("{\"name\":\"a\",\"when\":\"yesterday\"}", "must be a time (RFC 3339)");
    check("{\"name\":\"a\",\"count\":null}", "must be an integer, not null");
    check("[]", "expected an object, not an array");
}

static void test_describe(void **state)
{
    cleanup_json json_t *components = json_object();
    cleanup_json json_t *reference = schema_describe(&whole_schema, components);
    json_t *whole = json_object_get(components, "Whole");

    assert_string_equal(json_get_string(reference, "$ref", ""), "#/components/schemas/Whole");
    assert_non_null(json_object_get(components, "Part"));
    assert_int_equal(json_array_size(json_object_get(whole, "required")), 1);
    assert_int_equal(json_object_size(json_object_get(whole, "properties")), 8);
}

static void test_parse_limits(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    char deep[2 * LIMIT_JSON_DEPTH + 8] = "";

    for (int i = 0; i <= LIMIT_JSON_DEPTH; i++)
        strcat(deep, "[");
    for (int i = 0; i <= LIMIT_JSON_DEPTH; i++)
        strcat(deep, "]");
    assert_null(json_parse(deep, strlen(deep), &error));
    assert_non_null(strstr(error.message, "nested deeper"));
    error_clear(&error);
    assert_null(json_parse("{\"a\":1,\"a\":2}", 13, &error));
    assert_non_null(strstr(error.message, "line 1"));
    error_clear(&error);
    assert_null(json_parse("{} x", 4, &error));
    error_clear(&error);
    assert_null(json_parse("NaN", 3, &error));
}

static void test_getters_and_text(void **state)
{
    cleanup_json json_t *value = json_build("{s:i, s:s}", "b", 1, "a", "x");
    cleanup_free char *plain = NULL, *canonical = NULL;

    json_set_number(value, "c", NAN);
    json_set_time_ms(value, "t", 1500);
    plain = json_text(value);
    canonical = json_text_canonical(value);
    assert_string_equal(plain, "{\"b\":1,\"a\":\"x\",\"c\":null,\"t\":\"1970-01-01T00:00:01.500Z\"}");
    assert_string_equal(canonical, "{\"a\":\"x\",\"b\":1,\"c\":null,\"t\":\"1970-01-01T00:00:01.500Z\"}");
    assert_int_equal(json_get_int(value, "b", 0), 1);
    assert_int_equal(json_get_int(value, "zz", 9), 9);
    assert_null(json_get_string(value, "b", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_parse_limits),
        cmocka_unit_test(test_getters_and_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
