#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "format/crilog.h"
#include "monitor/capture.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define READ_SIZE    (64 * KIB)
#define READS_A_TURN 16 /* so that one loud program does not keep the loop from its timers */
#define DRAIN_READS  64
#define OUT_KEEP     (256 * KIB) /* memory that stays with a quiet program */
/* Room for what READ_SIZE bytes can become when every byte is a newline. */
#define OUT_MAX (READ_SIZE * (CRILOG_OVERHEAD + 1) + 2 * CRILOG_ENTRY_MAX)

struct stream {
    struct capture *capture;
    struct crilog_splitter splitter;
    struct loop_source *source;
    int fd; /* -1: closed */
};

struct capture {
    struct loop *loop;
    char *path;
    int fd;
    uint64_t size, limit;       /* of the file */
    uint64_t received, dropped; /* bytes of output */
    bool truncated;             /* the limit was reached: nothing is written any more */
    bool reported;
    capture_truncated_fn on_truncated;
    void *userdata;
    struct stream streams[2];
    char *buffer; /* READ_SIZE bytes */
    struct strbuf out;
};

int capture_open(const char *path, uint64_t limit, struct loop *loop, capture_truncated_fn on_truncated, void *userdata,
                 struct capture **ret_capture, struct error *error)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct capture *capture;

    if (fd < 0)
        return error_set_errno(error, errno, "cannot create %s", path);
    capture = xnew0(struct capture);
    capture->loop = loop;
    capture->path = xstrdup(path);
    capture->fd = fd;
    capture->limit = limit;
    capture->on_truncated = on_truncated;
    capture->userdata = userdata;
    strbuf_init(&capture->out, OUT_MAX);
    for (int i = 0; i < 2; i++)
        capture->streams[i] = (struct stream){
            .capture = capture,
            .splitter = CRILOG_SPLITTER_INIT(i ? CRILOG_STDERR : CRILOG_STDOUT),
            .fd = -1,
        };
    *ret_capture = capture;
    return 0;
}

static void stream_close(struct stream *stream)
{
    if (stream->fd < 0)
        return;
    stream->source = loop_remove(stream->source);
    close(steal_fd(&stream->fd));
}

struct capture *capture_close(struct capture *capture)
{
    if (!capture)
        return NULL;
    for (int i = 0; i < 2; i++) {
        stream_close(&capture->streams[i]);
        crilog_splitter_release(&capture->streams[i].splitter);
    }
    strbuf_release(&capture->out);
    free(capture->buffer);
    close(capture->fd);
    free(capture->path);
    free(capture);
    return NULL;
}

/* -- writing -- */

/* Bytes of program text in whole entries. */
static uint64_t text_bytes(const char *data, size_t length)
{
    uint64_t total = 0;

    while (length) {
        struct crilog_entry entry;
        ssize_t n = crilog_parse(data, length, &entry, NULL);

        if (n <= 0)
            break;
        total += entry.length + (entry.partial ? 0 : 1);
        data += n;
        length -= (size_t)n;
    }
    return total;
}

static void drop(struct capture *capture, const char *data, size_t length, bool full)
{
    capture->dropped += text_bytes(data, length);
    if (!capture->reported && length) {
        capture->reported = true;
        capture->on_truncated(capture->userdata, full);
    }
}

/* The length of the longest run of whole entries within max bytes. */
static size_t whole_entries(const char *data, size_t length, uint64_t max)
{
    const char *end;

    if (length <= max)
        return length;
    end = memrchr(data, '\n', (size_t)max);
    return end ? (size_t)(end - data) + 1 : 0;
}

static void write_out(struct capture *capture)
{
    const char *data = capture->out.data;
    size_t length = capture->out.length, fits, done = 0;

    fits = capture->truncated ? 0 : whole_entries(data, length, capture->limit - capture->size);
    while (done < fits) {
        ssize_t n = pwrite(capture->fd, data + done, fits - done, (off_t)(capture->size + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        done += (size_t)n;
    }
    if (done < fits) {
        size_t whole = whole_entries(data, fits, done);

        if (ftruncate(capture->fd, (off_t)(capture->size + whole)) < 0) {
            /* The next write overwrites from there. */
        }
        capture->size += whole;
        drop(capture, data + whole, length - whole, true);
    } else {
        capture->size += fits;
        if (fits < length) {
            capture->truncated = true;
            drop(capture, data + fits, length - fits, false);
        }
    }
    if (capture->out.capacity > OUT_KEEP)
        strbuf_release(&capture->out);
    else
        strbuf_reset(&capture->out);
}

/* -- reading -- */

static void stream_end(struct stream *stream)
{
    crilog_flush(&stream->splitter, clock_wall_ns(), &stream->capture->out);
    write_out(stream->capture);
    stream_close(stream);
}

/* Reads once. False if there is nothing now, or never more. */
static bool stream_read(struct stream *stream)
{
    struct capture *capture = stream->capture;
    ssize_t n;

    if (!capture->buffer)
        capture->buffer = xmalloc(READ_SIZE);
    n = read(stream->fd, capture->buffer, READ_SIZE);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return errno == EINTR;
    if (n <= 0) {
        stream_end(stream);
        return false;
    }
    capture->received += (uint64_t)n;
    if (capture->truncated) {
        capture->dropped += (uint64_t)n;
        return true;
    }
    crilog_split(&stream->splitter, clock_wall_ns(), capture->buffer, (size_t)n, &capture->out);
    write_out(capture);
    return true;
}

static void on_readable(void *userdata, uint32_t events)
{
    struct stream *stream = userdata;

    for (int i = 0; i < READS_A_TURN; i++)
        if (!stream_read(stream))
            return;
}

int capture_attach(struct capture *capture, int ret_fds[2], struct error *error)
{
    for (int i = 0; i < 2; i++) {
        struct stream *stream = &capture->streams[i];
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0) {
            error_set_errno(error, errno, "cannot make a pipe");
            if (i) {
                close(ret_fds[0]);
                stream_close(&capture->streams[0]);
            }
            return -1;
        }
        fcntl(fds[0], F_SETFL, O_NONBLOCK);
        stream->fd = fds[0];
        stream->source = loop_add_fd(capture->loop, stream->fd, EPOLLIN, on_readable, stream);
        ret_fds[i] = fds[1];
    }
    return 0;
}

void capture_drain(struct capture *capture)
{
    for (int i = 0; i < 2; i++) {
        struct stream *stream = &capture->streams[i];

        /* Without writers a pipe holds little; more means that somebody got away, whom we do not wait for. */
        for (int n = 0; n < DRAIN_READS && stream->fd >= 0; n++)
            if (!stream_read(stream))
                break;
        if (stream->fd >= 0)
            stream_end(stream);
    }
}

int capture_sync(struct capture *capture, struct error *error)
{
    if (fdatasync(capture->fd) < 0)
        return error_set_errno(error, errno, "cannot sync %s", capture->path);
    return 0;
}

uint64_t capture_bytes(const struct capture *capture)
{
    return capture->received > capture->dropped ? capture->received - capture->dropped : 0;
}

uint64_t capture_dropped(const struct capture *capture)
{
    return capture->dropped;
}
