#include "format/frame.h"
#include "util/test.h"

static const int64_t shape[] = {2, 3};

static void make(struct strbuf *frame)
{
    static const float values[6] = {1, 2, 3, 4, 5, 6};
    static const int64_t one[] = {1};

    frame_begin(frame, 2);
    frame_begin_entry(frame, 0, "x", FRAME_FP32, shape, 2);
    strbuf_add(frame, values, sizeof(values));
    frame_end_entry(frame, 0);
    frame_begin_entry(frame, 1, "text", FRAME_BYTES, one, 1);
    strbuf_add(frame, "\3\0\0\0abc", 7);
    frame_end_entry(frame, 1);
}

static void test_round_trip(void **state)
{
    cleanup_strbuf struct strbuf frame = STRBUF_INIT(10000);
    const struct frame_entry *entries;

    make(&frame);
    assert_int_equal(frame_check(frame.data, frame.length, NULL), 0);
    assert_int_equal(frame_count(frame.data), 2);
    entries = frame_entries(frame.data);
    assert_string_equal(entries[0].name, "x");
    assert_int_equal(entries[0].offset % FRAME_ALIGN, 0);
    assert_int_equal(entries[0].length, 24);
    assert_memory_equal(frame.data + entries[1].offset + 4, "abc", 3);
}

/* No prefix and no single flipped byte makes the check read outside; sanitizers watch. */
static void test_damage(void **state)
{
    cleanup_strbuf struct strbuf frame = STRBUF_INIT(10000);

    make(&frame);
    for (size_t n = 0; n < frame.length; n++) {
        char *copy = malloc(n ? n : 1);

        memcpy(copy, frame.data, n);
        assert_int_equal(frame_check(copy, n, NULL), -1);
        free(copy);
    }
    for (size_t i = 0; i < frame.length; i++) {
        for (int bit = 0; bit < 8; bit++) {
            frame.data[i] ^= (char)(1 << bit);
            frame_check(frame.data, frame.length, NULL);
            frame.data[i] ^= (char)(1 << bit);
        }
    }
}

static void test_shapes(void **state)
{
    assert_int_equal(frame_elements((int64_t[]){2, 3, 4}, 3), 24);
    assert_int_equal(frame_elements(NULL, 0), 1);
    assert_int_equal(frame_elements((int64_t[]){5, 0}, 2), 0);
    assert_int_equal(frame_elements((int64_t[]){-1}, 1), -1);
    assert_int_equal(frame_elements((int64_t[]){INT64_MAX, 2}, 2), -1);
    assert_int_equal(frame_elements((int64_t[]){1 << 30, 1 << 30}, 2), -1);
}

static void test_types(void **state)
{
    for (uint32_t type = 0; type < FRAME_TYPE_COUNT_; type++)
        assert_int_equal(frame_type_parse(frame_type_name(type)), type);
    assert_null(frame_type_name(FRAME_TYPE_COUNT_));
    assert_int_equal(frame_type_parse("FLOAT"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_types),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
