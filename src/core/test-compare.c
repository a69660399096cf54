#include <math.h>
#include "core/compare.h"
#include "util/test.h"

/* A file with one tensor "w" of n elements; data is copied behind the header. To be freed. */
static char *file_of(const char *dtype, const char *shape, const void *data, size_t size, size_t *ret_length)
{
    char *header = xasprintf("{\"w\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[0,%zu]}}", dtype, shape, size);
    uint64_t n = strlen(header);
    char *file = xmalloc(8 + n + size);

    memcpy(file, &n, 8);
    memcpy(file + 8, header, n);
    memcpy(file + 8 + n, data, size);
    *ret_length = 8 + n + size;
    free(header);
    return file;
}

static json_t *compare(const char *dtype_a, const char *shape_a, const void *a, size_t size_a, const char *dtype_b,
                       const char *shape_b, const void *b, size_t size_b)
{
    cleanup_error struct error error = ERROR_INIT;
    size_t length_a, length_b;
    cleanup_free char *file_a = file_of(dtype_a, shape_a, a, size_a, &length_a);
    cleanup_free char *file_b = file_of(dtype_b, shape_b, b, size_b, &length_b);
    json_t *diff = compare_weights(file_a, length_a, file_b, length_b, &error);

    if (!diff)
        fail_msg("%s", error.message);
    return diff;
}

static void check(const json_t *object, const char *key, double expected)
{
    double got = json_get_number(object, key, NAN);

    if (!(fabs(got - expected) <= 1e-12 * fmax(1, fabs(expected))))
        fail_msg("%s is %.17g, expected %.17g", key, got, expected);
}

/* numpy: a = [1, 2, 3, 4]; b = [1, 2, 4, 0]
 * norm(a - b) / norm(b) = sqrt(17 / 21); a @ b / (norm(a) * norm(b)) = 17 / sqrt(30 * 21); max = 4 */
static void check_known(const json_t *diff)
{
    const json_t *row = json_array_get(json_object_get(diff, "tensors"), 0), *total = json_object_get(diff, "total");

    assert_string_equal(json_get_string(row, "status", ""), "changed");
    check(row, "relative_l2", sqrt(17.0 / 21));
    check(row, "cosine", 17 / sqrt(30.0 * 21));
    check(row, "max_abs", 4);
    check(total, "relative_l2", sqrt(17.0 / 21));
    assert_true(json_get_bool(total, "comparable", false));
}

#define KNOWN(dtype, type)                                                                                             \
    do {                                                                                                               \
        const type a[] = {1, 2, 3, 4}, b[] = {1, 2, 4, 0};                                                             \
        cleanup_json json_t *diff = compare(dtype, "[2,2]", a, sizeof(a), dtype, "[2,2]", b, sizeof(b));               \
        check_known(diff);                                                                                             \
    } while (0)

static void test_known_values_in_every_dtype(void **state)
{
    static const uint16_t half_a[] = {0x3c00, 0x4000, 0x4200, 0x4400}, half_b[] = {0x3c00, 0x4000, 0x4400, 0};
    static const uint16_t brain_a[] = {0x3f80, 0x4000, 0x4040, 0x4080}, brain_b[] = {0x3f80, 0x4000, 0x4080, 0};
    cleanup_json json_t *half = compare("F16", "[4]", half_a, 8, "F16", "[4]", half_b, 8);
    cleanup_json json_t *brain = compare("BF16", "[4]", brain_a, 8, "BF16", "[4]", brain_b, 8);
    cleanup_json json_t *mixed = compare("BF16", "[4]", brain_a, 8, "F16", "[4]", half_b, 8);

    KNOWN("F64", double);
    KNOWN("F32", float);
    KNOWN("I64", int64_t);
    KNOWN("U64", uint64_t);
    KNOWN("I32", int32_t);
    KNOWN("U32", uint32_t);
    KNOWN("I16", int16_t);
    KNOWN("U16", uint16_t);
    KNOWN("I8", int8_t);
    KNOWN("U8", uint8_t);
    check_known(half);
    check_known(brain);
    check_known(mixed);
}

static void test_zeros_and_equal(void **state)
{
    static const float zero[] = {0, 0}, some[] = {3, -4};
    cleanup_json json_t *same = compare("F32", "[2]", some, 8, "F32", "[2]", some, 8);
    cleanup_json json_t *zeros = compare("F32", "[2]", zero, 8, "F32", "[2]", zero, 8);
    cleanup_json json_t *from_zero = compare("F32", "[2]", some, 8, "F32", "[2]", zero, 8);
    const json_t *row = json_array_get(json_object_get(same, "tensors"), 0);

    assert_string_equal(json_get_string(row, "status", ""), "same");
    check(row, "relative_l2", 0);
    check(row, "cosine", 1);
    check(json_object_get(zeros, "total"), "cosine", 1);
    check(json_object_get(zeros, "total"), "relative_l2", 0);
    assert_true(json_is_null(json_object_get(json_object_get(from_zero, "total"), "relative_l2"))); /* infinite */
    check(json_object_get(from_zero, "total"), "cosine", 0);
}

static void test_not_finite_is_counted_and_left_out(void **state)
{
    const float a[] = {1, NAN, 3, INFINITY}, b[] = {1, 2, 4, NAN};
    cleanup_json json_t *diff = compare("F32", "[4]", a, sizeof(a), "F32", "[4]", b, sizeof(b));
    const json_t *row = json_array_get(json_object_get(diff, "tensors"), 0);

    assert_int_equal(json_get_int(row, "nan", -1), 2);
    assert_int_equal(json_get_int(row, "nan_base", -1), 1);
    check(row, "relative_l2", 1 / sqrt(17.0));
    check(row, "max_abs", 1);
}

static void test_shapes(void **state)
{
    static const float values[] = {1, 2, 3, 4};
    cleanup_json json_t *diff = compare("F32", "[4]", values, 16, "F32", "[2,2]", values, 16);
    cleanup_json json_t *empty = compare("F32", "[0]", values, 0, "F32", "[0]", values, 0);

    assert_string_equal(json_get_string(json_array_get(json_object_get(diff, "tensors"), 0), "status", ""), "reshaped");
    assert_false(json_get_bool(json_object_get(diff, "total"), "comparable", true));
    assert_true(json_is_null(json_object_get(json_object_get(diff, "total"), "relative_l2")));
    check(json_object_get(empty, "total"), "relative_l2", 0);
}

/* More than a block, unaligned, against the plain loop in long double. */
static void test_long_tensors(void **state)
{
    enum { N = 10007 };
    cleanup_free double *a = xcalloc(N, sizeof(*a)), *b = xcalloc(N, sizeof(*b));
    long double difference = 0, norm = 0;

    for (int i = 0; i < N; i++) {
        a[i] = sin(i);
        b[i] = sin(i) + 1e-3 * cos(3 * i);
        difference += (long double)(a[i] - b[i]) * (a[i] - b[i]);
        norm += (long double)b[i] * b[i];
    }
    cleanup_json json_t *diff = compare("F64", "[10007]", a, N * sizeof(*a), "F64", "[10007]", b, N * sizeof(*b));
    check(json_object_get(diff, "total"), "relative_l2", (double)sqrtl(difference / norm));
    assert_int_equal(json_get_int(json_object_get(diff, "total"), "elements", 0), N);
}

static void test_garbage_is_refused(void **state)
{
    cleanup_error struct error error = ERROR_INIT;

    assert_null(compare_weights("not safetensors", 15, "not safetensors", 15, &error));
    assert_int_equal(error.code, ERROR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values_in_every_dtype),
        cmocka_unit_test(test_zeros_and_equal),
        cmocka_unit_test(test_not_finite_is_counted_and_left_out),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_long_tensors),
        cmocka_unit_test(test_garbage_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
