/*
 * WebSocket messages over any byte stream, either side of it (RFC 6455; wslay underneath, this is the only
 * file that sees it). Answers pings and closes by itself. Private to this folder.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "util/cleanup.h"

struct frames;

struct frames_callbacks {
    /* Like read() and write() on a non-blocking descriptor: bytes; 0: the other side closed (read only);
     * -1 with errno (EAGAIN: later). */
    ssize_t (*read)(void *userdata, void *buffer, size_t length);
    ssize_t (*write)(void *userdata, const void *buffer, size_t length);
    /* A whole message; NUL-terminated. */
    void (*message)(void *userdata, const char *text, size_t length);
};

struct frames *frames_new(bool is_server, const struct frames_callbacks *callbacks, void *userdata);
struct frames *frames_free(struct frames *frames);
DEFINE_CLEANUP(struct frames *, frames_free)

void frames_send(struct frames *frames, const char *text, size_t length);
void frames_ping(struct frames *frames);
/* Queues the close frame behind what waits. */
void frames_close(struct frames *frames, int code, const char *reason);

/* Reads and writes what is possible now. -1: the connection broke or the other side broke the protocol. */
int frames_read(struct frames *frames);
int frames_write(struct frames *frames);
bool frames_wants_read(const struct frames *frames);
bool frames_wants_write(const struct frames *frames);
/* True when both sides have said goodbye and everything is written. */
bool frames_is_done(const struct frames *frames);
/* Bytes queued and not written. */
size_t frames_backlog(const struct frames *frames);
/* The close code that the other side sent, and its reason; 0: none yet. */
int frames_close_code(const struct frames *frames);
const char *frames_close_reason(const struct frames *frames);

/* The value of Sec-WebSocket-Accept for a Sec-WebSocket-Key. Returns buffer. */
#define FRAMES_ACCEPT_SIZE 29
char *frames_accept_key(const char *key, char buffer[FRAMES_ACCEPT_SIZE]);
