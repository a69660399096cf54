#include <string.h>
#include "api/api.h"
#include "api/daemon.h"
#include "store/backup.h"
#include "util/limits.h"

#define GRACE_DEFAULT_MS INT64_C(3600000)
#define GRACE_MAX_MS     1e12

/* -- the vault -- */

static const struct schema_field vault_fields[] = {
    {"blobs", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"bytes", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "of content"},
    {"stored_bytes", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "on disk, compressed where that pays"},
    {"hot_bytes", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "in memory"},
    {"hot_budget", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"pinned_bytes", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "in memory, needed by runs and endpoints"},
    {"hot_directory", SCHEMA_STRING, SCHEMA_REQUIRED},
    {},
};
static const struct schema vault_schema = {"Vault", vault_fields, "how much is stored"};

static int get_vault(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    json_t *stats = vault_stats(daemon->store->vault, error);

    if (!stats)
        return -1;
    http_reply_json(response, 200, stats);
    return 0;
}

static const struct schema_field gc_fields[] = {
    {"dry_run", SCHEMA_BOOLEAN, .doc = "only say what would be removed"},
    {"grace_ms", SCHEMA_INTEGER, .min = 0, .max = GRACE_MAX_MS,
     .doc = "younger blobs stay, because somebody may be about to name them; absent: one hour"},
    {},
};
static const struct schema gc_schema = {"CollectionRequest", gc_fields};

static const struct schema_field removed_fields[] = {
    {"digest", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"orphan", SCHEMA_BOOLEAN, .doc = "a file of an upload that was cut off by a crash"},
    {},
};
static const struct schema removed_schema = {"CollectedBlob", removed_fields};
static const struct schema_field collection_fields[] = {
    {"blobs", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "before"},
    {"bytes", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "before"},
    {"kept", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"dry_run", SCHEMA_BOOLEAN, SCHEMA_REQUIRED},
    {"removed", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .object = &removed_schema},
    {"removed_bytes", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {},
};
static const struct schema collection_schema = {"Collection", collection_fields, "what the garbage collector did"};

static int append_event(struct daemon *daemon, const char *type, const char *actor, json_t *data, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct journal_event event = {type, "vault", NULL, actor, data};

    if (db_begin_write(daemon->store->db, &tx, error) < 0 || journal_append(&tx, &event, NULL, error) < 0)
        return -1;
    return db_commit(&tx, error);
}

static int post_gc(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    bool dry_run = json_get_bool(request->json, "dry_run", false);
    cleanup_json json_t *result = NULL, *data = NULL;

    result = vault_gc(daemon->store->vault, dry_run, json_get_int(request->json, "grace_ms", GRACE_DEFAULT_MS), error);
    if (!result)
        return -1;
    if (!dry_run) {
        data = json_build("{s:I, s:I}", "blobs", (json_int_t)json_array_size(json_object_get(result, "removed")),
                          "bytes", (json_int_t)json_get_int(result, "removed_bytes", 0));
        if (append_event(daemon, "slipway.vault.collected", request->principal->name, data, error) < 0)
            return -1;
    }
    http_reply_json(response, 200, steal_ptr(result));
    return 0;
}

/* -- backup -- */

static const struct schema_field backup_fields[] = {
    {"directory", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 2, .max = LIMIT_PATH,
     .doc = "absolute, on the daemon's machine; new, empty, or an older backup, which is brought up to date"},
    {},
};
static const struct schema backup_schema = {"BackupRequest", backup_fields};

static const struct schema_field summary_fields[] = {
    {"directory", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"format", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"slipway", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "version that made it"},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"schema", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"blobs", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"bytes", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"copied_bytes", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "that were not in the directory yet"},
    {},
};
static const struct schema summary_schema = {"Backup", summary_fields};

static int post_backup(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    const char *directory = json_get_string(request->json, "directory", "");
    cleanup_json json_t *summary = NULL;

    /* Whoever writes files as the daemon's user on its machine must be that user, or root. */
    if (strcmp(request->principal->name, "local") != 0)
        return error_set(error, ERROR_FORBIDDEN, "backups are made through the Unix socket, on the daemon's machine");
    if (*directory != '/')
        return error_set(error, ERROR_INVALID, "'%.200s' is not an absolute path", directory);
    summary = store_backup(daemon->store, directory, error);
    if (!summary || append_event(daemon, "slipway.vault.backed_up", request->principal->name, summary, error) < 0)
        return -1;
    http_reply_json(response, 200, steal_ptr(summary));
    return 0;
}

const struct http_route admin_routes[] = {
    {"GET", "/api/v1/vault", SCOPE_ADMIN, get_vault, "show how much is stored", .response = &vault_schema,
     .tag = "admin"},
    {"POST", "/api/v1/vault/gc", SCOPE_ADMIN, post_gc, "remove blobs that nothing names", .request = &gc_schema,
     .response = &collection_schema, .body = HTTP_BODY_JSON, .slow = true, .tag = "admin"},
    {"POST", "/api/v1/backup", SCOPE_ADMIN, post_backup, "copy everything to a directory", .request = &backup_schema,
     .response = &summary_schema, .body = HTTP_BODY_JSON, .slow = true, .tag = "admin"},
    {},
};
