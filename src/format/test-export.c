#include "format/export.h"

#include <math.h>
#include "format/test-import.h"

typedef int (*export_fn)(struct export *export, int fd, struct error *error);

static char *exported(int tensors, const char *split, export_fn fn, size_t *ret_length, struct error *error)
{
    cleanup_export struct export *export = NULL;
    cleanup_close int fd = test_file("", 0);

    if (export_open(tensors, "test", split, &export, error) < 0 || fn(export, fd, error) < 0)
        return NULL;
    return test_content(fd, ret_length);
}

/* Text → tensors → text → the same tensors. */
static void test_round_trip(void **state)
{
    static const struct {
        struct import_options options;
        export_fn fn;
        const char *text;
    } rows[] = {
        {{.label = "y"}, export_csv, "a,y\n1,2\n3,4\n"},
        {{.label = "y"}, export_csv, "a,y,b\n-1,0.5,300\n127,1.0,-300\n"},
        {{.label = "y"},
         export_csv,
         "a,y\n0.1,no\n1e-300,yes\n,no\n-inf,yes\n1e300,no\n-0.0,no\n123456789.123456789,no\n"},
        {{.dtype = "float32"}, export_csv, "a,b\n0.1,1\n3.3333333333,2\n1e-30,3\n16777217.5,4\n"},
        {{0}, export_csv, "c,d\nred,1\n\"a, \"\"b\"\"\",2\n,3\n\"two\nlines\",4\n blank ,5\n"},
        {{0}, export_csv, "only\n1.5\nNA\n2\n"},
        {{0}, export_csv, "big,bigger\n9007199254740993,9223372036854775807\n-9007199254740993,1\n"},
        {{.drop = NULL, .header = "no"}, export_csv, "1,x\n2,y\n"},
        {{0}, export_libsvm, "1 1:0.5 3:2\n-1 2:1e-9\n1\n"},
        {{0}, export_libsvm, "0.5 qid:1 7:1 9:0.1\n2.0 qid:2 8:3\n"},
        {{0}, export_libsvm, "1 0:1 5:2\n2 1:1\n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_error struct error error = ERROR_INIT;
        cleanup_free char *text = NULL;
        cleanup_close int first = -1, second = -1;
        struct import_options again = rows[i].options;
        size_t length;

        first = test_import(&rows[i].options, rows[i].text, strlen(rows[i].text), NULL, &error);
        assert_ok(first, &error);
        text = exported(first, NULL, rows[i].fn, &length, &error);
        assert_ok(text ? 0 : -1, &error);
        again.header = NULL;
        second = test_import(&again, text, length, NULL, &error);
        assert_ok(second, &error);
        assert_same_tensors(first, second);
    }
}

static void test_text(void **state)
{
    static const char text[] = "id,colour,size,y\n1,red,1.50,yes\n2,,,no\n3,\"b, c\",2,yes\n";
    const struct import_options options = {.label = "y"};
    cleanup_error struct error error = ERROR_INIT;
    cleanup_close int tensors = test_import(&options, text, strlen(text), NULL, &error);
    cleanup_free char *csv = NULL;

    assert_ok(tensors, &error);
    csv = exported(tensors, NULL, export_csv, NULL, &error);
    assert_ok(csv ? 0 : -1, &error);
    assert_string_equal(csv, "id,colour,size,y\n1,red,1.5,yes\n2,,,no\n3,\"b, c\",2.0,yes\n");
    assert_error(exported(tensors, NULL, export_libsvm, NULL, &error) ? 0 : -1, &error, ERROR_INVALID,
                 "'colour' is text");
    assert_error(exported(tensors, "train", export_csv, NULL, &error) ? 0 : -1, &error, ERROR_NOT_FOUND, "it has none");
}

static void test_parts(void **state)
{
    const struct import_options options = {.label = "y", .split = "train=0.75,test=0.25", .seed = 1};
    static const char text[] = "x,y\n1,a\n2,b\n3,a\n4,b\n";
    cleanup_error struct error error = ERROR_INIT;
    cleanup_close int tensors = test_import(&options, text, strlen(text), NULL, &error), part_fd = -1;
    cleanup_free char *train = NULL, *test = NULL, *all = NULL, *part = NULL, *again = NULL;
    cleanup_free char *joined = NULL;
    size_t length;

    assert_ok(tensors, &error);
    train = exported(tensors, "train", export_csv, NULL, &error);
    test = exported(tensors, "test", export_csv, NULL, &error);
    all = exported(tensors, NULL, export_csv, NULL, &error);
    part = exported(tensors, "train", export_safetensors, &length, &error);
    assert_ok(train && test && all && part ? 0 : -1, &error);
    joined = xasprintf("%s%s", train, test + strlen("x,y\n"));
    assert_string_equal(all, joined);
    /* A part by itself is a table without a split. */
    part_fd = test_file(part, length);
    again = exported(part_fd, NULL, export_csv, NULL, &error);
    assert_ok(again ? 0 : -1, &error);
    assert_string_equal(again, train);
    assert_error(exported(tensors, "valid", export_csv, NULL, &error) ? 0 : -1, &error, ERROR_NOT_FOUND,
                 "there are test, train");
}

static void test_npy(void **state)
{
    static const char text[] = "a,b\n1,2\n3,4\n5,600\n";
    const struct import_options options = {0};
    cleanup_error struct error error = ERROR_INIT;
    cleanup_close int tensors = test_import(&options, text, strlen(text), NULL, &error), second = -1;
    cleanup_close int fd = test_file("", 0);
    cleanup_export struct export *export = NULL;
    cleanup_free char *npy = NULL;
    size_t length;

    assert_ok(tensors, &error);
    assert_ok(export_open(tensors, "test", NULL, &export, &error), &error);
    assert_ok(export_npy(export, "x", fd, &error), &error);
    npy = test_content(fd, &length);
    assert_memory_equal(npy, "\x93NUMPY\1\0", 8);
    assert_int_equal(length % 64, 3 * 2 * 2);
    second = test_import(&options, npy, length, NULL, &error);
    assert_ok(second, &error);
    assert_error(export_npy(export, "z", fd, &error), &error, ERROR_NOT_FOUND, "there are x");
}

/* What a file says of itself may be anything. */
static void test_lies(void **state)
{
    static const char *const schemas[] = {
        "{\"kind\":\"table\",\"columns\":[{\"name\":\"a\",\"tensor\":\"z\"}]}",
        "{\"kind\":\"table\",\"columns\":[{\"name\":\"a\",\"tensor\":\"x\",\"index\":2}]}",
        "{\"kind\":\"table\",\"columns\":[{\"name\":\"a\",\"tensor\":\"x\",\"index\":-1}]}",
        "{\"kind\":\"table\",\"columns\":[{\"name\":\"a\",\"tensor\":\"x\"},{\"name\":\"b\",\"tensor\":\"y\"}]}",
        "{\"kind\":\"table\",\"columns\":[],\"splits\":[{\"name\":\"q\"}]}",
        "{\"kind\":\"table\",\"columns\":[{\"name\":\"a\",\"tensor\":\"x\"}],\"splits\":[{},{}]}",
        "{\"kind\":7,\"columns\":{}}",
    };
    const uint8_t x[4] = {1, 2, 3, 4};
    const int64_t indptr[3] = {0, 5, 2};

    for (size_t i = 0; i < ARRAY_SIZE(schemas); i++) {
        cleanup_error struct error error = ERROR_INIT;
        cleanup_safetensors_writer struct safetensors_writer *writer = safetensors_writer_new();
        cleanup_close int fd = test_file("", 0);

        safetensors_set_metadata(writer, "schema", schemas[i]);
        safetensors_add(writer, "x", DTYPE_U8, 2, (uint64_t[]){2, 2});
        safetensors_add(writer, "y", DTYPE_U8, 1, (uint64_t[]){4});
        safetensors_add(writer, "x.indptr", DTYPE_I64, 1, (uint64_t[]){3});
        safetensors_add(writer, "x.indices", DTYPE_U8, 1, (uint64_t[]){4});
        safetensors_add(writer, "x.values", DTYPE_U8, 1, (uint64_t[]){4});
        assert_ok(safetensors_begin(writer, fd, &error), &error);
        for (int t = 0; t < 5; t++)
            assert_ok(safetensors_write(writer, t, t == 2 ? (const void *)indptr : x,
                                        t == 2 ? sizeof(indptr) : sizeof(x), &error),
                      &error);
        assert_ok(safetensors_finish(writer, &error), &error);
        assert_error(exported(fd, NULL, export_csv, NULL, &error) ? 0 : -1, &error, ERROR_INVALID, "");
        assert_error(exported(fd, NULL, export_libsvm, NULL, &error) ? 0 : -1, &error, ERROR_INVALID, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_text), cmocka_unit_test(test_parts),
        cmocka_unit_test(test_npy),        cmocka_unit_test(test_lies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
