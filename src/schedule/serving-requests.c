/*
 * Logged requests on their way from the gateway into the vault.
 *
 *     requests/<id>.jsonl ──▶ vault (durable) ──▶ row of request_segments ──▶ unlinked
 *
 * A daemon that dies between two steps does them again: the same content is the same blob and the same row. Files are
 * the gateway's, which may be a stranger's by now: what is no regular file, too large or no log of an endpoint that is
 * served is not followed, not taken, and removed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/request-log.h"
#include "schedule/serving-internal.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/strvec.h"
#include "util/xalloc.h"

#define SUFFIX ".jsonl"
#define SOURCE "/endpoints/"

static bool is_segment(const char *name)
{
    char id[ID_SIZE];

    if (strlen(name) != ID_SIZE - 1 + strlen(SUFFIX) || strcmp(name + ID_SIZE - 1, SUFFIX) != 0)
        return false;
    memcpy(id, name, ID_SIZE - 1);
    id[ID_SIZE - 1] = '\0';
    return id_is_valid(id);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Oldest first: names are identifiers that sort by time. Returns the directory, -1: there is none. */
static int list_segments(struct serving *s, struct strvec *names)
{
    cleanup_free char *path = store_path(s->store, "gateway/requests");
    cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int copy = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    cleanup_closedir DIR *directory = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *entry;

    while (directory && names->count < LIMIT_REQUEST_LOG_FILES && (entry = readdir(directory)))
        if (is_segment(entry->d_name))
            strvec_push(names, entry->d_name);
    if (names->count)
        qsort(names->items, names->count, sizeof(*names->items), compare_names);
    return steal_fd(&fd);
}

/* The content; *ret_data NULL: it is no log. */
static int read_file(int directory, const char *name, char **ret_data, size_t *ret_length, struct error *error)
{
    cleanup_close int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return errno == ELOOP || errno == ENOENT ? 0 : error_set_errno(error, errno, "cannot open %s", name);
    if (!S_ISREG(st.st_mode) || st.st_size > (off_t)REQUEST_SEGMENT_MAX)
        return 0;
    return fs_read_fd(fd, name, REQUEST_SEGMENT_MAX, ret_data, ret_length, error);
}

static bool read_time(const json_t *event, int64_t *ret_ms)
{
    return clock_parse_ms(json_get_string(event, "time", ""), ret_ms) == 0;
}

/* What the lines say of themselves; half a line at the end, of a gateway that was killed, is cut off. False: they are
 * no log. */
static bool describe(const char *data, size_t *length, struct request_segment *segment, json_t **ret_first)
{
    const char *end = memrchr(data, '\n', *length), *first_end, *last;
    cleanup_json json_t *first = NULL, *final = NULL;

    if (!end)
        return false;
    *length = (size_t)(end + 1 - data);
    first_end = memchr(data, '\n', *length);
    last = memrchr(data, '\n', *length - 1);
    last = last ? last + 1 : data;
    first = json_parse(data, (size_t)(first_end - data), NULL);
    final = json_parse(last, (size_t)(end - last), NULL);
    if (!read_time(first, &segment->first_ms) || !read_time(final, &segment->last_ms) ||
        strncmp(json_get_string(first, "source", ""), SOURCE, strlen(SOURCE)) != 0)
        return false;
    segment->endpoint = json_get_string(first, "source", "") + strlen(SOURCE);
    segment->bytes = (int64_t)*length;
    segment->lines = 0;
    for (const char *at = data; (at = memchr(at, '\n', *length - (size_t)(at - data))); at++)
        segment->lines++;
    *ret_first = steal_ptr(first);
    return true;
}

static int store_segment(struct serving *s, const char *data, size_t length, struct error *error)
{
    cleanup_json json_t *first = NULL;
    struct request_segment segment = {0};
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (!data || !describe(data, &length, &segment, &first))
        return 0;
    if (vault_put_bytes(s->store->vault, data, length, &segment.digest, error) < 0 ||
        db_begin_write(s->store->db, &tx, error) < 0 || request_log_add(&tx, &segment, error) < 0)
        return -1;
    return db_commit(&tx, error);
}

/* All that are closed. Any thread but the loop's. */
static int take_all(struct serving *s, struct error *error)
{
    cleanup_strvec struct strvec names = STRVEC_INIT;
    cleanup_close int directory = list_segments(s, &names);

    for (size_t i = 0; i < names.count; i++) {
        cleanup_free char *data = NULL;
        size_t length = 0;

        if (read_file(directory, names.items[i], &data, &length, error) < 0 ||
            store_segment(s, data, length, error) < 0)
            return -1;
        unlinkat(directory, names.items[i], 0);
    }
    return 0;
}

static int take(struct serving *s, struct error *error)
{
    int r;

    pthread_mutex_lock(&s->requests_mutex);
    r = take_all(s, error);
    pthread_mutex_unlock(&s->requests_mutex);
    return r;
}

/* -- when the gateway says so, on a worker thread -- */

static void work(void *userdata)
{
    struct serving *s = userdata;
    cleanup_error struct error error = ERROR_INIT;

    if (take(s, &error) < 0)
        log_error("cannot store logged requests, will try again with the next ones", "error", error.message);
}

static void worked(void *userdata)
{
    struct serving *s = userdata;

    s->is_taking = false;
    if (s->take_again)
        serving_requests_take(s);
}

void serving_requests_take(struct serving *s)
{
    s->take_again = s->is_taking;
    if (s->is_taking || atomic_load(&s->is_closing))
        return;
    s->is_taking = true;
    orchestrator_work(s->orchestrator, work, worked, s);
}

/* -- when somebody asks -- */

int serving_requests(struct serving *s, const char *endpoint, struct error *error)
{
    cleanup_error struct error why = ERROR_INIT;
    cleanup_json json_t *reply = NULL;

    /* A gateway that is not there, or does not know the endpoint yet, has nothing open; what it closed is there. */
    if (s->link)
        reply = serving_ask(s, json_build("{s:s, s:s}", "op", "flush-requests", "endpoint", endpoint), &why);
    if (s->link && !reply && why.code != ERROR_NOT_FOUND)
        log_warning("the newest logged requests may be missing", "endpoint", endpoint, "error", why.message);
    return take(s, error);
}
