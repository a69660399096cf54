#include "core/runlog.h"
#include "util/strbuf.h"
#include "util/test.h"

static int collect(void *userdata, const struct runlog_entry *entry)
{
    struct strbuf *out = userdata;

    strbuf_addc(out, entry->is_stderr ? 'e' : 'o');
    strbuf_addc(out, entry->partial ? '-' : '.');
    strbuf_add(out, entry->text, entry->length);
    strbuf_addc(out, '|');
    return 0;
}

static void check(const char *path, int64_t offset, size_t max, const char *expected, int64_t expected_offset)
{
    cleanup_strbuf struct strbuf out = STRBUF_INIT(4096);
    cleanup_error struct error error = ERROR_INIT;
    int64_t next = -1;

    assert_ok(runlog_read(path, offset, max, collect, &out, &next, &error), &error);
    assert_string_equal(out.data, expected);
    assert_int_equal(next, expected_offset);
}

static void test_read(void **state)
{
    static const char text[] = "2026-01-31T12:34:56.789012345Z stdout F one\n"
                               "2026-01-31T12:34:56.789012345Z stderr P two\n"
                               "2026-01-31T12:34:56.789012345Z stderr F \n"
                               "nonsense\n"
                               "2026-01-31T12:34:56.789012345Z stdout F not yet";
    cleanup_error struct error error = ERROR_INIT;
    char *directory = test_directory_new();
    cleanup_free char *path = fs_join(directory, "log");
    int64_t complete = (int64_t)(strrchr(text, '\n') + 1 - text), offset;

    check(path, 0, 1000, "", 0);
    assert_ok(fs_write_atomic(path, text, strlen(text), 0600, &error), &error);
    check(path, 0, 1000, "o.one|e-two|e.|o.nonsense|", complete);
    check(path, 0, 10, "o.one|", 44);
    check(path, 44, 1000, "e-two|e.|o.nonsense|", complete);
    check(path, 20, 1000, "e-two|e.|o.nonsense|", complete);
    check(path, complete, 1000, "", complete);
    check(path, 99999, 1000, "", 99999);

    assert_ok(fs_write_atomic(path, text, (size_t)complete, 0600, &error), &error);
    assert_ok(runlog_tail(path, 1, &offset, &error), &error);
    assert_int_equal(offset, complete - 9);
    assert_ok(runlog_tail(path, 99, &offset, &error), &error);
    assert_int_equal(offset, 0);
    assert_ok(runlog_tail(path, 0, &offset, &error), &error);
    assert_int_equal(offset, complete);
    test_directory_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_read)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
