#include <sys/mman.h>
#include "core/package.h"
#include "format/archive.h"
#include "util/test.h"

/* A zip of (name, text) pairs, ended by NULL; names sorted. */
static int zip_of(const char *const *entries)
{
    cleanup_error struct error error = ERROR_INIT;
    int fd = memfd_create("test", MFD_CLOEXEC);
    struct zip *zip = zip_new(fd);

    for (; *entries; entries += 2)
        assert_ok(zip_add(zip, entries[0], entries[1], strlen(entries[1]), false, &error), &error);
    assert_ok(zip_finish(zip, &error), &error);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

#define BOTH "def init():\n    pass\n\ndef predict(text):\n    return text\n"

static void check(const char *const *entries, const char *fault, const char *runtime)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_close int fd = zip_of(entries);
    cleanup_json json_t *package = package_inspect_fd(fd, &error);

    if (!package)
        fail_msg("%s", error.message);
    if (fault && !strstr(json_get_string(package, "reason", "(servable)"), fault))
        fail_msg("reason is '%s', expected '%s'", json_get_string(package, "reason", "(servable)"), fault);
    if (!fault && !json_get_bool(package, "servable", false))
        fail_msg("not servable: %s", json_get_string(package, "reason", ""));
    if (runtime)
        assert_string_equal(json_get_string(package, "runtime", ""), runtime);
}

static void test_what_can_be_served(void **state)
{
    check((const char *const[]){"model.py", BOTH, NULL}, NULL, "python");
    check((const char *const[]){"model.py", "init = lambda: None\nasync def predict(t): return t\n", NULL}, NULL,
          "python");
    check((const char *const[]){"lib.py", "", "model.py", "from lib import init, predict as p, predict\n", NULL}, NULL,
          "python");
    check((const char *const[]){"model.R", "init <- function() {}\npredict = function(x) x\n", NULL}, NULL, "r");
    check((const char *const[]){"model.py", "def init(): pass\ndef predict_tensors(x): return x", NULL}, NULL,
          "python");
    check((const char *const[]){"model.py", "def init(): pass\ndef predict_batch(x): return x", NULL}, NULL, "python");
    check((const char *const[]){"model.onnx", "", NULL}, NULL, "onnx");
    check((const char *const[]){"model.json", "", NULL}, NULL, "xgboost");
    check((const char *const[]){"model.ubj", "", NULL}, NULL, "xgboost");
    check((const char *const[]){"model.json", "", "model.py", BOTH, NULL}, NULL, "python"); /* code comes first */
    check((const char *const[]){"nets/a.tflite", "", "slipway.yaml", "runtime: onnx\nfile: nets/a.tflite\n", NULL},
          NULL, "onnx");
}

static void test_what_cannot(void **state)
{
    check((const char *const[]){"train.py", BOTH, NULL}, "none of model.py, model.R", NULL);
    check((const char *const[]){"src/model.py", BOTH, NULL}, "none of model.py, model.R", NULL);
    check((const char *const[]){"model.py", "def init():\n    pass\n", NULL}, "no predict()", NULL);
    check((const char *const[]){"model.py", "# def init():\n    def init(): pass\ndef predict(t): pass\n", NULL},
          "no init()", NULL);
    check((const char *const[]){"model.py", BOTH, "slipway.yaml", "runtime: r\n", NULL}, "there is no model.R", NULL);
    check((const char *const[]){"slipway.yaml", "runtime: onnx\nfile: a.onnx\n", "x.onnx", "", NULL},
          "there is no a.onnx", NULL);
    check((const char *const[]){"model.py", BOTH, "slipway.yaml", "file: a.onnx\n", NULL}, "'file' in slipway.yaml",
          NULL);
    check((const char *const[]){"model.py", BOTH, "slipway.yaml", "batch: {size: 8}\n", NULL},
          "model.py with predict_batch(); model.py defines none", NULL);
    check((const char *const[]){"model.R", "init <- function() {}\npredict_batch <- function(x) x\n", NULL},
          "no predict()", NULL);
}

static void check_batch(const char *source, const char *manifest, const char *expected)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_close int fd = zip_of((const char *const[]){"model.py", source, "slipway.yaml", manifest, NULL});
    cleanup_json json_t *package = package_inspect_fd(fd, &error);
    cleanup_free char *batch = NULL;

    if (!package)
        fail_msg("'%s': %s", manifest, error.message);
    batch = json_text(json_object_get(package, "batch"));
    if (strcmp(batch, expected) != 0)
        fail_msg("'%s' gives %s, expected %s", manifest, batch, expected);
}

static void test_batches(void **state)
{
    static const char batch[] = BOTH "\ndef predict_batch(texts):\n    return texts\n";
    cleanup_json json_t *old = json_build("{s:[s, s]}", "functions", "init", "predict_batch");
    int64_t size, delay_us;

    check_batch(BOTH, "concurrency: 1\n", "null");
    check_batch(batch, "concurrency: 1\n", "{\"size\":32,\"delay_us\":0}");
    check_batch(batch, "batch: {size: 8}\n", "{\"size\":8,\"delay_us\":0}");
    check_batch(batch, "batch: {delay: 0}\n", "{\"size\":32,\"delay_us\":0}");
    check_batch(batch, "batch:\n  size: 64\n  delay: 2ms\n", "{\"size\":64,\"delay_us\":2000}");
    check_batch(batch, "batch: {delay: 0.25ms}\n", "{\"size\":32,\"delay_us\":250}");
    check_batch(batch, "batch: {delay: 1s}\n", "{\"size\":32,\"delay_us\":1000000}");
    assert_true(package_batch(old, &size, &delay_us));
    assert_int_equal(size, 32);
    assert_false(package_batch(NULL, &size, &delay_us));
    assert_int_equal(size, 1);
    assert_int_equal(delay_us, 0);
}

static void test_manifest(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_close int fd = zip_of((const char *const[]){"model.py", BOTH, "slipway.yaml",
                                                        "environment: tf@2\nconcurrency: 4\n"
                                                        "inputs: [{name: x, datatype: FP32, shape: [-1, 64]}]\n",
                                                        NULL});
    cleanup_json json_t *package = package_inspect_fd(fd, &error);
    cleanup_free char *inputs = NULL;

    assert_non_null(package);
    assert_string_equal(json_get_string(package, "environment", ""), "tf@2");
    assert_int_equal(json_get_int(package, "concurrency", 0), 4);
    inputs = json_text(json_object_get(package, "inputs"));
    assert_string_equal(inputs, "[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,64]}]");
}

static void test_bad_manifests_are_named(void **state)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"colour: red\n", "colour"},
        {"concurrency: many\n", "concurrency"},
        {"concurrency: 1000\n", "concurrency"},
        {"inputs: [{name: x}]\n", "datatype"},
        {"inputs: [{name: x, datatype: COMPLEX, shape: []}]\n", "datatype"},
        {"runtime: cobol\n", "runtime"},
        {"batch: 8\n", "batch"},
        {"batch: {size: 0}\n", "batch.size"},
        {"batch: {size: 65}\n", "batch.size"},
        {"batch: {delay: 2}\n", "with its unit"},
        {"batch: {delay: [1]}\n", "with its unit"},
        {"batch: {delay: soon}\n", "batch.delay"},
        {"batch: {delay: 1.5s}\n", "at most 1000 ms"},
        {"batch: {delay: 1ms, width: 2}\n", "width"},
        {"deterministic: perhaps\n", "deterministic"},
        {"a: &b [*b]\n", "line 1"},
        {"- 1\n", "mapping"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_error struct error error = ERROR_INIT;
        cleanup_close int fd = zip_of((const char *const[]){"model.py", BOTH, "slipway.yaml", rows[i].text, NULL});
        cleanup_json json_t *package = package_inspect_fd(fd, &error);

        if (package)
            fail_msg("'%s' was taken", rows[i].text);
        if (error.code != ERROR_INVALID || !strstr(error.message, rows[i].message))
            fail_msg("'%s': %s", rows[i].text, error.message);
    }
}

static void test_garbage_is_refused(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_close int fd = memfd_create("test", MFD_CLOEXEC);

    assert_int_equal(write(fd, "PK\3\4 no zip", 11), 11);
    assert_null(package_inspect_fd(fd, &error));
    assert_int_equal(error.code, ERROR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_can_be_served),
        cmocka_unit_test(test_what_cannot),
        cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_bad_manifests_are_named),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_garbage_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
