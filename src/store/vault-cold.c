#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <zstd.h>
#include "store/vault-cold.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define PROBE      MIB
#define CHUNK      (256 * KIB)
#define LEVEL      3
#define WORTH_FROM (4 * KIB) /* smaller files occupy a block either way */

static const char *const encoding_names[] = {[BLOB_RAW] = "raw", [BLOB_ZSTD] = "zstd"};

const char *blob_encoding_name(enum blob_encoding encoding)
{
    return encoding_names[encoding];
}

enum blob_encoding blob_encoding_parse(const char *name)
{
    return strcmp(name, encoding_names[BLOB_ZSTD]) == 0 ? BLOB_ZSTD : BLOB_RAW;
}

struct cold_writer {
    char *path;
    int fd;
    struct hasher *hasher;
    uint64_t size;
    uint64_t stored_size;
    struct strbuf head; /* until the encoding is decided */
    bool decided;
    enum blob_encoding encoding;
    ZSTD_CCtx *compressor;
    char *out;
};

static bool saves_an_eighth(uint64_t size, uint64_t stored_size)
{
    return stored_size <= size - size / 8;
}

int cold_writer_new(const char *path, struct cold_writer **ret_writer, struct error *error)
{
    cleanup_cold_writer struct cold_writer *writer = xnew0(struct cold_writer);

    writer->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (writer->fd < 0)
        return error_set_errno(error, errno, "cannot create %s", path);
    writer->path = xstrdup(path);
    writer->hasher = hasher_new();
    strbuf_init(&writer->head, PROBE);
    *ret_writer = steal_ptr(writer);
    return 0;
}

struct cold_writer *cold_writer_free(struct cold_writer *writer)
{
    if (writer) {
        hasher_free(writer->hasher);
        strbuf_release(&writer->head);
        ZSTD_freeCCtx(writer->compressor);
        free(writer->out);
        if (writer->fd >= 0)
            close(writer->fd);
        free(writer->path);
        free(writer);
    }
    return NULL;
}

static int write_out(struct cold_writer *writer, const void *data, size_t length, struct error *error)
{
    if (fs_write_all(writer->fd, data, length, error) < 0)
        return -1;
    writer->stored_size += length;
    return 0;
}

static int compress(struct cold_writer *writer, const void *data, size_t length, ZSTD_EndDirective end,
                    struct error *error)
{
    ZSTD_inBuffer in = {data, length, 0};
    size_t left;

    do {
        ZSTD_outBuffer out = {writer->out, CHUNK, 0};

        left = ZSTD_compressStream2(writer->compressor, &out, &in, end);
        if (ZSTD_isError(left))
            return error_set(error, ERROR_INTERNAL, "cannot compress: %s", ZSTD_getErrorName(left));
        if (write_out(writer, writer->out, out.pos, error) < 0)
            return -1;
    } while (end == ZSTD_e_end ? left > 0 : in.pos < in.size);
    return 0;
}

static int add_decided(struct cold_writer *writer, const void *data, size_t length, struct error *error)
{
    if (writer->encoding == BLOB_ZSTD)
        return compress(writer, data, length, ZSTD_e_continue, error);
    return write_out(writer, data, length, error);
}

/* Compresses the head on trial and keeps the encoding that it speaks for. */
static int decide(struct cold_writer *writer, struct error *error)
{
    size_t bound = ZSTD_compressBound(writer->head.length);
    size_t packed = 0;

    writer->decided = true;
    if (writer->head.length >= WORTH_FROM) {
        cleanup_free char *trial = xmalloc(bound);

        packed = ZSTD_compress(trial, bound, writer->head.data, writer->head.length, LEVEL);
        if (!ZSTD_isError(packed) && saves_an_eighth(writer->head.length, packed))
            writer->encoding = BLOB_ZSTD;
    }
    if (writer->encoding == BLOB_ZSTD) {
        writer->compressor = ZSTD_createCCtx();
        writer->out = xmalloc(CHUNK);
        if (!writer->compressor)
            abort();
        ZSTD_CCtx_setParameter(writer->compressor, ZSTD_c_compressionLevel, LEVEL);
    }
    if (add_decided(writer, writer->head.data, writer->head.length, error) < 0)
        return -1;
    strbuf_release(&writer->head);
    return 0;
}

int cold_writer_add(struct cold_writer *writer, const void *data, size_t length, struct error *error)
{
    const char *p = data;

    hasher_add(writer->hasher, data, length);
    writer->size += length;
    if (!writer->decided) {
        size_t n = PROBE - writer->head.length < length ? PROBE - writer->head.length : length;

        strbuf_add(&writer->head, p, n);
        p += n;
        length -= n;
        if (writer->head.length < PROBE)
            return 0;
        if (decide(writer, error) < 0)
            return -1;
    }
    return length ? add_decided(writer, p, length, error) : 0;
}

/* The head promised more than the rest kept: store it raw after all. */
static int store_raw(struct cold_writer *writer, const struct digest *digest, struct error *error)
{
    cleanup_free char *path = xasprintf("%s.raw", writer->path);
    cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_set_errno(error, errno, "cannot create %s", path);
    if (cold_read(writer->fd, BLOB_ZSTD, digest, fd, error) < 0) {
        unlink(path);
        return -1;
    }
    if (rename(path, writer->path) < 0) {
        error_set_errno(error, errno, "cannot rename %s", path);
        unlink(path);
        return -1;
    }
    close(writer->fd);
    writer->fd = steal_fd(&fd);
    writer->encoding = BLOB_RAW;
    writer->stored_size = writer->size;
    return 0;
}

int cold_writer_finish(struct cold_writer *writer, struct cold_file *ret_file, struct error *error)
{
    struct digest digest;

    if (!writer->decided && decide(writer, error) < 0)
        return -1;
    if (writer->encoding == BLOB_ZSTD && compress(writer, NULL, 0, ZSTD_e_end, error) < 0)
        return -1;
    hasher_finish(steal_ptr(writer->hasher), &digest);
    if (writer->encoding == BLOB_ZSTD && !saves_an_eighth(writer->size, writer->stored_size) &&
        store_raw(writer, &digest, error) < 0)
        return -1;
    if (fchmod(writer->fd, 0444) < 0)
        return error_set_errno(error, errno, "cannot change the mode of %s", writer->path);
    *ret_file = (struct cold_file){digest, writer->size, writer->stored_size, writer->encoding};
    return 0;
}

int cold_writer_sync(struct cold_writer *writer, struct error *error)
{
    if (fsync(writer->fd) < 0)
        return error_set_errno(error, errno, "cannot sync %s", writer->path);
    return 0;
}

/* -- reading -- */

struct sink {
    struct hasher *hasher;
    int to;
};

static int sink_add(struct sink *sink, const void *data, size_t length, struct error *error)
{
    hasher_add(sink->hasher, data, length);
    return sink->to >= 0 ? fs_write_all(sink->to, data, length, error) : 0;
}

static ssize_t read_chunk(int fd, off_t position, char *buffer, struct error *error)
{
    for (;;) {
        ssize_t n = pread(fd, buffer, CHUNK, position);

        if (n >= 0)
            return n;
        if (errno != EINTR)
            return error_set_errno(error, errno, "cannot read a blob");
    }
}

static int read_raw(int from, struct sink *sink, struct error *error)
{
    cleanup_free char *in = xmalloc(CHUNK);
    off_t position = 0;
    ssize_t n;

    while ((n = read_chunk(from, position, in, error)) > 0) {
        if (sink_add(sink, in, (size_t)n, error) < 0)
            return -1;
        position += n;
    }
    return (int)n;
}

static int decompress(ZSTD_DCtx *context, const char *data, size_t length, char *buffer, struct sink *sink,
                      size_t *ret_left, struct error *error)
{
    ZSTD_inBuffer in = {data, length, 0};
    ZSTD_outBuffer out;

    /* A full buffer may mean that more waits inside. */
    do {
        out = (ZSTD_outBuffer){buffer, CHUNK, 0};
        *ret_left = ZSTD_decompressStream(context, &out, &in);
        if (ZSTD_isError(*ret_left))
            return error_set(error, ERROR_CORRUPT, "cannot decompress: %s", ZSTD_getErrorName(*ret_left));
        if (sink_add(sink, buffer, out.pos, error) < 0)
            return -1;
    } while (in.pos < in.size || (out.pos == out.size && *ret_left > 0));
    return 0;
}

static int read_zstd(int from, struct sink *sink, struct error *error)
{
    cleanup_free char *in = xmalloc(CHUNK);
    cleanup_free char *buffer = xmalloc(CHUNK);
    ZSTD_DCtx *context = ZSTD_createDCtx();
    off_t position = 0;
    size_t left = 1;
    ssize_t n;
    int r = 0;

    if (!context)
        abort();
    while ((n = read_chunk(from, position, in, error)) > 0) {
        r = decompress(context, in, (size_t)n, buffer, sink, &left, error);
        if (r < 0)
            break;
        position += n;
    }
    ZSTD_freeDCtx(context);
    if (r < 0 || n < 0)
        return -1;
    return left == 0 ? 0 : error_set(error, ERROR_CORRUPT, "a compressed blob is cut short");
}

int cold_read(int from, enum blob_encoding encoding, const struct digest *expected, int to, struct error *error)
{
    cleanup_hasher struct hasher *hasher = hasher_new();
    struct sink sink = {hasher, to};
    struct digest digest;
    char text[DIGEST_TEXT_SIZE], other[DIGEST_TEXT_SIZE];

    if ((encoding == BLOB_ZSTD ? read_zstd(from, &sink, error) : read_raw(from, &sink, error)) < 0)
        return -1;
    hasher_finish(steal_ptr(hasher), &digest);
    if (!digest_equal(&digest, expected))
        return error_set(error, ERROR_CORRUPT, "the content stored as %s has the digest %s",
                         digest_format(expected, text), digest_format(&digest, other));
    return 0;
}
