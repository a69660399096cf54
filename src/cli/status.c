#include <inttypes.h>
#include "cli/client.h"
#include "cli/command.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

/* {"queued":3,"running":1} → "3 queued, 1 running"; what is zero is left out. */
static char *counts_text(const json_t *counts)
{
    struct strbuf sb = STRBUF_INIT(LIMIT_DESCRIPTION);
    const char *name;
    json_t *count;

    json_object_foreach((json_t *)counts, name, count) {
        if (json_integer_value(count) > 0)
            strbuf_addf(&sb, "%s%" JSON_INTEGER_FORMAT " %s", sb.length ? ", " : "", json_integer_value(count), name);
    }
    if (!sb.length)
        strbuf_adds(&sb, "none");
    return strbuf_detach(&sb, NULL);
}

static char *runs_text(const json_t *status)
{
    return counts_text(json_object_get(status, "runs"));
}

static char *replicas_text(const json_t *status)
{
    return counts_text(json_object_get(status, "replicas"));
}

static char *daemon_text(const json_t *status)
{
    return xasprintf("slipway %s, pid %" PRId64, json_get_string(status, "version", "?"),
                     json_get_int(status, "pid", 0));
}

static char *disk_text(const json_t *status)
{
    const json_t *disk = json_object_get(status, "disk");
    char used[FORMAT_SIZE], available[FORMAT_SIZE];

    if (!disk)
        return NULL;
    return xasprintf("%s in the vault, %s free", format_bytes((uint64_t)json_get_int(disk, "vault", 0), used),
                     format_bytes((uint64_t)json_get_int(disk, "free", 0), available));
}

static const struct table_column status_columns[] = {
    {"Daemon", .text = daemon_text},
    {"Running for", "started_at", TABLE_AGE},
    {"Data", "data_directory"},
    {"Control", "urls"},
    {"Serving", "serve_url"},
    {"Problem", "serve_problem"},
    {"Runs", .text = runs_text},
    {"Datasets", "datasets", TABLE_NUMBER},
    {"Models", "models", TABLE_NUMBER},
    {"Endpoints", "endpoints", TABLE_NUMBER},
    {"Replicas", .text = replicas_text},
    {"Disk", .text = disk_text},
    {},
};

static int run_status(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *status = NULL;

    if (client_get(invocation->client, "/api/v1/status", NULL, &status, error) < 0)
        return -1;
    print_object(invocation, status_columns, status);
    return 0;
}

const struct command status_commands[] = {
    {"status", NULL, "show what runs here: daemon, runs, endpoints, disk", NULL, run_status},
    {},
};
