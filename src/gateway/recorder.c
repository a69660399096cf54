#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/gateway.h"
#include "gateway/recorder.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/list.h"
#include "util/log.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define NAME_SIZE 48 /* "<id>.jsonl" */

struct segment {
    struct list link; /* in recorder->segments */
    struct request_log *log;
    char id[ID_SIZE];
    int fd;
    uint64_t size; /* whole lines in the file */
    uint64_t lines; /* in the buffer */
    struct strbuf buffer;
    int64_t opened_ns;
};

struct recorder {
    struct gateway *gateway;
    int directory;              /* -1: there is none, and every line is dropped */
    struct list segments;       /* those that are open */
    struct loop_source *timer;  /* while there are any */
    uint64_t closed_bytes, closed_files; /* at most: the daemon may have taken some */
    int64_t looked_ns;          /* when that was counted last */
    bool has_failed;            /* the last write did: told once */
};

static void name_of(const char *id, const char *suffix, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "%s.%s", id, suffix);
}

static bool is_named(const char *name, const char *suffix)
{
    char id[ID_SIZE];

    if (strlen(name) < ID_SIZE || name[ID_SIZE - 1] != '.' || strcmp(name + ID_SIZE, suffix) != 0)
        return false;
    memcpy(id, name, ID_SIZE - 1);
    id[ID_SIZE - 1] = '\0';
    return id_is_valid(id);
}

static void failed(struct recorder *recorder, const char *what)
{
    if (!recorder->has_failed)
        log_warning("the log of requests drops lines", "cannot", what, "reason", strerror(errno));
    recorder->has_failed = true;
}

/* -- what is closed -- */

static DIR *open_listing(const struct recorder *recorder)
{
    int fd = openat(recorder->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;

    if (!directory && fd >= 0)
        close(fd);
    return directory;
}

static void count_closed(struct recorder *recorder)
{
    cleanup_closedir DIR *directory = open_listing(recorder);
    struct dirent *entry;
    struct stat st;

    recorder->looked_ns = clock_monotonic_ns();
    recorder->closed_bytes = recorder->closed_files = 0;
    while (directory && (entry = readdir(directory))) {
        if (!is_named(entry->d_name, "jsonl") || fstatat(dirfd(directory), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        recorder->closed_bytes += (uint64_t)st.st_size;
        recorder->closed_files++;
    }
}

static bool is_full(const struct recorder *recorder)
{
    return recorder->closed_bytes >= LIMIT_REQUEST_LOG_CLOSED || recorder->closed_files >= LIMIT_REQUEST_LOG_FILES;
}

static bool has_room(struct recorder *recorder)
{
    if (is_full(recorder) && clock_monotonic_ns() - recorder->looked_ns > NS_PER_SEC)
        count_closed(recorder);
    return !is_full(recorder);
}

static void close_name(struct recorder *recorder, const char *id)
{
    char from[NAME_SIZE], to[NAME_SIZE];

    name_of(id, "part", from);
    name_of(id, "jsonl", to);
    if (renameat(recorder->directory, from, recorder->directory, to) < 0)
        failed(recorder, "close a segment");
}

/* What a gateway that was killed left. */
static void close_leftovers(struct recorder *recorder)
{
    cleanup_closedir DIR *directory = open_listing(recorder);
    struct dirent *entry;

    while (directory && (entry = readdir(directory))) {
        if (is_named(entry->d_name, "part")) {
            entry->d_name[ID_SIZE - 1] = '\0';
            close_name(recorder, entry->d_name);
        }
    }
}

/* -- segments -- */

static void on_tick(void *userdata);

static struct segment *segment_open(struct recorder *recorder, struct request_log *log)
{
    struct segment *segment;
    char id[ID_SIZE], name[NAME_SIZE];
    int fd;

    if (recorder->directory < 0 || !has_room(recorder))
        return NULL;
    id_new(id);
    name_of(id, "part", name);
    fd = openat(recorder->directory, name, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        failed(recorder, "open a segment");
        return NULL;
    }
    segment = xnew0(struct segment);
    segment->log = log;
    segment->fd = fd;
    memcpy(segment->id, id, sizeof(id));
    segment->opened_ns = clock_monotonic_ns();
    /* A line is at most two bodies whose every byte is written as six, and what is around them. */
    strbuf_init(&segment->buffer, LIMIT_REQUEST_LOG_BUFFER + 12 * LIMIT_REQUEST_LOG_BODY + 2 * LIMIT_HTTP_HEADER * 6);
    list_init(&segment->link);
    list_append(&recorder->segments, &segment->link);
    if (!recorder->timer)
        recorder->timer = loop_add_interval(recorder->gateway->loop, LIMIT_REQUEST_LOG_DELAY_MS * NS_PER_MS, on_tick,
                                            recorder);
    return log->segment = segment;
}

static void segment_write(struct recorder *recorder, struct segment *segment)
{
    struct strbuf *buffer = &segment->buffer;

    if (!buffer->length)
        return;
    if (fs_write_all(segment->fd, buffer->data, buffer->length, NULL) == 0) {
        segment->size += buffer->length;
        segment->log->written += segment->lines;
        recorder->has_failed = false;
    } else {
        failed(recorder, "write a segment");
        segment->log->dropped += segment->lines;
        /* Half a line would spoil the next one. */
        if (ftruncate(segment->fd, (off_t)segment->size) < 0)
            failed(recorder, "cut a segment");
    }
    segment->lines = 0;
    strbuf_reset(buffer);
}

/* True: there is one more for the daemon. */
static bool segment_close(struct recorder *recorder, struct segment *segment)
{
    char name[NAME_SIZE];
    bool is_empty;

    segment_write(recorder, segment);
    is_empty = segment->size == 0;
    close(segment->fd);
    if (is_empty) {
        name_of(segment->id, "part", name);
        unlinkat(recorder->directory, name, 0);
    } else {
        close_name(recorder, segment->id);
        recorder->closed_bytes += segment->size;
        recorder->closed_files++;
    }
    segment->log->segment = NULL;
    list_unlink(&segment->link);
    strbuf_release(&segment->buffer);
    free(segment);
    if (list_is_empty(&recorder->segments))
        recorder->timer = loop_remove(recorder->timer);
    return !is_empty;
}

static void tell(struct recorder *recorder)
{
    if (recorder->gateway->control)
        control_send(recorder->gateway->control, json_build("{s:s}", "event", "requests"));
}

static void on_tick(void *userdata)
{
    struct recorder *recorder = userdata;
    int64_t now = clock_monotonic_ns();
    struct segment *segment, *next;
    size_t closed = 0;

    list_for_each_safe(segment, next, &recorder->segments, link) {
        segment_write(recorder, segment);
        if (now - segment->opened_ns >= LIMIT_REQUEST_LOG_SEGMENT_MS * NS_PER_MS)
            closed += segment_close(recorder, segment);
    }
    if (closed)
        tell(recorder);
}

void recorder_add(struct recorder *recorder, struct request_log *log, const char *line)
{
    struct segment *segment = log->segment;
    size_t length = strlen(line);

    if (log->is_over || !recorder)
        return;
    if (!segment)
        segment = segment_open(recorder, log);
    if (!segment || length + 2 > segment->buffer.max - segment->buffer.length) {
        log->dropped++;
        return;
    }
    strbuf_add(&segment->buffer, line, length);
    strbuf_addc(&segment->buffer, '\n');
    segment->lines++;
    if (segment->buffer.length >= LIMIT_REQUEST_LOG_BUFFER)
        segment_write(recorder, segment);
    if (segment->size >= LIMIT_REQUEST_LOG_SEGMENT && segment_close(recorder, segment))
        tell(recorder);
}

size_t recorder_flush(struct recorder *recorder, struct request_log *log)
{
    struct segment *segment, *next;
    size_t closed = 0;

    list_for_each_safe(segment, next, &recorder->segments, link) {
        if (!log || segment->log == log)
            closed += segment_close(recorder, segment);
    }
    if (closed)
        tell(recorder);
    return closed;
}

void request_log_configure(struct request_log *log, const json_t *wish)
{
    log->sample = json_get_number(wish, "sample", 0);
    log->body = (size_t)json_get_int(wish, "body", LIMIT_REQUEST_LOG_DEFAULT);
}

void recorder_end(struct recorder *recorder, struct request_log *log)
{
    log->is_over = true;
    log->sample = 0;
    if (log->segment)
        recorder_flush(recorder, log);
}

/* -- life -- */

/* The directory, which may be of a gateway with another user. -1: there is none. */
static int open_directory(const char *path, uid_t user, struct error *error)
{
    cleanup_close int fd = -1;

    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return error_set_errno(error, errno, "cannot make %s", path);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, 0700) < 0 || (user && fchown(fd, user, (gid_t)-1) < 0))
        return error_set_errno(error, errno, "cannot open %s", path);
    return steal_fd(&fd);
}

struct recorder *recorder_open(struct gateway *gateway, const char *directory, uid_t user)
{
    cleanup_free char *path = fs_join(directory, "requests");
    cleanup_error struct error error = ERROR_INIT;
    struct recorder *recorder = xnew0(struct recorder);

    recorder->gateway = gateway;
    list_init(&recorder->segments);
    recorder->directory = open_directory(path, user, &error);
    if (recorder->directory < 0) {
        log_warning("requests cannot be logged", "error", error.message);
        return recorder;
    }
    close_leftovers(recorder);
    count_closed(recorder);
    return recorder;
}

struct recorder *recorder_close(struct recorder *recorder)
{
    if (!recorder)
        return NULL;
    recorder_flush(recorder, NULL);
    loop_remove(recorder->timer);
    if (recorder->directory >= 0)
        close(recorder->directory);
    free(recorder);
    return NULL;
}
