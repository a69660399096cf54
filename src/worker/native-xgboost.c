/*
 * Trees by libxgboost. Source of the interface: xgboost/c_api.h, https://xgboost.readthedocs.io (C API).
 *
 * A model has one input, "x", F32 [rows, features] with NaN for missing values, and one output, "y", F32
 * [rows] or [rows, groups].
 */
#include <math.h>
#include <string.h>
#include "util/xalloc.h"
#include "worker/native.h"

typedef void *handle;
typedef uint64_t ulong64;

struct api {
    const char *(*last_error)(void);
    void (*version)(int *major, int *minor, int *patch);
    int (*create)(const handle matrices[], ulong64 length, handle *ret);
    int (*release)(handle booster);
    int (*load)(handle booster, const char *path);
    int (*features)(handle booster, ulong64 *ret);
    int (*set)(handle booster, const char *name, const char *value);
    int (*matrix)(const float *data, ulong64 rows, ulong64 columns, float missing, handle *ret);
    int (*matrix_release)(handle matrix);
    int (*predict)(handle booster, handle matrix, const char *config, const ulong64 **ret_shape, ulong64 *ret_rank,
                   const float **ret_values);
};

struct xgboost_model {
    struct native_model native;
    struct api api;
    handle booster;
};

static int failed(const struct api *api, const char *what, struct error *error)
{
    return error_set(error, ERROR_INVALID, "%s: %s", what, api->last_error());
}

static int run(struct native_model *native, const struct native_tensor *const *ordered, struct error *error)
{
    struct xgboost_model *model = (struct xgboost_model *)native;
    const struct native_tensor *x = ordered[0];
    struct native_tensor *y = &native->results[0];
    const ulong64 *shape;
    ulong64 rank;
    const float *values;
    handle matrix;
    int r;

    if (model->api.matrix(x->data, (ulong64)x->shape[0], (ulong64)x->shape[1], NAN, &matrix) != 0)
        return failed(&model->api, "cannot take the input", error);
    r = model->api.predict(model->booster, matrix,
                           "{\"type\":0,\"training\":false,\"iteration_begin\":0,\"iteration_end\":0,"
                           "\"strict_shape\":false}",
                           &shape, &rank, &values);
    model->api.matrix_release(matrix);
    if (r != 0 || rank > 2)
        return failed(&model->api, "the model failed", error);

    *y = native->signature.outputs[0];
    y->rank = (int)rank;
    y->size = sizeof(float);
    for (ulong64 i = 0; i < rank; i++) {
        y->shape[i] = (int64_t)shape[i];
        y->size *= shape[i];
    }
    y->data = values;
    return 0;
}

static void release(struct native_model *native)
{
    struct xgboost_model *model = (struct xgboost_model *)native;

    if (model->booster)
        model->api.release(model->booster);
    free(model);
}

static int bind(struct api *api, const char *environment, struct error *error)
{
    static const char *const patterns[] = {"lib/python3*/site-packages/xgboost/lib/libxgboost.so", NULL};
    static const char *const names[] = {"libxgboost.so.0", "libxgboost.so", NULL};
    const struct native_symbol symbols[] = {
        {"XGBGetLastError", (void **)&api->last_error},
        {"XGBoostVersion", (void **)&api->version},
        {"XGBoosterCreate", (void **)&api->create},
        {"XGBoosterFree", (void **)&api->release},
        {"XGBoosterLoadModel", (void **)&api->load},
        {"XGBoosterGetNumFeature", (void **)&api->features},
        {"XGBoosterSetParam", (void **)&api->set},
        {"XGDMatrixCreateFromMat", (void **)&api->matrix},
        {"XGDMatrixFree", (void **)&api->matrix_release},
        {"XGBoosterPredictFromDMatrix", (void **)&api->predict},
        {},
    };
    void *library = native_open_library(environment, patterns, names,
                                        "XGBoost is not installed: install the package libxgboost-dev or libxgboost0, "
                                        "or name an environment with xgboost",
                                        error);

    return library ? native_bind(library, symbols, error) : -1;
}

static int load(const char *environment, const char *path, struct native_model **ret_model, struct error *error)
{
    cleanup_native struct native_model *native = NULL;
    struct xgboost_model *model = xnew0(struct xgboost_model);
    struct native_tensor *x, *y;
    int major, minor, patch;
    ulong64 features;

    native = &model->native;
    native->run = run;
    native->release = release;
    if (bind(&model->api, environment, error) < 0)
        return -1;
    if (model->api.create(NULL, 0, &model->booster) != 0 || model->api.load(model->booster, path) != 0 ||
        model->api.features(model->booster, &features) != 0)
        return failed(&model->api, "this is no model of XGBoost", error);
    model->api.set(model->booster, "nthread", "1");

    model->api.version(&major, &minor, &patch);
    snprintf(native->version, sizeof(native->version), "XGBoost %d.%d.%d", major, minor, patch);
    x = &native->signature.inputs[0];
    y = &native->signature.outputs[0];
    native->signature.n_inputs = native->signature.n_outputs = 1;
    *x = (struct native_tensor){.name = "x", .dtype = DTYPE_F32, .rank = 2, .shape = {-1, (int64_t)features}};
    *y = (struct native_tensor){.name = "y", .dtype = DTYPE_F32, .rank = -1, .shape = {-1}};
    *ret_model = steal_ptr(native);
    return 0;
}

static const char *const suffixes[] = {".json", ".ubj", ".bst", NULL};
const struct native_runtime native_xgboost = {"xgboost", suffixes, load};
