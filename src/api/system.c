#include <string.h>
#include "api/api.h"
#include "api/daemon.h"
#include "api/metrics.h"
#include "config.h"
#include "http/openapi.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/strbuf.h"

/* -- health -- */

static const char *const health_values[] = {"ok", NULL};
static const struct schema_field health_fields[] = {
    {"status", SCHEMA_STRING, SCHEMA_REQUIRED, .values = health_values},
    {"started_at", SCHEMA_TIME, SCHEMA_REQUIRED, .doc = "when the daemon started"},
    {"uptime_ms", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {0},
};
static const struct schema health_schema = {"Health", health_fields, "whether the daemon can do its work"};

/* Not just that it answers: 503 if the database cannot be read. */
static int get_health(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_error struct error problem = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    json_t *health;
    int64_t newest;

    if (db_begin_read(daemon->store->db, &tx, &problem) < 0 || journal_newest(&tx, &newest, &problem) < 0)
        return error_set(error, ERROR_UNAVAILABLE, "the database cannot be read: %s", problem.message);
    health = json_build("{s:s}", "status", "ok");
    json_set_time_ms(health, "started_at", daemon->started_ms);
    json_set_int(health, "uptime_ms", clock_wall_ms() - daemon->started_ms);
    http_reply_json(response, 200, health);
    return 0;
}

/* -- version -- */

static const struct schema_field version_fields[] = {
    {"version", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "of the program"},
    {"api", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "of the paths: v1"},
    {"schema", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "of the database"},
    {"serve_url", SCHEMA_STRING, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "where endpoints answer"},
    {0},
};
static const struct schema version_schema = {"Version", version_fields};

static int get_version(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    json_t *version = json_build("{s:s, s:s, s:i}", "version", SLIPWAY_VERSION, "api", "v1", "schema",
                                 db_schema_version());

    json_set_string(version, "serve_url", daemon->serve_url);
    http_reply_json(response, 200, version);
    return 0;
}

/* -- documents -- */

static int get_openapi(struct http_request *request, struct http_response *response, struct error *error)
{
    http_reply_json(response, 200, openapi_describe(api_tables, SLIPWAY_VERSION));
    return 0;
}

static int get_metrics(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_strbuf struct strbuf text = STRBUF_INIT(LIMIT_HTTP_REPLY);

    if (metrics_write(request->context, &text, error) < 0)
        return -1;
    http_reply_text(response, 200, "text/plain; version=0.0.4; charset=utf-8", text.data, text.length);
    return 0;
}

const struct http_route system_routes[] = {
    {"GET", "/api/v1/health", SCOPE_NONE, get_health, "whether the daemon can do its work", .response = &health_schema,
     .tag = "system"},
    {"GET", "/api/v1/version", SCOPE_NONE, get_version, "version of the program, the API and the database",
     .response = &version_schema, .tag = "system"},
    {"GET", "/api/v1/openapi.json", SCOPE_NONE, get_openapi, "this document", .tag = "system"},
    {"GET", "/metrics", SCOPE_VIEW, get_metrics, "numbers for Prometheus",
     .content_type = "text/plain; version=0.0.4; charset=utf-8", .tag = "system"},
    {0},
};
