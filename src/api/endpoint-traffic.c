/* What the versions of an endpoint did, and where a shadow's answers differed. */
#include "api/api.h"
#include "api/daemon.h"
#include "api/model.h"
#include "core/endpoint.h"
#include "schedule/serving.h"

/* -- schemas -- */

static const struct schema_field version_fields[] = {
    {"version", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"code_weights", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"role", SCHEMA_STRING, SCHEMA_REQUIRED,
     .values = (const char *const[]){"live", "canary", "shadow", "standby", "next", NULL}},
    {"share", SCHEMA_NUMBER, SCHEMA_REQUIRED, .doc = "of the requests, per cent"},
    {"requests", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "that ended; of a shadow: copies"},
    {"errors", SCHEMA_INTEGER, SCHEMA_REQUIRED,
     .doc = "model errors, time-outs, lost workers, full queues; not what clients did wrong"},
    {"error_rate", SCHEMA_NUMBER, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "errors by requests"},
    {"p50_ms", SCHEMA_NUMBER, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "from arrival to answer; known to 6 %"},
    {"p99_ms", SCHEMA_NUMBER, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"queue_p50_ms", SCHEMA_NUMBER, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "from arrival to a replica"},
    {"queue_p99_ms", SCHEMA_NUMBER, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"copies", SCHEMA_INTEGER, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "that a shadow ran; null: it is none"},
    {"agreed", SCHEMA_INTEGER, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"disagreed", SCHEMA_INTEGER, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"failed", SCHEMA_INTEGER, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "copies without an answer"},
    {"dropped", SCHEMA_INTEGER, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "copies that were not run"},
    {"disagreement", SCHEMA_NUMBER, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "disagreed, by all that were compared"},
    {"max_abs", SCHEMA_NUMBER, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "largest difference of two numbers"},
    {"max_rel", SCHEMA_NUMBER, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "the same, in relation to the larger one"},
    {},
};
static const struct schema version_schema = {"VersionStatistics", version_fields, "what a version did"};

static const struct schema_field statistics_fields[] = {
    {"since", SCHEMA_TIME, SCHEMA_REQUIRED,
     .doc = "when the canary or shadow began, else when the gateway was started"},
    {"seconds", SCHEMA_NUMBER, SCHEMA_REQUIRED},
    {"beside", SCHEMA_STRING, SCHEMA_NULLABLE, .values = (const char *const[]){"canary", "shadow", NULL},
     .doc = "what runs beside the live version and began then"},
    {"versions", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .object = &version_schema},
    {},
};
static const struct schema statistics_schema = {"EndpointStatistics", statistics_fields,
                                                "what an endpoint's versions did over one time"};

static const struct schema_field comparison_fields[] = {
    {"version", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "the shadow"},
    {"time", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"request", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "its beginning, at most 4 KiB; tensors as text"},
    {"live", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "the beginning of the answer that the client got"},
    {"shadow", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "the beginning of the shadow's, or its error"},
    {"failed", SCHEMA_BOOLEAN, SCHEMA_REQUIRED, .doc = "the shadow gave no answer"},
    {"numeric", SCHEMA_BOOLEAN, SCHEMA_REQUIRED, .doc = "both have the same shape: numbers were compared"},
    {"max_abs", SCHEMA_NUMBER, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "largest difference; null: infinite"},
    {"max_rel", SCHEMA_NUMBER, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "the same, in relation to the larger number"},
    {},
};
static const struct schema comparison_schema = {"ShadowComparison", comparison_fields,
                                                "a request that a shadow answered otherwise"};

/* -- handlers -- */

static int require_serving(const struct http_request *request, struct serving **ret, struct error *error)
{
    const struct daemon *daemon = request->context;

    if (!daemon->serving || !serving_url(daemon->serving))
        return error_set(error, ERROR_UNAVAILABLE, "this daemon runs without a gateway");
    *ret = daemon->serving;
    return 0;
}

/* The endpoint is there and may be seen; then nobody waits for the gateway inside a transaction. */
static int check_endpoint(struct http_request *request, struct error *error)
{
    cleanup_json json_t *endpoint = NULL;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    const char *project;

    if (model_api_begin(request, false, &tx, &project, error) < 0)
        return -1;
    endpoint = endpoint_describe(&tx, project, http_path_param(request, "name"), error);
    return endpoint ? 0 : -1;
}

static int get_statistics(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_json json_t *status = NULL;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct serving *serving = NULL;
    const char *project;
    json_t *statistics;

    if (check_endpoint(request, error) < 0 || require_serving(request, &serving, error) < 0)
        return -1;
    status = serving_counters(serving, error);
    if (!status || model_api_begin(request, false, &tx, &project, error) < 0)
        return -1;
    statistics = endpoint_statistics(&tx, project, http_path_param(request, "name"), status, error);
    if (!statistics)
        return -1;
    http_reply_json(response, 200, statistics);
    return 0;
}

static int list_comparisons(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_json json_t *reply = NULL;
    json_t *shadow, *sample, *items;
    struct serving *serving = NULL;
    size_t i, j;

    if (check_endpoint(request, error) < 0 || require_serving(request, &serving, error) < 0)
        return -1;
    reply = serving_compare(serving, http_path_param(request, "name"), error);
    if (!reply)
        return -1;
    items = json_array();
    json_array_foreach(json_object_get(reply, "shadows"), i, shadow) {
        json_array_foreach(json_object_get(shadow, "samples"), j, sample) {
            json_object_set(sample, "version", json_object_get(shadow, "version"));
            json_array_append(items, sample);
        }
    }
    http_reply_page(response, items, NULL);
    return 0;
}

const struct http_route traffic_routes[] = {
    {"GET", "/api/v1/endpoints/{name}/statistics", SCOPE_VIEW, get_statistics,
     "show what the versions of an endpoint did", .response = &statistics_schema, .tag = "endpoints"},
    /* Requests are quoted: not for everybody who may look. */
    {"GET", "/api/v1/endpoints/{name}/comparisons", SCOPE_DEVELOP, list_comparisons,
     "list requests that the shadow answered otherwise", .paged = true, .response = &comparison_schema,
     .tag = "endpoints"},
    {},
};
