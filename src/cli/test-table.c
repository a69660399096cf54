#include <string.h>
#include "cli/table.h"
#include "cli/terminal.h"
#include "util/clock.h"
#include "util/test.h"
#include "util/xalloc.h"

static char *print_rows(const struct table_column *columns, const char *json)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *items = json_parse(json, strlen(json), &error);
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(items);
    if (json_is_array(items))
        table_print(out, columns, items);
    else
        table_print_object(out, columns, items);
    fclose(out);
    return text;
}

static void test_aligns(void **state)
{
    static const struct table_column columns[] = {
        {"NAME", "name"},
        {"VERSION", "version", TABLE_NUMBER},
        {"CPUS", "resources.cpus", TABLE_NUMBER},
        {"NOTE", "note"},
        {},
    };
    cleanup_free char *text = print_rows(columns, "[{\"name\":\"größe\",\"version\":3,\"resources\":{\"cpus\":1.5}},"
                                                  " {\"name\":\"x\",\"version\":12,\"note\":\"数字\\u001b[2J\\n\"}]");

    assert_string_equal(text, "NAME   VERSION  CPUS  NOTE\n"
                              "größe        3   1.5  -\n"
                              "x           12     -  数字\\x1b[2J\\n\n");
}

static void test_formats(void **state)
{
    static const struct table_column columns[] = {
        {"Size", "size", TABLE_BYTES},
        {"Took", "took", TABLE_DURATION},
        {"Digest", "digest", TABLE_DIGEST},
        {"Accuracy", "accuracy", TABLE_PERCENT},
        {"Tags", "tags"},
        {"Public", "public"},
        {"Broken age", "broken", TABLE_AGE},
        {"Nothing", "nothing"},
        {},
    };
    cleanup_free char *text = print_rows(
        columns, "{\"size\":1610612736,\"took\":12400,\"digest\":\"sha256:0123456789abcdef\","
                 "\"accuracy\":0.9532,\"tags\":[\"a\",\"b\"],\"public\":false,\"broken\":\"today\","
                 "\"nothing\":null}");

    assert_string_equal(text, "Size        1.50 GiB\n"
                              "Took        12.4 s\n"
                              "Digest      0123456789ab\n"
                              "Accuracy    95.3 %\n"
                              "Tags        a, b\n"
                              "Public      no\n"
                              "Broken age  today\n");
}

static void test_age(void **state)
{
    static const struct table_column column = {"AGE", "at", TABLE_AGE};
    cleanup_json json_t *item = json_object();
    cleanup_free char *past = NULL, *future = NULL;

    json_set_time_ms(item, "at", clock_wall_ms() - 2 * 86400000LL - 3 * 3600000LL - 1000);
    past = table_cell(&column, item);
    assert_string_equal(past, "2d 03h");
    json_set_time_ms(item, "at", clock_wall_ms() + 60000);
    future = table_cell(&column, item);
    assert_string_equal(future, "now");
}

static char *make_cell(const json_t *item)
{
    return xasprintf("<%s>", json_get_string(item, "name", ""));
}

static void test_own_text(void **state)
{
    static const struct table_column column = {"X", .text = make_cell};
    cleanup_json json_t *item = json_build("{s:s}", "name", "a");
    cleanup_free char *text = table_cell(&column, item);

    assert_string_equal(text, "<a>");
}

static void test_text_width(void **state)
{
    static const struct {
        const char *text;
        int width;
    } texts[] = {{"", 0},          {"abc", 3}, {"größe", 5},    {"数字", 4},
                 {"e\xcc\x81", 1}, {"…", 1},   {"\xff\xc3", 2}, {"🚢", 2}};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (text_width(texts[i].text) != texts[i].width)
            fail_msg("'%s' is %d wide, not %d", texts[i].text, text_width(texts[i].text), texts[i].width);
    assert_int_equal(text_fit("数字", 3), strlen("数"));
    assert_int_equal(text_fit("abc", 10), 3);
    assert_int_equal(text_fit("größe", 3), strlen("grö"));
}

static void test_text_printable(void **state)
{
    static const struct {
        const char *text, *printable;
    } texts[] = {
        {"plain ü", "plain ü"},
        {"a\nb\tc\r", "a\\nb\\tc\\x0d"},
        {"\x1b]0;x\x07", "\\x1b]0;x\\x07"},
        {"\xc2\x9b"
         "1m",
         "\\x9b1m"},
        {"\xff\xc0\xaf", "\\xff\\xc0\\xaf"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        cleanup_free char *printable = text_printable(texts[i].text);

        assert_string_equal(printable, texts[i].printable);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aligns),   cmocka_unit_test(test_formats),    cmocka_unit_test(test_age),
        cmocka_unit_test(test_own_text), cmocka_unit_test(test_text_width), cmocka_unit_test(test_text_printable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
