#include <string.h>
#include "config.h"
#include "gateway/call.h"
#include "gateway/codec.h"
#include "gateway/describe.h"
#include "gateway/gateway.h"
#include "gateway/listener.h"
#include "gateway/oip.h"
#include "gateway/surface.h"
#include "http/exchange.h"
#include "http/router.h"
#include "util/json.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/xalloc.h"

/* What a path asks for. `model` is the endpoint's name in the URL. */
struct target {
    const struct surface *surface;
    char *model, *version;
};

static void target_release(struct target *target)
{
    free(target->model);
    free(target->version);
}

/* -- answers without a model -- */

static void reply_text(struct loop_request *request, int status, const char *text)
{
    loop_request_reply(request, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void answer_server(struct gateway *gateway, struct loop_request *request, const struct target *target)
{
    oip_reply(request, 200,
              json_build("{s:s, s:s, s:[s,s,s,s]}", "name", "slipway", "version", SLIPWAY_VERSION, "extensions",
                         "binary_tensor_data", "model_repository", "statistics", "model_configuration"));
}

static bool all_ready(const struct gateway *gateway)
{
    struct map_iterator it = {0};

    if (gateway->draining)
        return false;
    while (map_next(&gateway->routes.endpoints, &it)) {
        if (!endpoint_is_ready(it.value))
            return false;
    }
    return true;
}

static void answer_live(struct gateway *gateway, struct loop_request *request, const struct target *target)
{
    oip_reply(request, 200, json_build("{s:b}", "live", 1));
}

static void answer_ready(struct gateway *gateway, struct loop_request *request, const struct target *target)
{
    bool ready = all_ready(gateway);

    if (ready)
        oip_reply(request, 200, json_build("{s:b}", "ready", 1));
    else
        oip_fail(request, 503, ERROR_UNAVAILABLE, "not every endpoint is ready");
}

static void answer_health(struct gateway *gateway, struct loop_request *request, const struct target *target)
{
    bool ready = all_ready(gateway);

    oip_reply(request, ready ? 200 : 503,
              json_build("{s:s, s:i}", "status", ready ? "ready" : "not_ready", "endpoints",
                         (int)map_count(&gateway->routes.endpoints)));
}

static void answer_ping(struct gateway *gateway, struct loop_request *request, const struct target *target)
{
    reply_text(request, 200, "\n");
}

static void answer_version(struct gateway *gateway, struct loop_request *request, const struct target *target)
{
    reply_text(request, 200, SLIPWAY_VERSION "\n");
}

static void answer_metrics(struct gateway *gateway, struct loop_request *request, const struct target *target)
{
    struct strbuf text = STRBUF_INIT(64 * MIB);
    size_t length;
    char *data;

    stats_format(gateway, &text);
    data = strbuf_detach(&text, &length);
    loop_request_reply_take(request, 200, "text/plain; version=0.0.4; charset=utf-8", data, length);
}

static void answer_model_ready(struct gateway *gateway, struct loop_request *request, const struct target *target)
{
    struct endpoint *endpoint = routes_find(&gateway->routes, target->model);
    const struct route *route = endpoint && target->version ? endpoint_route(endpoint, target->version, NULL) : NULL;
    bool ready = target->version ? route && route_is_ready(route) : endpoint && endpoint_is_ready(endpoint);
    cleanup_free char *message = NULL;

    if (ready && !gateway->draining) {
        oip_reply(request, 200, json_build("{s:s, s:b}", "name", target->model, "ready", 1));
        return;
    }
    message = xasprintf(endpoint && (route || !target->version) ? "model %s is not ready" : "there is no model %s",
                        target->model);
    oip_fail(request, endpoint && (route || !target->version) ? 503 : 404, ERROR_UNAVAILABLE, message);
}

/* Names and states, which the ready calls tell too. */
static void answer_index(struct gateway *gateway, struct loop_request *request, const struct target *target)
{
    struct map_iterator it = {0};
    json_t *list = json_array();

    while (map_next(&gateway->routes.endpoints, &it)) {
        const struct endpoint *endpoint = it.value;
        const struct route *route;

        list_for_each(route, &endpoint->routes, link) {
            bool ready = route_is_ready(route);

            json_array_append_new(list, json_build("{s:s, s:s, s:s, s:s}", "name", endpoint->name, "version",
                                                   route->version, "state", ready ? "READY" : "UNAVAILABLE", "reason",
                                                   ready ? "" : "no replica is ready"));
        }
    }
    oip_reply(request, 200, list);
}

/* Counters, as /metrics has them. */
static void answer_all_statistics(struct gateway *gateway, struct loop_request *request, const struct target *target)
{
    json_t *list = json_array();

    oip_all_statistics(&gateway->routes, list);
    oip_reply(request, 200, json_build("{s:o}", "model_stats", list));
}

static void answer_load(struct gateway *gateway, struct loop_request *request, const struct target *target)
{
    oip_fail(request, 400, ERROR_UNSUPPORTED, "models are loaded and unloaded by deploying: slipway endpoint deploy");
}

static void answer_openapi(struct gateway *gateway, struct loop_request *request, const struct target *target)
{
    oip_reply(request, 200, gateway_describe());
}

#define JSON   "application/json"
#define BINARY "application/octet-stream"
#define TEXT   "text/plain"

const struct surface surfaces[] = {
    {"POST", "/predict/", NAMING_PATH, "", .codec = &predict_codec, .summary = "text in, text out", .takes = "*/*",
     .gives = "*/*"},
    {"POST", "/v2/models/", NAMING_VERSIONS, "/infer", .codec = &oip_codec, .summary = "infer from tensors",
     .takes = JSON " " BINARY, .request = &body_infer, .gives = JSON " " BINARY, .response = &body_inferred},
    {"GET", "/v2/models/stats", .answer = answer_all_statistics, .summary = "statistics of all models",
     .response = &body_statistics},
    {"GET", "/v2/models/", NAMING_VERSIONS, "/ready", .answer = answer_model_ready,
     .summary = "say whether a model is ready", .response = &body_model_ready},
    {"GET", "/v2/models/", NAMING_VERSIONS, "/stats", .codec = &oip_stats_codec, .summary = "statistics of a model",
     .response = &body_statistics},
    {"GET", "/v2/models/", NAMING_VERSIONS, "/config", .codec = &oip_config_codec,
     .summary = "configuration of a model", .response = &body_config},
    {"GET", "/v2/models/", NAMING_VERSIONS, "", .codec = &oip_metadata_codec, .summary = "signature of a model",
     .response = &body_metadata},
    {"POST", "/v2/repository/index", .answer = answer_index, .summary = "list models and their states", .takes = JSON,
     .response = &body_index, .is_list = true},
    {"POST", "/v2/repository/models/", NAMING_PATH, "/load", .answer = answer_load,
     .summary = "refused: models are deployed", .takes = JSON},
    {"POST", "/v2/repository/models/", NAMING_PATH, "/unload", .answer = answer_load,
     .summary = "refused: models are deployed", .takes = JSON},
    {"GET", "/v2", .answer = answer_server, .summary = "name, version and extensions", .response = &body_server},
    {"GET", "/v2/", .answer = answer_server, .summary = "the same", .response = &body_server},
    {"GET", "/v2/health/live", .answer = answer_live, .summary = "say that the gateway lives", .response = &body_live},
    {"GET", "/v2/health/ready", .answer = answer_ready, .summary = "say whether every endpoint is ready",
     .response = &body_ready},
    {"POST", "/v1/models/", NAMING_VERSIONS, ":predict", .codec = &tfs_codec, .summary = "predict from rows or columns",
     .takes = JSON, .request = &body_tfs, .response = &body_tfs_answer},
    {"GET", "/v1/models/", NAMING_VERSIONS, "", .codec = &tfs_status_codec, .summary = "say which versions are loaded",
     .response = &body_tfs_status},
    {"POST", "/invocations", NAMING_SOLE, .codec = &mlflow_codec, .summary = "predict from data frames or tensors",
     .takes = JSON " text/csv", .request = &body_mlflow, .response = &body_mlflow_answer},
    {"GET", "/health", .answer = answer_health, .summary = "say whether every endpoint is ready",
     .response = &body_health},
    {"GET", "/ping", .answer = answer_ping, .summary = "an empty line", .gives = TEXT},
    {"GET", "/version", .answer = answer_version, .summary = "the program's version", .gives = TEXT},
    {"GET", "/metrics", .answer = answer_metrics, .summary = "counters for Prometheus", .gives = TEXT},
    {"GET", "/openapi.json", .answer = answer_openapi, .summary = "this document"},
};
const size_t surfaces_count = ARRAY_SIZE(surfaces);

static bool names_in_path(const struct surface *surface)
{
    return surface->naming == NAMING_PATH || surface->naming == NAMING_VERSIONS;
}

static bool ends_with(const char *text, size_t length, const char *suffix)
{
    size_t n = strlen(suffix);

    return length >= n && !memcmp(text + length - n, suffix, n);
}

static char *decode_part(const char *text, size_t length)
{
    char *part = NULL;

    if (!memchr(text, '%', length))
        return xstrndup(text, length);
    return http_percent_decode(text, length, false, &part, NULL) == 0 ? part : NULL;
}

/* Splits "digits", "digits/versions/7"; false if it is neither. */
static bool take_model(const char *text, size_t length, bool versions, struct target *target)
{
    static const char word[] = "/versions/";
    const char *at = versions ? memmem(text, length, word, sizeof(word) - 1) : NULL;

    if (at) {
        const char *version = at + sizeof(word) - 1;

        target->version = decode_part(version, (size_t)(text + length - version));
        if (!target->version || !*target->version || strchr(target->version, '/'))
            return false;
        length = (size_t)(at - text);
    }
    target->model = decode_part(text, length);
    return target->model && *target->model;
}

static bool path_matches(const struct surface *surface, const char *path)
{
    size_t n = strlen(surface->prefix), length = strlen(path);

    if (!names_in_path(surface))
        return !strcmp(path, surface->prefix);
    return length > n && !strncmp(path, surface->prefix, n) && ends_with(path, length, surface->suffix);
}

static void take_query_version(struct loop_request *request, struct target *target)
{
    if (!target->version && loop_request_query(request, "version"))
        target->version = xstrdup(loop_request_query(request, "version"));
}

/* Without a name it is the only endpoint that there is. Where there is no such, model stays NULL. */
static void take_sole(const struct gateway *gateway, struct loop_request *request, struct target *target)
{
    const char *name = loop_request_header(request, "Slipway-Endpoint");
    struct map_iterator it = {0};

    if (!name)
        name = loop_request_query(request, "endpoint");
    if (!name && map_count(&gateway->routes.endpoints) == 1 && map_next(&gateway->routes.endpoints, &it))
        name = it.key;
    target->model = xstrdup_null(name);
}

/* 0, or the status of the refusal. */
static int find_target(const struct gateway *gateway, struct loop_request *request, struct target *target)
{
    const char *path = loop_request_path(request), *method = loop_request_method(request);
    bool known = false;

    for (size_t i = 0; i < ARRAY_SIZE(surfaces) && !target->surface; i++) {
        if (!path_matches(&surfaces[i], path))
            continue;
        known = true;
        if (!strcmp(method, surfaces[i].method) || (!strcmp(method, "HEAD") && !strcmp(surfaces[i].method, "GET")))
            target->surface = &surfaces[i];
    }
    if (!target->surface)
        return known ? 405 : 404;
    if (target->surface->naming == NAMING_SOLE)
        take_sole(gateway, request, target);
    if (names_in_path(target->surface)) {
        size_t begin = strlen(target->surface->prefix), end = strlen(path) - strlen(target->surface->suffix);

        if (begin >= end || !take_model(path + begin, end - begin, target->surface->naming == NAMING_VERSIONS, target))
            return 404;
    }
    take_query_version(request, target);
    return 0;
}

static void refuse(struct loop_request *request, int status, enum error_code code, const char *message)
{
    static const struct {
        const char *prefix;
        const struct codec *codec;
    } rows[] = {{"/v2", &oip_codec}, {"/v1", &tfs_codec}, {"/invocations", &mlflow_codec}, {"", &predict_codec}};
    const char *path = loop_request_path(request);
    size_t i = 0;

    while (strncmp(path, rows[i].prefix, strlen(rows[i].prefix)) != 0)
        i++;
    rows[i].codec->fail(request, status, code, message);
}

static struct endpoint *find_endpoint(struct gateway *gateway, struct loop_request *request,
                                      const struct target *target)
{
    struct endpoint *endpoint = target->model ? routes_find(&gateway->routes, target->model) : NULL;
    cleanup_free char *message = NULL;

    if (endpoint)
        return endpoint;
    if (!target->model && map_count(&gateway->routes.endpoints) > 0) {
        refuse(request, 400, ERROR_INVALID,
               "there are several endpoints: name one in the header Slipway-Endpoint or in the query, ?endpoint=NAME");
        return NULL;
    }
    if (!target->model) {
        refuse(request, 404, ERROR_NOT_FOUND, "there is no endpoint");
        return NULL;
    }
    message = xasprintf("there is no endpoint %.100s", target->model);
    refuse(request, 404, ERROR_NOT_FOUND, message);
    return NULL;
}

static void refuse_path(struct loop_request *request, int status)
{
    cleanup_free char *message = NULL;

    if (status == 405)
        message = xasprintf("%.20s is not a method of %.200s", loop_request_method(request),
                            loop_request_path(request));
    else
        message = xasprintf("there is no %.200s", loop_request_path(request));
    refuse(request, status, status == 405 ? ERROR_INVALID : ERROR_NOT_FOUND, message);
}

static uint64_t on_head(void *context, struct loop_request *request)
{
    CLEANUP(target_release) struct target target = {0};
    struct gateway *gateway = context;
    int status = find_target(gateway, request, &target);
    struct endpoint *endpoint;

    if (status) {
        refuse_path(request, status);
        return LIMIT_HTTP_DISCARD;
    }
    if (!target.surface->codec)
        return LIMIT_JSON_BODY; /* looked at by nobody; a client may send {} */
    endpoint = find_endpoint(gateway, request, &target);
    if (!endpoint)
        return LIMIT_HTTP_DISCARD;
    if (!endpoint->is_public && !loop_request_authorization(request)) {
        gateway->auth_stats.requests++;
        gateway->auth_stats.no_token++;
        endpoint->stats.requests++;
        endpoint->stats.unauthenticated++;
        loop_request_add_header(request, "WWW-Authenticate", "Bearer");
        refuse(request, 401, ERROR_UNAUTHENTICATED, "a bearer token is needed: Authorization: Bearer TOKEN");
    }
    return (uint64_t)endpoint->body_limit;
}

static void on_request(void *context, struct loop_request *request)
{
    CLEANUP(target_release) struct target target = {0};
    struct gateway *gateway = context;
    int status = find_target(gateway, request, &target);
    struct endpoint *endpoint;

    if (status) {
        refuse_path(request, status);
        return;
    }
    if (target.surface->answer) {
        target.surface->answer(gateway, request, &target);
        return;
    }
    /* Looked up again: a large body takes its time, and the table may have changed. */
    endpoint = find_endpoint(gateway, request, &target);
    if (endpoint)
        call_start(gateway, request, target.surface->codec, endpoint, target.version);
}

static void on_gone(void *context, struct loop_request *request)
{
    struct call *call = loop_request_data(request);

    if (call)
        call_cancel(call);
}

static void on_oversize(void *context, struct loop_request *request, uint64_t limit)
{
    cleanup_free char *message = xasprintf("the body may have at most %lu bytes", limit);

    refuse(request, 413, ERROR_TOO_LARGE, message);
}

static const char *on_malformed(void *context, const char *message, char *text, size_t size)
{
    cleanup_json json_t *reply = json_build("{s:o}", "error", json_string_lossy(message));
    cleanup_free char *line = json_text(reply);

    snprintf(text, size, "%s", line);
    return "application/json";
}

static int listen_on(struct gateway *gateway, const struct loop_listen *listen, struct error *error)
{
    cleanup_free char *url = NULL;

    if (loop_server_listen(gateway->server, listen, &url, error) < 0)
        return -1;
    log_info("listening", "url", url);
    return 0;
}

int listener_open(struct gateway *gateway, struct error *error)
{
    static const struct loop_server_handlers handlers = {on_head, on_request, on_gone, on_oversize, on_malformed};
    const struct gateway_options *options = gateway->options;

    gateway->server = loop_server_new(gateway->loop, &handlers, gateway, LIMIT_GATEWAY_CONNECTIONS);
    for (const char *const *address = options->listen; address && *address; address++) {
        struct loop_listen listen = {.address = *address, .certificate = options->certificate, .key = options->key};

        if (listen_on(gateway, &listen, error) < 0)
            return -1;
    }
    if (options->unix_path)
        return listen_on(gateway, &(struct loop_listen){.unix_path = options->unix_path}, error);
    return 0;
}
