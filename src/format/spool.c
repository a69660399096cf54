#include "format/spool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include "util/limits.h"
#include "util/xalloc.h"

#define MEMORY (32 * MIB) /* kept without a file */
#define LOAD   (4 * MIB)  /* read at once */
#define FIRST  (16 * KIB) /* of the buffer, which doubles until it is as large */

/* Bytes [0, in_file) are in the file, [in_file, size) in the buffer. While reading, the buffer holds
 * [buffer_at, buffer_at + buffered). */
struct spool {
    char *directory;
    int fd; /* -1: all is in memory */
    char *buffer;
    size_t capacity, memory; /* of the buffer now, and at most */
    uint64_t size, in_file;
    uint64_t at, buffer_at;
    size_t buffered;
};

struct spool *spool_new(const char *directory)
{
    return spool_new_with(directory, MEMORY);
}

struct spool *spool_new_with(const char *directory, size_t memory)
{
    struct spool *spool = xnew0(struct spool);

    assert(memory > 0);
    spool->memory = memory;
    if (!directory)
        directory = getenv("TMPDIR");
    spool->directory = xstrdup(directory && *directory ? directory : "/tmp");
    spool->fd = -1;
    return spool;
}

struct spool *spool_free(struct spool *spool)
{
    if (!spool)
        return NULL;
    if (spool->fd >= 0)
        close(spool->fd);
    free(spool->directory);
    free(spool->buffer);
    free(spool);
    return NULL;
}

void spool_clear(struct spool *spool)
{
    if (spool->fd >= 0)
        close(spool->fd);
    spool->fd = -1;
    spool->size = spool->in_file = spool->at = spool->buffer_at = 0;
    spool->buffered = 0;
}

static int open_file(struct spool *spool, struct error *error)
{
    cleanup_free char *path = NULL;

    spool->fd = open(spool->directory, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    if (spool->fd >= 0)
        return 0;
    path = xasprintf("%s/slipway-XXXXXX", spool->directory);
    spool->fd = mkostemp(path, O_CLOEXEC);
    if (spool->fd < 0)
        return error_set_errno(error, errno, "cannot make a temporary file in %s", spool->directory);
    unlink(path);
    return 0;
}

static int flush(struct spool *spool, struct error *error)
{
    size_t length = spool->size - spool->in_file;
    const char *p = spool->buffer;

    if (spool->fd < 0 && open_file(spool, error) < 0)
        return -1;
    while (length) {
        ssize_t n = pwrite(spool->fd, p, length, spool->in_file);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, errno, "cannot write a temporary file in %s", spool->directory);
        p += n;
        length -= n;
        spool->in_file += n;
    }
    return 0;
}

/* Room for more in the buffer, up to its limit. */
static void grow(struct spool *spool, size_t wanted)
{
    size_t capacity = spool->capacity ? spool->capacity : FIRST;

    while (capacity < wanted)
        capacity *= 2;
    spool->capacity = capacity < spool->memory ? capacity : spool->memory;
    spool->buffer = xrealloc(spool->buffer, spool->capacity);
}

int spool_write(struct spool *spool, const void *data, size_t length, struct error *error)
{
    const char *p = data;

    while (length) {
        size_t used = spool->size - spool->in_file, n = spool->memory - used;

        if (n == 0) {
            if (flush(spool, error) < 0)
                return -1;
            continue;
        }
        if (n > length)
            n = length;
        if (used + n > spool->capacity)
            grow(spool, used + n);
        memcpy(spool->buffer + used, p, n);
        p += n;
        length -= n;
        spool->size += n;
    }
    spool->buffer_at = spool->in_file;
    spool->buffered = spool->size - spool->in_file;
    return 0;
}

void spool_rewind(struct spool *spool)
{
    spool->at = 0;
}

/* Brings bytes from the file into the buffer, after what is only in the buffer went to the file. */
static int load(struct spool *spool, struct error *error)
{
    ssize_t n;

    if (spool->in_file < spool->size && flush(spool, error) < 0)
        return -1;
    do
        n = pread(spool->fd, spool->buffer, spool->capacity < LOAD ? spool->capacity : LOAD, spool->at);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return error_set_errno(error, errno, "cannot read a temporary file");
    if (n == 0)
        return error_set(error, ERROR_INTERNAL, "a temporary file is shorter than what was written");
    spool->buffer_at = spool->at;
    spool->buffered = n;
    return 0;
}

int spool_read(struct spool *spool, void *buffer, size_t length, struct error *error)
{
    char *out = buffer;

    if (length > spool->size - spool->at)
        return error_set(error, ERROR_INTERNAL, "read beyond the end of a temporary file");
    while (length) {
        size_t n;

        if (spool->at < spool->buffer_at || spool->at >= spool->buffer_at + spool->buffered) {
            if (load(spool, error) < 0)
                return -1;
            continue;
        }
        n = spool->buffer_at + spool->buffered - spool->at;
        if (n > length)
            n = length;
        memcpy(out, spool->buffer + (spool->at - spool->buffer_at), n);
        out += n;
        length -= n;
        spool->at += n;
    }
    return 0;
}

uint64_t spool_size(const struct spool *spool)
{
    return spool->size;
}

int spool_map(struct spool *spool, const void **ret_data, struct error *error)
{
    void *data;

    if (flush(spool, error) < 0)
        return -1;
    spool->buffered = 0;
    data = mmap(NULL, spool->size ? spool->size : 1, PROT_READ, MAP_SHARED, spool->fd, 0);
    if (data == MAP_FAILED)
        return error_set_errno(error, errno, "cannot map a temporary file");
    *ret_data = data;
    return 0;
}
