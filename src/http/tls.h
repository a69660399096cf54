/*
 * TLS on a connected, non-blocking socket, server's side (libssl underneath; the only place that sees it).
 */
#pragma once

#include <sys/types.h>
#include "util/cleanup.h"
#include "util/error.h"

struct tls_context;
struct tls_stream;

/* PEM files. TLS 1.2 and later. */
int tls_context_new(const char *certificate, const char *key, struct tls_context **ret_context, struct error *error);
struct tls_context *tls_context_free(struct tls_context *context);

struct tls_stream *tls_stream_new(struct tls_context *context, int fd);
/* Says goodbye if that does not block; the descriptor stays open. */
struct tls_stream *tls_stream_free(struct tls_stream *stream);
/* As recv() and send(): EAGAIN also while the handshake goes on. The socket must be watched for both directions,
 * edge-triggered: either may wait for the other. */
ssize_t tls_stream_read(struct tls_stream *stream, void *data, size_t length);
ssize_t tls_stream_write(struct tls_stream *stream, const void *data, size_t length);
