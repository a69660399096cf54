#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "http/server-private.h"
#include "http/websocket.h"
#include "util/parse.h"
#include "util/xalloc.h"

struct range {
    uint64_t first, length;
};

enum range_kind { RANGE_NONE, RANGE_GOOD, RANGE_BAD };

/* One range of bytes ("bytes=0-99", "bytes=100-", "bytes=-5"); several, or other units, mean the whole. */
static enum range_kind parse_range(const char *text, uint64_t size, struct range *ret)
{
    int64_t first = -1, last = -1;
    cleanup_free char *copy = NULL;
    char *dash;

    if (!text || strncmp(text, "bytes=", 6) != 0 || strchr(text, ','))
        return RANGE_NONE;
    copy = xstrdup(text + 6);
    dash = strchr(copy, '-');
    if (!dash)
        return RANGE_NONE;
    *dash++ = '\0';
    if ((*copy && parse_int(copy, 0, INT64_MAX, &first, NULL) < 0) ||
        (*dash && parse_int(dash, 0, INT64_MAX, &last, NULL) < 0) || (first < 0 && last < 0))
        return RANGE_NONE;

    if (first < 0) { /* the last bytes */
        first = (uint64_t)last < size ? (int64_t)(size - (uint64_t)last) : 0;
        last = (int64_t)size - 1;
    } else if (last < 0 || (uint64_t)last >= size) {
        last = (int64_t)size - 1;
    }
    if ((uint64_t)first >= size || last < first)
        return RANGE_BAD;
    ret->first = (uint64_t)first;
    ret->length = (uint64_t)(last - first) + 1;
    return RANGE_GOOD;
}

static bool has_header(const struct exchange *exchange, const char *name)
{
    for (size_t i = 0; i + 1 < exchange->headers.count; i += 2)
        if (strcasecmp(exchange->headers.items[i], name) == 0)
            return true;
    return false;
}

static struct MHD_Response *response_of_bytes(struct exchange *exchange)
{
    return MHD_create_response_from_buffer(exchange->length, steal_ptr(exchange->data), MHD_RESPMEM_MUST_FREE);
}

static struct MHD_Response *response_of_fd(struct exchange *exchange, int *status)
{
    struct range range = {0, exchange->size};
    struct MHD_Response *response;
    char text[80];

    cleanup_error struct error error = ERROR_INIT;

    switch (*status == 200 ? parse_range(http_header(&exchange->request, "Range"), exchange->size, &range)
                           : RANGE_NONE) {
    case RANGE_BAD:
        *status = 416;
        snprintf(text, sizeof(text), "bytes */%llu", (unsigned long long)exchange->size);
        error_set(&error, ERROR_INVALID, "the range lies outside of the %llu bytes that there are",
                  (unsigned long long)exchange->size);
        exchange_reply_error(exchange, 416, &error);
        http_reply_header(&exchange->response, "Content-Range", text);
        return response_of_bytes(exchange);
    case RANGE_GOOD:
        *status = 206;
        snprintf(text, sizeof(text), "bytes %llu-%llu/%llu", (unsigned long long)range.first,
                 (unsigned long long)(range.first + range.length - 1), (unsigned long long)exchange->size);
        break;
    case RANGE_NONE: range = (struct range){0, exchange->size}; break;
    }
    response = MHD_create_response_from_fd_at_offset64(range.length, exchange->fd, range.first);
    if (!response)
        return NULL;
    exchange->fd = -1; /* the response's from here on */
    MHD_add_response_header(response, "Accept-Ranges", "bytes");
    if (*status == 206)
        MHD_add_response_header(response, "Content-Range", text);
    return response;
}

static struct MHD_Response *response_of(struct call *call, int *status)
{
    struct exchange *exchange = call->exchange;

    switch (exchange->reply) {
    case HTTP_REPLY_FD: return response_of_fd(exchange, status);
    case HTTP_REPLY_WEBSOCKET:
        *status = MHD_HTTP_SWITCHING_PROTOCOLS;
        call->websocket = websocket_prepare(call->server, exchange);
        return MHD_create_response_for_upgrade(websocket_upgraded, call->websocket);
    case HTTP_REPLY_BYTES: return response_of_bytes(exchange);
    default:
        *status = *status == 200 ? 204 : *status;
        return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    }
}

enum MHD_Result reply_queue(struct call *call)
{
    struct exchange *exchange = call->exchange;
    int status = exchange->response.status ?: 200;
    struct MHD_Response *response = response_of(call, &status);
    enum MHD_Result result;

    atomic_store(&call->connection->deadline_ns, 0);
    if (!response)
        return MHD_NO;
    if (exchange->reply == HTTP_REPLY_BYTES || exchange->reply == HTTP_REPLY_FD)
        MHD_add_response_header(response, "Content-Type", exchange->content_type ?: "application/json");
    if (exchange->reply == HTTP_REPLY_BYTES && !has_header(exchange, "Cache-Control"))
        MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    for (size_t i = 0; i + 1 < exchange->headers.count; i += 2)
        MHD_add_response_header(response, exchange->headers.items[i], exchange->headers.items[i + 1]);

    result = MHD_queue_response(call->mhd, (unsigned)status, response);
    MHD_destroy_response(response);
    call_count(call, status);
    call->phase = CALL_ANSWERED;
    return result;
}
