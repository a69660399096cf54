#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "core/runlog.h"
#include "util/limits.h"
#include "util/strbuf.h"

/* "TIME STREAM TAG TEXT"; anything else is shown as it is. */
static void parse(const char *line, size_t length, struct runlog_entry *entry)
{
    const char *end = line + length, *time_end, *stream_end, *tag_end;

    *entry = (struct runlog_entry){.time = line, .text = line, .length = length};
    time_end = memchr(line, ' ', length);
    stream_end = time_end ? memchr(time_end + 1, ' ', (size_t)(end - time_end - 1)) : NULL;
    if (!stream_end)
        return;
    tag_end = memchr(stream_end + 1, ' ', (size_t)(end - stream_end - 1));
    if (!tag_end)
        return;
    entry->time_length = (size_t)(time_end - line);
    entry->is_stderr = stream_end - time_end - 1 == 6 && memcmp(time_end + 1, "stderr", 6) == 0;
    entry->partial = stream_end[1] == 'P';
    entry->text = tag_end + 1;
    entry->length = (size_t)(end - tag_end - 1);
}

static int open_log(const char *path, int *ret_fd, struct error *error)
{
    *ret_fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (*ret_fd < 0 && errno != ENOENT)
        return error_set_errno(error, errno, "cannot open %s", path);
    return 0;
}

int runlog_read(const char *path, int64_t offset, size_t max, runlog_fn fn, void *userdata, int64_t *ret_offset,
                struct error *error)
{
    cleanup_strbuf struct strbuf text = STRBUF_INIT(max + 2 * LIMIT_LOG_CHUNK);
    cleanup_close int fd = -1;
    int64_t start = offset > 0 ? offset - 1 : 0;
    const char *line, *end;
    char *to;
    ssize_t n;

    if (open_log(path, &fd, error) < 0)
        return -1;
    if (fd < 0) {
        *ret_offset = offset;
        return 0;
    }
    /* From the byte before, to see whether the offset is the beginning of an entry. */
    to = strbuf_reserve(&text, max + LIMIT_LOG_CHUNK + 128);
    n = pread(fd, to, max + LIMIT_LOG_CHUNK + 128, start);
    if (n < 0)
        return error_set_errno(error, errno, "cannot read %s", path);
    strbuf_commit(&text, (size_t)n);
    line = text.data;
    if (offset > 0) {
        line = memchr(text.data, '\n', text.length);
        line = line ? line + 1 : text.data + text.length;
    }
    *ret_offset = offset;
    while (line < text.data + text.length &&
           (end = memchr(line, '\n', text.length - (size_t)(line - text.data))) != NULL) {
        struct runlog_entry entry;
        int stop;

        parse(line, (size_t)(end - line), &entry);
        entry.end = start + (end + 1 - text.data);
        *ret_offset = entry.end;
        stop = fn(userdata, &entry);
        line = end + 1;
        if (stop || (size_t)(line - text.data) > max)
            break;
    }
    return 0;
}

int runlog_tail(const char *path, int lines, int64_t *ret_offset, struct error *error)
{
    cleanup_close int fd = -1;
    char buffer[65536];
    off_t position;
    int found = 0;

    if (open_log(path, &fd, error) < 0)
        return -1;
    *ret_offset = 0;
    position = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    if (lines <= 0) {
        *ret_offset = position > 0 ? position : 0;
        return 0;
    }
    while (position > 0) {
        size_t size = position > (off_t)sizeof(buffer) ? sizeof(buffer) : (size_t)position;
        ssize_t n = pread(fd, buffer, size, position - (off_t)size);

        if (n != (ssize_t)size)
            return error_set_errno(error, errno, "cannot read %s", path);
        for (size_t i = size; i-- > 0;) {
            /* The newline at the very end closes the last line. */
            if (buffer[i] == '\n' && found++ == lines) {
                *ret_offset = position - (off_t)size + (off_t)i + 1;
                return 0;
            }
        }
        position -= (off_t)size;
    }
    return 0;
}
