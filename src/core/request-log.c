#include <string.h>
#include "core/endpoint-private.h"
#include "core/request-log.h"
#include "util/parse.h"
#include "util/xalloc.h"

int request_log_add(struct db_tx *tx, const struct request_segment *segment, struct error *error)
{
    char digest[DIGEST_TEXT_SIZE];
    int64_t endpoint;

    if (db_query_int(tx, &endpoint, error,
                     "SELECT ifnull((SELECT id FROM endpoints WHERE name = ? AND desired = 'serving' "
                     "AND created_at <= ?), 0)",
                     "si", segment->endpoint, segment->first_ms) < 0)
        return -1;
    if (!endpoint)
        return 0;
    if (db_exec(tx, error,
                "INSERT INTO request_segments (endpoint, digest, lines, first_at, last_at, bytes) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING",
                "isiiii", endpoint, digest_format(&segment->digest, digest), segment->lines, segment->first_ms,
                segment->last_ms, segment->bytes) < 0 ||
        db_exec(
            tx, error,
            "DELETE FROM request_segments WHERE id IN "
            "(SELECT id FROM (SELECT id, row_number() OVER newest AS place, sum(bytes) OVER newest - bytes AS newer "
            "FROM request_segments WHERE endpoint = ? WINDOW newest AS (ORDER BY id DESC)) "
            "WHERE place > ? OR newer >= ?)",
            "iii", endpoint, (int64_t)LIMIT_REQUEST_LOG_KEPT, (int64_t)LIMIT_REQUEST_LOG_KEPT_BYTES) < 0)
        return -1;
    return 0;
}

/* -- reading -- */

struct segments {
    struct {
        int64_t id;
        struct digest digest;
    } items[LIMIT_REQUEST_LOG_KEPT];
    size_t count;
};

/* Oldest first. */
static int load_segments(struct store *store, const char *project, const char *name, struct segments *ret,
                         struct error *error)
{
    cleanup_endpoint_row struct endpoint_row endpoint = {0};
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r = 0;

    ret->count = 0;
    if (db_begin_read(store->db, &tx, error) < 0 || endpoint_row_load(&tx, project, name, &endpoint, error) < 0 ||
        db_query(&tx, &rows, error, "SELECT id, digest FROM request_segments WHERE endpoint = ? ORDER BY id", "i",
                 endpoint.id) < 0)
        return -1;
    while (ret->count < LIMIT_REQUEST_LOG_KEPT && (r = db_next(&rows, error)) > 0) {
        ret->items[ret->count].id = db_int(&rows, 0);
        if (digest_parse(db_text(&rows, 1), &ret->items[ret->count++].digest, error) < 0)
            return -1;
    }
    return r < 0 ? -1 : 0;
}

/* The lines of a segment, each ended by NUL in place. */
struct lines {
    char *text;
    char **items;
    size_t count;
};

static void lines_release(struct lines *lines)
{
    free(lines->text);
    free(lines->items);
}
#define cleanup_lines CLEANUP(lines_release)

/* A blob that was collected meanwhile, with its row, has none. */
static int read_lines(struct store *store, const struct digest *digest, struct lines *ret, struct error *error)
{
    cleanup_error struct error cause = ERROR_INIT;
    size_t length, capacity = 0;
    char *line, *end;

    if (vault_read(store->vault, digest, REQUEST_SEGMENT_MAX, &ret->text, &length, &cause) < 0) {
        if (cause.code == ERROR_NOT_FOUND)
            return 0;
        error_move(error, &cause);
        return -1;
    }
    for (line = ret->text; (end = memchr(line, '\n', length - (size_t)(line - ret->text))); line = end + 1) {
        *end = '\0';
        if (ret->count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            ret->items = xreallocarray(ret->items, capacity, sizeof(*ret->items));
        }
        ret->items[ret->count++] = line;
    }
    return 0;
}

/* The line as an event; NULL: the filter leaves it out, or it is none. */
static json_t *event_of(const char *line, const struct request_filter *filter)
{
    json_t *event = json_parse(line, strlen(line), NULL);
    const json_t *data = json_object_get(event, "data");

    if (json_is_object(data) &&
        (!filter->version || strcmp(json_get_string(data, "version", ""), filter->version) == 0) &&
        (!filter->outcome || strcmp(json_get_string(data, "outcome", ""), filter->outcome) == 0))
        return event;
    json_decref(event);
    return NULL;
}

static int read_newest(struct store *store, const struct segments *segments, const struct request_filter *filter,
                       json_t *events, struct error *error)
{
    size_t bytes = 0;

    for (size_t i = segments->count; i-- > 0;) {
        cleanup_lines struct lines lines = {0};

        if (read_lines(store, &segments->items[i].digest, &lines, error) < 0)
            return -1;
        for (size_t k = lines.count; k-- > 0;) {
            json_t *event = event_of(lines.items[k], filter);

            if (!event)
                continue;
            json_array_insert_new(events, 0, event);
            bytes += strlen(lines.items[k]);
            if (json_array_size(events) >= (size_t)filter->limit || bytes >= LIMIT_REQUEST_LOG_REPLY)
                return 0;
        }
    }
    return 0;
}

/* Where a page ended: so many lines of that segment have been seen. The pages end with what there was when the first
 * was read, however fast more comes. As text "SEGMENT.LINES.LAST". */
struct cursor {
    int64_t segment, lines;
    int64_t last; /* newest segment of these pages */
};

static int parse_cursor(const char *text, struct cursor *ret, struct error *error)
{
    int64_t *const numbers[] = {&ret->segment, &ret->lines, &ret->last};
    const char *at = text;

    for (size_t i = 0; i < 3; i++) {
        size_t length = strcspn(at, ".");
        cleanup_free char *number = xstrndup(at, length);

        if (at[length] != (i < 2 ? '.' : '\0') || parse_int(number, 0, INT64_MAX, numbers[i], NULL) < 0)
            return error_set(error, ERROR_INVALID, "'%s' is not a cursor: give 'next' of the page before", text);
        at += length + 1;
    }
    return 0;
}

static int read_from(struct store *store, const struct segments *segments, const struct request_filter *filter,
                     json_t *events, char **ret_next, struct error *error)
{
    struct cursor from = {.last = segments->count ? segments->items[segments->count - 1].id : 0};
    size_t bytes = 0;

    if (*filter->after && parse_cursor(filter->after, &from, error) < 0)
        return -1;
    for (size_t i = 0; i < segments->count && segments->items[i].id <= from.last; i++) {
        cleanup_lines struct lines lines = {0};
        int64_t id = segments->items[i].id;

        if (id < from.segment)
            continue;
        if (read_lines(store, &segments->items[i].digest, &lines, error) < 0)
            return -1;
        for (size_t k = id == from.segment ? (size_t)from.lines : 0; k < lines.count; k++) {
            json_t *event;

            if (json_array_size(events) >= (size_t)filter->limit || bytes >= LIMIT_REQUEST_LOG_REPLY) {
                *ret_next = xasprintf("%lld.%zu.%lld", (long long)id, k, (long long)from.last);
                return 0;
            }
            event = event_of(lines.items[k], filter);
            if (!event)
                continue;
            json_array_append_new(events, event);
            bytes += strlen(lines.items[k]);
        }
    }
    return 0;
}

int request_log_read(struct store *store, const char *project, const char *endpoint,
                     const struct request_filter *filter, json_t **ret_events, char **ret_next, struct error *error)
{
    cleanup_json json_t *events = json_array();
    cleanup_free char *next = NULL;
    struct segments segments;
    int r;

    if (load_segments(store, project, endpoint, &segments, error) < 0)
        return -1;
    if (filter->after)
        r = read_from(store, &segments, filter, events, &next, error);
    else
        r = read_newest(store, &segments, filter, events, error);
    if (r < 0)
        return -1;
    *ret_events = steal_ptr(events);
    *ret_next = steal_ptr(next);
    return 0;
}
