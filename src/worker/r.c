/*
 * The worker's calls in the shape of R's .C(): every argument a pointer to the first element of a vector, text
 * a `char **`. One worker a process. R copies what the pointers show after the call, so the text that is handed
 * out stays ours. No header of R is needed. See slipway_worker.R.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/slice.h"
#include "worker/private.h"

static struct slipway_worker *worker;
static struct slipway_request request;
static char *text; /* the request's body with a NUL behind it */
static size_t text_size;

SLIPWAY_API void slipway_r_hello(char **runtime, int *ret_status);
SLIPWAY_API void slipway_r_ready(int *ret_status);
SLIPWAY_API void slipway_r_failed(char **message);
SLIPWAY_API void slipway_r_take(char **ret_text, int *ret_status);
SLIPWAY_API void slipway_r_answer(char **answer, int *status);

void slipway_r_hello(char **runtime, int *ret_status)
{
    worker = slipway_worker_open(NULL);
    *ret_status = slipway_worker_hello(worker, *runtime, WIRE_CAN_PREDICT, 1);
}

void slipway_r_ready(int *ret_status)
{
    slice_short(); /* the loading is over, requests come */
    *ret_status = slipway_worker_ready(worker, WIRE_CAN_PREDICT);
}

void slipway_r_failed(char **message)
{
    slipway_worker_failed(worker, *message);
}

static void finish(const char *answer, size_t length, uint32_t status)
{
    char *to = slipway_request_reserve(&request, length);

    if (!to) {
        request.status = WIRE_STATUS_TOO_LARGE;
        request.answer_length = 0;
    } else {
        memcpy(to, answer, length);
        request.answer_length = length;
        request.status = status;
    }
    slipway_worker_answer(worker, &request);
}

/* R's text ends at a NUL: a request that holds one is no text. */
static int refuse(void)
{
    static const char tensors[] = "this model takes text, not tensors", nul[] = "the text holds a NUL character";

    if (request.kind != WIRE_PREDICT)
        finish(tensors, strlen(tensors), WIRE_STATUS_UNSUPPORTED);
    else if (memchr(request.body, '\0', request.length))
        finish(nul, strlen(nul), WIRE_STATUS_INVALID);
    else
        return 0;
    return 1;
}

void slipway_r_take(char **ret_text, int *ret_status)
{
    do {
        *ret_status = slipway_worker_take(worker, &request);
        if (!*ret_status)
            return;
    } while (refuse());
    if (request.length + 1 > text_size) {
        text_size = request.length + 1;
        text = realloc(text, text_size);
        if (!text)
            abort();
    }
    memcpy(text, request.body, request.length);
    text[request.length] = '\0';
    *ret_text = text;
}

void slipway_r_answer(char **answer, int *status)
{
    finish(*answer, strlen(*answer), (uint32_t)*status);
}
