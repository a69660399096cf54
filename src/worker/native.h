/*
 * Models that are served without any code of the user: a file and a library that runs it.
 *
 *     ONNX (and TensorFlow Lite, Paddle, OpenVINO IR)   OpenVINO's C library
 *     XGBoost (.json, .ubj)                             libxgboost
 *
 * The libraries are found when a model is loaded, by dlopen(), so that neither the build nor anything else
 * needs them: in the environment of the model (a Python environment with the package "openvino" has it),
 * else where the system's loader looks. Their functions are declared here from their documentation.
 *
 * One thread at a time for each model.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "format/safetensors.h"
#include "util/error.h"
#include "util/limits.h"

#define NATIVE_NAME  128 /* most bytes of a tensor's name, with NUL */
#define NATIVE_PORTS 64  /* most inputs, and outputs, of a model */

struct native_tensor {
    char name[NATIVE_NAME];
    enum dtype dtype;
    int rank;
    int64_t shape[LIMIT_TENSOR_RANK]; /* -1 in a signature: any */
    const void *data;                 /* row-major; NULL in a signature */
    size_t size;                      /* bytes */
};

struct native_signature {
    struct native_tensor inputs[NATIVE_PORTS], outputs[NATIVE_PORTS];
    size_t n_inputs, n_outputs;
};

struct native_model;

/* A kind of model. */
struct native_runtime {
    const char *name;            /* "onnx", "xgboost": what slipway.yaml says */
    const char *const *suffixes; /* of the model's file; NULL-terminated */
    int (*load)(const char *environment, const char *path, struct native_model **ret_model, struct error *error);
};

extern const struct native_runtime native_openvino;
extern const struct native_runtime native_xgboost;

/* By name; ERROR_INVALID lists the names. */
const struct native_runtime *native_runtime_find(const char *name, struct error *error);

/* `environment` is the root of a Python environment to look for libraries in; may be NULL. ERROR_UNSUPPORTED
 * if the library is not there: the message says how to get it. */
int native_load(const struct native_runtime *runtime, const char *environment, const char *path,
                struct native_model **ret_model, struct error *error);
struct native_model *native_free(struct native_model *model);
DEFINE_CLEANUP(struct native_model *, native_free)
#define cleanup_native CLEANUP(native_free_cleanup)

/* "OpenVINO 2026.4.1", "XGBoost 1.6.0": what runs the model. */
const char *native_version(const struct native_model *model);
const struct native_signature *native_signature(const struct native_model *model);
/* Runs the model. Inputs are matched by name (a single input needs none) and must fit the signature
 * (ERROR_INVALID names what does not). *ret_outputs and its data belong to the model until the next call. */
int native_run(struct native_model *model, const struct native_tensor *inputs, size_t n_inputs,
               const struct native_tensor **ret_outputs, size_t *ret_n_outputs, struct error *error);

/* -- for the implementations -- */

struct native_model {
    struct native_signature signature;
    struct native_tensor results[NATIVE_PORTS];
    char version[64];
    /* `ordered` are the inputs in the order of the signature. Fills results[]. */
    int (*run)(struct native_model *model, const struct native_tensor *const *ordered, struct error *error);
    void (*release)(struct native_model *model);
};

/* dlopen() of the first of `patterns` (globs; relative ones below environment) or `names` that is there. */
void *native_open_library(const char *environment, const char *const *patterns, const char *const *names,
                          const char *hint, struct error *error);
/* Fills pointers from a table of symbols. */
struct native_symbol {
    const char *name;
    void **to;
};
int native_bind(void *library, const struct native_symbol *symbols, struct error *error);
