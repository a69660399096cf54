#include "format/spool.h"

#include "util/test.h"

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 31 + i / 251);
}

static void fill(struct spool *spool, size_t from, size_t to, size_t piece, struct error *error)
{
    uint8_t buffer[700];

    for (size_t at = from; at < to;) {
        size_t n = to - at < piece ? to - at : piece;

        for (size_t i = 0; i < n; i++)
            buffer[i] = byte_at(at + i);
        assert_ok(spool_write(spool, buffer, n, error), error);
        at += n;
    }
    assert_int_equal(spool_size(spool), to);
}

static void check(struct spool *spool, size_t length, size_t piece, struct error *error)
{
    uint8_t buffer[700];

    spool_rewind(spool);
    for (size_t at = 0; at < length;) {
        size_t n = length - at < piece ? length - at : piece;

        assert_ok(spool_read(spool, buffer, n, error), error);
        for (size_t i = 0; i < n; i++)
            if (buffer[i] != byte_at(at + i))
                fail_msg("byte %zu is %d, expected %d", at + i, buffer[i], byte_at(at + i));
        at += n;
    }
    assert_error(spool_read(spool, buffer, 1, error), error, ERROR_INTERNAL, "beyond the end");
}

static void test_sizes(void **state)
{
    /* Below, at and far above what is kept in memory; the buffer also begins smaller than it may become. */
    static const struct {
        size_t memory, length;
    } rows[] = {{1, 5}, {100, 0}, {100, 99}, {100, 100}, {100, 101}, {100, 100000}, {65536, 65535}, {65536, 300000}};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        for (size_t piece = 1; piece <= 700; piece += 233) {
            cleanup_error struct error error = ERROR_INIT;
            cleanup_spool struct spool *spool = spool_new_with(NULL, rows[i].memory);

            fill(spool, 0, rows[i].length, piece, &error);
            check(spool, rows[i].length, 700 - piece + 1, &error);
            check(spool, rows[i].length, piece, &error);
            spool_clear(spool);
            assert_int_equal(spool_size(spool), 0);
            fill(spool, 0, rows[i].length / 2, piece, &error);
            check(spool, rows[i].length / 2, piece, &error);
        }
}

static void test_map(void **state)
{
    static const size_t memories[] = {100, 100000};

    for (size_t i = 0; i < ARRAY_SIZE(memories); i++) {
        cleanup_error struct error error = ERROR_INIT;
        cleanup_spool struct spool *spool = spool_new_with(NULL, memories[i]);
        const void *data;

        fill(spool, 0, 5000, 300, &error);
        assert_ok(spool_map(spool, &data, &error), &error);
        for (size_t k = 0; k < 5000; k++)
            assert_int_equal(((const uint8_t *)data)[k], byte_at(k));
        check(spool, 5000, 300, &error);
    }
}

static void test_no_directory(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_spool struct spool *spool = spool_new_with("/absent", 4);

    assert_ok(spool_write(spool, "1234", 4, &error), &error);
    assert_error(spool_write(spool, "5", 1, &error), &error, ERROR_NOT_FOUND, "/absent");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_no_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
