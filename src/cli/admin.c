#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "cli/client.h"
#include "cli/command.h"
#include "http/client.h"
#include "store/backup.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

/* -- garbage -- */

static const struct table_column removed_columns[] = {
    {"DIGEST", "digest"},
    {"SIZE", "size", TABLE_BYTES},
    {},
};

static int run_gc(struct invocation *invocation, struct error *error)
{
    bool dry_run = option_flag(invocation, "dry-run");
    json_t *body = json_build("{s:b}", "dry_run", dry_run);
    cleanup_json json_t *result = NULL;
    const json_t *removed;
    char bytes[FORMAT_SIZE];
    int64_t grace_ms = -1;

    if (option_duration_ms(invocation, "grace", &grace_ms, error) < 0) {
        json_decref(body);
        return -1;
    }
    if (grace_ms >= 0)
        json_set_int(body, "grace_ms", grace_ms);
    if (client_post(invocation->client, "/api/v1/vault/gc", NULL, body, &result, error) < 0)
        return -1;
    removed = json_object_get(result, "removed");
    if (!invocation->json && json_array_size(removed) && (dry_run || option_flag(invocation, "verbose")))
        print_items(invocation, removed_columns, removed, "");
    print_done(invocation, result, "%zu of %" PRId64 " blobs (%s) %s", json_array_size(removed),
               json_get_int(result, "blobs", 0),
               format_bytes((uint64_t)json_get_int(result, "removed_bytes", 0), bytes),
               dry_run ? "would be removed" : "were removed");
    return 0;
}

/* -- blobs -- */

static const struct table_column reason_columns[] = {
    {"KIND", "kind"},
    {"ADDRESS", "address"},
    {},
};

static int blob_why(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/blobs/%s/why", invocation->arguments[0]);
    cleanup_json json_t *why = NULL;

    if (client_get(invocation->client, path, NULL, &why, error) < 0)
        return -1;
    if (invocation->json)
        print_json(why);
    else
        print_items(invocation, reason_columns, json_object_get(why, "reasons"),
                    "nothing names it: the next gc removes it, unless it was stored within the grace period");
    return 0;
}

static const struct table_column vault_columns[] = {
    {"Blobs", "blobs", TABLE_NUMBER},         {"Content", "bytes", TABLE_BYTES},
    {"On disk", "stored_bytes", TABLE_BYTES}, {"In memory", "hot_bytes", TABLE_BYTES},
    {"Pinned", "pinned_bytes", TABLE_BYTES},  {"Memory budget", "hot_budget", TABLE_BYTES},
    {"Memory directory", "hot_directory"},    {},
};

static int blob_stats(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *stats = NULL;

    if (client_get(invocation->client, "/api/v1/vault", NULL, &stats, error) < 0)
        return -1;
    print_object(invocation, vault_columns, stats);
    return 0;
}

/* -- backup and restore -- */

/* The daemon does not know where we are. */
static char *absolute(const char *path, struct error *error)
{
    cleanup_free char *here = NULL;

    if (*path == '/')
        return xstrdup(path);
    here = getcwd(NULL, 0);
    if (!here) {
        error_set(error, ERROR_IO, "cannot tell the current directory; give an absolute path");
        return NULL;
    }
    return xasprintf("%s/%s", here, path);
}

static int run_backup(struct invocation *invocation, struct error *error)
{
    cleanup_free char *directory = absolute(invocation->arguments[0], error);
    cleanup_json json_t *summary = NULL;
    char bytes[FORMAT_SIZE], copied[FORMAT_SIZE];

    if (!directory || client_post(invocation->client, "/api/v1/backup", NULL,
                                  json_build("{s:s}", "directory", directory), &summary, error) < 0)
        return -1;
    print_done(invocation, summary, "%s holds %" PRId64 " blobs (%s); %s were new", directory,
               json_get_int(summary, "blobs", 0), format_bytes((uint64_t)json_get_int(summary, "bytes", 0), bytes),
               format_bytes((uint64_t)json_get_int(summary, "copied_bytes", 0), copied));
    return 0;
}

static int run_restore(struct invocation *invocation, struct error *error)
{
    cleanup_free char *directory = invocation_data_directory(invocation);
    cleanup_json json_t *mark = store_restore(invocation->arguments[0], directory, error);

    if (!mark)
        return -1;
    print_done(invocation, mark, "restored the backup of %s into %s; start it with: slipway serve --data %s",
               json_get_string(mark, "created_at", "?"), directory, directory);
    return 0;
}

static const struct option gc_options[] = {
    {"dry-run", 'n', NULL, "only show what would be removed"},
    {"grace", 0, "DURATION", "blobs younger than this stay (1h)"},
    {"verbose", 'v', NULL, "list what was removed"},
    {},
};

const struct command admin_commands[] = {
    {"gc", NULL, "remove stored content that nothing names", gc_options, run_gc,
     .details = "What a dataset, job, run, model or pin names is never removed, nor what was stored within the grace "
                "period. 'slipway blob why' says what keeps a blob.",
     .examples = "slipway gc --dry-run\nslipway gc --grace 10m"},
    {"blob why", "DIGEST", "say what keeps stored content alive", NULL, blob_why},
    {"blob stats", NULL, "show how much is stored, on disk and in memory", NULL, blob_stats},
    {"backup", "DIR", "copy everything to a directory while the daemon works", NULL, run_backup,
     .details = "DIR is new, empty, or an older backup, of which only what changed is written. Every blob is checked "
                "as it is copied. Environments are not copied; they are built again when they are needed.",
     .examples = "slipway backup /mnt/backup/slipway"},
    {"restore", "DIR", "make a data directory from a backup; no daemon may run on it", NULL, run_restore,
     .offline = true, .examples = "slipway restore /mnt/backup/slipway --data /var/lib/slipway"},
    {},
};
