#include <errno.h>
#include <string.h>
#include <wslay/wslay.h>
#include "http/frames.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define REASON_MAX 123 /* a control frame holds 125 bytes, two of them the code */

struct frames {
    wslay_event_context_ptr context;
    const struct frames_callbacks *callbacks;
    void *userdata;
    char reason[REASON_MAX + 1];  /* theirs */
    char goodbye[REASON_MAX + 1]; /* ours, while messages are queued before it */
    int goodbye_code;
    bool broken;
};

static ssize_t on_recv(wslay_event_context_ptr context, uint8_t *buffer, size_t length, int flags, void *userdata)
{
    struct frames *frames = userdata;
    ssize_t n;

    do
        n = frames->callbacks->read(frames->userdata, buffer, length);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        return n;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        wslay_event_set_error(context, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    frames->broken = true;
    wslay_event_set_error(context, WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static ssize_t on_send(wslay_event_context_ptr context, const uint8_t *data, size_t length, int flags, void *userdata)
{
    struct frames *frames = userdata;
    ssize_t n;

    do
        n = frames->callbacks->write(frames->userdata, data, length);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return n;
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        wslay_event_set_error(context, WSLAY_ERR_WOULDBLOCK);
    } else {
        frames->broken = true;
        wslay_event_set_error(context, WSLAY_ERR_CALLBACK_FAILURE);
    }
    return -1;
}

static int on_mask(wslay_event_context_ptr context, uint8_t *buffer, size_t length, void *userdata)
{
    random_bytes(buffer, length);
    return 0;
}

static void on_message(wslay_event_context_ptr context, const struct wslay_event_on_msg_recv_arg *arg, void *userdata)
{
    struct frames *frames = userdata;
    cleanup_free char *text = NULL;
    size_t length;

    if (arg->opcode == WSLAY_CONNECTION_CLOSE) {
        length = arg->msg_length > 2 ? arg->msg_length - 2 : 0; /* without a code there is no payload at all */
        length = length > REASON_MAX ? REASON_MAX : length;
        if (length)
            memcpy(frames->reason, arg->msg + 2, length);
        frames->reason[length] = '\0';
    } else if (!wslay_is_ctrl_frame(arg->opcode) && frames->callbacks->message) {
        text = xmalloc(arg->msg_length + 1);
        if (arg->msg_length) /* else there is no msg either */
            memcpy(text, arg->msg, arg->msg_length);
        text[arg->msg_length] = '\0';
        frames->callbacks->message(frames->userdata, text, arg->msg_length);
    }
}

static const struct wslay_event_callbacks wslay_callbacks = {
    .recv_callback = on_recv,
    .send_callback = on_send,
    .genmask_callback = on_mask,
    .on_msg_recv_callback = on_message,
};

struct frames *frames_new(bool is_server, const struct frames_callbacks *callbacks, void *userdata)
{
    struct frames *frames = xnew0(struct frames);
    int r;

    frames->callbacks = callbacks;
    frames->userdata = userdata;
    r = is_server ? wslay_event_context_server_init(&frames->context, &wslay_callbacks, frames)
                  : wslay_event_context_client_init(&frames->context, &wslay_callbacks, frames);
    if (r != 0)
        abort();
    wslay_event_config_set_max_recv_msg_length(frames->context, LIMIT_WEBSOCKET_MESSAGE);
    return frames;
}

struct frames *frames_free(struct frames *frames)
{
    if (!frames)
        return NULL;
    wslay_event_context_free(frames->context);
    free(frames);
    return NULL;
}

void frames_send(struct frames *frames, const char *text, size_t length)
{
    struct wslay_event_msg message = {WSLAY_TEXT_FRAME, (const uint8_t *)text, length};

    if (wslay_event_queue_msg(frames->context, &message) == WSLAY_ERR_NOMEM)
        abort();
}

void frames_ping(struct frames *frames)
{
    struct wslay_event_msg message = {WSLAY_PING, NULL, 0};

    wslay_event_queue_msg(frames->context, &message);
}

/* wslay sends control frames before messages that were queued earlier, so the close frame is held back. */
static void queue_close(struct frames *frames)
{
    wslay_event_queue_close(frames->context, (uint16_t)frames->goodbye_code, (const uint8_t *)frames->goodbye,
                            strlen(frames->goodbye));
    frames->goodbye_code = 0;
}

void frames_close(struct frames *frames, int code, const char *reason)
{
    size_t length = reason ? strlen(reason) : 0;

    if (length > REASON_MAX) {
        length = REASON_MAX;
        while (length > 0 && ((unsigned char)reason[length] & 0xc0) == 0x80)
            length--; /* not inside of a character */
    }
    memcpy(frames->goodbye, reason ?: "", length);
    frames->goodbye[length] = '\0';
    frames->goodbye_code = code;
    if (wslay_event_get_queued_msg_count(frames->context) == 0)
        queue_close(frames);
}

int frames_read(struct frames *frames)
{
    int r = wslay_event_recv(frames->context);

    return r != 0 || frames->broken ? -1 : 0;
}

int frames_write(struct frames *frames)
{
    int r = wslay_event_send(frames->context);

    if (r == 0 && frames->goodbye_code && wslay_event_get_queued_msg_count(frames->context) == 0) {
        queue_close(frames);
        r = wslay_event_send(frames->context);
    }
    return r != 0 || frames->broken ? -1 : 0;
}

bool frames_wants_read(const struct frames *frames)
{
    return wslay_event_want_read(frames->context);
}

bool frames_wants_write(const struct frames *frames)
{
    return wslay_event_want_write(frames->context);
}

bool frames_is_done(const struct frames *frames)
{
    return !frames_wants_read(frames) && !frames_wants_write(frames);
}

size_t frames_backlog(const struct frames *frames)
{
    return wslay_event_get_queued_msg_length(frames->context);
}

int frames_close_code(const struct frames *frames)
{
    int code;

    if (!wslay_event_get_close_received(frames->context))
        return 0;
    code = wslay_event_get_status_code_received(frames->context);
    return code ?: WSLAY_CODE_NO_STATUS_RCVD;
}

const char *frames_close_reason(const struct frames *frames)
{
    return frames->reason;
}

char *frames_accept_key(const char *key, char buffer[FRAMES_ACCEPT_SIZE])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 §1.3 */
    cleanup_free char *text = xasprintf("%s%s", key, guid);
    uint8_t digest[SHA1_SIZE];

    sha1_of(text, strlen(text), digest);
    base64_encode(digest, sizeof(digest), buffer);
    return buffer;
}
