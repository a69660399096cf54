/* Logs of nodes, as text. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "api/daemon.h"
#include "api/run.h"
#include "core/runlog.h"
#include "schedule/launch.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/strbuf.h"

#define REPLY (4 * MIB) /* of one answer; the offset in its header says where to go on */

struct text {
    struct strbuf out;
    bool timestamps;
    bool in_line; /* the last entry was a partial one */
    int64_t skip_lines;
};

static int add_entry(void *userdata, const struct runlog_entry *entry)
{
    struct text *text = userdata;

    if (text->skip_lines > 0) {
        text->skip_lines -= !entry->partial;
        return 0;
    }
    if (text->timestamps && !text->in_line) {
        strbuf_add(&text->out, entry->time, entry->time_length);
        strbuf_adds(&text->out, entry->is_stderr ? " stderr " : " stdout ");
    }
    strbuf_add(&text->out, entry->text, entry->length);
    text->in_line = entry->partial;
    if (!entry->partial)
        strbuf_addc(&text->out, '\n');
    return 0;
}

/* The whole log, which may be large, through a file that has no name. */
static int reply_whole(struct http_response *response, struct daemon *daemon, const char *path, int64_t offset,
                       struct text *text, struct error *error)
{
    cleanup_close int fd = open(daemon->store->directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int64_t next = offset, size;
    char number[32];

    if (fd < 0)
        return error_set_errno(error, errno, "cannot make a temporary file in %s", daemon->store->directory);
    do {
        offset = next;
        strbuf_reset(&text->out);
        if (runlog_read(path, offset, REPLY, add_entry, text, &next, error) < 0 ||
            fs_write_all(fd, text->out.data, text->out.length, error) < 0)
            return -1;
    } while (next != offset);
    size = lseek(fd, 0, SEEK_CUR);
    snprintf(number, sizeof(number), "%" PRId64, next);
    http_reply_header(response, "Slipway-Log-Offset", number);
    http_reply_fd(response, 200, "text/plain; charset=utf-8", steal_fd(&fd), (uint64_t)size);
    return 0;
}

static int reply_part(struct http_response *response, const char *path, int64_t offset, struct text *text,
                      struct error *error)
{
    char number[32];
    int64_t next;

    if (runlog_read(path, offset, REPLY, add_entry, text, &next, error) < 0)
        return -1;
    snprintf(number, sizeof(number), "%" PRId64, next);
    http_reply_header(response, "Slipway-Log-Offset", number);
    http_reply_text(response, 200, "text/plain; charset=utf-8", text->out.data, text->out.length);
    return 0;
}

int run_get_log(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    struct text text = {.out = STRBUF_INIT(4 * REPLY),
                        .timestamps = http_query_bool(request, "timestamps"),
                        .skip_lines = http_query_int(request, "skip_lines", 0)};
    int64_t offset = http_query_int(request, "after", -1), tail = http_query_int(request, "tail", -1);
    bool part = offset >= 0;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_free char *directory = NULL, *path = NULL;
    cleanup_run struct run *run = NULL;
    int attempt, node, r;

    if (run_of_request(request, false, &tx, &run, error) < 0 ||
        run_node_of_request(request, run, &attempt, &node, error) < 0)
        return -1;
    db_end(&tx);
    directory = launch_directory(daemon->store, run->id, attempt, node);
    path = fs_join(directory, "log");
    offset = part ? offset : 0;
    if (tail >= 0 && runlog_tail(path, tail > INT32_MAX ? INT32_MAX : (int)tail, &offset, error) < 0)
        return -1;
    r = part ? reply_part(response, path, offset, &text, error)
             : reply_whole(response, daemon, path, offset, &text, error);
    strbuf_release(&text.out);
    return r;
}
