#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "monitor/intake.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/map.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define GROUP_DELAY  (50 * NS_PER_MS)
#define RETRY_DELAY  (1 * NS_PER_SEC)
#define ROOM         (1 * MIB)  /* bulk producers wait beyond this */
#define PENDING_MAX  (64 * MIB) /* lines that cannot wait stop here; reached only if the disk stays full */
#define WARNINGS_MAX 1000       /* lines of one code */

struct intake {
    struct loop *loop;
    char *path;
    int fd;
    off_t size;            /* bytes written and synced */
    uint64_t seq;          /* of the last line */
    struct strbuf pending; /* whole lines */
    struct loop_source *timer;
    struct map warnings; /* code → uint64_t * count */
};

int intake_open(const char *path, struct loop *loop, struct intake **ret_intake, struct error *error)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct intake *intake;

    if (fd < 0)
        return error_set_errno(error, errno, "cannot create %s", path);
    intake = xnew0(struct intake);
    intake->loop = loop;
    intake->path = xstrdup(path);
    intake->fd = fd;
    strbuf_init(&intake->pending, PENDING_MAX);
    intake->warnings.destroy = free;
    *ret_intake = intake;
    return 0;
}

struct intake *intake_close(struct intake *intake)
{
    if (!intake)
        return NULL;
    loop_remove(intake->timer);
    strbuf_release(&intake->pending);
    map_release(&intake->warnings);
    close(intake->fd);
    free(intake->path);
    free(intake);
    return NULL;
}

bool intake_has_room(const struct intake *intake)
{
    return intake->pending.length < ROOM;
}

static void on_timer(void *userdata)
{
    struct intake *intake = userdata;

    intake->timer = NULL;
    intake_flush(intake, NULL);
}

static void arm(struct intake *intake, int64_t delay_ns)
{
    if (!intake->timer)
        intake->timer = loop_add_timer(intake->loop, delay_ns, on_timer, intake);
}

void intake_add(struct intake *intake, const char *type, json_t *fields)
{
    cleanup_json json_t *given = fields, *line = json_object();
    cleanup_free char *text = NULL;
    char time[CLOCK_RFC3339_SIZE];

    json_set_int(line, "seq", (int64_t)intake->seq + 1);
    json_set_string(line, "time", clock_format_ns(clock_wall_ns(), time));
    json_set_string(line, "type", type);
    if (given)
        json_object_update(line, given);
    text = json_text(line);
    if (strlen(text) + 1 > intake->pending.max - intake->pending.length)
        return; /* the disk has been full for long; numbers stay without gaps */
    strbuf_adds(&intake->pending, text);
    strbuf_addc(&intake->pending, '\n');
    intake->seq++;
    arm(intake, GROUP_DELAY);
}

void intake_warn(struct intake *intake, const char *code, const char *format, ...)
{
    uint64_t *count = map_get(&intake->warnings, code);
    cleanup_free char *message = NULL;
    va_list args;

    if (!count) {
        count = xnew0(uint64_t);
        map_put(&intake->warnings, code, count);
    }
    if (++*count > WARNINGS_MAX)
        return;
    va_start(args, format);
    message = xvasprintf(format, args);
    va_end(args);
    intake_add(intake, "warning", json_build("{s:s, s:o}", "code", code, "message", json_string_lossy(message)));
}

void intake_add_dropped(struct intake *intake)
{
    struct map_iterator it = {0};

    while (map_next(&intake->warnings, &it)) {
        uint64_t *count = it.value;
        cleanup_free char *message = NULL;

        if (*count <= WARNINGS_MAX)
            continue;
        message = xasprintf("%llu more warnings of the kind %s", (unsigned long long)(*count - WARNINGS_MAX), it.key);
        intake_add(intake, "warning", json_build("{s:s, s:s}", "code", "warnings_dropped", "message", message));
        *count = 0;
    }
}

static int write_pending(struct intake *intake, struct error *error)
{
    size_t done = 0;

    while (done < intake->pending.length) {
        ssize_t n = pwrite(intake->fd, intake->pending.data + done, intake->pending.length - done,
                           intake->size + (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, errno, "cannot write %s", intake->path);
        done += (size_t)n;
    }
    if (fdatasync(intake->fd) < 0)
        return error_set_errno(error, errno, "cannot sync %s", intake->path);
    return 0;
}

int intake_flush(struct intake *intake, struct error *error)
{
    intake->timer = loop_remove(intake->timer);
    if (!intake->pending.length)
        return 0;
    if (write_pending(intake, error) < 0) {
        if (ftruncate(intake->fd, intake->size) < 0) {
            /* Shrinking needs no space; the next write starts at the same offset anyway. */
        }
        arm(intake, RETRY_DELAY);
        return -1;
    }
    intake->size += (off_t)intake->pending.length;
    strbuf_release(&intake->pending);
    futimens(intake->fd, NULL);
    return 0;
}
