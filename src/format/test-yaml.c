#include "format/yaml.h"
#include "util/test.h"

static void test_values(void **state)
{
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {"", "null"},
        {"# nothing\n", "null"},
        {"a: 1\nb: [x, 2.5, true, ~, '7', -3]\n", "{\"a\":1,\"b\":[\"x\",2.5,true,null,\"7\",-3]}"},
        {"a:\n  b:\n    - c: d\n", "{\"a\":{\"b\":[{\"c\":\"d\"}]}}"},
        {"{\"json\": [\"is\", \"yaml\"]}", "{\"json\":[\"is\",\"yaml\"]}"},
        {"shape: [-1, 64]", "{\"shape\":[-1,64]}"},
        {"text: |\n  two\n  lines\n", "{\"text\":\"two\\nlines\\n\"}"},
        {"a: 1.2.3\nb: 0x10\nc: no\n", "{\"a\":\"1.2.3\",\"b\":\"0x10\",\"c\":\"no\"}"},
        {"---\na: null\n...\n", "{\"a\":null}"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_error struct error error = ERROR_INIT;
        cleanup_json json_t *value = yaml_parse(rows[i].text, strlen(rows[i].text), "test", &error);
        cleanup_free char *text = NULL;

        if (!value)
            fail_msg("'%s': %s", rows[i].text, error.message);
        text = json_text(value);
        assert_string_equal(text, rows[i].expected);
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"a: &x 1\nb: *x\n", "anchors"},
        {"a: *x\n", "aliases"},
        {"a: !!python/object:os.system x\n", "tags"},
        {"a: 1\nb: 2\na: 3\n", "line 3"},
        {"[a]: 1\n", "plain word"},
        {"--- 1\n--- 2\n", "more than one"},
        {"a: [1, 2\n", "line"},
        {"a: \"\\x00\"\n", "NUL"},
        {"\t- x", "line 1"},
        {"a: \xff\xfe\n", "test"},
        {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
         "deeply"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_error struct error error = ERROR_INIT;
        cleanup_json json_t *value = yaml_parse(rows[i].text, strlen(rows[i].text), "test", &error);

        if (value)
            fail_msg("'%s' was taken", rows[i].text);
        if (error.code != ERROR_INVALID || !strstr(error.message, rows[i].message))
            fail_msg("'%s': '%s', expected '%s'", rows[i].text, error.message, rows[i].message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
