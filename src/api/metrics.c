#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include "api/metrics.h"
#include "config.h"
#include "core/run.h"
#include "util/fs.h"
#include "util/limits.h"

static void header(struct strbuf *into, const char *name, const char *type, const char *help)
{
    strbuf_addf(into, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void simple(struct strbuf *into, const char *name, const char *type, const char *help, double value)
{
    header(into, name, type, help);
    strbuf_addf(into, "%s %.17g\n", name, value);
}

/* -- process -- */

static double resident_bytes(void)
{
    cleanup_free char *text = NULL;
    unsigned long long size = 0, resident = 0;

    if (fs_read("/proc/self/statm", KIB, &text, NULL, NULL) < 0 || sscanf(text, "%llu %llu", &size, &resident) != 2)
        return 0;
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double open_descriptors(void)
{
    cleanup_closedir DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    while (directory && readdir(directory))
        count++;
    return count > 3 ? count - 3 : 0; /* ".", ".." and the directory itself */
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void write_process(const struct daemon *daemon, struct strbuf *into)
{
    struct rusage usage = {0};

    getrusage(RUSAGE_SELF, &usage);
    header(into, "slipway_info", "gauge", "the program");
    strbuf_addf(into, "slipway_info{version=\"%s\"} 1\n", SLIPWAY_VERSION);
    simple(into, "process_cpu_seconds_total", "counter", "CPU time of the daemon",
           seconds(usage.ru_utime) + seconds(usage.ru_stime));
    simple(into, "process_resident_memory_bytes", "gauge", "memory of the daemon", resident_bytes());
    simple(into, "process_open_fds", "gauge", "open descriptors of the daemon", open_descriptors());
    simple(into, "process_start_time_seconds", "gauge", "start of the daemon since the epoch",
           (double)daemon->started_ms / 1000);
}

/* -- HTTP -- */

static void write_requests(void *userdata, const struct http_route_stats *stats)
{
    for (size_t c = 0; c < sizeof(stats->by_class) / sizeof(*stats->by_class); c++)
        if (stats->by_class[c])
            strbuf_addf(userdata, "slipway_http_requests_total{method=\"%s\",route=\"%s\",status=\"%zuxx\"} %llu\n",
                        stats->route->method, stats->route->path, c, (unsigned long long)stats->by_class[c]);
}

static void write_durations(void *userdata, const struct http_route_stats *stats)
{
    static const char name[] = "slipway_http_request_duration_seconds";
    struct strbuf *into = userdata;
    unsigned long long count = 0;

    for (size_t b = 0; b <= HTTP_DURATION_BUCKETS; b++)
        count += stats->duration_count[b];
    if (count == 0)
        return;
    count = 0;
    for (size_t b = 0; b <= HTTP_DURATION_BUCKETS; b++) {
        char bound[32] = "+Inf";

        if (b < HTTP_DURATION_BUCKETS)
            snprintf(bound, sizeof(bound), "%g", http_duration_bounds[b]);
        count += stats->duration_count[b];
        strbuf_addf(into, "%s_bucket{method=\"%s\",route=\"%s\",le=\"%s\"} %llu\n", name, stats->route->method,
                    stats->route->path, bound, count);
    }
    strbuf_addf(into, "%s_sum{method=\"%s\",route=\"%s\"} %.9g\n", name, stats->route->method, stats->route->path,
                stats->duration_seconds);
    strbuf_addf(into, "%s_count{method=\"%s\",route=\"%s\"} %llu\n", name, stats->route->method, stats->route->path,
                count);
}

static void write_http(struct daemon *daemon, struct strbuf *into)
{
    struct http_server_stats stats;

    http_server_stats(daemon->control, &stats);
    header(into, "slipway_http_requests_total", "counter", "requests answered");
    http_server_each_route(daemon->control, write_requests, into);
    header(into, "slipway_http_request_duration_seconds", "histogram", "from the header of a request to its answer");
    http_server_each_route(daemon->control, write_durations, into);
    simple(into, "slipway_http_unrouted_requests_total", "counter", "requests answered with 404 or 405",
           (double)stats.unrouted);
    simple(into, "slipway_http_received_bytes_total", "counter", "bytes of request bodies",
           (double)stats.received_bytes);
    simple(into, "slipway_http_connections", "gauge", "open connections", (double)stats.connections);
    simple(into, "slipway_http_websockets", "gauge", "open WebSockets", (double)stats.websockets);
}

/* -- store -- */

static int write_runs(struct db_tx *tx, struct strbuf *into, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int64_t counts[RUN_STATE_COUNT_] = {0};
    int r;

    if (db_query(tx, &rows, error, "SELECT state, count(*) FROM runs GROUP BY state", "") < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0)
        if (db_int(&rows, 0) >= 0 && db_int(&rows, 0) < RUN_STATE_COUNT_)
            counts[db_int(&rows, 0)] = db_int(&rows, 1);
    if (r < 0)
        return -1;
    header(into, "slipway_runs", "gauge", "runs by state; the queue is those that are queued");
    for (int state = 0; state < RUN_STATE_COUNT_; state++)
        strbuf_addf(into, "slipway_runs{state=\"%s\"} %lld\n", state_name(&run_states, state),
                    (long long)counts[state]);
    return 0;
}

static int write_vault(struct daemon *daemon, struct strbuf *into, struct error *error)
{
    cleanup_json json_t *stats = vault_stats(daemon->store->vault, error);

    if (!stats)
        return -1;
    simple(into, "slipway_vault_blobs", "gauge", "blobs in the vault", (double)json_get_int(stats, "blobs", 0));
    simple(into, "slipway_vault_bytes", "gauge", "content of the vault", (double)json_get_int(stats, "bytes", 0));
    simple(into, "slipway_vault_stored_bytes", "gauge", "what the vault takes on disk",
           (double)json_get_int(stats, "stored_bytes", 0));
    simple(into, "slipway_vault_hot_bytes", "gauge", "blobs in memory", (double)json_get_int(stats, "hot_bytes", 0));
    simple(into, "slipway_vault_hot_budget_bytes", "gauge", "blobs in memory at most",
           (double)json_get_int(stats, "hot_budget", 0));
    simple(into, "slipway_vault_pinned_bytes", "gauge", "blobs in memory that must stay",
           (double)json_get_int(stats, "pinned_bytes", 0));
    return 0;
}

int metrics_write(struct daemon *daemon, struct strbuf *into, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int64_t newest;

    write_process(daemon, into);
    write_http(daemon, into);
    if (db_begin_read(daemon->store->db, &tx, error) < 0 || write_runs(&tx, into, error) < 0 ||
        journal_newest(&tx, &newest, error) < 0 || write_vault(daemon, into, error) < 0)
        return -1;
    simple(into, "slipway_events_total", "counter", "events in the journal", (double)newest);
    if (into->overflowed)
        return error_set(error, ERROR_TOO_LARGE, "the numbers are larger than %llu bytes",
                         (unsigned long long)into->max);
    return 0;
}
