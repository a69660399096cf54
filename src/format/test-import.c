#include "format/test-import.h"

#include <math.h>
#include "util/strbuf.h"

/* Tensors, one "name dtype [shape] values" a line. */
static char *render(int fd)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_safetensors struct safetensors *file = NULL;
    cleanup_strbuf struct strbuf out = STRBUF_INIT(MIB);
    cleanup_free char *content = test_content(fd, NULL);

    assert_ok(safetensors_open(fd, "test", &file, &error), &error);
    for (size_t i = 0; i < file->n_tensors; i++) {
        const struct tensor *tensor = &file->tensors[i];
        uint64_t count;

        strbuf_addf(&out, "%s %s [", tensor->name, dtype_name(tensor->dtype));
        for (int d = 0; d < tensor->rank; d++)
            strbuf_addf(&out, d ? ",%d" : "%d", (int)tensor->shape[d]);
        strbuf_adds(&out, "]");
        tensor_count(tensor->rank, tensor->shape, &count);
        for (uint64_t k = 0; k < count; k++)
            strbuf_addf(&out, " %.9g", tensor_value(tensor->dtype, content + file->data_offset + tensor->begin, k));
        strbuf_adds(&out, "\n");
    }
    return strbuf_detach(&out, NULL);
}

#define BYTES(text) (text), sizeof(text) - 1

static void test_tensors(void **state)
{
    static const struct {
        struct import_options options;
        const char *data;
        size_t length;
        const char *tensors;
    } rows[] = {
        {{0}, BYTES("a,b\n1,2\n3,4\n"), "x U8 [2,2] 1 2 3 4\n"},
        {{.label = "last"}, BYTES("a,b\n1,-2\n300,4\n"), "y I64 [2] -2 4\nx U16 [2,1] 1 300\n"},
        {{.label = "0"}, BYTES("yes,2.5\nno,0.25\nyes,\n"), "x F32 [3,1] 2.5 0.25 nan\ny I32 [3] 1 0 1\n"},
        {{.header = "yes"}, BYTES("150,4,setosa\n5.5,1,0\n"), "x F32 [1,3] 5.5 1 0\n"},
        {{.separator = ";"}, BYTES("a;b\n1,5;2\n"), "x.a I32 [1] 0\nx U8 [1,1] 2\n"},
        {{.dtype = "float64"}, BYTES("a\n1\n"), "x F64 [1,1] 1\n"},
        {{0}, BYTES("{\"a\":1,\"v\":[2,3]}\n{\"v\":[4,null],\"a\":0.5}\n"), "x F32 [2,3] 1 2 3 0.5 4 nan\n"},
        {{0}, BYTES("{\"a\":true,\"s\":\"b\"}\n{\"a\":false,\"s\":\"a\"}\n"), "x.a I32 [2] 1 0\nx.s I32 [2] 1 0\n"},
        {{0},
         BYTES("1 1:0.5 3:2\n-1 2:4\n"),
         "x.indptr I64 [3] 0 2 3\ny I64 [2] 1 -1\nx.indices I32 [3] 0 2 1\nx.values F32 [3] 0.5 2 4\n"},
        {{0},
         BYTES("# comment\n0.5 qid:7 0:1 # trailing\n\n2 qid:8\n"),
         "qid I64 [2] 7 8\nx.indptr I64 [3] 0 1 1\ny F64 [2] 0.5 2\nx.indices I32 [1] 0\nx.values F32 [1] "
         "1\n"},
        {{0},
         BYTES("1e300 1:1\n9223372036854775807 2:1\n"),
         "x.indptr I64 [3] 0 1 2\ny F64 [2] 1e+300 9.22337204e+18\nx.indices I32 [2] 0 1\nx.values F32 [2] 1 1\n"},
        {{0}, BYTES("\0\0\x0e\x01\0\0\0\1\x7f\xf8\0\0\0\0\0\0"), "y F64 [1] nan\n"},
        {{0}, BYTES("\0\0\x08\x01\0\0\0\x03\1\2\3"), "y U8 [3] 1 2 3\n"},
        {{0}, BYTES("\0\0\x0b\x02\0\0\0\1\0\0\0\2\xff\xfe\1\0"), "x I16 [1,2] -2 256\n"},
        {{0},
         BYTES("\x93NUMPY\1\0\x39\0{'descr': '>i2', 'fortran_order': True, 'shape': (2, 2)}\n\0\1\0\2\0\3\0\4"),
         "data I16 [2,2] 1 3 2 4\n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_error struct error error = ERROR_INIT;
        cleanup_close int fd = test_import(&rows[i].options, rows[i].data, rows[i].length, NULL, &error);
        cleanup_free char *text = NULL;

        assert_ok(fd, &error);
        text = render(fd);
        assert_string_equal(text, rows[i].tensors);
    }
}

static void test_malformed(void **state)
{
    static const struct {
        struct import_options options;
        const char *data;
        size_t length;
        const char *message;
    } rows[] = {
        {{0}, BYTES(""), "is empty"},
        {{0}, BYTES("a,b\n"), "no rows"},
        {{0}, BYTES("a,b\n1\n"), "line 2 has 1 fields"},
        {{0}, BYTES("a,b\n1,2,3\n"), "line 2 has 3 fields"},
        {{0}, BYTES("a,b\n1,\"2\n"), "never closed"},
        {{0}, BYTES("a,a\n1,2\n"), "two columns"},
        {{.label = "y"}, BYTES("a,y\n1,nan\n"), "has no value in line 2"},
        {{.label = "y"}, BYTES("a,y\n1,-inf\n"), "not finite"},
        {{.label = "z"}, BYTES("a,y\n1,2\n"), "no column 'z'"},
        {{.dtype = "int8"}, BYTES("a\n1000\n"), "does not fit into int8"},
        {{.dtype = "uint8"}, BYTES("a\n0.5\n"), "does not fit into uint8"},
        {{.header = "perhaps"}, BYTES("a\n1\n"), "--header"},
        {{.separator = "ab"}, BYTES("a\n1\n"), "separator"},
        {{.stratify = true}, BYTES("a\n1\n"), "--stratify"},
        {{.split = "a=0.5,b=0.6"}, BYTES("a\n1\n"), "add up"},
        {{.format = "xml"}, BYTES("a\n1\n"), "not a format"},
        {{0}, BYTES("{\"a\":1}\n{\"a\":\n"), "line 2"},
        {{0}, BYTES("{\"a\":1}\n{\"a\":1,\"b\":2}\n"), "line 2"},
        {{0}, BYTES("{\"a\":[1,2]}\n{\"a\":[1]}\n"), "line 2"},
        {{0}, BYTES("{\"a\":1}\n[1]\n"), "line 2"},
        {{0}, BYTES("1 2:1 1:1\n"), "ascend"},
        {{0}, BYTES("1 1:1 1:2\n"), "ascend"},
        {{0}, BYTES("1 1:nan\n"), "finite"},
        {{0}, BYTES("1 1:1\nx 1:1\n"), "line 2: the label"},
        {{0}, BYTES("1 1:1\n1 qid:1 1:1\n"), "qid"},
        {{0}, BYTES("1 99999999999:1\n"), "greater than"},
        {{0}, BYTES("1,2 1:1\n1:\n"), ""},
        {{.format = "libsvm"}, BYTES("1 1\n"), "index:value"},
        {{0}, BYTES("\0\0\x08\x01\0\0\0\x04\1\2\3"), "claims 4 bytes"},
        {{0}, BYTES("\0\0\x08\x01\0\0\0\x02\1\2\3"), "claims 2 bytes"},
        {{0}, BYTES("\0\0\x08\x02\0\0"), "ends"},
        {{0}, BYTES("\0\0\x08\x03\0\0\x27\x10\0\0\3\xe8\0\0\3\xe8 and 1 KB"), "claims 10000000000 bytes"},
        {{0}, BYTES("\0\0\x08\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "overflows"},
        {{.format = "idx"}, BYTES("\0\0\x0a\x01\0\0\0\1\1"), "not a type"},
        {{0}, BYTES("\x93NUMPY\1\0\xff"), "ends"},
        {{0}, BYTES("\x93NUMPY\7\0\x01\0 "), "version 7"},
        {{0}, BYTES("\x93NUMPY\2\0\xff\xff\xff\xff"), "claims a header"},
        {{0}, BYTES("\x93NUMPY\1\0\x38\0{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"), "run code"},
        {{0}, BYTES("\x93NUMPY\1\0\x12\0{'descr': '<f8', }"), "missing"},
        {{0}, BYTES("\x10\0\0\x80\2\0\0\0{\"x\""), "claims a header"},
        {{0}, BYTES("PK\3\4 and nothing"), ""},
        {{0}, BYTES("\x1f\x8b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "damaged"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_error struct error error = ERROR_INIT;
        int fd = test_import(&rows[i].options, rows[i].data, rows[i].length, NULL, &error);

        if (fd >= 0)
            fail_msg("row %zu: '%s' is imported", i, rows[i].data);
        if (!strstr(error.message, rows[i].message))
            fail_msg("row %zu: '%s' has no '%s'", i, error.message, rows[i].message);
    }
}

/* Whether some note of the import holds the text. */
static bool has_note(const char *data, const char *text)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *schema = NULL;
    cleanup_close int fd = test_import(&(struct import_options){0}, data, strlen(data), &schema, &error);
    json_t *note;
    size_t i;

    assert_ok(fd, &error);
    json_array_foreach(json_object_get(schema, "notes"), i, note)
        if (strstr(json_string_value(note), text))
            return true;
    return false;
}

static void test_notes(void **state)
{
    assert_true(has_note("a,b\n1,2\n", "taken as column names"));
    assert_true(has_note("1,2\n3,4\n", "no row of column names"));
    assert_true(has_note("150,4,setosa\n5.1,3.5,0\n", "--header yes"));
    assert_false(has_note("1,red\n2,blue\n", "--header yes"));
    assert_false(has_note("1,red,x\n2,blue,3\n", "--header yes"));
    assert_false(has_note("1,2\n3,red\n", "--header yes"));
    assert_true(has_note("a\n1\n2\nthree\n", "because of 'three' in line 4"));
}

static void test_statistics(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_strbuf struct strbuf npy = STRBUF_INIT(MIB);
    cleanup_json json_t *schema = NULL;
    cleanup_close int fd = -1;
    const json_t *column;

    /* More than one of the pieces in which they are computed, far from zero. */
    strbuf_add(&npy, BYTES("\x93NUMPY\1\0\x3b\0{'descr': '<f8', 'fortran_order': False, 'shape': (5000,)}\n"));
    for (int i = 0; i < 5000; i++) {
        double value = i == 7 ? NAN : 1e9 + i % 2;

        strbuf_add(&npy, &value, sizeof(value));
    }
    fd = test_import(&(struct import_options){0}, npy.data, npy.length, &schema, &error);
    assert_ok(fd, &error);
    column = json_array_get(json_object_get(schema, "columns"), 0);
    if (!column)
        fail_msg("the schema has no column");
    assert_int_equal(json_get_int(column, "count", 0), 4999);
    assert_true(json_get_number(column, "min", 0) == 1e9);
    assert_true(json_get_number(column, "max", 0) == 1e9 + 1);
    if (fabs(json_get_number(column, "std", 0) - 0.5) > 1e-6)
        fail_msg("std is %g, expected 0.5", json_get_number(column, "std", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_notes),
        cmocka_unit_test(test_statistics),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
