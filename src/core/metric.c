#include <float.h>
#include <string.h>
#include "core/metric.h"
#include "util/limits.h"
#include "util/map.h"
#include "util/xalloc.h"

void metric_writer_init(struct metric_writer *writer, const struct metric_source *source)
{
    *writer = (struct metric_writer){.source = *source};
    writer->series = xnew0(struct map);
    writer->series->destroy = free;
}

void metric_writer_release(struct metric_writer *writer)
{
    if (writer->series)
        map_release(writer->series);
    free(writer->series);
    writer->series = NULL;
}

static int create_series(struct db_tx *tx, const struct metric_source *source, const char *name, int64_t *ret_id,
                         struct error *error)
{
    int64_t count;

    if (db_query_int(tx, &count, error, "SELECT count(DISTINCT name) FROM metric_series WHERE run_id = ?", "s",
                     source->run_id) < 0)
        return -1;
    if (count >= LIMIT_METRIC_NAMES)
        return error_set(error, ERROR_TOO_LARGE, "a run has at most %d different metrics", LIMIT_METRIC_NAMES);
    if (db_exec(tx, error, "INSERT INTO metric_series (run_id, attempt, node, name) VALUES (?, ?, ?, ?)", "siis",
                source->run_id, (int64_t)source->attempt, (int64_t)source->node, name) < 0)
        return -1;
    *ret_id = db_last_id(tx);
    return 0;
}

static int series_id(struct db_tx *tx, struct metric_writer *writer, const char *name, int64_t *ret_id,
                     struct error *error)
{
    const struct metric_source *source = &writer->source;
    int64_t *known = map_get(writer->series, name);
    cleanup_error struct error missing = ERROR_INIT;
    int64_t id;

    if (known) {
        *ret_id = *known;
        return 0;
    }
    if (db_query_int(tx, &id, &missing,
                     "SELECT id FROM metric_series WHERE run_id = ? AND name = ? AND attempt = ? AND node = ?", "ssii",
                     source->run_id, name, (int64_t)source->attempt, (int64_t)source->node) < 0) {
        if (missing.code != ERROR_NOT_FOUND) {
            error_move(error, &missing);
            return -1;
        }
        if (create_series(tx, source, name, &id, error) < 0)
            return -1;
    }
    map_put(writer->series, name, xmemdup(&id, sizeof(id)));
    *ret_id = id;
    return 0;
}

/* NULL stays NULL in the database: two texts of the statement, since a number has no NULL form here. */
static int insert_point(struct db_tx *tx, int64_t series, int64_t sequence, int64_t time_ms, const json_t *step,
                        const json_t *value, struct error *error)
{
    static const char sql[] = "INSERT OR IGNORE INTO metric_points (series_id, sequence, step, time, value) "
                              "VALUES (?1, ?2, CASE WHEN ?3 THEN ?4 END, ?5, CASE WHEN ?6 THEN ?7 END)";

    return db_exec(tx, error, sql, "iiididd", series, sequence, (int64_t)json_is_number(step), json_number_value(step),
                   time_ms, (double)json_is_number(value), json_number_value(value));
}

int metric_write(struct db_tx *tx, struct metric_writer *writer, int64_t sequence, int64_t time_ms,
                 const json_t *values, struct error *error)
{
    const json_t *step = json_object_get(values, "step");
    const char *name;
    json_t *value;
    int64_t id;

    if (json_is_number(step)) {
        writer->last_step = json_number_value(step);
        writer->has_step = true;
    }
    json_object_foreach((json_t *)values, name, value) {
        if (strcmp(name, "step") == 0)
            continue;
        if (series_id(tx, writer, name, &id, error) < 0 ||
            insert_point(tx, id, sequence, time_ms, step, value, error) < 0)
            return -1;
    }
    return 0;
}

/* -- reading -- */

struct point {
    bool has_step, has_value;
    double step, value;
    int64_t time, sequence;
};

static json_t *point_json(const struct point *p)
{
    json_t *point = json_array();

    json_array_append_new(point, p->has_step ? json_real(p->step) : json_null());
    json_array_append_new(point, json_integer(p->time));
    json_array_append_new(point, p->has_value ? json_real(p->value) : json_null());
    json_array_append_new(point, json_integer(p->sequence));
    return point;
}

/* One bucket of the downsampling: its least and greatest point, handed out in their order. */
struct bucket {
    struct point low, high;
    bool used;
};

static void bucket_add(struct bucket *bucket, const struct point *p)
{
    if (!bucket->used) {
        bucket->low = bucket->high = *p;
        bucket->used = true;
        return;
    }
    if (p->has_value && (!bucket->low.has_value || p->value < bucket->low.value))
        bucket->low = *p;
    if (p->has_value && (!bucket->high.has_value || p->value > bucket->high.value))
        bucket->high = *p;
}

static void bucket_flush(struct bucket *bucket, json_t *points)
{
    const struct point *first = &bucket->low, *second = &bucket->high;

    if (!bucket->used)
        return;
    if (first->sequence > second->sequence) {
        first = &bucket->high;
        second = &bucket->low;
    }
    json_array_append_new(points, point_json(first));
    if (second->sequence != first->sequence)
        json_array_append_new(points, point_json(second));
    bucket->used = false;
}

static void read_point(struct db_rows *rows, struct point *p)
{
    *p = (struct point){.has_step = !db_is_null(rows, 0),
                        .has_value = !db_is_null(rows, 2),
                        .step = db_real(rows, 0),
                        .time = db_int(rows, 1),
                        .value = db_real(rows, 2),
                        .sequence = db_int(rows, 3)};
}

/* The first and the last point are kept as they are; the rest goes through (points - 2) / 2 buckets. */
static int read_points(struct db_tx *tx, int64_t series, int64_t after, int64_t count, int max, json_t *points,
                       struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    struct bucket bucket = {0};
    int64_t buckets = max > 3 ? (max - 2) / 2 : 1, current = -1, i = 0;
    bool all = max <= 0 || count <= max;
    struct point p;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT step, time, value, sequence FROM metric_points WHERE series_id = ? AND sequence > ? "
                 "ORDER BY sequence",
                 "ii", series, after) < 0)
        return -1;
    for (; (r = db_next(&rows, error)) > 0; i++) {
        read_point(&rows, &p);
        if (all || i == 0) {
            json_array_append_new(points, point_json(&p));
            continue;
        }
        if (i == count - 1) {
            bucket_flush(&bucket, points);
            json_array_append_new(points, point_json(&p));
            break;
        }
        if ((i - 1) * buckets / (count - 2) != current) {
            bucket_flush(&bucket, points);
            current = (i - 1) * buckets / (count - 2);
        }
        bucket_add(&bucket, &p);
    }
    return r < 0 ? -1 : 0;
}

static json_t *read_series(struct db_tx *tx, const struct metric_query *query, struct db_rows *series,
                           struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *item = json_object();
    json_t *points = json_array();
    int64_t id = db_int(series, 0), count;
    int r;

    json_set_string(item, "name", db_text(series, 1));
    json_set_int(item, "attempt", db_int(series, 2));
    json_set_int(item, "node", db_int(series, 3));
    if (db_query(tx, &rows, error,
                 "SELECT count(*), min(value), max(value), (SELECT value FROM metric_points WHERE series_id = ?1 "
                 "ORDER BY sequence DESC LIMIT 1) FROM metric_points WHERE series_id = ?1 AND sequence > ?2",
                 "ii", id, query->after) < 0) {
        json_decref(points);
        return NULL;
    }
    json_object_set_new(item, "points", points);
    r = db_next(&rows, error);
    if (r <= 0)
        return NULL;
    count = db_int(&rows, 0);
    json_set_int(item, "count", count);
    for (int c = 1; c <= 3; c++) {
        static const char *const keys[] = {NULL, "min", "max", "last"};

        json_object_set_new(item, keys[c], db_is_null(&rows, c) ? json_null() : json_real(db_real(&rows, c)));
    }
    db_rows_end(&rows);
    if (count > 0 && read_points(tx, id, query->after, count, query->points, points, error) < 0)
        return NULL;
    return steal_ptr(item);
}

json_t *metric_read(struct db_tx *tx, const struct metric_query *query, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *items = json_array();
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT id, name, attempt, node FROM metric_series WHERE run_id = ?1 AND (?2 IS NULL OR "
                 "name = ?2) "
                 "AND (?3 = 0 OR attempt = ?3) AND (?4 < 0 OR node = ?4) ORDER BY name, attempt, node",
                 "ssii", query->run_id, query->name, (int64_t)query->attempt, (int64_t)query->node) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        json_t *item = read_series(tx, query, &rows, error);

        if (!item)
            return NULL;
        json_array_append_new(items, item);
    }
    return r < 0 ? NULL : steal_ptr(items);
}

json_t *metric_last(struct db_tx *tx, const char *run_id, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *object = json_object();
    int r;

    /* Ordered so that what shall win comes last: the newest attempt, in it the least node. */
    if (db_query(tx, &rows, error,
                 "SELECT name, (SELECT value FROM metric_points WHERE series_id = s.id AND value IS NOT NULL "
                 "ORDER BY sequence DESC LIMIT 1) FROM metric_series s WHERE run_id = ? ORDER BY attempt, "
                 "node DESC",
                 "s", run_id) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0)
        if (!db_is_null(&rows, 1))
            json_set_number(object, db_text(&rows, 0), db_real(&rows, 1));
    return r < 0 ? NULL : steal_ptr(object);
}
