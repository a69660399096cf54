#include "format/reader.h"

#include <sys/mman.h>
#include "util/limits.h"
#include "util/proc.h"
#include "util/test.h"

/* Three bytes a time. */
static ssize_t drip(void *userdata, void *buffer, size_t size, struct error *error)
{
    const char **text = userdata;
    size_t n = strlen(*text) < 3 ? strlen(*text) : 3;

    n = n < size ? n : size;
    memcpy(buffer, *text, n);
    *text += n;
    return n;
}

static void expect_lines(struct reader *reader, const char *const *lines, size_t count)
{
    cleanup_error struct error error = ERROR_INIT;
    const char *line;
    size_t length;

    for (size_t i = 0; i < count; i++) {
        assert_int_equal(reader_line(reader, 100, &line, &length, &error), 1);
        assert_int_equal(length, strlen(lines[i]));
        assert_memory_equal(line, lines[i], length);
    }
    assert_int_equal(reader_line(reader, 100, &line, &length, &error), 0);
    assert_int_equal(reader_line(reader, 100, &line, &length, &error), 0);
}

static void test_lines(void **state)
{
    static const char *const lines[] = {"one", "", "three", "and four"};
    const char *text = "one\n\nthree\r\nand four";
    cleanup_error struct error error = ERROR_INIT;
    cleanup_reader struct reader *memory = reader_open_memory(text, strlen(text), "memory");
    const char *rest = text;
    cleanup_reader struct reader *source = reader_open_source(drip, &rest, "source");

    expect_lines(memory, lines, 4);
    assert_ok(reader_rewind(memory, &error), &error);
    expect_lines(memory, lines, 4);
    expect_lines(source, lines, 4);
    assert_error(reader_rewind(source, &error), &error, ERROR_UNSUPPORTED, "twice");
}

static void test_line_limit(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_reader struct reader *reader = reader_open_memory("12345\n", 6, "memory");
    const char *line;
    size_t length;

    assert_error(reader_line(reader, 4, &line, &length, &error), &error, ERROR_TOO_LARGE, "longer than 4");
}

static void test_read(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_reader struct reader *reader = reader_open_memory("abcdef", 6, "memory");
    char buffer[10];

    assert_ok(reader_read(reader, buffer, 4, &error), &error);
    assert_memory_equal(buffer, "abcd", 4);
    assert_int_equal(reader_offset(reader), 4);
    assert_error(reader_read(reader, buffer, 10, &error), &error, ERROR_INVALID, "ends at byte 6, 8 bytes early");
    assert_error(reader_skip(reader, UINT64_MAX, &error), &error, ERROR_INVALID, "cut short");
}

static void test_gzip(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    char *directory = test_directory_new();
    cleanup_free char *path = fs_join(directory, "x.gz"), *cut = fs_join(directory, "cut.gz");
    cleanup_free char *bad = fs_join(directory, "bad.gz");
    cleanup_free char *script = xasprintf("cd %s && seq 1 300000 | gzip > x.gz && seq 300001 300010 | gzip >> x.gz && "
                                          "head -c 100000 x.gz > cut.gz && (head -c 50000 x.gz; head -c 1000 "
                                          "/dev/zero; tail -c +51001 x.gz) > bad.gz",
                                          directory);
    const char *argv[] = {"sh", "-c", script, NULL};
    const char *const paths[] = {cut, bad};
    struct reader *reader = NULL;
    const char *line;
    size_t length;
    int r, count = 0;

    assert_int_equal(proc_run(argv, 1000, 60000, NULL, &error), 0);
    assert_ok(reader_open_path(path, &reader, &error), &error);
    while ((r = reader_line(reader, 100, &line, &length, &error)) > 0) {
        char text[32];

        snprintf(text, sizeof(text), "%d", ++count);
        assert_int_equal(length, strlen(text));
        assert_memory_equal(line, text, length);
    }
    assert_int_equal(r, 0);
    assert_int_equal(count, 300010);
    assert_true(reader_is_compressed(reader));
    assert_ok(reader_rewind(reader, &error), &error);
    assert_int_equal(reader_line(reader, 100, &line, &length, &error), 1);
    reader_close(reader);

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        assert_ok(reader_open_path(paths[i], &reader, &error), &error);
        while ((r = reader_line(reader, MIB, &line, &length, &error)) > 0)
            ;
        assert_error(r, &error, i ? ERROR_INVALID : ERROR_INVALID, i ? "damaged" : "cut short");
        reader_close(reader);
    }
    test_directory_remove(directory);
}

static void test_peek_grows(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    size_t length = 5 * MIB, available;
    char *text = memset(xmalloc(length), 'x', length);
    cleanup_reader struct reader *reader = reader_open_memory(text, length, "memory");
    const char *data;
    bool end;

    assert_ok(reader_peek(reader, 1, &data, &available, &end, &error), &error);
    assert_ok(reader_peek(reader, 3 * MIB, &data, &available, &end, &error), &error);
    assert_true(available >= 3 * MIB);
    assert_ok(reader_peek(reader, 100 * MIB, &data, &available, &end, &error), &error);
    assert_int_equal(available, length);
    assert_true(end);
    assert_int_equal(data[length], 0);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines), cmocka_unit_test(test_line_limit), cmocka_unit_test(test_read),
        cmocka_unit_test(test_gzip),  cmocka_unit_test(test_peek_grows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
