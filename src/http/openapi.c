#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "http/exchange.h"
#include "http/openapi.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

static const char *const scope_names[] = {
    [SCOPE_NONE] = "none",       [SCOPE_INTROSPECT] = "introspect", [SCOPE_VIEW] = "view",
    [SCOPE_DEVELOP] = "develop", [SCOPE_ADMIN] = "admin",
};

static const struct schema_field error_fields[] = {
    {"code", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "stable and machine-readable"},
    {"message", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "a sentence for people"},
    {0},
};
static const struct schema error_schema = {"ErrorDetail", error_fields};
static const struct schema_field answer_fields[] = {
    {"error", SCHEMA_OBJECT, SCHEMA_REQUIRED, .object = &error_schema},
    {0},
};
static const struct schema answer_schema = {"Error", answer_fields, "every failure"};

/* -- paths -- */

/* "/files/{path...}" → "/files/{path}". To be freed. */
static char *document_path(const char *path)
{
    char *copy = xstrdup(path), *dots = strstr(copy, "...}");

    if (dots)
        memmove(dots, dots + 3, strlen(dots + 3) + 1);
    return copy;
}

/* "GET /api/v1/runs/{id}/log" → "getRunsIdLog". To be freed. */
static char *operation_id(const struct http_route *route)
{
    struct strbuf id = STRBUF_INIT(LIMIT_PATH);
    const char *path = strncmp(route->path, "/api/v1/", 8) == 0 ? route->path + 7 : route->path;
    bool upper = false;

    for (const char *p = route->method; *p; p++)
        strbuf_addc(&id, (char)tolower((unsigned char)*p));
    for (; *path; path++) {
        if (isalnum((unsigned char)*path)) {
            strbuf_addc(&id, upper ? (char)toupper((unsigned char)*path) : *path);
            upper = false;
        } else {
            upper = true;
        }
    }
    return strbuf_detach(&id, NULL);
}

/* -- parameters -- */

/* `x-slashes` marks the parameter that takes the rest of the path. */
static void add_path_parameters(json_t *parameters, const char *path)
{
    while ((path = strchr(path, '{'))) {
        const char *end = strchr(++path, '}');
        bool rest = end - path > 3 && memcmp(end - 3, "...", 3) == 0;
        cleanup_free char *name = xstrndup(path, (size_t)(end - path) - (rest ? 3 : 0));
        json_t *parameter = json_build("{s:s, s:s, s:b, s:{s:s, s:i}}", "name", name, "in", "path", "required", 1,
                                       "schema", "type", "string", "minLength", 1);

        if (rest)
            json_set_bool(parameter, "x-slashes", true);
        json_array_append_new(parameters, parameter);
        path = end;
    }
}

static json_t *query_schema(const struct http_query_row *row)
{
    json_t *schema, *values;

    switch (row->type) {
    case SCHEMA_INTEGER: return json_build("{s:s}", "type", "integer");
    case SCHEMA_NUMBER: return json_build("{s:s}", "type", "number");
    case SCHEMA_BOOLEAN: return json_build("{s:s}", "type", "boolean");
    default: break;
    }
    schema = json_build("{s:s}", "type", "string");
    if (row->values) {
        values = json_array();
        for (const char *const *value = row->values; *value; value++)
            json_array_append_new(values, json_string(*value));
        json_object_set_new(schema, "enum", values);
    }
    return schema;
}

static void add_query_parameter(void *userdata, const struct http_query_row *row)
{
    json_t *parameter = json_build("{s:s, s:s, s:o}", "name", row->name, "in", "query", "schema", query_schema(row));

    if (row->doc)
        json_set_string(parameter, "description", row->doc);
    json_array_append_new(userdata, parameter);
}

/* -- bodies -- */

static json_t *content(const char *type, json_t *schema)
{
    return json_build("{s:{s:o}}", type, "schema", schema);
}

static json_t *binary_schema(void)
{
    return json_build("{s:s, s:s}", "type", "string", "format", "binary");
}

static json_t *request_body(const struct http_route *route, json_t *schemas)
{
    json_t *schema = route->request ? schema_describe(route->request, schemas) : json_object();

    if (route->body == HTTP_BODY_FILE) {
        json_decref(schema);
        return json_build("{s:b, s:o}", "required", 1, "content", content("application/octet-stream", binary_schema()));
    }
    return json_build(
        "{s:o}", "content",
        content(route->body == HTTP_BODY_FORM ? "application/x-www-form-urlencoded" : "application/json", schema));
}

static json_t *page_schema(json_t *item)
{
    return json_build("{s:s, s:[s, s], s:{s:{s:s, s:o}, s:{s:[s, s], s:s}}, s:b}", "type", "object", "required",
                      "items", "next", "properties", "items", "type", "array", "items", item, "next", "type", "string",
                      "null", "description", "cursor of the next page, for `after`; null on the last one",
                      "additionalProperties", 0);
}

static json_t *success(const struct http_route *route, int status, json_t *schemas)
{
    json_t *response = json_build("{s:s}", "description", status == 101 ? "a WebSocket" : "success");
    json_t *schema;

    if (status == 101 || status == 204)
        return response;
    if (route->content_type && strcmp(route->content_type, "application/json") != 0) {
        schema = strncmp(route->content_type, "text/", 5) == 0 ? json_build("{s:s}", "type", "string")
                                                               : binary_schema();
        json_object_set_new(response, "content", content(route->content_type, schema));
        return response;
    }
    schema = route->response ? schema_describe(route->response, schemas) : json_object();
    if (route->paged)
        schema = page_schema(schema);
    json_object_set_new(response, "content", content("application/json", schema));
    return response;
}

/* The router's own failures have our form on every route. */
static void add_failures(json_t *responses, const struct http_route *route, json_t *schemas)
{
    static const char *const statuses[] = {"400", "401"};

    for (size_t i = 0; route->failure && i < ARRAY_SIZE(statuses); i++) {
        json_t *schema = json_build("{s:[{s:s}, o]}", "anyOf", "$ref", "#/components/schemas/Error",
                                    schema_describe(route->failure, schemas));

        json_object_set_new(
            responses, statuses[i],
            json_build("{s:s, s:o}", "description", "failure", "content", content("application/json", schema)));
    }
}

static json_t *operation(const struct http_route *route, json_t *schemas)
{
    cleanup_free char *id = operation_id(route);
    json_t *o = json_build("{s:s, s:s}", "operationId", id, "summary", route->summary ?: id);
    json_t *parameters = json_array(), *responses = json_object();
    int status = route->websocket ? 101 : route->status ?: 200;
    char status_text[16];

    if (route->tag)
        json_object_set_new(o, "tags", json_build("[s]", route->tag));
    json_set_string(o, "x-scope", scope_names[route->scope]);
    json_object_set_new(o, "security", route->scope == SCOPE_NONE ? json_array() : json_build("[{s:[]}]", "bearer"));
    add_path_parameters(parameters, route->path);
    http_query_each(route, add_query_parameter, parameters);
    json_object_set_new(o, "parameters", parameters);
    if (route->body != HTTP_BODY_NONE || route->request)
        json_object_set_new(o, "requestBody", request_body(route, schemas));

    snprintf(status_text, sizeof(status_text), "%d", status);
    json_object_set_new(responses, status_text, success(route, status, schemas));
    add_failures(responses, route, schemas);
    json_object_set_new(responses, "default", json_build("{s:s}", "$ref", "#/components/responses/Error"));
    json_object_set_new(o, "responses", responses);
    return o;
}

/* -- document -- */

static void add_route(json_t *paths, json_t *schemas, const struct http_route *route)
{
    cleanup_free char *path = document_path(route->path), *method = xstrdup(route->method);
    json_t *item = json_object_get(paths, path);

    if (!item) {
        item = json_object();
        json_object_set_new(paths, path, item);
    }
    for (char *p = method; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    json_object_set_new(item, method, operation(route, schemas));
}

json_t *openapi_describe(const struct http_route *const *tables, const char *version)
{
    json_t *schemas = json_object(), *paths = json_object();
    json_t *error = content("application/json", schema_describe(&answer_schema, schemas));

    for (; *tables; tables++)
        for (const struct http_route *route = *tables; route->method; route++)
            add_route(paths, schemas, route);
    return json_build(
        "{s:s, s:{s:s, s:s, s:s, s:{s:s, s:s}}, s:o, s:{s:o, s:{s:{s:s, s:o}}, s:{s:{s:s, s:s}}}}", "openapi", "3.1.0",
        "info", "title", "Slipway", "version", version, "description",
        "Control plane of Slipway: datasets, runs, models, endpoints. Times are RFC 3339, sizes bytes, durations "
        "milliseconds.",
        "license", "name", "Apache-2.0", "identifier", "Apache-2.0", "paths", paths, "components", "schemas", schemas,
        "responses", "Error", "description", "failure", "content", error, "securitySchemes", "bearer", "type", "http",
        "scheme", "bearer");
}
