#include <inttypes.h>
#include <string.h>
#include "api/api.h"
#include "api/daemon.h"
#include "http/websocket.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

#define PUMP_EVENTS 200 /* sent at once to a follower */

static const struct schema_field event_fields[] = {
    {"specversion", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "1.0"},
    {"id", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "the sequence number as text"},
    {"sequence", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "1, 2, 3, … without gaps"},
    {"source", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"type", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "slipway.OBJECT.WHAT"},
    {"subject", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "OBJECT/ADDRESS"},
    {"project", SCHEMA_STRING, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"time", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"actor", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "who caused it"},
    {"data", SCHEMA_OBJECT, SCHEMA_REQUIRED},
    {},
};
static const struct schema event_schema = {"Event", event_fields, "what happened, as a CloudEvent 1.0"};

/* Which project's events are shown; NULL: those of all, and of none. */
static int visible_project(struct http_request *request, const char **ret_project, struct error *error)
{
    if (!http_query_param(request, "project") && !request->principal->project) {
        *ret_project = NULL;
        return 0;
    }
    return http_project(request, ret_project, error);
}

static int parse_cursor(const char *text, int64_t *ret_after, struct error *error)
{
    *ret_after = 0;
    if (text && parse_int(text, 0, INT64_MAX, ret_after, error) < 0)
        return error_wrap(error, "query parameter 'after'");
    return 0;
}

static int get_events(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    struct journal_filter filter = {
        .type = http_query_param(request, "type"),
        .subject = http_query_param(request, "subject"),
        .limit = http_page_limit(request),
        .newest = http_query_bool(request, "newest"),
    };
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    char next[24];
    json_t *events;
    size_t count;

    if (visible_project(request, &filter.project, error) < 0 ||
        parse_cursor(http_page_after(request), &filter.after, error) < 0 ||
        db_begin_read(daemon->store->db, &tx, error) < 0)
        return -1;
    events = journal_read(&tx, &filter, error);
    if (!events)
        return -1;
    count = json_array_size(events);
    if (count)
        snprintf(next, sizeof(next), "%" PRId64, json_get_int(json_array_get(events, count - 1), "sequence", 0));
    http_reply_page(response, events, count == (size_t)filter.limit && !filter.newest ? next : NULL);
    return 0;
}

/* -- following -- */

struct follow {
    struct store *store;
    struct journal_listener *listener;
    char *project, *type, *subject;
    int64_t after;
    bool at_end; /* `after` is wherever the journal ends when the first pump runs */
};

static void wake(void *userdata, int64_t newest)
{
    websocket_wake(userdata);
}

static void open_follow(struct websocket *ws, void *userdata)
{
    struct follow *follow = userdata;

    follow->listener = journal_listen(follow->store->journal, wake, ws);
}

static int pump_follow(struct websocket *ws, void *userdata, struct error *error)
{
    struct follow *follow = userdata;
    struct journal_filter filter = {follow->after, follow->project, follow->type, follow->subject, PUMP_EVENTS, false};
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_json json_t *events = NULL;
    int64_t newest;
    json_t *event;
    size_t i;

    if (db_begin_read(follow->store->db, &tx, error) < 0 || journal_newest(&tx, &newest, error) < 0)
        return -1;
    if (follow->at_end) {
        follow->at_end = false;
        follow->after = newest;
        return 0;
    }
    events = journal_read(&tx, &filter, error);
    if (!events)
        return -1;
    json_array_foreach(events, i, event) {
        follow->after = json_get_int(event, "sequence", 0);
        websocket_send_json(ws, json_incref(event));
    }
    if (i == PUMP_EVENTS)
        return 1;
    /* What the filter passes over is not looked at again. */
    follow->after = newest;
    return 0;
}

static void close_follow(void *userdata)
{
    struct follow *follow = userdata;

    journal_unlisten(follow->store->journal, follow->listener);
    free(follow->project);
    free(follow->type);
    free(follow->subject);
    free(follow);
}

static const struct websocket_handler follow_handler = {
    .open = open_follow,
    .pump = pump_follow,
    .close = close_follow,
};

static int follow_events(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    const char *project, *after = http_query_param(request, "after");
    struct follow *follow;
    int64_t sequence;

    if (visible_project(request, &project, error) < 0 || parse_cursor(after, &sequence, error) < 0)
        return -1;
    follow = xnew0(struct follow);
    follow->store = daemon->store;
    follow->project = xstrdup_null(project);
    follow->type = xstrdup_null(http_query_param(request, "type"));
    follow->subject = xstrdup_null(http_query_param(request, "subject"));
    follow->after = sequence;
    follow->at_end = after == NULL;
    return http_websocket_accept(request, response, &follow_handler, follow, error);
}

static const struct http_query_row event_query[] = {
    {"newest", SCHEMA_BOOLEAN, .doc = "the last ones instead of the first: one page"},
    {"type", SCHEMA_STRING, .doc = "only types that begin so, e.g. slipway.run."},
    {"subject", SCHEMA_STRING, .doc = "only of this object, e.g. dataset/digits@3"},
    {},
};
static const struct http_query_row follow_query[] = {
    {"after", SCHEMA_INTEGER, .doc = "sequence number behind which to begin; absent: only what happens from now on"},
    {"type", SCHEMA_STRING, .doc = "only types that begin so, e.g. slipway.run."},
    {"subject", SCHEMA_STRING, .doc = "only of this object, e.g. dataset/digits@3"},
    {},
};

const struct http_route event_routes[] = {
    {"GET", "/api/v1/events", SCOPE_VIEW, get_events, "list events, oldest first", .query = event_query, .paged = true,
     .response = &event_schema, .tag = "events"},
    {"GET", "/api/v1/events/follow", SCOPE_VIEW, follow_events, "follow events: one a message", .query = follow_query,
     .response = &event_schema, .websocket = true, .tag = "events"},
    {},
};
