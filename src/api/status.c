#include <sys/statvfs.h>
#include <unistd.h>
#include "api/api.h"
#include "api/daemon.h"
#include "config.h"
#include "core/summary.h"
#include "schedule/serving.h"

static const struct schema_field disk_fields[] = {
    {"vault", SCHEMA_INTEGER, .doc = "bytes that blobs take on disk"},
    {"hot", SCHEMA_INTEGER, .doc = "bytes of blobs in memory"},
    {"free", SCHEMA_INTEGER, .doc = "bytes that are left on the file system of the data directory"},
    {},
};
static const struct schema disk_schema = {"StatusDisk", disk_fields};

static const struct schema_field status_fields[] = {
    {"version", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "of the daemon"},
    {"pid", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "of the daemon"},
    {"started_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"data_directory", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"urls", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_STRING,
     .doc = "where the control port answers; the Unix socket first"},
    {"serve_url", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "where endpoints answer; null: there is no gateway"},
    {"serve_problem", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "why endpoints do not answer"},
    {"runs", SCHEMA_MAP, SCHEMA_REQUIRED, .item = SCHEMA_INTEGER, .doc = "number of runs by state"},
    {"replicas", SCHEMA_MAP, SCHEMA_REQUIRED, .item = SCHEMA_INTEGER, .doc = "number of model processes by state"},
    {"datasets", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"models", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"endpoints", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"disk", SCHEMA_OBJECT, SCHEMA_REQUIRED, .object = &disk_schema},
    {},
};
static const struct schema status_schema = {"Status", status_fields, "what runs here"};

static json_t *describe_disk(const struct daemon *daemon, struct error *error)
{
    cleanup_json json_t *vault = vault_stats(daemon->store->vault, error);
    json_t *disk;
    struct statvfs fs;

    if (!vault)
        return NULL;
    disk = json_object();
    json_set_int(disk, "vault", json_get_int(vault, "stored_bytes", 0));
    json_set_int(disk, "hot", json_get_int(vault, "hot_bytes", 0));
    if (statvfs(daemon->store->directory, &fs) == 0)
        json_set_int(disk, "free", (int64_t)(fs.f_bavail * fs.f_frsize));
    return disk;
}

static int get_status(struct http_request *request, struct http_response *response, struct error *error)
{
    const struct daemon *daemon = request->context;
    cleanup_json json_t *status = NULL, *disk = NULL, *urls = json_array();
    cleanup_free char *problem = NULL;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_read(daemon->store->db, &tx, error) < 0 || summary_describe(&tx, &status, error) < 0)
        return -1;
    db_end(&tx);
    disk = describe_disk(daemon, error);
    if (!disk)
        return -1;
    for (size_t i = 0; i < daemon->urls.count; i++)
        json_array_append_new(urls, json_string(daemon->urls.items[i]));
    json_set_string(status, "version", SLIPWAY_VERSION);
    json_set_int(status, "pid", getpid());
    json_set_time_ms(status, "started_at", daemon->started_ms);
    json_set_string(status, "data_directory", daemon->store->directory);
    json_object_set(status, "urls", urls);
    json_set_string(status, "serve_url", daemon->serve_url);
    problem = daemon->serving ? serving_problem(daemon->serving) : NULL;
    json_set_string(status, "serve_problem", problem);
    json_object_set(status, "disk", disk);
    http_reply_json(response, 200, steal_ptr(status));
    return 0;
}

const struct http_route status_routes[] = {
    {"GET", "/api/v1/status", SCOPE_VIEW, get_status, "show what runs here", .response = &status_schema,
     .tag = "system"},
    {},
};
