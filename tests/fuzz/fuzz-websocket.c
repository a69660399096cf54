/*
 * WebSocket frames of a stranger; the first byte says which side we are, whether we speak too, and how the bytes
 * are cut. What is accepted is text of the size that was announced, and both sides come to an end.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "http/frames.h"
#include "util/limits.h"

struct stream {
    const uint8_t *data;
    size_t length, piece, room;
    bool pause;
    unsigned writes;
};

static ssize_t on_read(void *userdata, void *buffer, size_t length)
{
    struct stream *stream = userdata;
    size_t n = stream->length < length ? stream->length : length;

    n = n < stream->piece ? n : stream->piece;
    if (stream->pause && n) {
        stream->pause = false;
        errno = EAGAIN;
        return -1;
    }
    stream->pause = stream->piece < 16;
    memcpy(buffer, stream->data, n);
    stream->data += n;
    stream->length -= n;
    return (ssize_t)n;
}

static ssize_t on_write(void *userdata, const void *buffer, size_t length)
{
    struct stream *stream = userdata;
    size_t n = length < stream->room ? length : stream->room;

    if (++stream->writes % 3 == 0) {
        errno = EAGAIN;
        return -1;
    }
    return (ssize_t)n;
}

static void on_message(void *userdata, const char *text, size_t length)
{
    if (text[length] || length > LIMIT_WEBSOCKET_MESSAGE)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct frames_callbacks callbacks = {on_read, on_write, on_message};
    struct stream stream;
    struct frames *frames;
    int r = 0;

    if (!size)
        return 0;
    stream = (struct stream){data + 1,           size - 1, data[0] & 4 ? 1 + (data[0] >> 4) : SIZE_MAX,
                             1 + (data[0] >> 3), false,    0};
    frames = frames_new(data[0] & 1, &callbacks, &stream);
    if (data[0] & 2) {
        frames_send(frames, "hello", 5);
        frames_ping(frames);
    }
    for (size_t turn = 0; turn < 4 * size + 100 && r == 0 && !frames_is_done(frames); turn++) {
        if (frames_wants_read(frames))
            r = frames_read(frames);
        if (r == 0 && frames_wants_write(frames))
            r = frames_write(frames);
        if (turn == size && data[0] & 8)
            frames_close(frames, 1000, "end");
    }
    if (frames_close_code(frames) < 0 || strlen(frames_close_reason(frames)) > 125)
        abort();
    frames_free(frames);
    return 0;
}
