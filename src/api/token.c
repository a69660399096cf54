#include <string.h>
#include "api/api.h"
#include "api/daemon.h"
#include "core/token.h"
#include "schedule/serving.h"
#include "util/limits.h"

#define TTL_MAX_MS 3.2e11 /* ten years */

static const struct schema_field quota_fields[] = {
    {"requests", SCHEMA_INTEGER, SCHEMA_REQUIRED, .min = 1, .max = 1e15},
    {"window_ms", SCHEMA_INTEGER, SCHEMA_REQUIRED, .min = LIMIT_QUOTA_WINDOW_MIN_MS, .max = LIMIT_QUOTA_WINDOW_MAX_MS,
     .doc = "windows begin at multiples of their length, UTC"},
    {},
};
const struct schema token_quota_schema = {"TokenQuota", quota_fields, "inference requests in a window of time"};

static const struct schema_field token_fields[] = {
    {"id", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"scopes", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "separated by blanks"},
    {"project", SCHEMA_STRING, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "null: all projects"},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"created_by", SCHEMA_STRING},
    {"expires_at", SCHEMA_TIME, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "null: never"},
    {"last_used_at", SCHEMA_TIME, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "to the minute"},
    {"revoked_at", SCHEMA_TIME, SCHEMA_NULLABLE},
    {"quota", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &token_quota_schema},
    {"token", SCHEMA_STRING, .doc = "the secret; only in the answer that made it"},
    {},
};
static const struct schema token_schema = {"Token", token_fields, "a bearer token, without its secret"};

static const struct schema_field create_fields[] = {
    {"name", SCHEMA_STRING, .max = LIMIT_NAME, .doc = "absent: the id is the name"},
    {"scopes", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 1, .max = LIMIT_TOKEN,
     .doc = "admin, develop, view, predict:ENDPOINT, predict:*, separated by blanks"},
    {"project", SCHEMA_STRING, SCHEMA_NULLABLE, .max = LIMIT_NAME, .doc = "absent: all projects"},
    {"ttl_ms", SCHEMA_INTEGER, .min = 0, .max = TTL_MAX_MS, .doc = "life; absent or 0: never expires"},
    {"quota", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &token_quota_schema, .doc = "absent: no quota"},
    {},
};
static const struct schema create_schema = {"TokenCreate", create_fields};

static int list_tokens(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_free char *next = NULL;
    json_t *items;

    if (db_begin_read(daemon->store->db, &tx, error) < 0)
        return -1;
    items = token_list(&tx, http_query_param(request, "project"), http_query_bool(request, "all"),
                       http_page_after(request), http_page_limit(request), &next, error);
    if (!items)
        return -1;
    http_reply_page(response, items, next);
    return 0;
}

static int post_token(struct http_request *request, struct http_response *response, struct error *error)
{
    const json_t *quota = json_object_get(request->json, "quota");
    struct daemon *daemon = request->context;
    struct token_options options = {
        .name = json_get_string(request->json, "name", NULL),
        .scopes = json_get_string(request->json, "scopes", ""),
        .project = json_get_string(request->json, "project", NULL),
        .ttl_ms = json_get_int(request->json, "ttl_ms", 0),
        .quota_requests = json_get_int(quota, "requests", 0),
        .quota_window_ms = json_get_int(quota, "window_ms", 0),
    };
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_token struct token token = TOKEN_INIT;
    cleanup_free char *secret = NULL;
    json_t *value;

    if (db_begin_write(daemon->store->db, &tx, error) < 0 ||
        token_create(&tx, &options, request->principal->name, &token, &secret, error) < 0 || db_commit(&tx, error) < 0)
        return -1;
    value = token_to_json(&token);
    json_set_string(value, "token", secret);
    http_reply_json(response, 201, value);
    http_reply_header(response, "Cache-Control", "no-store");
    return 0;
}

static int delete_token(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_write(daemon->store->db, &tx, error) < 0 ||
        token_revoke(&tx, http_path_param(request, "name"), NULL, request->principal->name, error) < 0)
        return -1;
    if (db_commit(&tx, error) < 0)
        return -1;
    /* With it may have ended others that were issued for it: the gateway asks anew for all. */
    if (daemon->serving)
        serving_revoke(daemon->serving, NULL);
    response->status = 204;
    return 0;
}

static const struct http_query_row list_query[] = {
    {"all", SCHEMA_BOOLEAN, .doc = "also those that were revoked"},
    {},
};

const struct http_route token_routes[] = {
    {"GET", "/api/v1/tokens", SCOPE_ADMIN, list_tokens, "list tokens, newest first", .query = list_query, .paged = true,
     .response = &token_schema, .tag = "tokens"},
    {"POST", "/api/v1/tokens", SCOPE_ADMIN, post_token, "make a token; its secret is shown once",
     .request = &create_schema, .response = &token_schema, .body = HTTP_BODY_JSON, .status = 201, .tag = "tokens"},
    {"DELETE", "/api/v1/tokens/{name}", SCOPE_ADMIN, delete_token, "revoke a token, by name or id", .status = 204,
     .tag = "tokens"},
    {},
};
