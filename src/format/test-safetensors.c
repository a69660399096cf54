#include "format/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include "util/strbuf.h"
#include "util/test.h"

/* A file in memory: length, header, `data_size` zero bytes. */
static char *make(const char *header, size_t data_size, size_t *ret_length)
{
    size_t length = strlen(header);
    char *file = calloc(1, 8 + length + data_size + 1);

    for (int i = 0; i < 8; i++)
        file[i] = length >> (8 * i) & 0xff;
    memcpy(file + 8, header, length);
    *ret_length = 8 + length + data_size;
    return file;
}

static void test_read(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_safetensors struct safetensors *file = NULL;
    cleanup_free char *data = NULL;
    const struct tensor *x;
    size_t length;

    data = make("{\"__metadata__\":{\"a\":\"b\"},"
                "\"y\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[24,32]},"
                "\"e\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[24,24]},"
                "\"x\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}  ",
                32, &length);
    assert_ok(safetensors_parse(data, length, "test", &file, &error), &error);
    assert_int_equal(file->n_tensors, 3);
    assert_string_equal(file->tensors[0].name, "x");
    assert_string_equal(file->tensors[2].name, "y");
    assert_string_equal(json_get_string(file->metadata, "a", ""), "b");
    x = safetensors_find(file, "x");
    assert_non_null(x);
    assert_int_equal(x->rank, 2);
    assert_int_equal(x->shape[1], 3);
    assert_int_equal(x->size, 24);
    assert_null(safetensors_find(file, "z"));
}

static void test_malformed(void **state)
{
#define T(shape, offsets) "{\"x\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
    static const struct {
        const char *header;
        size_t data_size;
        const char *message;
    } rows[] = {
        {"", 0, "begin with '{'"},
        {"[]", 0, "begin with '{'"},
        {" {}", 0, "begin with '{'"},
        {"{", 0, "header"},
        {"{}x", 0, "header"},
        {"{\"x\":1}", 0, "exactly"},
        {"{\"x\":{}}", 0, "exactly"},
        {"{\"__metadata__\":[]}", 0, "not an object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "not a string"},
        {T("[1]", "[0,4]"), 5, "belong to none"},
        {T("[1]", "[0,4]"), 3, "beyond the end"},
        {T("[2]", "[0,4]"), 4, "needs 8 bytes"},
        {T("[1]", "[4,8]"), 8, "hole"},
        {T("[1]", "[4,0]"), 4, "ends before"},
        {T("[1]", "[-4,0]"), 4, "two integers"},
        {T("[1]", "[0]"), 4, "two integers"},
        {T("[1]", "[0,4.0]"), 4, "two integers"},
        {T("[-1]", "[0,4]"), 4, "integers from 0"},
        {T("[1.5]", "[0,4]"), 4, "integers from 0"},
        {T("{}", "[0,4]"), 4, "no array"},
        {T("[4294967296,4294967296]", "[0,4]"), 4, "overflows"},
        {T("[0,4294967296,4294967296]", "[0,0]"), 0, "overflows"},
        {T("[9223372036854775807]", "[0,4]"), 4, "overflows"},
        {T("[10000000000]", "[0,40000000000]"), 4, "beyond the end"},
        {T("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "dimensions"},
        {"{\"x\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "known are"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
         6, "overlaps"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
         8, "duplicate"},
    };
#undef T
    cleanup_error struct error error = ERROR_INIT;
    struct safetensors *file = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_free char *data = NULL;
        size_t length;

        data = make(rows[i].header, rows[i].data_size, &length);
        assert_error(safetensors_parse(data, length, "test", &file, &error), &error, ERROR_INVALID, rows[i].message);
        assert_null(file);
    }
}

/* What the first eight bytes claim is checked before anything is allocated. */
static void test_claims(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    struct safetensors *file = NULL;
    char data[1024] = {0};

    assert_error(safetensors_parse(data, 7, "test", &file, &error), &error, ERROR_INVALID, "too few");
    memset(data, 0xff, 8);
    assert_error(safetensors_parse(data, sizeof(data), "test", &file, &error), &error, ERROR_INVALID, "limit");
    memcpy(data, "\0\0\0\5\0\0\0\0", 8); /* 80 MiB */
    assert_error(safetensors_parse(data, sizeof(data), "test", &file, &error), &error, ERROR_INVALID, "only 1024");
}

static void test_write(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_safetensors_writer struct safetensors_writer *writer = safetensors_writer_new();
    cleanup_safetensors struct safetensors *file = NULL;
    cleanup_close int fd = memfd_create("test", MFD_CLOEXEC);
    enum { N = 300000 };
    cleanup_free double *values = malloc(N * sizeof(double));
    cleanup_free double *back = malloc(N * sizeof(double));
    uint8_t flag = 1;
    int flags, x;

    for (int i = 0; i < N; i++)
        values[i] = i * 0.5;
    flags = safetensors_add(writer, "flags", DTYPE_BOOL, 0, NULL);
    x = safetensors_add(writer, "x", DTYPE_F64, 2, (uint64_t[]){N / 10, 10});
    safetensors_add(writer, "empty", DTYPE_U8, 1, (uint64_t[]){0});
    safetensors_set_metadata(writer, "schema", "{\"a\":\"ä\"}");
    assert_ok(safetensors_begin(writer, fd, &error), &error);
    assert_error(safetensors_finish(writer, &error), &error, ERROR_INTERNAL, "'flags'");
    for (int i = 0, step = 1; i < N; step = step * 3 % 100003) {
        int n = step < N - i ? step : N - i;

        assert_ok(safetensors_write(writer, x, values + i, n * sizeof(double), &error), &error);
        i += n;
    }
    assert_error(safetensors_write(writer, x, values, 1, &error), &error, ERROR_INTERNAL, "more than");
    assert_ok(safetensors_write(writer, flags, &flag, 1, &error), &error);
    assert_ok(safetensors_finish(writer, &error), &error);

    assert_ok(safetensors_open(fd, "test", &file, &error), &error);
    assert_int_equal(file->data_offset % 64, 0);
    assert_string_equal(json_get_string(file->metadata, "schema", ""), "{\"a\":\"ä\"}");
    assert_string_equal(file->tensors[0].name, "x");
    assert_int_equal(pread(fd, back, N * sizeof(double), file->data_offset + file->tensors[0].begin),
                     N * sizeof(double));
    assert_memory_equal(values, back, N * sizeof(double));
}

static void test_write_twice_the_same_name(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_safetensors_writer struct safetensors_writer *writer = safetensors_writer_new();
    cleanup_close int fd = memfd_create("test", MFD_CLOEXEC);

    safetensors_add(writer, "x", DTYPE_U8, 1, (uint64_t[]){1});
    safetensors_add(writer, "x", DTYPE_U8, 1, (uint64_t[]){1});
    assert_error(safetensors_begin(writer, fd, &error), &error, ERROR_INVALID, "named 'x'");
}

static void test_values(void **state)
{
    assert_true(half_to_float(0x3c00) == 1.0f);
    assert_true(half_to_float(0xc000) == -2.0f);
    assert_true(half_to_float(0x7bff) == 65504.0f);
    assert_true(half_to_float(0x0001) == 0x1p-24f);
    assert_true(__builtin_isinf(half_to_float(0x7c00)));
    assert_true(__builtin_isnan(half_to_float(0x7e00)));
    assert_true(bfloat16_to_float(0x3f80) == 1.0f);
    assert_true(tensor_value(DTYPE_F8_E4M3, "\x7e", 0) == 448.0);
    assert_true(tensor_value(DTYPE_F8_E5M2, "\x7b", 0) == 57344.0);
    assert_true(tensor_value(DTYPE_I8, "\x00\xff", 1) == -1.0);
    assert_true(tensor_value(DTYPE_U16, "\x00\x00\xff\xff", 1) == 65535.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_write_twice_the_same_name),
        cmocka_unit_test(test_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
