#include "format/crilog.h"
#include "util/test.h"

#define TIME_NS INT64_C(1769862896789012345)

static void test_append_and_parse(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_strbuf struct strbuf out = STRBUF_INIT(1024);
    struct crilog_entry entry;

    crilog_append(&out, &(struct crilog_entry){TIME_NS, CRILOG_STDERR, true, "half", 4});
    assert_string_equal(out.data, "2026-01-31T12:34:56.789012345Z stderr P half\n");
    crilog_append(&out, &(struct crilog_entry){TIME_NS, CRILOG_STDOUT, false, "", 0});
    assert_int_equal(crilog_parse(out.data, out.length, &entry, &error), 45);
    assert_int_equal(entry.time_ns, TIME_NS);
    assert_int_equal(entry.stream, CRILOG_STDERR);
    assert_true(entry.partial);
    assert_int_equal(entry.length, 4);
    assert_memory_equal(entry.text, "half", 4);
    assert_int_equal(crilog_parse(out.data + 45, out.length - 45, &entry, &error), 41);
    assert_int_equal(entry.length, 0);
    assert_false(entry.partial);
}

static void test_parse_others(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    struct crilog_entry entry;
    const char *line;

    line = "2026-01-31T13:34:56.5+01:00 stdout F:x a b\n";
    assert_int_equal(crilog_parse(line, strlen(line), &entry, &error), strlen(line));
    assert_int_equal(entry.time_ns, INT64_C(1769862896500000000));
    assert_int_equal(entry.length, 3);
    assert_int_equal(crilog_parse(line, strlen(line) - 1, &entry, &error), 0);
    assert_int_equal(crilog_parse(line, 0, &entry, &error), 0);
}

static void test_parse_malformed(void **state)
{
    static const char *const lines[] = {
        "\n",
        " \n",
        "x\n",
        "2026-01-31T12:34:56Z\n",
        "2026-01-31T12:34:56Z \n",
        "2026-01-31T12:34:56Z stdout\n",
        "2026-01-31T12:34:56Z stdout F\n",
        "2026-01-31T12:34:56Z stdxxx F a\n",
        "2026-01-31T12:34:56Z stdout X a\n",
        "2026-01-31T12:34:56Z stdout FF a\n",
        "2026-13-31T12:34:56Z stdout F a\n",
        "2026-01-31T12:34:56. stdout F a\n",
        "2026-01-31T12:34:56.Z stdout F a\n",
        "2026-01-31T12:34:56.1234567890Z stdout F a\n",
        "2026-01-31T12:34:56+1:000 stdout F a\n",
        "2026-01-31 12:34:56Z stdout F a\n",
    };
    char *endless = malloc(CRILOG_ENTRY_MAX);
    cleanup_error struct error error = ERROR_INIT;
    struct crilog_entry entry;

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        assert_error(crilog_parse(lines[i], strlen(lines[i]), &entry, &error), &error, ERROR_CORRUPT, "CRI log");
    memset(endless, 'x', CRILOG_ENTRY_MAX);
    assert_error(crilog_parse(endless, CRILOG_ENTRY_MAX, &entry, &error), &error, ERROR_CORRUPT, "no end of line");
    free(endless);
}

/* Splits text in pieces of a size and puts the entries together again. */
static char *roundtrip(const char *text, size_t length, size_t piece, int *ret_partial)
{
    struct crilog_splitter splitter = CRILOG_SPLITTER_INIT(CRILOG_STDOUT);
    cleanup_strbuf struct strbuf out = STRBUF_INIT(64 * MIB), joined = STRBUF_INIT(64 * MIB);
    cleanup_error struct error error = ERROR_INIT;
    size_t at = 0;

    *ret_partial = 0;
    for (size_t i = 0; i < length; i += piece)
        crilog_split(&splitter, TIME_NS, text + i, length - i < piece ? length - i : piece, &out);
    crilog_flush(&splitter, TIME_NS, &out);
    crilog_splitter_release(&splitter);
    while (at < out.length) {
        struct crilog_entry entry;
        ssize_t n = crilog_parse(out.data + at, out.length - at, &entry, &error);

        if (n <= 0)
            fail_msg("at %zu: %s", at, error.message ? error.message : "incomplete");
        assert_true(entry.length <= LIMIT_LOG_CHUNK);
        strbuf_add(&joined, entry.text, entry.length);
        if (entry.partial)
            ++*ret_partial;
        else
            strbuf_addc(&joined, '\n');
        at += n;
    }
    return strbuf_detach(&joined, NULL);
}

static void test_split(void **state)
{
    static const size_t pieces[] = {1, 7, 4096, LIMIT_LOG_CHUNK, 1000000};
    static const size_t lengths[] = {
        0, 1, LIMIT_LOG_CHUNK - 1, LIMIT_LOG_CHUNK, LIMIT_LOG_CHUNK + 1, 2 * LIMIT_LOG_CHUNK, 3 * LIMIT_LOG_CHUNK + 5};

    for (size_t i = 0; i < ARRAY_SIZE(pieces); i++)
        for (size_t j = 0; j < ARRAY_SIZE(lengths); j++) {
            cleanup_strbuf struct strbuf text = STRBUF_INIT(MIB);
            cleanup_free char *back = NULL;
            int partial, expected = lengths[j] ? (lengths[j] - 1) / LIMIT_LOG_CHUNK : 0;

            strbuf_adds(&text, "first\n\n");
            for (size_t k = 0; k < lengths[j]; k++)
                strbuf_addc(&text, 'a' + k % 26);
            strbuf_addc(&text, '\n');
            back = roundtrip(text.data, text.length, pieces[i], &partial);
            assert_string_equal(back, text.data);
            if (partial != expected)
                fail_msg("line of %zu in pieces of %zu: %d partial entries, expected %d", lengths[j], pieces[i],
                         partial, expected);
        }
}

static void test_split_without_end(void **state)
{
    cleanup_free char *back = NULL;
    int partial;

    back = roundtrip("a\nno newline", 12, 5, &partial);
    assert_string_equal(back, "a\nno newline\n");
    assert_int_equal(partial, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_and_parse),  cmocka_unit_test(test_parse_others),
        cmocka_unit_test(test_parse_malformed),   cmocka_unit_test(test_split),
        cmocka_unit_test(test_split_without_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
