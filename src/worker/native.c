#include <dlfcn.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/fs.h"
#include "util/strbuf.h"
#include "worker/native.h"

static const struct native_runtime *const runtimes[] = {&native_openvino, &native_xgboost};

const struct native_runtime *native_runtime_find(const char *name, struct error *error)
{
    cleanup_strbuf struct strbuf known = STRBUF_INIT(LIMIT_DESCRIPTION);

    for (size_t i = 0; i < ARRAY_SIZE(runtimes); i++) {
        if (strcmp(runtimes[i]->name, name) == 0)
            return runtimes[i];
        strbuf_addf(&known, "%s%s", i ? ", " : "", runtimes[i]->name);
    }
    error_set(error, ERROR_INVALID, "'%.80s' is no runtime of native models; there are: %s", name, known.data);
    return NULL;
}

int native_load(const struct native_runtime *runtime, const char *environment, const char *path,
                struct native_model **ret_model, struct error *error)
{
    if (!fs_exists(path))
        return error_set(error, ERROR_NOT_FOUND, "there is no model file %s", path);
    return runtime->load(environment, path, ret_model, error);
}

struct native_model *native_free(struct native_model *model)
{
    if (model)
        model->release(model);
    return NULL;
}

const char *native_version(const struct native_model *model)
{
    return model->version;
}

const struct native_signature *native_signature(const struct native_model *model)
{
    return &model->signature;
}

/* -- inputs -- */

static void shape_text(const struct native_tensor *tensor, struct strbuf *out)
{
    strbuf_addc(out, '[');
    for (int i = 0; i < tensor->rank; i++)
        strbuf_addf(out, "%s%" PRId64, i ? ", " : "", tensor->shape[i]);
    strbuf_addc(out, ']');
}

static bool shape_fits(const struct native_tensor *given, const struct native_tensor *wanted)
{
    if (wanted->rank < 0) /* of dynamic rank */
        return true;
    if (given->rank != wanted->rank)
        return false;
    for (int i = 0; i < wanted->rank; i++)
        if (wanted->shape[i] >= 0 && wanted->shape[i] != given->shape[i])
            return false;
    return true;
}

static int check_input(const struct native_tensor *given, const struct native_tensor *wanted, struct error *error)
{
    cleanup_strbuf struct strbuf have = STRBUF_INIT(1024), want = STRBUF_INIT(1024);
    uint64_t size = dtype_size(given->dtype);

    if (given->dtype != wanted->dtype)
        return error_set(error, ERROR_INVALID, "input %s has dtype %s; the model takes %s", wanted->name,
                         dtype_name(given->dtype), dtype_name(wanted->dtype));
    if (!shape_fits(given, wanted)) {
        shape_text(given, &have);
        shape_text(wanted, &want);
        return error_set(error, ERROR_INVALID, "input %s has shape %s; the model takes %s", wanted->name, have.data,
                         want.data);
    }
    for (int i = 0; i < given->rank; i++)
        if (given->shape[i] < 0 || __builtin_mul_overflow(size, (uint64_t)given->shape[i], &size))
            return error_set(error, ERROR_INVALID, "input %s has an impossible shape", wanted->name);
    if (size != given->size)
        return error_set(error, ERROR_INVALID, "input %s has %zu bytes; its shape needs %" PRIu64, wanted->name,
                         given->size, size);
    return 0;
}

static const struct native_tensor *find_input(const struct native_tensor *inputs, size_t n_inputs, const char *name)
{
    for (size_t i = 0; i < n_inputs; i++)
        if (strcmp(inputs[i].name, name) == 0)
            return &inputs[i];
    return NULL;
}

int native_run(struct native_model *model, const struct native_tensor *inputs, size_t n_inputs,
               const struct native_tensor **ret_outputs, size_t *ret_n_outputs, struct error *error)
{
    const struct native_signature *signature = &model->signature;
    const struct native_tensor *ordered[NATIVE_PORTS];

    if (n_inputs != signature->n_inputs)
        return error_set(error, ERROR_INVALID, "%zu inputs were given; the model takes %zu", n_inputs,
                         signature->n_inputs);
    for (size_t i = 0; i < signature->n_inputs; i++) {
        const struct native_tensor *wanted = &signature->inputs[i];

        ordered[i] = find_input(inputs, n_inputs, wanted->name);
        if (!ordered[i] && signature->n_inputs == 1 && !*inputs[0].name)
            ordered[i] = &inputs[0];
        if (!ordered[i])
            return error_set(error, ERROR_INVALID, "input %s is missing", wanted->name);
        if (check_input(ordered[i], wanted, error) < 0)
            return -1;
    }
    if (model->run(model, ordered, error) < 0)
        return -1;
    *ret_outputs = model->results;
    *ret_n_outputs = signature->n_outputs;
    return 0;
}

/* -- libraries -- */

static void *open_matching(const char *environment, const char *pattern)
{
    cleanup_free char *path = fs_join(environment, pattern);
    void *library = NULL;
    glob_t found;

    if (glob(path, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc && !library; i++)
            library = dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_LOCAL);
    globfree(&found);
    return library;
}

void *native_open_library(const char *environment, const char *const *patterns, const char *const *names,
                          const char *hint, struct error *error)
{
    void *library = NULL;

    for (; environment && *patterns && !library; patterns++)
        library = open_matching(environment, *patterns);
    for (; *names && !library; names++)
        library = dlopen(*names, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        error_set(error, ERROR_UNSUPPORTED, "%s (%s)", hint, dlerror());
    return library;
}

int native_bind(void *library, const struct native_symbol *symbols, struct error *error)
{
    for (; symbols->name; symbols++) {
        *symbols->to = dlsym(library, symbols->name);
        if (!*symbols->to)
            return error_set(error, ERROR_UNSUPPORTED, "the library lacks the function %s", symbols->name);
    }
    return 0;
}
