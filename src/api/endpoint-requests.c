/* Logged requests of an endpoint. */
#include "api/api.h"
#include "api/daemon.h"
#include "api/model.h"
#include "core/endpoint.h"
#include "core/request-log.h"
#include "schedule/serving.h"
#include "util/limits.h"

static const struct schema_field body_fields[] = {
    {"content_type", SCHEMA_STRING},
    {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "bytes, of all of it"},
    {"truncated", SCHEMA_BOOLEAN, SCHEMA_REQUIRED, .doc = "only its beginning was kept"},
    {"text", SCHEMA_STRING, .doc = "what was kept, where that is UTF-8"},
    {"base64", SCHEMA_STRING, .doc = "else this"},
    {},
};
static const struct schema body_schema = {"LoggedBody", body_fields, "a request or an answer"};

static const struct schema_field data_fields[] = {
    {"version", SCHEMA_STRING, .doc = "that answered, or was asked for"},
    {"code_weights", SCHEMA_STRING},
    {"protocol", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"status", SCHEMA_INTEGER, .doc = "of HTTP; absent: the client left before the answer"},
    {"outcome", SCHEMA_STRING, SCHEMA_REQUIRED,
     .values = (const char *const[]){"ok", "model_error", "invalid", "queue_full", "timeout", "cancelled",
                                     "worker_lost", "unavailable", NULL}},
    {"latency_ms", SCHEMA_NUMBER, SCHEMA_REQUIRED, .doc = "from arrival to answer"},
    {"queue_ms", SCHEMA_NUMBER, .doc = "from arrival to a replica; absent: it came to none"},
    {"run_ms", SCHEMA_NUMBER, .doc = "in the model"},
    {"trace_id", SCHEMA_STRING, .doc = "of the header traceparent"},
    {"client", SCHEMA_STRING, .doc = "whose token it was"},
    {"request", SCHEMA_OBJECT, .object = &body_schema},
    {"response", SCHEMA_OBJECT, .object = &body_schema},
    {},
};
static const struct schema data_schema = {"LoggedRequestData", data_fields, "what was asked and answered"};

static const struct schema_field event_fields[] = {
    {"specversion", SCHEMA_STRING, SCHEMA_REQUIRED, .values = (const char *const[]){"1.0", NULL}},
    {"id", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"source", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "/endpoints/NAME"},
    {"type", SCHEMA_STRING, SCHEMA_REQUIRED, .values = (const char *const[]){"slipway.request", NULL}},
    {"subject", SCHEMA_STRING, .doc = "the version"},
    {"time", SCHEMA_TIME, SCHEMA_REQUIRED, .doc = "arrival"},
    {"datacontenttype", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"data", SCHEMA_OBJECT, SCHEMA_REQUIRED, .object = &data_schema},
    {},
};
static const struct schema event_schema = {"LoggedRequest", event_fields, "a logged request, as a CloudEvent 1.0"};

/* The endpoint is there and may be seen; then nobody waits for the gateway inside a transaction. */
static int check_endpoint(struct http_request *request, const char **ret_project, struct error *error)
{
    cleanup_json json_t *endpoint = NULL;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (model_api_begin(request, false, &tx, ret_project, error) < 0)
        return -1;
    endpoint = endpoint_describe(&tx, *ret_project, http_path_param(request, "name"), error);
    return endpoint ? 0 : -1;
}

static int list_requests(struct http_request *request, struct http_response *response, struct error *error)
{
    const struct daemon *daemon = request->context;
    const char *name = http_path_param(request, "name"), *project;
    int64_t lines = http_query_int(request, "lines", 0);
    const struct request_filter filter = {.version = http_query_param(request, "version"),
                                          .outcome = http_query_param(request, "outcome"),
                                          .limit = lines ? (int)lines : http_page_limit(request),
                                          .after = lines                      ? NULL
                                                   : http_page_after(request) ? http_page_after(request)
                                                                              : ""};
    cleanup_free char *next = NULL;
    json_t *events;
    bool is_first;

    if (lines < 0 || lines > LIMIT_REQUEST_LOG_LINES)
        return error_set(error, ERROR_INVALID, "query parameter 'lines' must be 1 to %d", LIMIT_REQUEST_LOG_LINES);
    /* Who goes on reading closes nothing: an endpoint keeps a number of segments, and pages would make many. */
    is_first = !filter.after || !*filter.after;
    if (check_endpoint(request, &project, error) < 0 ||
        (is_first && daemon->serving && serving_requests(daemon->serving, name, error) < 0) ||
        request_log_read(daemon->store, project, name, &filter, &events, &next, error) < 0)
        return -1;
    http_reply_page(response, events, next);
    return 0;
}

static const struct http_query_row requests_query[] = {
    {"lines", SCHEMA_INTEGER, .doc = "only the newest so many; without it: all, from the oldest on, in pages"},
    {"version", SCHEMA_STRING, .doc = "only of this version"},
    {"outcome", SCHEMA_STRING, .doc = "only what ended so: ok, timeout, …"},
    {},
};

const struct http_route request_log_routes[] = {
    /* Requests are quoted: not for everybody who may look. */
    {"GET", "/api/v1/endpoints/{name}/requests", SCOPE_DEVELOP, list_requests, "list logged requests, newest last",
     .query = requests_query, .paged = true, .response = &event_schema, .slow = true, .tag = "endpoints"},
    {},
};
