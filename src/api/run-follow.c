/*
 * Following a run by WebSocket. Messages are JSON objects:
 *
 *   {"type":"state","run":{…}}                                                 whenever it changes
 *   {"type":"log","attempt":1,"node":0,"offset":n,"time":…,"stream":"stdout","text":"…","partial":false}
 *   {"type":"metric","attempt":1,"node":0,"sequence":n,"time":…,"values":{"step":1,"loss":0.3}}
 *
 * The stream begins behind the query's `after` (byte offset of the log) and `metrics_after` (sequence number)
 * of `attempt`, goes on through later attempts, and is closed when the run has ended and all is sent. Whoever
 * loses the connection resumes with the last offset, sequence and attempt that he saw.
 */
#include <string.h>
#include "api/daemon.h"
#include "api/run.h"
#include "core/runlog.h"
#include "http/websocket.h"
#include "schedule/launch.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define POLL       (100 * NS_PER_MS)
#define PAGE_LOG   (256 * KIB)
#define PAGE_LINES 1000
/* More than one line can have, so that each page brings the stream on. */
#define PAGE_POINTS (LIMIT_METRIC_NAMES + PAGE_LINES)

enum follow_what { FOLLOW_STATE = 1, FOLLOW_LOG = 2, FOLLOW_METRICS = 4 };

struct follow {
    struct daemon *daemon;
    struct websocket *ws;
    struct loop_source *timer;
    char run_id[ID_SIZE];
    unsigned what;
    int attempt, node;
    int64_t log_offset;
    int64_t metric_sequence;
    /* last state that was sent */
    int state;
    int state_attempt;
    bool state_stop;
    bool more;
};

static void free_follow(void *userdata)
{
    struct follow *follow = userdata;

    loop_remove(follow->timer);
    free(follow);
}

static void wake(void *userdata)
{
    struct follow *follow = userdata;

    websocket_wake(follow->ws);
}

static void on_open(struct websocket *ws, void *userdata)
{
    struct follow *follow = userdata;

    follow->ws = ws;
    follow->timer = loop_add_interval(websocket_loop(ws), POLL, wake, follow);
}

/* -- log -- */

static int send_entry(void *userdata, const struct runlog_entry *entry)
{
    struct follow *follow = userdata;
    json_t *text = json_stringn(entry->text, entry->length);
    json_t *message = json_object();

    /* Bytes that are not UTF-8 are shown one by one as Latin-1 would: JSON has no other place for them. */
    if (!text) {
        char *wide = xmalloc(2 * entry->length + 1);
        size_t n = 0;

        for (size_t i = 0; i < entry->length; i++) {
            unsigned char c = (unsigned char)entry->text[i];

            if (c < 0x80) {
                wide[n++] = (char)c;
            } else {
                wide[n++] = (char)(0xc0 | c >> 6);
                wide[n++] = (char)(0x80 | (c & 0x3f));
            }
        }
        text = json_stringn(wide, n);
        free(wide);
    }
    json_set_string(message, "type", "log");
    json_set_int(message, "attempt", follow->attempt);
    json_set_int(message, "node", follow->node);
    json_set_int(message, "offset", entry->end);
    json_object_set_new(message, "time", json_stringn(entry->time, entry->time_length));
    json_set_string(message, "stream", entry->is_stderr ? "stderr" : "stdout");
    json_object_set_new(message, "text", text);
    json_set_bool(message, "partial", entry->partial);
    websocket_send_json(follow->ws, message);
    return 0;
}

static int send_log(struct follow *follow, struct error *error)
{
    cleanup_free char *directory = launch_directory(follow->daemon->store, follow->run_id, follow->attempt,
                                                    follow->node);
    cleanup_free char *path = fs_join(directory, "log");
    int64_t next;

    if (runlog_read(path, follow->log_offset, PAGE_LOG, send_entry, follow, &next, error) < 0)
        return -1;
    follow->more |= next != follow->log_offset;
    follow->log_offset = next;
    return 0;
}

/* -- metrics -- */

/* Points of one intake line, of all series, become one message again. */
static int send_metrics(struct follow *follow, struct db_tx *tx, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int64_t current = -1, done = follow->metric_sequence;
    json_t *message = NULL, *values = NULL;
    int n = 0, n_rows = 0, r;

    if (db_query(tx, &rows, error,
                 "SELECT p.sequence, p.time, p.step, s.name, p.value FROM metric_series s "
                 "JOIN metric_points p ON p.series_id = s.id AND p.sequence > ?4 "
                 "WHERE s.run_id = ?1 AND s.attempt = ?2 AND s.node = ?3 ORDER BY p.sequence, s.id LIMIT ?5",
                 "siiii", follow->run_id, (int64_t)follow->attempt, (int64_t)follow->node, follow->metric_sequence,
                 (int64_t)PAGE_POINTS) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0) {
        n_rows++;
        if (db_int(&rows, 0) != current) {
            if (message) {
                websocket_send_json(follow->ws, message);
                done = current;
                message = NULL;
            }
            if (n++ == PAGE_LINES)
                break;
            current = db_int(&rows, 0);
            values = json_object();
            message = json_build("{s:s, s:i, s:i, s:I}", "type", "metric", "attempt", follow->attempt, "node",
                                 follow->node, "sequence", (json_int_t)current);
            json_set_time_ms(message, "time", db_int(&rows, 1));
            if (!db_is_null(&rows, 2))
                json_set_number(values, "step", db_real(&rows, 2));
            json_object_set_new(message, "values", values);
        }
        json_object_set_new(values, db_text(&rows, 3),
                            db_is_null(&rows, 4) ? json_null() : json_real(db_real(&rows, 4)));
    }
    /* The last line of a full page may go on in the next one, and is read again there. */
    if (r == 0 && message && n_rows < PAGE_POINTS) {
        websocket_send_json(follow->ws, message);
        done = current;
        message = NULL;
    }
    json_decref(message);
    follow->more |= done != follow->metric_sequence;
    follow->metric_sequence = done;
    return r < 0 ? -1 : 0;
}

/* -- the pump -- */

static void send_state(struct follow *follow, const struct run *run)
{
    if (follow->state == (int)run->state && follow->state_attempt == run->attempt &&
        follow->state_stop == run->stop_requested)
        return;
    follow->state = (int)run->state;
    follow->state_attempt = run->attempt;
    follow->state_stop = run->stop_requested;
    websocket_send_json(follow->ws, json_build("{s:s, s:o}", "type", "state", "run", run_to_json(run)));
}

static int pump(struct websocket *ws, void *userdata, struct error *error)
{
    struct follow *follow = userdata;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;
    bool over;

    /* The state is read first: if it is final then, all that was written is there to be read now. */
    follow->more = false;
    follow->ws = ws;
    if (db_begin_read(follow->daemon->store->db, &tx, error) < 0 ||
        run_load(&tx, NULL, follow->run_id, &run, error) < 0)
        return -1;
    over = run_is_final(run->state) || run->attempt > follow->attempt;
    if ((follow->what & FOLLOW_STATE) && !run_is_final(run->state))
        send_state(follow, run);
    if ((follow->what & FOLLOW_METRICS) && send_metrics(follow, &tx, error) < 0)
        return -1;
    db_end(&tx);
    if ((follow->what & FOLLOW_LOG) && send_log(follow, error) < 0)
        return -1;
    if (follow->more)
        return 1;
    if (over && run->attempt > follow->attempt) {
        follow->attempt++;
        follow->log_offset = follow->metric_sequence = 0;
        return 1;
    }
    if (over) {
        if (follow->what & FOLLOW_STATE)
            send_state(follow, run);
        websocket_close(ws, WEBSOCKET_NORMAL, "end");
    }
    return 0;
}

static const struct websocket_handler handler = {.open = on_open, .pump = pump, .close = free_follow};

static int accept_follow(struct http_request *request, struct http_response *response, unsigned what,
                         struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;
    int64_t offset = http_query_int(request, "after", 0), tail = http_query_int(request, "tail", -1);
    struct daemon *daemon = request->context;
    cleanup_free char *directory = NULL, *path = NULL;
    struct follow *follow;
    int attempt, node;

    if (run_of_request(request, false, &tx, &run, error) < 0 ||
        run_node_of_request(request, run, &attempt, &node, error) < 0)
        return -1;
    directory = launch_directory(daemon->store, run->id, attempt, node);
    path = fs_join(directory, "log");
    if (tail >= 0 && runlog_tail(path, tail > INT32_MAX ? INT32_MAX : (int)tail, &offset, error) < 0)
        return -1;
    follow = xnew0(struct follow);
    follow->daemon = daemon;
    memcpy(follow->run_id, run->id, sizeof(follow->run_id));
    follow->what = what;
    follow->attempt = attempt;
    follow->node = (int)http_query_int(request, "node", node);
    follow->log_offset = offset;
    follow->metric_sequence = http_query_int(request, "metrics_after", 0);
    follow->state = -1;
    return http_websocket_accept(request, response, &handler, follow, error);
}

int run_follow(struct http_request *request, struct http_response *response, struct error *error)
{
    return accept_follow(request, response, FOLLOW_STATE | FOLLOW_LOG | FOLLOW_METRICS, error);
}

int run_follow_log(struct http_request *request, struct http_response *response, struct error *error)
{
    return accept_follow(request, response, FOLLOW_LOG, error);
}

int run_follow_metrics(struct http_request *request, struct http_response *response, struct error *error)
{
    return accept_follow(request, response, FOLLOW_METRICS, error);
}
