#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include "http/tls.h"
#include "util/xalloc.h"

/* Both are libssl's own objects under our names. */
static SSL_CTX *ctx(struct tls_context *context)
{
    return (SSL_CTX *)context;
}

static SSL *ssl(struct tls_stream *stream)
{
    return (SSL *)stream;
}

static int fail(struct error *error, const char *what, const char *path)
{
    char reason[256];

    ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
    ERR_clear_error();
    return error_set(error, ERROR_INVALID, "%s %s: %s", what, path, reason);
}

int tls_context_new(const char *certificate, const char *key, struct tls_context **ret_context, struct error *error)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    int result = 0;

    if (!context)
        abort();
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_mode(context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
        result = fail(error, "cannot use certificate", certificate);
    else if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        result = fail(error, "cannot use key", key);
    else if (SSL_CTX_check_private_key(context) != 1)
        result = fail(error, "the certificate does not belong to key", key);
    if (result < 0)
        SSL_CTX_free(context);
    else
        *ret_context = (struct tls_context *)context;
    return result;
}

struct tls_context *tls_context_free(struct tls_context *context)
{
    SSL_CTX_free(ctx(context));
    return NULL;
}

struct tls_stream *tls_stream_new(struct tls_context *context, int fd)
{
    SSL *stream = SSL_new(ctx(context));

    if (!stream || SSL_set_fd(stream, fd) != 1)
        abort();
    SSL_set_accept_state(stream);
    return (struct tls_stream *)stream;
}

struct tls_stream *tls_stream_free(struct tls_stream *stream)
{
    if (!stream)
        return NULL;
    ERR_clear_error();
    if (SSL_is_init_finished(ssl(stream)))
        SSL_shutdown(ssl(stream));
    ERR_clear_error();
    SSL_free(ssl(stream));
    return NULL;
}

static ssize_t outcome(struct tls_stream *stream, int n)
{
    int reason = SSL_get_error(ssl(stream), n);

    if (n > 0)
        return n;
    if (reason == SSL_ERROR_ZERO_RETURN)
        return 0;
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE)
        errno = EAGAIN;
    else
        errno = EPROTO;
    return -1;
}

ssize_t tls_stream_read(struct tls_stream *stream, void *data, size_t length)
{
    ERR_clear_error();
    return outcome(stream, SSL_read(ssl(stream), data, length > INT_MAX ? INT_MAX : (int)length));
}

ssize_t tls_stream_write(struct tls_stream *stream, const void *data, size_t length)
{
    if (!length)
        return 0;
    ERR_clear_error();
    return outcome(stream, SSL_write(ssl(stream), data, length > INT_MAX ? INT_MAX : (int)length));
}
