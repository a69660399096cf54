#include <math.h>
#include "format/frame.h"
#include "gateway/difference.h"
#include "util/strbuf.h"
#include "util/test.h"

static void test_text(void **state)
{
    static const struct {
        const char *a, *b;
        double tolerance;
        bool agree, is_numeric;
        double max_abs, max_rel;
    } rows[] = {
        {"abc", "abc", 0, true, false, 0, 0},
        {"abc", "abd", 9, false, false, 0, 0},
        {"", "", 0, true, false, 0, 0},
        {"", "1", 9, false, false, 0, 0},
        {"1.5", "1.5", 0, true, true, 0, 0},
        {"1.5", "1.25", 0, false, true, 0.25, 0.25 / 1.5},
        {"1.5", "1.25", 0.25, true, true, 0.25, 0.25 / 1.5},
        {"1000000", "1000001", 1e-5, true, true, 1, 1 / 1000001.0}, /* in relation */
        {"0", "0.001", 0.001, true, true, 0.001, 1},                /* absolutely */
        {"0", "0.001", 0.0001, false, true, 0.001, 1},
        {"1", "1.0", 0, true, true, 0, 0},
        {"9007199254740993", "9007199254740992", 0, false, true, 1, 1 / 9007199254740993.0},
        {"{\"a\":[1,2],\"b\":\"x\"}", "{ \"b\": \"x\", \"a\": [1, 4] }", 0, false, true, 2, 0.5},
        {"{\"a\":[1,2],\"b\":\"x\"}", "{ \"b\": \"x\", \"a\": [1, 4] }", 2, true, true, 2, 0.5},
        {"{\"a\":1,\"b\":\"x\"}", "{\"a\":1,\"b\":\"y\"}", 9, false, false, 0, 0},
        {"{\"a\":1}", "{\"c\":1}", 9, false, false, 0, 0},
        {"[1]", "[1,1]", 9, false, false, 0, 0},
        {"[1]", "{\"0\":1}", 9, false, false, 0, 0},
        {"[true,null]", "[true,null]", 0, true, false, 0, 0},
        {"[true]", "[1]", 9, false, false, 0, 0},
        {"[1", "[1", 0, true, false, 0, 0}, /* no JSON, but equal */
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct difference d;

        difference_of_text(rows[i].a, strlen(rows[i].a), rows[i].b, strlen(rows[i].b), rows[i].tolerance, &d);
        if (d.agree != rows[i].agree || d.is_numeric != rows[i].is_numeric ||
            fabs(d.max_abs - rows[i].max_abs) > 1e-12 || fabs(d.max_rel - rows[i].max_rel) > 1e-12)
            fail_msg("%s and %s within %g: agree %d, numeric %d, %g, %g", rows[i].a, rows[i].b, rows[i].tolerance,
                     d.agree, d.is_numeric, d.max_abs, d.max_rel);
    }
}

/* One tensor of two elements. */
static char *frame_of(const char *name, uint32_t type, const void *data, size_t size)
{
    struct strbuf frame = STRBUF_INIT(4096);
    int64_t shape = 2;

    frame_begin(&frame, 1);
    frame_begin_entry(&frame, 0, name, type, &shape, 1);
    strbuf_add(&frame, data, size);
    frame_end_entry(&frame, 0);
    return strbuf_detach(&frame, NULL);
}

static struct difference frames(char *a, char *b, double tolerance)
{
    struct difference d;

    difference_of_frames(a, b, tolerance, &d);
    free(a);
    free(b);
    return d;
}

static void test_tensors(void **state)
{
    const float x[] = {1, 2}, y[] = {1, 2.5}, nan_first[] = {NAN, 2};
    const uint16_t half_x[] = {0x3c00, 0x0001}, half_y[] = {0xbc00, 0x0001}; /* 1 and -1; the least above 0 */
    const int64_t large_x[] = {INT64_MAX, 0}, large_y[] = {INT64_MAX - 1, 0};
    struct difference d;

    d = frames(frame_of("p", FRAME_FP32, x, sizeof(x)), frame_of("p", FRAME_FP32, x, sizeof(x)), 0);
    assert_true(d.agree && d.is_numeric && d.max_abs == 0);
    d = frames(frame_of("p", FRAME_FP32, x, sizeof(x)), frame_of("p", FRAME_FP32, y, sizeof(y)), 0.1);
    assert_true(!d.agree && d.is_numeric && d.max_abs == 0.5 && d.max_rel == 0.2);
    d = frames(frame_of("p", FRAME_FP32, x, sizeof(x)), frame_of("p", FRAME_FP32, y, sizeof(y)), 0.2);
    assert_true(d.agree);
    d = frames(frame_of("p", FRAME_FP32, x, sizeof(x)), frame_of("q", FRAME_FP32, x, sizeof(x)), 9);
    assert_true(!d.agree && !d.is_numeric);
    d = frames(frame_of("p", FRAME_FP32, x, sizeof(x)), frame_of("p", FRAME_INT32, x, sizeof(x)), 9);
    assert_true(!d.agree && !d.is_numeric);
    d = frames(frame_of("p", FRAME_FP32, nan_first, sizeof(x)), frame_of("p", FRAME_FP32, nan_first, sizeof(x)), 0);
    assert_true(d.agree && d.max_abs == 0);
    d = frames(frame_of("p", FRAME_FP32, nan_first, sizeof(x)), frame_of("p", FRAME_FP32, x, sizeof(x)), 9);
    assert_true(!d.agree && isinf(d.max_abs));
    d = frames(frame_of("p", FRAME_FP16, half_x, sizeof(half_x)), frame_of("p", FRAME_FP16, half_y, sizeof(half_y)), 0);
    assert_true(!d.agree && d.max_abs == 2 && d.max_rel == 2);
    d = frames(frame_of("p", FRAME_INT64, large_x, sizeof(large_x)),
               frame_of("p", FRAME_INT64, large_y, sizeof(large_y)), 0);
    assert_true(!d.agree && d.max_abs == 1);
    d = frames(frame_of("p", FRAME_BYTES, "\1\0\0\0a\1\0\0\0b", 10),
               frame_of("p", FRAME_BYTES, "\1\0\0\0a\1\0\0\0c", 10), 9);
    assert_true(!d.agree && !d.is_numeric);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_tensors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
