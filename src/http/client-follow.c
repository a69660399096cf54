#include <errno.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include "http/client-private.h"
#include "http/frames.h"
#include "http/websocket.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define SILENCE_MS 90000 /* the server sends a ping every 30 s */

/* One followed stream: a connection of its own, so that the client's other connection stays usable. */
struct stream {
    struct http_client *client;
    CURL *curl;
    int fd;
    struct strbuf head;  /* the answer to the handshake, and what came behind it */
    size_t taken;        /* of head: how much was consumed */
    http_message_fn on_message;
    void *userdata;
    bool stopped;        /* on_message said so */
    char detail[CURL_ERROR_SIZE];
};

static void stream_release(struct stream *stream)
{
    strbuf_release(&stream->head);
    curl_easy_cleanup(stream->curl);
}
#define cleanup_stream CLEANUP(stream_release)

static int lost(struct stream *stream, struct error *error)
{
    return error_set(error, ERROR_UNAVAILABLE, "the connection to %s broke", stream->client->shown);
}

/* 0: ready; -1: error. */
static int wait_for(struct stream *stream, short events, int timeout_ms, struct error *error)
{
    struct pollfd fds[] = {{stream->fd, events, 0}, {stream->client->cancel_fd, POLLIN, 0}};
    int n;

    do
        n = poll(fds, ARRAY_SIZE(fds), timeout_ms);
    while (n < 0 && errno == EINTR && !atomic_load(&stream->client->cancelled));
    if (atomic_load(&stream->client->cancelled))
        return error_set(error, ERROR_CANCELLED, "the request was cancelled");
    if (n == 0)
        return error_set(error, ERROR_TIMEOUT, "nothing came from %s for %d s", stream->client->shown,
                         timeout_ms / 1000);
    return 0;
}

/* -- bytes -- */

static ssize_t read_bytes(void *userdata, void *buffer, size_t length)
{
    struct stream *stream = userdata;
    size_t left = stream->head.length - stream->taken, n = 0;
    CURLcode code;

    if (left > 0) {
        n = left < length ? left : length;
        memcpy(buffer, stream->head.data + stream->taken, n);
        stream->taken += n;
        return (ssize_t)n;
    }
    code = curl_easy_recv(stream->curl, buffer, length, &n);
    if (code == CURLE_OK)
        return (ssize_t)n;
    errno = code == CURLE_AGAIN ? EAGAIN : EIO;
    return -1;
}

static ssize_t write_bytes(void *userdata, const void *buffer, size_t length)
{
    struct stream *stream = userdata;
    size_t n = 0;
    CURLcode code = curl_easy_send(stream->curl, buffer, length, &n);

    if (code == CURLE_OK)
        return (ssize_t)n;
    errno = code == CURLE_AGAIN ? EAGAIN : EIO;
    return -1;
}

static void take_message(void *userdata, const char *text, size_t length)
{
    struct stream *stream = userdata;

    if (!stream->stopped && stream->on_message(stream->userdata, text, length) != 0)
        stream->stopped = true;
}

static const struct frames_callbacks frames_callbacks = {read_bytes, write_bytes, take_message};

/* -- handshake -- */

static int write_all(struct stream *stream, const char *data, size_t length, struct error *error)
{
    while (length > 0) {
        ssize_t n = write_bytes(stream, data, length);

        if (n >= 0) {
            data += n;
            length -= (size_t)n;
        } else if (errno != EAGAIN) {
            return lost(stream, error);
        } else if (wait_for(stream, POLLOUT, stream->client->timeout_ms, error) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Reads more into head. 1: something came; 0: the end. */
static int read_more(struct stream *stream, struct error *error)
{
    char piece[4096];
    size_t n;
    CURLcode code;

    for (;;) {
        code = curl_easy_recv(stream->curl, piece, sizeof(piece), &n);
        if (code == CURLE_OK)
            break;
        if (code != CURLE_AGAIN)
            return lost(stream, error);
        if (wait_for(stream, POLLIN, stream->client->timeout_ms, error) < 0)
            return -1;
    }
    strbuf_add(&stream->head, piece, n);
    if (stream->head.overflowed)
        return error_set(error, ERROR_TOO_LARGE, "the header of the answer is larger than %llu bytes",
                         (unsigned long long)stream->head.max);
    return n > 0;
}

/* Points to the value, which ends with the line. NULL: no such header. */
static const char *find_header(const char *head, const char *name)
{
    size_t length = strlen(name);

    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, length) == 0 && line[length] == ':')
            return line + length + 1 + strspn(line + length + 1, " ");
    }
    return NULL;
}

/* What the server said instead of 101. */
static int refused(struct stream *stream, long status, struct error *error)
{
    const char *length = find_header(stream->head.data, "Content-Length");
    size_t wanted = stream->taken + (length ? strtoul(length, NULL, 10) : 0);
    int r = 1;

    while (r > 0 && stream->head.length < wanted)
        r = read_more(stream, error);
    if (r < 0)
        return -1;
    return client_refused(status, stream->head.data + stream->taken, stream->head.length - stream->taken, error);
}

static int shake_hands(struct stream *stream, const char *path, struct error *error)
{
    struct http_client *client = stream->client;
    cleanup_free char *request = NULL, *token_line = NULL;
    const char *host = strstr(client->base, "://") + 3, *prefix = strchrnul(host, '/'), *end;
    char key[BASE64_SIZE(16)], expected[FRAMES_ACCEPT_SIZE];
    uint8_t nonce[16];
    long status;
    int r;

    random_bytes(nonce, sizeof(nonce));
    base64_encode(nonce, sizeof(nonce), key);
    token_line = client->token ? xasprintf("Authorization: Bearer %s\r\n", client->token) : xstrdup("");
    request = xasprintf("GET %s%s HTTP/1.1\r\nHost: %.*s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n",
                        prefix, path, (int)(prefix - host), host, key, token_line);
    if (write_all(stream, request, strlen(request), error) < 0)
        return -1;
    while (!(end = strstr(stream->head.data, "\r\n\r\n"))) {
        r = read_more(stream, error);
        if (r <= 0)
            return r < 0 ? -1 : lost(stream, error);
    }
    stream->taken = (size_t)(end - stream->head.data) + 4;
    if (strncmp(stream->head.data, "HTTP/1.", 7) != 0 || stream->head.length < 12)
        return error_set(error, ERROR_UNAVAILABLE, "%s does not speak HTTP", client->shown);
    status = strtol(stream->head.data + 9, NULL, 10);
    if (status != 101)
        return refused(stream, status, error);
    frames_accept_key(key, expected);
    end = find_header(stream->head.data, "Sec-WebSocket-Accept");
    if (!end || strncmp(end, expected, strlen(expected)) != 0)
        return error_set(error, ERROR_UNAVAILABLE, "%s does not speak WebSocket", client->shown);
    return 0;
}

/* -- frames -- */

static int finish(struct stream *stream, const struct frames *frames, struct error *error)
{
    int code = frames_close_code(frames);

    if (stream->stopped || code == WEBSOCKET_NORMAL)
        return 0;
    if (code == WEBSOCKET_INTERNAL || code == WEBSOCKET_POLICY)
        return error_set(error, ERROR_INTERNAL, "the server ended the stream: %s", frames_close_reason(frames));
    return lost(stream, error);
}

static int run_frames(struct stream *stream, struct error *error)
{
    __attribute__((cleanup(frames_free_cleanup))) struct frames *frames = frames_new(false, &frames_callbacks, stream);

    for (;;) {
        if (frames_read(frames) < 0)
            return finish(stream, frames, error);
        if (stream->stopped && !frames_close_code(frames))
            frames_close(frames, WEBSOCKET_NORMAL, "");
        if (frames_write(frames) < 0 || frames_is_done(frames) || stream->stopped)
            return finish(stream, frames, error);
        if (wait_for(stream, POLLIN | (frames_wants_write(frames) ? POLLOUT : 0), SILENCE_MS, error) < 0)
            return -1;
    }
}

int http_client_follow(struct http_client *client, const char *path, http_message_fn on_message, void *userdata,
                       struct error *error)
{
    cleanup_stream struct stream stream = {
        .client = client,
        .curl = curl_easy_init(),
        .head = STRBUF_INIT(LIMIT_HTTP_HEADER + LIMIT_JSON_BODY),
        .on_message = on_message,
        .userdata = userdata,
    };
    curl_socket_t fd;
    CURLcode code;

    client_prepare(client, stream.curl, path);
    curl_easy_setopt(stream.curl, CURLOPT_ERRORBUFFER, stream.detail);
    curl_easy_setopt(stream.curl, CURLOPT_CONNECT_ONLY, 1L);
    code = curl_easy_perform(stream.curl);
    if (code != CURLE_OK || curl_easy_getinfo(stream.curl, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK)
        return client_failed(client, code, stream.detail, error);
    stream.fd = fd;
    if (shake_hands(&stream, path, error) < 0)
        return -1;
    return run_frames(&stream, error);
}
