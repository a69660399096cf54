#include <dlfcn.h>
#include <math.h>
#include "util/test.h"
#include "worker/native.h"

static void test_find(void **state)
{
    cleanup_error struct error error = ERROR_INIT;

    assert_ptr_equal(native_runtime_find("xgboost", &error), &native_xgboost);
    assert_null(native_runtime_find("caffe", &error));
    assert_non_null(strstr(error.message, "onnx, xgboost"));
}

static void test_missing_file(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    struct native_model *model;

    assert_error(native_load(&native_xgboost, NULL, "/nowhere/model.json", &model, &error), &error, ERROR_NOT_FOUND,
                 "/nowhere/model.json");
}

/* Trains y = x0 > 0.5 with the library itself and saves it. False where the library is not installed. */
static bool train(const char *path)
{
    void *library = dlopen("libxgboost.so.0", RTLD_NOW);
    int (*matrix)(const float *, uint64_t, uint64_t, float, void **);
    int (*set)(void *, const char *, const float *, uint64_t);
    int (*create)(void **, uint64_t, void **), (*update)(void *, int, void *), (*save)(void *, const char *);
    int (*parameter)(void *, const char *, const char *), (*free_matrix)(void *), (*free_booster)(void *);
    float x[200], y[100];
    void *data, *booster;

    if (!library) {
        dlclose(dlopen(NULL, RTLD_NOW)); /* frees the text of the failure, which libc would keep */
        return false;
    }
    *(void **)&matrix = dlsym(library, "XGDMatrixCreateFromMat");
    *(void **)&set = dlsym(library, "XGDMatrixSetFloatInfo");
    *(void **)&create = dlsym(library, "XGBoosterCreate");
    *(void **)&parameter = dlsym(library, "XGBoosterSetParam");
    *(void **)&update = dlsym(library, "XGBoosterUpdateOneIter");
    *(void **)&save = dlsym(library, "XGBoosterSaveModel");
    *(void **)&free_matrix = dlsym(library, "XGDMatrixFree");
    *(void **)&free_booster = dlsym(library, "XGBoosterFree");
    for (int i = 0; i < 100; i++) {
        x[2 * i] = (float)i / 100;
        x[2 * i + 1] = (float)(i * 37 % 100);
        y[i] = i >= 50;
    }
    assert_int_equal(matrix(x, 100, 2, NAN, &data), 0);
    assert_int_equal(set(data, "label", y, 100), 0);
    assert_int_equal(create(&data, 1, &booster), 0);
    parameter(booster, "objective", "binary:logistic");
    parameter(booster, "nthread", "1");
    for (int i = 0; i < 10; i++)
        assert_int_equal(update(booster, i, data), 0);
    assert_int_equal(save(booster, path), 0);
    free_booster(booster);
    free_matrix(data);
    return true;
}

static void test_xgboost(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_native struct native_model *model = NULL;
    char *directory = test_directory_new();
    cleanup_free char *path = fs_join(directory, "model.json");
    static const float x[] = {0.1f, 1, 0.9f, 2, 0.7f, NAN};
    struct native_tensor input = {
        .name = "x", .dtype = DTYPE_F32, .rank = 2, .shape = {3, 2}, .data = x, .size = sizeof(x)};
    const struct native_tensor *outputs;
    const float *y;
    size_t n;

    if (!train(path)) {
        test_directory_remove(directory);
        print_message("libxgboost is not installed\n");
        skip();
    }
    assert_ok(native_load(&native_xgboost, NULL, path, &model, &error), &error);
    assert_int_equal(native_signature(model)->inputs[0].shape[1], 2);
    assert_ok(native_run(model, &input, 1, &outputs, &n, &error), &error);
    assert_int_equal(n, 1);
    assert_int_equal(outputs[0].size, 3 * sizeof(float));
    y = outputs[0].data;
    assert_true(y[0] < 0.3 && y[1] > 0.7 && y[2] > 0.7);

    input.name[0] = 'z';
    assert_error(native_run(model, &input, 1, &outputs, &n, &error), &error, ERROR_INVALID, "input x is missing");
    input.name[0] = '\0'; /* the only input needs no name */
    input.shape[1] = 3;
    assert_error(native_run(model, &input, 1, &outputs, &n, &error), &error, ERROR_INVALID,
                 "shape [3, 3]; the model takes [-1, 2]");
    input.shape[1] = 2;
    input.size -= 4;
    assert_error(native_run(model, &input, 1, &outputs, &n, &error), &error, ERROR_INVALID,
                 "20 bytes; its shape needs 24");
    input.dtype = DTYPE_F64;
    assert_error(native_run(model, &input, 1, &outputs, &n, &error), &error, ERROR_INVALID,
                 "dtype F64; the model takes F32");
    assert_error(native_run(model, &input, 0, &outputs, &n, &error), &error, ERROR_INVALID, "0 inputs");

    assert_ok(fs_write_atomic(path, "{\"no\":\"model\"}", 14, 0644, &error), &error);
    {
        struct native_model *broken = NULL;

        assert_error(native_load(&native_xgboost, NULL, path, &broken, &error), &error, ERROR_INVALID,
                     "no model of XGBoost");
    }
    test_directory_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_missing_file),
        cmocka_unit_test(test_xgboost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
