/*
 * The request loop for Python, called through ctypes.PyDLL with the interpreter's lock held: one call of the
 * model's predict() per request, or of the harness per batch, and nothing else of Python in between. Going through a
 * ctypes callback costs more than many a model.
 *
 * The library is not linked with Python. It runs inside one, and takes the few functions it needs (all of the
 * limited API) from there; so one build serves every version.
 */
#include <dlfcn.h>
#include <string.h>
#include "util/slice.h"
#include "worker/private.h"

typedef struct object PyObject;

/* Py_buffer as of the stable ABI. */
struct buffer {
    void *data;
    PyObject *owner;
    intptr_t length, item_size;
    int readonly, dimensions;
    char *format;
    intptr_t *shape, *strides, *suboffsets;
    void *internal;
    char reserve[64];
};

struct python {
    PyObject *(*PyUnicode_DecodeUTF8)(const char *, intptr_t, const char *);
    const char *(*PyUnicode_AsUTF8AndSize)(PyObject *, intptr_t *);
    PyObject *(*PyObject_CallFunctionObjArgs)(PyObject *, ...);
    PyObject *(*PyMemoryView_FromMemory)(char *, intptr_t, int);
    PyObject *(*PyList_New)(intptr_t);
    int (*PyList_Append)(PyObject *, PyObject *);
    PyObject *(*PyLong_FromLong)(long);
    long (*PyLong_AsLong)(PyObject *);
    intptr_t (*PySequence_Size)(PyObject *);
    PyObject *(*PySequence_GetItem)(PyObject *, intptr_t);
    int (*PyObject_GetBuffer)(PyObject *, struct buffer *, int);
    void (*PyBuffer_Release)(struct buffer *);
    PyObject *(*PyErr_Occurred)(void);
    void (*PyErr_Fetch)(PyObject **, PyObject **, PyObject **);
    void (*PyErr_NormalizeException)(PyObject **, PyObject **, PyObject **);
    int (*PyException_SetTraceback)(PyObject *, PyObject *);
    void (*PyErr_Clear)(void);
    int (*PyErr_CheckSignals)(void);
    void (*Py_DecRef)(PyObject *);
    void *(*PyEval_SaveThread)(void);
    void (*PyEval_RestoreThread)(void *);
};

struct model {
    struct python python;
    PyObject *predict;  /* predict(str) -> str; the model's own where it has one */
    PyObject *answer;   /* answer(ask, value), of the harness: see below */
    PyObject *failed;   /* failed(exception) -> (status, message); the harness's */
};

/* What the harness is asked for; slipway_worker.py has the same. */
enum ask {
    ASK_COMPLAINT = 0,          /* value: an answer that is no text; raises what is to be said of it */
    ASK_TENSORS = WIRE_TENSORS, /* memoryview -> list of buffers */
    ASK_BATCH,                  /* list of str -> list of as many */
};

/* What is answered to one request or many when Python raised something. */
struct failure {
    uint32_t status;
    size_t length;
    char text[WIRE_TEXT];
};

static const struct {
    const char *name;
    size_t offset;
} functions[] = {
#define ROW(name) {#name, offsetof(struct python, name)}
    ROW(PyUnicode_DecodeUTF8),
    ROW(PyUnicode_AsUTF8AndSize),
    ROW(PyObject_CallFunctionObjArgs),
    ROW(PyMemoryView_FromMemory),
    ROW(PyList_New),
    ROW(PyList_Append),
    ROW(PyLong_FromLong),
    ROW(PyLong_AsLong),
    ROW(PySequence_Size),
    ROW(PySequence_GetItem),
    ROW(PyObject_GetBuffer),
    ROW(PyBuffer_Release),
    ROW(PyErr_Occurred),
    ROW(PyErr_Fetch),
    ROW(PyErr_NormalizeException),
    ROW(PyException_SetTraceback),
    ROW(PyErr_Clear),
    ROW(PyErr_CheckSignals),
    ROW(Py_DecRef),
    ROW(PyEval_SaveThread),
    ROW(PyEval_RestoreThread),
#undef ROW
};

static int find_functions(struct slipway_worker *worker, struct python *python)
{
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        void *address = dlsym(RTLD_DEFAULT, functions[i].name);

        if (!address)
            return slipway_worker_fail(worker, "this Python has no %s", functions[i].name);
        memcpy((char *)python + functions[i].offset, &address, sizeof(address));
    }
    return 0;
}

/* A text as the answer; too long: status and a message in its place. */
static void put_text(struct slipway_request *request, const char *text, intptr_t length)
{
    static const char too_long[] = "the answer is too long";
    char *room = slipway_request_reserve(request, (uint64_t)length);

    if (!room) {
        request->status = WIRE_STATUS_TOO_LARGE;
        text = too_long;
        length = sizeof(too_long) - 1;
        room = request->answer;
    }
    memcpy(room, text, (size_t)length);
    request->answer_length = (uint64_t)length;
}

static PyObject *ask(struct model *model, enum ask what, PyObject *value)
{
    const struct python *python = &model->python;
    PyObject *number = value ? python->PyLong_FromLong(what) : NULL;
    PyObject *result = number ? python->PyObject_CallFunctionObjArgs(model->answer, number, value, NULL) : NULL;

    python->Py_DecRef(number);
    return result;
}

/* Clears the exception that is set, and says what it means. */
static void take_exception(struct model *model, struct failure *failure)
{
    const struct python *python = &model->python;
    PyObject *type = NULL, *value = NULL, *trace = NULL, *result, *status, *message;
    const char *text = NULL;
    intptr_t length = 0;

    *failure = (struct failure){.status = WIRE_STATUS_FAILED};
    python->PyErr_Fetch(&type, &value, &trace);
    python->PyErr_NormalizeException(&type, &value, &trace);
    if (value && trace)
        python->PyException_SetTraceback(value, trace);
    result = python->PyObject_CallFunctionObjArgs(model->failed, value ? value : type, NULL);
    if (result) {
        status = python->PySequence_GetItem(result, 0);
        message = python->PySequence_GetItem(result, 1);
        failure->status = status ? (uint32_t)python->PyLong_AsLong(status) : WIRE_STATUS_FAILED;
        text = message ? python->PyUnicode_AsUTF8AndSize(message, &length) : NULL;
        if (text) {
            failure->length = (size_t)length < sizeof(failure->text) ? (size_t)length : sizeof(failure->text);
            memcpy(failure->text, text, failure->length);
        }
        python->Py_DecRef(status);
        python->Py_DecRef(message);
    }
    python->Py_DecRef(result);
    python->Py_DecRef(type);
    python->Py_DecRef(value);
    python->Py_DecRef(trace);
    python->PyErr_Clear();
}

static void put_failure(struct slipway_request *request, const struct failure *failure)
{
    put_text(request, failure->text, (intptr_t)failure->length);
    request->status = failure->status;
}

static void put_exception(struct model *model, struct slipway_request *request)
{
    struct failure failure;

    take_exception(model, &failure);
    put_failure(request, &failure);
}

static void put_message(struct slipway_request *request, uint32_t status, const char *message)
{
    put_text(request, message, (intptr_t)strlen(message));
    request->status = status;
}

/* NULL if the body is no text; the request has its answer then. */
static PyObject *read_text(struct model *model, struct slipway_request *request)
{
    const struct python *python = &model->python;
    PyObject *text = python->PyUnicode_DecodeUTF8(request->body, (intptr_t)request->length, NULL);

    if (!text) {
        python->PyErr_Clear();
        put_message(request, WIRE_STATUS_INVALID, "the request is not UTF-8 text");
    }
    return text;
}

/* What predict() returned for a request; NULL: it raised. */
static void put_result(struct model *model, struct slipway_request *request, PyObject *result)
{
    const struct python *python = &model->python;
    intptr_t length;
    const char *text = result ? python->PyUnicode_AsUTF8AndSize(result, &length) : NULL;

    if (text) {
        put_text(request, text, length);
        return;
    }
    if (result) {
        python->PyErr_Clear();
        python->Py_DecRef(ask(model, ASK_COMPLAINT, result));
    }
    put_exception(model, request);
}

static void answer_text(struct model *model, struct slipway_request *request)
{
    const struct python *python = &model->python;
    PyObject *text = read_text(model, request), *result;

    if (!text)
        return;
    result = python->PyObject_CallFunctionObjArgs(model->predict, text, NULL);
    put_result(model, request, result);
    python->Py_DecRef(result);
    python->Py_DecRef(text);
}

/* The list of the texts. Requests that hold none are answered at once; the others are moved to the front, *n of them.
 */
static PyObject *read_texts(struct model *model, struct slipway_request *requests, int *n)
{
    const struct python *python = &model->python;
    PyObject *texts = python->PyList_New(0);
    int kept = 0;

    for (int i = 0; i < *n; i++) {
        PyObject *text = read_text(model, &requests[i]);

        if (!text) {
            slipway_worker_answer(requests[i].worker, &requests[i]);
            continue;
        }
        if (texts && python->PyList_Append(texts, text) < 0) {
            python->Py_DecRef(texts);
            texts = NULL;
        }
        python->Py_DecRef(text);
        requests[kept++] = requests[i];
    }
    *n = kept;
    return texts;
}

/* One call for all of them, one answer to each. */
static void answer_batch(struct model *model, struct slipway_request *requests, int n)
{
    const struct python *python = &model->python;
    PyObject *texts = read_texts(model, requests, &n);
    PyObject *results = n ? ask(model, ASK_BATCH, texts) : NULL;
    struct failure failure;

    if (n && !results)
        take_exception(model, &failure);
    for (int i = 0; i < n; i++) {
        if (results) {
            PyObject *result = python->PySequence_GetItem(results, i);

            put_result(model, &requests[i], result);
            python->Py_DecRef(result);
        } else {
            put_failure(&requests[i], &failure);
        }
        slipway_worker_answer(requests[i].worker, &requests[i]);
    }
    python->Py_DecRef(results);
    python->Py_DecRef(texts);
}

/* Copies the parts, one behind the other, into the answer. False with an exception set. */
static bool put_parts(struct model *model, struct slipway_request *request, PyObject *parts)
{
    const struct python *python = &model->python;
    intptr_t n = python->PySequence_Size(parts);
    uint64_t sum = 0;
    char *room = NULL;

    for (int pass = 0; pass < 2; pass++) {
        uint64_t at = 0;

        for (intptr_t i = 0; i < n; i++) {
            PyObject *part = python->PySequence_GetItem(parts, i);
            struct buffer buffer;

            if (!part || python->PyObject_GetBuffer(part, &buffer, 0) < 0) {
                python->Py_DecRef(part);
                return false;
            }
            if (pass == 1 && at + (uint64_t)buffer.length <= sum)
                memcpy(room + at, buffer.data, (size_t)buffer.length);
            at += (uint64_t)buffer.length;
            python->PyBuffer_Release(&buffer);
            python->Py_DecRef(part);
        }
        if (pass == 0) {
            sum = at;
            room = slipway_request_reserve(request, sum);
            if (!room) {
                put_message(request, WIRE_STATUS_TOO_LARGE, "the answer is too long");
                return true;
            }
        }
    }
    request->answer_length = sum;
    return n >= 0;
}

static void answer_tensors(struct model *model, struct slipway_request *request)
{
    const struct python *python = &model->python;
    PyObject *body = python->PyMemoryView_FromMemory((char *)(uintptr_t)request->body, (intptr_t)request->length,
                                                     0x100);
    PyObject *parts = ask(model, ASK_TENSORS, body);

    if (!parts || !put_parts(model, request, parts))
        put_exception(model, request);
    python->Py_DecRef(parts);
    python->Py_DecRef(body);
}

/* Python's threads run, and its signal handlers are called, while we sleep. */
int slipway_worker_run_python(struct slipway_worker *worker, PyObject *predict, PyObject *answer, PyObject *failed)
{
    struct model model = {.predict = predict, .answer = answer, .failed = failed};
    struct slipway_request requests[WIRE_SLOTS];
    int n;

    if (find_functions(worker, &model.python) < 0)
        return -1;
    slice_short(); /* the loading is over, requests come */
    worker->before_sleep = model.python.PyEval_SaveThread;
    worker->after_sleep = model.python.PyEval_RestoreThread;
    worker->check_signals = model.python.PyErr_CheckSignals;
    while ((n = slipway_worker_take_batch(worker, requests))) {
        if (requests[0].batch) {
            answer_batch(&model, requests, n);
            continue;
        }
        if (requests[0].kind == WIRE_PREDICT)
            answer_text(&model, &requests[0]);
        else
            answer_tensors(&model, &requests[0]);
        slipway_worker_answer(worker, &requests[0]);
    }
    return 0;
}
