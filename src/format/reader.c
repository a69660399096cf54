#include "format/reader.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>
#include "util/limits.h"
#include "util/xalloc.h"

#define BUFFER_SIZE (MIB)       /* to begin with; grows for what must be seen in one piece */
#define BUFFER_MAX  (2 * GIB)   /* callers have limits of their own, far below */
#define RAW_SIZE    (256 * KIB) /* compressed bytes */

/*
 *     data ─► [consumed │ start … end │ free │ padding]
 *                         what a peek shows
 */
struct reader {
    char *name;
    char *data;
    size_t capacity; /* without the padding */
    size_t start, end;
    uint64_t offset; /* of data[start] in what the parser sees */
    bool at_end;     /* the source has no more */

    int fd; /* -1: memory or a source */
    uint64_t raw_offset, raw_size;
    const char *memory;
    size_t memory_length;
    reader_fill_fn fill;
    void *userdata;

    bool probed, compressed;
    z_stream stream;
    char *raw;            /* compressed bytes that were read */
    bool between_members; /* a gzip member ended: another may follow */
};

static struct reader *reader_new(const char *name)
{
    struct reader *reader = xnew0(struct reader);

    reader->name = xstrdup(name);
    reader->fd = -1;
    return reader;
}

int reader_open_fd(int fd, const char *name, struct reader **ret_reader, struct error *error)
{
    cleanup_reader struct reader *reader = reader_new(name);
    struct stat st;

    reader->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (reader->fd < 0 || fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "cannot open %s", name);
    if (S_ISDIR(st.st_mode))
        return error_set(error, ERROR_INVALID, "%s is a directory", name);
    if (S_ISREG(st.st_mode)) {
        reader->raw_size = st.st_size;
        posix_fadvise(reader->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    }
    *ret_reader = steal_ptr(reader);
    return 0;
}

int reader_open_path(const char *path, struct reader **ret_reader, struct error *error)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return error_set_errno(error, errno, "cannot open %s", path);
    return reader_open_fd(fd, path, ret_reader, error);
}

struct reader *reader_open_memory(const void *data, size_t length, const char *name)
{
    struct reader *reader = reader_new(name);

    reader->memory = data ? data : "";
    reader->memory_length = reader->raw_size = length;
    return reader;
}

struct reader *reader_open_source(reader_fill_fn fill, void *userdata, const char *name)
{
    struct reader *reader = reader_new(name);

    reader->fill = fill;
    reader->userdata = userdata;
    return reader;
}

struct reader *reader_close(struct reader *reader)
{
    if (!reader)
        return NULL;
    if (reader->compressed)
        inflateEnd(&reader->stream);
    if (reader->fd >= 0)
        close(reader->fd);
    free(reader->raw);
    free(reader->data);
    free(reader->name);
    free(reader);
    return NULL;
}

const char *reader_name(const struct reader *reader)
{
    return reader->name;
}

/* Bytes of the source as they are; 0 at the end. */
static ssize_t read_raw(struct reader *reader, void *buffer, size_t size, struct error *error)
{
    ssize_t n;

    if (reader->fill) {
        n = reader->fill(reader->userdata, buffer, size, error);
    } else if (reader->fd < 0) {
        n = reader->memory_length - reader->raw_offset;
        n = (size_t)n < size ? (size_t)n : size;
        memcpy(buffer, reader->memory + reader->raw_offset, n);
    } else {
        do
            n = reader->raw_size ? pread(reader->fd, buffer, size, reader->raw_offset) : read(reader->fd, buffer, size);
        while (n < 0 && errno == EINTR);
        if (n < 0)
            return error_set_errno(error, errno, "cannot read %s", reader->name);
    }
    if (n > 0)
        reader->raw_offset += n;
    return n;
}

static int start_inflate(struct reader *reader, const char *bytes, size_t length, struct error *error)
{
    reader->raw = xmalloc(RAW_SIZE);
    memcpy(reader->raw, bytes, length);
    reader->stream.next_in = (Bytef *)reader->raw;
    reader->stream.avail_in = length;
    if (inflateInit2(&reader->stream, 15 + 16) != Z_OK)
        return error_set(error, ERROR_INTERNAL, "cannot start zlib");
    reader->compressed = true;
    return 0;
}

/* Unpacked bytes; 0 at the end. Several gzip members one after another are one input, as gzip has it. */
static ssize_t read_inflated(struct reader *reader, void *buffer, size_t size, struct error *error)
{
    z_stream *stream = &reader->stream;

    stream->next_out = buffer;
    stream->avail_out = size;
    while (stream->avail_out == size) {
        int r;

        if (stream->avail_in == 0) {
            ssize_t n = read_raw(reader, reader->raw, RAW_SIZE, error);

            if (n < 0)
                return -1;
            if (n == 0 && reader->between_members)
                return 0;
            if (n == 0)
                return error_set(error, ERROR_INVALID, "%s: the gzip data is cut short", reader->name);
            stream->next_in = (Bytef *)reader->raw;
            stream->avail_in = n;
        }
        if (reader->between_members) {
            if (inflateReset(stream) != Z_OK)
                return error_set(error, ERROR_INTERNAL, "cannot restart zlib");
            reader->between_members = false;
        }
        r = inflate(stream, Z_NO_FLUSH);
        if (r == Z_STREAM_END)
            reader->between_members = true;
        else if (r != Z_OK && r != Z_BUF_ERROR)
            return error_set(error, ERROR_INVALID, "%s: the gzip data is damaged: %s", reader->name,
                             stream->msg ? stream->msg : "not gzip");
    }
    return size - stream->avail_out;
}

/* Looks whether the input is gzip, once. */
static int probe(struct reader *reader, struct error *error)
{
    char magic[3];
    size_t have = 0;

    while (have < sizeof(magic)) {
        ssize_t n = read_raw(reader, magic + have, sizeof(magic) - have, error);

        if (n < 0)
            return -1;
        if (n == 0)
            break;
        have += n;
    }
    reader->probed = true;
    if (have == sizeof(magic) && memcmp(magic, "\x1f\x8b\x08", 3) == 0)
        return start_inflate(reader, magic, have, error);
    memcpy(reader->data, magic, have);
    reader->end = have;
    return 0;
}

static void make_room(struct reader *reader, size_t min)
{
    size_t have = reader->end - reader->start;

    if (reader->start) {
        memmove(reader->data, reader->data + reader->start, have);
        reader->start = 0;
        reader->end = have;
    }
    if (!reader->data || min > reader->capacity) {
        size_t capacity = reader->capacity ? reader->capacity : BUFFER_SIZE;

        while (capacity < min)
            capacity *= 2;
        reader->data = xrealloc(reader->data, capacity + READER_PADDING);
        reader->capacity = capacity;
    }
}

static int fill(struct reader *reader, size_t min, struct error *error)
{
    if (min > BUFFER_MAX)
        return error_set(error, ERROR_TOO_LARGE, "%s: more than %" PRIu64 " bytes in one piece", reader->name,
                         (uint64_t)BUFFER_MAX);
    make_room(reader, min);
    if (!reader->probed && probe(reader, error) < 0)
        return -1;
    while (reader->end - reader->start < min && !reader->at_end) {
        char *at = reader->data + reader->end;
        size_t room = reader->capacity - reader->end;
        ssize_t n = reader->compressed ? read_inflated(reader, at, room, error) : read_raw(reader, at, room, error);

        if (n < 0)
            return -1;
        if (n == 0)
            reader->at_end = true;
        reader->end += n;
    }
    memset(reader->data + reader->end, 0, READER_PADDING);
    return 0;
}

int reader_peek(struct reader *reader, size_t min, const char **ret_data, size_t *ret_length, bool *ret_end,
                struct error *error)
{
    if ((reader->end - reader->start < min || !reader->data) && !(reader->at_end && reader->data) &&
        fill(reader, min ? min : 1, error) < 0)
        return -1;
    *ret_data = reader->data + reader->start;
    *ret_length = reader->end - reader->start;
    if (ret_end)
        *ret_end = reader->at_end;
    return 0;
}

void reader_consume(struct reader *reader, size_t count)
{
    assert(count <= reader->end - reader->start);
    reader->start += count;
    reader->offset += count;
}

static int cut_short(const struct reader *reader, uint64_t missing, struct error *error)
{
    return error_set(error, ERROR_INVALID, "%s is cut short: it ends at byte %" PRIu64 ", %" PRIu64 " bytes early",
                     reader->name, reader->offset, missing);
}

int reader_read(struct reader *reader, void *buffer, size_t length, struct error *error)
{
    char *out = buffer;

    while (length) {
        const char *data;
        size_t available;

        if (reader_peek(reader, 1, &data, &available, NULL, error) < 0)
            return -1;
        if (!available)
            return cut_short(reader, length, error);
        if (available > length)
            available = length;
        memcpy(out, data, available);
        reader_consume(reader, available);
        out += available;
        length -= available;
    }
    return 0;
}

int reader_skip(struct reader *reader, uint64_t length, struct error *error)
{
    while (length) {
        const char *data;
        size_t available;

        if (reader_peek(reader, 1, &data, &available, NULL, error) < 0)
            return -1;
        if (!available)
            return cut_short(reader, length, error);
        if (available > length)
            available = length;
        reader_consume(reader, available);
        length -= available;
    }
    return 0;
}

int reader_line(struct reader *reader, size_t max, const char **ret_line, size_t *ret_length, struct error *error)
{
    size_t searched = 0;

    for (;;) {
        const char *data, *newline;
        size_t available, length;
        bool end;

        if (reader_peek(reader, searched + 1, &data, &available, &end, error) < 0)
            return -1;
        newline = memchr(data + searched, '\n', available - searched);
        length = newline ? (size_t)(newline - data) : available;
        if (length > max)
            return error_set(error, ERROR_TOO_LARGE, "%s: a line at byte %" PRIu64 " is longer than %zu bytes",
                             reader->name, reader->offset, max);
        searched = available;
        if (!newline && !end)
            continue;
        if (!newline && !length)
            return 0;
        reader_consume(reader, length + (newline != NULL));
        if (length && data[length - 1] == '\r')
            length--;
        *ret_line = data;
        *ret_length = length;
        return 1;
    }
}

int reader_rewind(struct reader *reader, struct error *error)
{
    if (reader->fill || (reader->fd >= 0 && !reader->raw_size && reader->raw_offset))
        return error_set(error, ERROR_UNSUPPORTED, "%s cannot be read twice: it is not a regular file", reader->name);
    if (reader->compressed)
        inflateEnd(&reader->stream);
    memset(&reader->stream, 0, sizeof(reader->stream));
    free(steal_ptr(reader->raw));
    reader->probed = reader->compressed = reader->between_members = reader->at_end = false;
    reader->start = reader->end = 0;
    reader->offset = reader->raw_offset = 0;
    free(steal_ptr(reader->data));
    reader->capacity = 0;
    return 0;
}

uint64_t reader_offset(const struct reader *reader)
{
    return reader->offset;
}

uint64_t reader_raw_offset(const struct reader *reader)
{
    return reader->raw_offset;
}

uint64_t reader_raw_size(const struct reader *reader)
{
    return reader->raw_size;
}

bool reader_is_compressed(const struct reader *reader)
{
    return reader->compressed;
}
