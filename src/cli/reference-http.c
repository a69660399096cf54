#include <string.h>
#include "api/api.h"
#include "cli/reference.h"
#include "config.h"
#include "http/openapi.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

static const char *const scope_names[] = {
    [SCOPE_NONE] = "none",
    [SCOPE_VIEW] = "view",
    [SCOPE_DEVELOP] = "develop",
    [SCOPE_ADMIN] = "admin",
};

static const char *const type_names[] = {
    [SCHEMA_STRING] = "string",   [SCHEMA_INTEGER] = "integer", [SCHEMA_NUMBER] = "number",
    [SCHEMA_BOOLEAN] = "boolean", [SCHEMA_TIME] = "time",       [SCHEMA_OBJECT] = "object",
    [SCHEMA_ARRAY] = "array",     [SCHEMA_MAP] = "map",         [SCHEMA_ANY] = "any",
};

static void put_escaped(FILE *out, const char *text)
{
    for (const char *p = text ? text : ""; *p; p++) {
        if (strchr("|<>*_[]`\\", *p))
            fputc('\\', out);
        fputc(*p, out);
    }
}

static void put_type(FILE *out, enum schema_type type, enum schema_type item, const struct schema *object)
{
    if (type == SCHEMA_ARRAY || type == SCHEMA_MAP) {
        fprintf(out, "%s of ", type_names[type]);
        put_type(out, item ? item : SCHEMA_ANY, SCHEMA_ANY, object);
    } else if (object) {
        fprintf(out, "[%s](#%s)", object->name, object->name);
    } else {
        fputs(type_names[type], out);
    }
}

static void put_values(FILE *out, const char *const *values)
{
    for (size_t i = 0; values && values[i]; i++)
        fprintf(out, "%s`%s`", i ? ", " : ": ", values[i]);
}

static void put_fields(FILE *out, const struct schema *schema)
{
    fputs("\n| field | type | |\n| --- | --- | --- |\n", out);
    for (const struct schema_field *f = schema->fields; f->type != SCHEMA_END; f++) {
        fprintf(out, "| `%s`%s | ", f->name, f->flags & SCHEMA_REQUIRED ? " (required)" : "");
        put_type(out, f->type, f->item, f->object);
        fputs(f->flags & SCHEMA_NULLABLE ? " or null | " : " | ", out);
        put_escaped(out, f->doc);
        put_values(out, f->values);
        fputs(" |\n", out);
    }
}

/* Schemas in the order in which they are met first. */
struct schemas {
    const struct schema *list[1000];
    size_t count;
};

static void collect(struct schemas *schemas, const struct schema *schema)
{
    if (!schema)
        return;
    for (size_t i = 0; i < schemas->count; i++)
        if (schemas->list[i] == schema)
            return;
    if (schemas->count == ARRAY_SIZE(schemas->list))
        return;
    schemas->list[schemas->count++] = schema;
    for (const struct schema_field *f = schema->fields; f->type != SCHEMA_END; f++)
        collect(schemas, f->object);
}

static void put_body(FILE *out, const struct http_route *route)
{
    char limit[FORMAT_SIZE];

    if (route->request)
        fprintf(out, "Body: [%s](#%s). ", route->request->name, route->request->name);
    else if (route->body == HTTP_BODY_FILE)
        fprintf(out, "Body: the bytes themselves, at most %s. ", format_bytes(route->body_limit, limit));
    else if (route->body == HTTP_BODY_JSON)
        fputs("Body: JSON. ", out);
}

static void put_answer(FILE *out, const struct http_route *route)
{
    int status = route->status ? route->status : 200;

    if (route->websocket)
        fputs("Answer: a WebSocket", out);
    else
        fprintf(out, "Answer: %d", status);
    if (route->response)
        fprintf(out, ", %s[%s](#%s)", route->paged ? "a page of " : "", route->response->name, route->response->name);
    else if (route->content_type)
        fprintf(out, ", `%s`", route->content_type);
    fputs(".\n", out);
}

static void put_route(FILE *out, const struct http_route *route)
{
    fprintf(out, "\n### %s %s\n\n", route->method, route->path);
    put_escaped(out, route->summary);
    fprintf(out, ". Scope: %s. ", scope_names[route->scope]);
    put_body(out, route);
    put_answer(out, route);
    if (!route->query || !route->query->name)
        return;
    fputs("\n| query | type | |\n| --- | --- | --- |\n", out);
    for (const struct http_query_row *q = route->query; q->name; q++) {
        fprintf(out, "| `%s` | %s | ", q->name, type_names[q->type]);
        put_escaped(out, q->doc);
        put_values(out, q->values);
        fputs(" |\n", out);
    }
}

void reference_openapi(FILE *out)
{
    cleanup_json json_t *document = openapi_describe(api_tables, SLIPWAY_VERSION);
    cleanup_free char *text = json_text_pretty(document);

    fprintf(out, "%s\n", text);
}

void reference_http(FILE *out)
{
    struct schemas schemas = {.count = 0};
    const char *tag = NULL;

    fprintf(out,
            "Scopes: view, develop and admin, each with those before it; a token is sent as "
            "`Authorization: Bearer TOKEN`. Routes of scope view and develop take the query parameter `project`. "
            "A list is a page: `{\"items\": […], \"next\": cursor or null}`, with the query parameters `limit` "
            "(%d, at most %d) and `after` (the cursor).\n\nA failure is "
            "`{\"error\": {\"code\", \"message\"}}`:\n\n| code | status |\n| --- | --- |\n",
            LIMIT_PAGE_DEFAULT, LIMIT_PAGE);
    for (int code = ERROR_NONE + 1; code < ERROR_CODE_COUNT_; code++)
        fprintf(out, "| `%s` | %d |\n", error_code_name(code), http_status_of(code));
    for (const struct http_route *const *table = api_tables; *table; table++) {
        for (const struct http_route *route = *table; route->method; route++) {
            if (route->tag && (!tag || strcmp(tag, route->tag) != 0)) {
                tag = route->tag;
                fprintf(out, "\n## %c%s\n", tag[0] - ('a' <= tag[0] && tag[0] <= 'z' ? 32 : 0), tag + 1);
            }
            put_route(out, route);
            collect(&schemas, route->request);
            collect(&schemas, route->response);
        }
    }
    if (schemas.count)
        fputs("\n## Objects\n", out);
    for (size_t i = 0; i < schemas.count; i++) {
        fprintf(out, "\n### <a id=\"%s\"></a>%s\n", schemas.list[i]->name, schemas.list[i]->name);
        if (schemas.list[i]->doc) {
            fputc('\n', out);
            put_escaped(out, schemas.list[i]->doc);
            fputs(".\n", out);
        }
        put_fields(out, schemas.list[i]);
    }
}
