#include <assert.h>
#include <pthread.h>
#include <string.h>
#include "store/journal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/list.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

int journal_append(struct db_tx *tx, const struct journal_event *event, int64_t *ret_sequence, struct error *error)
{
    cleanup_json json_t *nothing = json_object();

    assert(tx->is_write);
    if (db_exec(tx, error, "INSERT INTO events (time, type, subject, project, actor, data) VALUES (?, ?, ?, ?, ?, ?)",
                "issssj", clock_wall_ms(), event->type, event->subject, event->project,
                event->actor ? event->actor : "system", event->data ? event->data : nothing) < 0)
        return error_wrap(error, "cannot append event %s", event->type);
    tx->last_event = db_last_id(tx);
    if (ret_sequence)
        *ret_sequence = tx->last_event;
    return 0;
}

static json_t *to_cloudevent(struct db_rows *rows, struct error *error)
{
    cleanup_json json_t *event = json_object();
    json_t *data = db_json(rows, 6, error);
    char id[24];

    if (!data)
        return NULL;
    snprintf(id, sizeof(id), "%lld", (long long)db_int(rows, 0));
    json_set_string(event, "specversion", "1.0");
    json_set_string(event, "id", id);
    json_set_int(event, "sequence", db_int(rows, 0));
    json_set_string(event, "source", "/slipway");
    json_set_string(event, "type", db_text(rows, 2));
    json_set_string(event, "subject", db_text(rows, 3));
    json_set_string(event, "project", db_text(rows, 4));
    json_set_time_ms(event, "time", db_int(rows, 1));
    json_set_string(event, "actor", db_text(rows, 5));
    json_object_set_new(event, "data", data);
    return steal_ptr(event);
}

/* Only the conditions that are asked for, so that the right index is found; the texts are few, and cached. */
static void write_query(const struct journal_filter *filter, struct strbuf *sql)
{
    strbuf_adds(sql, "SELECT sequence, time, type, subject, project, actor, data FROM events WHERE sequence > ?1");
    strbuf_adds(sql, filter->project ? " AND project = ?2" : " AND ?2 IS NULL");
    strbuf_adds(sql, filter->type ? " AND substr(type, 1, length(?3)) = ?3" : " AND ?3 IS NULL");
    strbuf_adds(sql, filter->subject ? " AND subject = ?4" : " AND ?4 IS NULL");
    strbuf_adds(sql, filter->newest ? " ORDER BY sequence DESC LIMIT ?5" : " ORDER BY sequence LIMIT ?5");
}

static json_t *reversed(const json_t *events)
{
    json_t *array = json_array();

    for (size_t i = json_array_size(events); i > 0; i--)
        json_array_append(array, json_array_get(events, i - 1));
    return array;
}

json_t *journal_read(struct db_tx *tx, const struct journal_filter *filter, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *events = json_array();
    cleanup_strbuf struct strbuf sql = STRBUF_INIT(LIMIT_DESCRIPTION);
    int64_t limit = filter->limit > 0 ? filter->limit : LIMIT_PAGE_DEFAULT;
    int r;

    write_query(filter, &sql);
    if (db_query(tx, &rows, error, sql.data, "isssi", filter->after, filter->project, filter->type, filter->subject,
                 limit) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        json_t *event = to_cloudevent(&rows, error);

        if (!event)
            return NULL;
        json_array_append_new(events, event);
    }
    if (r < 0)
        return NULL;
    return filter->newest ? reversed(events) : steal_ptr(events);
}

int journal_newest(struct db_tx *tx, int64_t *ret_sequence, struct error *error)
{
    return db_query_int(tx, ret_sequence, error, "SELECT COALESCE(MAX(sequence), 0) FROM events", NULL);
}

/* -- followers -- */

struct journal_listener {
    journal_fn fn;
    void *userdata;
    struct list others;
};

struct journal {
    struct db *db;
    pthread_mutex_t lock; /* held while listeners are called, so that unlisten waits for them */
    struct list listeners;
};

static void on_commit(void *userdata, int64_t newest)
{
    struct journal *journal = userdata;
    struct journal_listener *listener;

    pthread_mutex_lock(&journal->lock);
    list_for_each(listener, &journal->listeners, others) {
        listener->fn(listener->userdata, newest);
    }
    pthread_mutex_unlock(&journal->lock);
}

struct journal *journal_new(struct db *db)
{
    struct journal *journal = xnew0(struct journal);

    journal->db = db;
    pthread_mutex_init(&journal->lock, NULL);
    list_init(&journal->listeners);
    db_set_commit_hook(db, on_commit, journal);
    return journal;
}

struct journal *journal_free(struct journal *journal)
{
    if (journal) {
        assert(list_is_empty(&journal->listeners) && "listeners leave before the journal goes");
        db_set_commit_hook(journal->db, NULL, NULL);
        pthread_mutex_destroy(&journal->lock);
        free(journal);
    }
    return NULL;
}

struct journal_listener *journal_listen(struct journal *journal, journal_fn fn, void *userdata)
{
    struct journal_listener *listener = xnew0(struct journal_listener);

    listener->fn = fn;
    listener->userdata = userdata;
    pthread_mutex_lock(&journal->lock);
    list_append(&journal->listeners, &listener->others);
    pthread_mutex_unlock(&journal->lock);
    return listener;
}

void journal_unlisten(struct journal *journal, struct journal_listener *listener)
{
    if (!listener)
        return;
    pthread_mutex_lock(&journal->lock);
    list_unlink(&listener->others);
    pthread_mutex_unlock(&journal->lock);
    free(listener);
}
