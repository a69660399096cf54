/*
 * Networks by OpenVINO, which reads ONNX, TensorFlow, TensorFlow Lite, Paddle and its own files.
 * Source of the interface: OpenVINO C API 2.0 (openvino/c/openvino.h), https://docs.openvino.ai.
 */
#include <string.h>
#include "util/xalloc.h"
#include "worker/native.h"

struct ov_dimension {
    int64_t min, max; /* -1 as max: free */
};
struct ov_shape {
    int64_t rank;
    int64_t *dims;
};
struct ov_partial_shape {
    struct ov_dimension rank;
    struct ov_dimension *dims;
};
struct ov_version {
    const char *build, *description;
};

struct api {
    const char *(*error_info)(int status);
    int (*version)(struct ov_version *ret);
    void (*version_free)(struct ov_version *version);
    void (*free)(const char *text);
    int (*core_create)(void **ret);
    void (*core_free)(void *core);
    int (*read)(const void *core, const char *path, const char *weights, void **ret);
    void (*model_free)(void *model);
    int (*compile)(const void *core, const void *model, const char *device, size_t n, void **ret, ...);
    void (*compiled_free)(void *compiled);
    int (*request_create)(const void *compiled, void **ret);
    void (*request_free)(void *request);
    int (*inputs)(const void *model, size_t *ret);
    int (*outputs)(const void *model, size_t *ret);
    int (*input)(const void *model, size_t index, void **ret);
    int (*output)(const void *model, size_t index, void **ret);
    void (*port_free)(void *port);
    int (*port_name)(const void *port, char **ret);
    int (*port_type)(const void *port, unsigned *ret);
    int (*port_shape)(const void *port, struct ov_partial_shape *ret);
    void (*partial_shape_free)(struct ov_partial_shape *shape);
    int (*tensor_wrap)(unsigned type, struct ov_shape shape, void *data, void **ret);
    void (*tensor_free)(void *tensor);
    int (*tensor_shape)(const void *tensor, struct ov_shape *ret);
    int (*shape_free)(struct ov_shape *shape);
    int (*tensor_size)(const void *tensor, size_t *ret);
    int (*tensor_data)(const void *tensor, void **ret);
    int (*set_input)(void *request, size_t index, const void *tensor);
    int (*get_output)(const void *request, size_t index, void **ret);
    int (*infer)(void *request);
};

struct openvino_model {
    struct native_model native;
    struct api api;
    void *core, *model, *compiled, *request;
    void *results[NATIVE_PORTS]; /* tensors that hold the last outputs */
};

/* ov_element_type_e. Types that have no place in safetensors are left out. */
static const struct {
    unsigned type;
    enum dtype dtype;
} types[] = {{1, DTYPE_BOOL}, {2, DTYPE_BF16}, {3, DTYPE_F16}, {4, DTYPE_F32},  {5, DTYPE_F64},
             {7, DTYPE_I8},   {8, DTYPE_I16},  {9, DTYPE_I32}, {10, DTYPE_I64}, {16, DTYPE_U8},
             {17, DTYPE_U16}, {18, DTYPE_U32}, {19, DTYPE_U64}};

static int failed(const struct api *api, const char *what, int status, struct error *error)
{
    return error_set(error, ERROR_INVALID, "%s: OpenVINO says %s", what, api->error_info(status));
}

static int type_of(enum dtype dtype, unsigned *ret_type)
{
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (types[i].dtype == dtype) {
            *ret_type = types[i].type;
            return 0;
        }
    }
    return -1;
}

/* -- signature -- */

static int read_type(const struct api *api, void *port, struct native_tensor *tensor, struct error *error)
{
    unsigned type = 0;

    if (api->port_type(port, &type) == 0) {
        for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
            if (types[i].type == type) {
                tensor->dtype = types[i].dtype;
                return 0;
            }
        }
    }
    return error_set(error, ERROR_UNSUPPORTED, "tensor %s has element type %u, which cannot be served", tensor->name,
                     type);
}

static int read_shape(const struct api *api, void *port, struct native_tensor *tensor, struct error *error)
{
    struct ov_partial_shape shape;
    int status = api->port_shape(port, &shape);

    if (status != 0)
        return failed(api, "cannot read a shape", status, error);
    tensor->rank = shape.rank.min == shape.rank.max ? (int)shape.rank.min : -1;
    if (tensor->rank > LIMIT_TENSOR_RANK) {
        api->partial_shape_free(&shape);
        return error_set(error, ERROR_TOO_LARGE, "tensor %s has %d dimensions; at most %d are allowed", tensor->name,
                         tensor->rank, LIMIT_TENSOR_RANK);
    }
    for (int i = 0; i < tensor->rank; i++)
        tensor->shape[i] = shape.dims[i].min == shape.dims[i].max ? shape.dims[i].min : -1;
    api->partial_shape_free(&shape);
    return 0;
}

static int read_port(const struct api *api, void *port, const char *kind, size_t index, struct native_tensor *tensor,
                     struct error *error)
{
    char *name = NULL;

    if (api->port_name(port, &name) == 0 && name)
        snprintf(tensor->name, sizeof(tensor->name), "%s", name);
    else
        snprintf(tensor->name, sizeof(tensor->name), "%s%zu", kind, index);
    if (name)
        api->free(name);
    if (read_type(api, port, tensor, error) < 0)
        return -1;
    return read_shape(api, port, tensor, error);
}

static int read_ports(struct openvino_model *model, const char *kind, int (*count)(const void *, size_t *),
                      int (*get)(const void *, size_t, void **), struct native_tensor *tensors, size_t *ret_count,
                      struct error *error)
{
    int status = count(model->model, ret_count);

    if (status != 0)
        return failed(&model->api, "cannot read the signature", status, error);
    if (*ret_count > NATIVE_PORTS)
        return error_set(error, ERROR_TOO_LARGE, "the model has %zu %ss; at most %d are allowed", *ret_count, kind,
                         NATIVE_PORTS);
    for (size_t i = 0; i < *ret_count; i++) {
        void *port;
        int r;

        status = get(model->model, i, &port);
        if (status != 0)
            return failed(&model->api, "cannot read the signature", status, error);
        r = read_port(&model->api, port, kind, i, &tensors[i], error);
        model->api.port_free(port);
        if (r < 0)
            return -1;
    }
    return 0;
}

/* -- run -- */

static int give_input(struct openvino_model *model, size_t index, const struct native_tensor *input,
                      struct error *error)
{
    struct ov_shape shape = {input->rank, (int64_t *)input->shape};
    unsigned type;
    void *tensor;
    int status;

    if (type_of(input->dtype, &type) < 0)
        return error_set(error, ERROR_UNSUPPORTED, "input %s has a dtype that cannot be given", input->name);
    /* The library does not write to inputs; its interface has no const. */
    status = model->api.tensor_wrap(type, shape, (void *)(uintptr_t)input->data, &tensor);
    if (status != 0)
        return failed(&model->api, "cannot take an input", status, error);
    status = model->api.set_input(model->request, index, tensor);
    model->api.tensor_free(tensor);
    return status == 0 ? 0 : failed(&model->api, "cannot take an input", status, error);
}

static int take_output(struct openvino_model *model, size_t index, struct error *error)
{
    struct native_tensor *result = &model->native.results[index];
    const struct api *api = &model->api;
    struct ov_shape shape;
    void *data;
    int status;

    if (model->results[index])
        api->tensor_free(steal_ptr(model->results[index]));
    status = api->get_output(model->request, index, &model->results[index]);
    if (status != 0)
        return failed(api, "cannot take an output", status, error);
    *result = model->native.signature.outputs[index];
    status = api->tensor_shape(model->results[index], &shape);
    if (status != 0 || shape.rank > LIMIT_TENSOR_RANK)
        return failed(api, "an output has no usable shape", status, error);
    result->rank = (int)shape.rank;
    memcpy(result->shape, shape.dims, (size_t)shape.rank * sizeof(int64_t));
    api->shape_free(&shape);
    if (api->tensor_size(model->results[index], &result->size) != 0 ||
        api->tensor_data(model->results[index], &data) != 0)
        return failed(api, "cannot take an output", -1, error);
    result->data = data;
    return 0;
}

static int run(struct native_model *native, const struct native_tensor *const *ordered, struct error *error)
{
    struct openvino_model *model = (struct openvino_model *)native;
    int status;

    for (size_t i = 0; i < native->signature.n_inputs; i++)
        if (give_input(model, i, ordered[i], error) < 0)
            return -1;
    status = model->api.infer(model->request);
    if (status != 0)
        return failed(&model->api, "the model failed", status, error);
    for (size_t i = 0; i < native->signature.n_outputs; i++)
        if (take_output(model, i, error) < 0)
            return -1;
    return 0;
}

/* -- load -- */

static void release(struct native_model *native)
{
    struct openvino_model *model = (struct openvino_model *)native;

    for (size_t i = 0; i < NATIVE_PORTS; i++)
        if (model->results[i])
            model->api.tensor_free(model->results[i]);
    if (model->request)
        model->api.request_free(model->request);
    if (model->compiled)
        model->api.compiled_free(model->compiled);
    if (model->model)
        model->api.model_free(model->model);
    if (model->core)
        model->api.core_free(model->core);
    free(model);
}

static int bind(struct api *api, const char *environment, struct error *error)
{
    static const char *const patterns[] = {"lib/python3*/site-packages/openvino/libs/libopenvino_c.so*", NULL};
    static const char *const names[] = {"libopenvino_c.so", NULL};
    const struct native_symbol symbols[] = {
        {"ov_get_error_info", (void **)&api->error_info},
        {"ov_get_openvino_version", (void **)&api->version},
        {"ov_version_free", (void **)&api->version_free},
        {"ov_free", (void **)&api->free},
        {"ov_core_create", (void **)&api->core_create},
        {"ov_core_free", (void **)&api->core_free},
        {"ov_core_read_model", (void **)&api->read},
        {"ov_model_free", (void **)&api->model_free},
        {"ov_core_compile_model", (void **)&api->compile},
        {"ov_compiled_model_free", (void **)&api->compiled_free},
        {"ov_compiled_model_create_infer_request", (void **)&api->request_create},
        {"ov_infer_request_free", (void **)&api->request_free},
        {"ov_model_inputs_size", (void **)&api->inputs},
        {"ov_model_outputs_size", (void **)&api->outputs},
        {"ov_model_const_input_by_index", (void **)&api->input},
        {"ov_model_const_output_by_index", (void **)&api->output},
        {"ov_output_const_port_free", (void **)&api->port_free},
        {"ov_port_get_any_name", (void **)&api->port_name},
        {"ov_port_get_element_type", (void **)&api->port_type},
        {"ov_port_get_partial_shape", (void **)&api->port_shape},
        {"ov_partial_shape_free", (void **)&api->partial_shape_free},
        {"ov_tensor_create_from_host_ptr", (void **)&api->tensor_wrap},
        {"ov_tensor_free", (void **)&api->tensor_free},
        {"ov_tensor_get_shape", (void **)&api->tensor_shape},
        {"ov_shape_free", (void **)&api->shape_free},
        {"ov_tensor_get_byte_size", (void **)&api->tensor_size},
        {"ov_tensor_data", (void **)&api->tensor_data},
        {"ov_infer_request_set_input_tensor_by_index", (void **)&api->set_input},
        {"ov_infer_request_get_output_tensor_by_index", (void **)&api->get_output},
        {"ov_infer_request_infer", (void **)&api->infer},
        {},
    };
    void *library = native_open_library(environment, patterns, names,
                                        "OpenVINO is not there: name an environment with the package openvino", error);

    return library ? native_bind(library, symbols, error) : -1;
}

static int open_model(struct openvino_model *model, const char *path, struct error *error)
{
    const struct api *api = &model->api;
    int status;

    status = api->core_create(&model->core);
    if (status == 0)
        status = api->read(model->core, path, NULL, &model->model);
    if (status != 0)
        return failed(api, "cannot read the model", status, error);
    /* One request at a time and one thread: a worker gets more cores by more replicas. */
    status = api->compile(model->core, model->model, "CPU", 4, &model->compiled, "INFERENCE_NUM_THREADS", "1",
                          "NUM_STREAMS", "1");
    if (status == 0)
        status = api->request_create(model->compiled, &model->request);
    if (status != 0)
        return failed(api, "cannot compile the model", status, error);
    return 0;
}

static int load(const char *environment, const char *path, struct native_model **ret_model, struct error *error)
{
    cleanup_native struct native_model *native = NULL;
    struct openvino_model *model = xnew0(struct openvino_model);
    struct native_signature *signature = &model->native.signature;
    struct ov_version version;

    native = &model->native;
    native->run = run;
    native->release = release;
    if (bind(&model->api, environment, error) < 0 || open_model(model, path, error) < 0 ||
        read_ports(model, "input", model->api.inputs, model->api.input, signature->inputs, &signature->n_inputs,
                   error) < 0 ||
        read_ports(model, "output", model->api.outputs, model->api.output, signature->outputs, &signature->n_outputs,
                   error) < 0)
        return -1;
    if (model->api.version(&version) == 0) {
        snprintf(native->version, sizeof(native->version), "OpenVINO %.40s", version.build);
        model->api.version_free(&version);
    }
    *ret_model = steal_ptr(native);
    return 0;
}

static const char *const suffixes[] = {".onnx", ".tflite", ".xml", ".pdmodel", ".pb", NULL};
const struct native_runtime native_openvino = {"onnx", suffixes, load};
