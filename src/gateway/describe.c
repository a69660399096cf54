#include <ctype.h>
#include <string.h>
#include "config.h"
#include "gateway/describe.h"
#include "gateway/surface.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/strvec.h"
#include "util/xalloc.h"

/* -- names -- */

static bool names_in_path(const struct surface *surface)
{
    return surface->naming == NAMING_PATH || surface->naming == NAMING_VERSIONS;
}

static char *path_of(const struct surface *surface, bool versioned)
{
    if (!names_in_path(surface))
        return xstrdup(surface->prefix);
    return xasprintf("%s{name}%s%s", surface->prefix, versioned ? "/versions/{version}" : "", surface->suffix);
}

/* "POST /v2/models/{name}/infer" → "postV2ModelsNameInfer"; "/v2/" and "/v2" stay two. To be freed. */
static char *operation_id(const char *method, const char *path)
{
    struct strbuf id = STRBUF_INIT(LIMIT_PATH);
    size_t length = strlen(path);
    bool upper = true;

    for (; *method; method++)
        strbuf_addc(&id, (char)tolower((unsigned char)*method));
    if (length > 1 && path[length - 1] == '/')
        strbuf_adds(&id, "Slash");
    for (; *path; path++) {
        if (isalnum((unsigned char)*path))
            strbuf_addc(&id, upper ? (char)toupper((unsigned char)*path) : *path);
        upper = !isalnum((unsigned char)*path);
    }
    return strbuf_detach(&id, NULL);
}

/* The protocol, for the group in the document. */
static const char *tag_of(const struct surface *surface)
{
    static const struct {
        const char *prefix, *tag;
    } rows[] = {
        {"/v2", "Open Inference Protocol"}, {"/v1", "TensorFlow Serving"}, {"/invocations", "MLflow"}, {"", "Slipway"}};
    size_t i = 0;

    while (strncmp(surface->prefix, rows[i].prefix, strlen(rows[i].prefix)) != 0)
        i++;
    return rows[i].tag;
}

static const struct schema *failure_of(const struct surface *surface)
{
    if (strncmp(surface->prefix, "/v", 2) == 0 && isdigit((unsigned char)surface->prefix[2]))
        return &body_oip_error;
    return strcmp(surface->prefix, "/invocations") == 0 ? &body_mlflow_error : &body_error;
}

/* -- parameters -- */

static void add_parameter(json_t *parameters, const char *in, const char *name, const char *type, const char *doc)
{
    json_array_append_new(parameters, json_build("{s:s, s:s, s:b, s:s, s:{s:s}}", "name", name, "in", in, "required",
                                                 strcmp(in, "path") == 0, "description", doc, "schema", "type", type));
}

static json_t *parameters_of(const struct surface *surface, bool versioned)
{
    json_t *parameters = json_array();

    if (names_in_path(surface))
        add_parameter(parameters, "path", "name", "string", "the endpoint, or its model (vision/digits)");
    if (versioned)
        add_parameter(parameters, "path", "version", "string", "7, or 3.5: one of those that are loaded");
    if (surface->naming == NAMING_SOLE) {
        add_parameter(parameters, "header", "Slipway-Endpoint", "string", "the endpoint, where there are several");
        add_parameter(parameters, "query", "endpoint", "string", "the same");
    }
    if (surface->naming != NAMING_NONE && !versioned)
        add_parameter(parameters, "query", "version", "string", "one of those that are loaded");
    if (surface->codec && !surface->codec->local) {
        add_parameter(parameters, "header", "Slipway-Timeout-Ms", "integer", "a shorter deadline than the endpoint's");
        add_parameter(parameters, "header", "Slipway-Priority", "integer",
                      "-10 to 10 (0): who is served first where requests wait");
    }
    return parameters;
}

/* -- bodies -- */

static json_t *other_schema(const char *type)
{
    return strncmp(type, "text/", 5) == 0 ? json_build("{s:s}", "type", "string") : json_object();
}

/* `types` with blanks between; the schema is that of the first. */
static json_t *content_of(const char *types, json_t *first)
{
    cleanup_strvec struct strvec words = STRVEC_INIT;
    json_t *content = json_object();

    strvec_split(&words, types, ' ');
    for (size_t i = 0; i < words.count; i++)
        json_object_set_new(content, words.items[i],
                            json_build("{s:o}", "schema", i == 0 && first ? first : other_schema(words.items[i])));
    return content;
}

static json_t *success_of(const struct surface *surface, json_t *schemas)
{
    json_t *schema = surface->response ? schema_describe(surface->response, schemas) : NULL;

    if (schema && surface->is_list)
        schema = json_build("{s:s, s:o}", "type", "array", "items", schema);
    return json_build("{s:s, s:o}", "description", "success", "content",
                      content_of(surface->gives ? surface->gives : "application/json", schema));
}

static json_t *failure_response(const struct schema *schema, json_t *schemas)
{
    return json_build("{s:s, s:o}", "description", "failure", "content",
                      content_of("application/json", schema_describe(schema, schemas)));
}

static json_t *responses_of(const struct surface *surface, json_t *schemas)
{
    json_t *responses = json_build("{s:o}", "200", success_of(surface, schemas));

    /* It tells the same whether all is well or not. */
    if (surface->response == &body_health)
        json_object_set_new(responses, "503", success_of(surface, schemas));
    json_object_set_new(responses, "default", failure_response(failure_of(surface), schemas));
    return responses;
}

static json_t *operation_of(const struct surface *surface, bool versioned, const char *path, json_t *schemas)
{
    cleanup_free char *id = operation_id(surface->method, path);
    json_t *operation = json_build("{s:s, s:s, s:[s], s:o, s:o}", "operationId", id, "summary", surface->summary,
                                   "tags", tag_of(surface), "parameters", parameters_of(surface, versioned),
                                   "responses", responses_of(surface, schemas));

    /* A public endpoint wants no token. */
    json_object_set_new(operation, "security", surface->codec ? json_build("[{s:[]}, {}]", "bearer") : json_array());
    if (surface->takes)
        json_object_set_new(
            operation, "requestBody",
            json_build(
                "{s:o}", "content",
                content_of(surface->takes, surface->request ? schema_describe(surface->request, schemas) : NULL)));
    return operation;
}

static void add_operation(json_t *paths, json_t *schemas, const struct surface *surface, bool versioned)
{
    cleanup_free char *path = path_of(surface, versioned), *method = xstrdup(surface->method);
    json_t *item = json_object_get(paths, path);

    for (char *p = method; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    if (!item) {
        item = json_object();
        json_object_set_new(paths, path, item);
    }
    json_object_set_new(item, method, operation_of(surface, versioned, path, schemas));
}

json_t *gateway_describe(void)
{
    json_t *schemas = json_object(), *paths = json_object();

    for (size_t i = 0; i < surfaces_count; i++) {
        add_operation(paths, schemas, &surfaces[i], false);
        if (surfaces[i].naming == NAMING_VERSIONS)
            add_operation(paths, schemas, &surfaces[i], true);
    }
    return json_build("{s:s, s:{s:s, s:s, s:s, s:{s:s, s:s}}, s:o, s:{s:o, s:{s:{s:s, s:s}}}}", "openapi", "3.1.0",
                      "info", "title", "Slipway serving", "version", SLIPWAY_VERSION, "description",
                      "The serving port of Slipway: what models answer. docs/PROTOCOLS.md explains it.", "license",
                      "name", "Apache-2.0", "identifier", "Apache-2.0", "paths", paths, "components", "schemas",
                      schemas, "securitySchemes", "bearer", "type", "http", "scheme", "bearer");
}
