/* Endpoints, their deployments and logs; the gateway's own word on them. */
#include <string.h>
#include "api/daemon.h"
#include "api/model.h"
#include "core/endpoint.h"
#include "core/model.h"
#include "core/ref.h"
#include "core/trial.h"
#include "format/crilog.h"
#include "schedule/serving.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

#define SHARES    2    /* versions that can have one */
#define TOLERANCE 1e-6 /* of numbers in answers of a shadow: what another order of additions makes */
#define LOG_TAIL  (1 * MIB) /* bytes of a log that are read for its last lines */

/* -- schemas -- */

static const struct schema_field options_fields[] = {
    {"timeout_ms", SCHEMA_INTEGER, .min = 1, .max = 3600000, .doc = "deadline of a request"},
    {"queue", SCHEMA_INTEGER, .min = 0, .max = 100000, .doc = "requests that may wait"},
    {"replicas", SCHEMA_INTEGER, .min = 1, .max = LIMIT_REPLICAS,
     .doc = "processes of a version: so many, whatever the load"},
    {"min_replicas", SCHEMA_INTEGER, .min = 0, .max = LIMIT_REPLICAS,
     .doc = "at least so many; 0: none while nobody asks"},
    {"max_replicas", SCHEMA_INTEGER, .min = 1, .max = LIMIT_REPLICAS, .doc = "at most so many, as the load needs them"},
    {"scale_queue_time_ms", SCHEMA_INTEGER, .min = 1, .max = 3600000,
     .doc = "requests that wait longer for a replica bring another one"},
    {"scale_down_after_ms", SCHEMA_INTEGER, .min = 100, .max = 86400000,
     .doc = "so long one fewer would have done before there is one fewer"},
    {"idle_ms", SCHEMA_INTEGER, .min = 100, .max = 2592000000,
     .doc = "so long nobody asked before the last one ends; with min_replicas 0"},
    {"public", SCHEMA_BOOLEAN, .doc = "no token is needed"},
    {"cpus", SCHEMA_NUMBER, .min = 0, .max = 4096, .doc = "cores of a replica; 0: no limit"},
    {"memory", SCHEMA_INTEGER, .min = 0, .max = 1e15, .doc = "bytes of a replica; 0: no limit"},
    {"concurrency", SCHEMA_INTEGER, .min = 0, .max = 64,
     .doc = "requests at a time per replica; 0: what the package says"},
    {"sticky", SCHEMA_STRING, .max = LIMIT_STICKY_HEADER,
     .doc = "header whose equal values stay on the same version; \"\": none"},
    {"rate_per_second", SCHEMA_NUMBER, .min = 0, .max = 1e6,
     .doc = "requests of one token; beyond: 429. 0: no limit. Public endpoints know no tokens and have none"},
    {"rate_burst", SCHEMA_NUMBER, .min = 0, .max = 1e6, .doc = "of them at once; 0: as many as in a second"},
    {"cache", SCHEMA_INTEGER, .min = 0, .max = LIMIT_ANSWER_CACHE,
     .doc = "bytes of answers that are remembered, if the package says that it is deterministic; 0: none"},
    {"log_sample", SCHEMA_NUMBER, .min = 0, .max = 1,
     .doc = "part of the requests that is logged with its answers; 0: none"},
    {"log_body", SCHEMA_INTEGER, .min = 0, .max = LIMIT_REQUEST_LOG_BODY,
     .doc = "bytes that are kept of a logged request, and of its answer"},
    {"batch_size", SCHEMA_INTEGER, .min = 0, .max = LIMIT_BATCH,
     .doc = "requests that one call of predict_batch() takes; 1: none together; 0: what the package says"},
    {"batch_delay_ms", SCHEMA_NUMBER, .min = 0, .max = LIMIT_BATCH_DELAY / 1000,
     .doc = "how long a request may wait for more; default: what the package says"},
    {},
};
static const struct schema options_schema = {"EndpointOptions", options_fields, "how an endpoint serves"};

static const struct schema_field route_fields[] = {
    {"version", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"code_weights", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"share", SCHEMA_NUMBER, SCHEMA_REQUIRED, .doc = "of the requests, per cent"},
    {},
};
static const struct schema route_schema = {"EndpointRoute", route_fields, "a version of the model"};

static const struct schema_field replica_fields[] = {
    {"id", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"version", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"code_weights", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"state", SCHEMA_STRING, SCHEMA_REQUIRED,
     .values = (const char *const[]){"starting", "warming", "ready", "draining", "stopped", "failed", NULL}},
    {"reason", SCHEMA_STRING, SCHEMA_NULLABLE},
    {"message", SCHEMA_STRING, SCHEMA_NULLABLE},
    {},
};
static const struct schema replica_schema = {"Replica", replica_fields, "a process that serves a version"};

static const struct schema_field decision_fields[] = {
    {"time", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"version", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"from", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"to", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"reason", SCHEMA_STRING, SCHEMA_REQUIRED,
     .values = (const char *const[]){"minimum", "maximum", "request", "queue_time", "slack", "idle", NULL}},
    {"queue_time_ms", SCHEMA_NUMBER, .doc = "that requests waited, in the window that led to it"},
    {"queued", SCHEMA_INTEGER},
    {"running", SCHEMA_INTEGER},
    {"ready", SCHEMA_INTEGER, .doc = "replicas in that window"},
    {"busy", SCHEMA_NUMBER, .doc = "replicas that were at work on average"},
    {},
};
static const struct schema decision_schema = {"ScalingDecision", decision_fields,
                                              "why there are more or fewer replicas"};

static const struct schema_field scaling_fields[] = {
    {"version", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"wished", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "replicas that are to be there"},
    {"decision", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &decision_schema},
    {"cold_starts", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "from no replica to one because somebody asked"},
    {"cold_start_ms", SCHEMA_INTEGER, SCHEMA_NULLABLE, .doc = "of the last, from the request to the replica"},
    {"cold_start_mean_ms", SCHEMA_NUMBER, SCHEMA_NULLABLE},
    {},
};
static const struct schema scaling_schema = {"EndpointScaling", scaling_fields, "replicas that follow the load"};

static const struct schema_field batch_fields[] = {
    {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "requests that one call of predict_batch() takes; 1: no batches"},
    {"delay_ms", SCHEMA_NUMBER, SCHEMA_REQUIRED, .doc = "how long a request may wait for more"},
    {"reason", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "why there are none although the options wish them"},
    {},
};
static const struct schema batch_schema = {"EndpointBatch", batch_fields, "how requests are handed over together"};

static const struct schema_field cache_fields[] = {
    {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "bytes of answers that may be remembered; 0: none are"},
    {"reason", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "why none are although the options wish it"},
    {},
};
static const struct schema cache_schema = {"EndpointCache", cache_fields, "answers that are given again"};

static const struct schema_field endpoint_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"project", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"model", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"follow", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "alias whose moves are deployed by themselves"},
    {"state", SCHEMA_STRING, SCHEMA_REQUIRED,
     .values = (const char *const[]){"starting", "ready", "failed", "draining", NULL}},
    {"options", SCHEMA_OBJECT, SCHEMA_REQUIRED, .object = &options_schema},
    {"live", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &route_schema, .doc = "gets the requests"},
    {"standby", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &route_schema, .doc = "kept loaded for a rollback"},
    {"next", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &route_schema, .doc = "being deployed"},
    {"canary", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &route_schema, .doc = "gets a part of the requests"},
    {"shadow", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &route_schema,
     .doc = "gets copies of requests; nobody sees its answers"},
    {"batch", SCHEMA_OBJECT, SCHEMA_REQUIRED, .object = &batch_schema, .doc = "of the live version"},
    {"cache", SCHEMA_OBJECT, SCHEMA_REQUIRED, .object = &cache_schema, .doc = "of the live version"},
    {"replicas", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .object = &replica_schema},
    {"scaling", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &scaling_schema,
     .doc = "what was decided last for the live version; null: nothing yet"},
    {"deployment", SCHEMA_OBJECT, SCHEMA_NULLABLE, .doc = "the newest: id, kind, version, state, message"},
    {"url", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "where it answers"},
    {"problem", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "why nothing answers there: the gateway cannot run"},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"created_by", SCHEMA_STRING, SCHEMA_REQUIRED},
    {},
};
static const struct schema endpoint_schema = {"Endpoint", endpoint_fields, "a served URL"};

static const struct schema_field deployment_fields[] = {
    {"id", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"endpoint", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"kind", SCHEMA_STRING, SCHEMA_REQUIRED,
     .values = (const char *const[]){"deploy", "rollback", "follow", "canary", "shadow", "traffic", "promote", "abort",
                                     NULL}},
    {"version", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"previous", SCHEMA_INTEGER, SCHEMA_NULLABLE},
    {"state", SCHEMA_STRING, SCHEMA_REQUIRED,
     .values = (const char *const[]){"pending", "live", "running", "promoted", "aborted", "failed", "superseded",
                                     NULL}},
    {"message", SCHEMA_STRING, SCHEMA_NULLABLE},
    {"actor", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"ready_at", SCHEMA_TIME, SCHEMA_NULLABLE},
    {"switched_at", SCHEMA_TIME, SCHEMA_NULLABLE},
    {"ended_at", SCHEMA_TIME, SCHEMA_NULLABLE, .doc = "of a canary or shadow"},
    {"switch_us", SCHEMA_INTEGER, SCHEMA_NULLABLE,
     .doc = "microseconds from sending the new routes to the gateway to their being in force"},
    {"total_us", SCHEMA_INTEGER,
     .doc = "of a rollback, promotion, abort or change of shares: microseconds from the request to the routes being in "
            "force"},
    {"options", SCHEMA_OBJECT, SCHEMA_NULLABLE, .doc = "of a canary or shadow: as it was asked for"},
    {"decision", SCHEMA_OBJECT, SCHEMA_NULLABLE,
     .doc = "the rule that promoted or aborted it: verdict, rule, reason, seen, time"},
    {"problem", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "why its rules cannot be evaluated"},
    {},
};
static const struct schema deployment_schema = {"Deployment", deployment_fields, "a change of the live version"};

static const struct schema_field create_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 1, .max = LIMIT_NAME},
    {"model", SCHEMA_STRING, SCHEMA_REQUIRED, .max = 4 * LIMIT_NAME,
     .doc = "vision/digits@7, @3.5 or @production; an alias is followed"},
    {"options", SCHEMA_OBJECT, .object = &options_schema},
    {},
};
static const struct schema create_schema = {"EndpointCreate", create_fields, "a new endpoint"};

static const struct schema_field after_fields[] = {
    {"requests", SCHEMA_INTEGER, .min = 0, .max = 1e15, .doc = "that the version had"},
    {"ms", SCHEMA_INTEGER, .min = 0, .max = 1e12, .doc = "since it began"},
    {},
};
static const struct schema after_schema = {"EndpointTrialAfter", after_fields, "requests and time; both must pass"};

static const struct schema_field deploy_fields[] = {
    {"version", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 1, .max = 4 * LIMIT_NAME,
     .doc = "7, 3.5, production, newest, or a full address"},
    {"canary", SCHEMA_NUMBER, SCHEMA_NULLABLE, .min = 0, .max = 100,
     .doc = "per cent of the requests that it gets once it is ready; absent: it becomes live"},
    {"shadow", SCHEMA_BOOLEAN, .doc = "it gets copies of requests once it is ready; its answers are only compared"},
    {"sample", SCHEMA_NUMBER, .min = 0, .max = 1,
     .doc = "the part of the requests that is copied: of a shadow (1), of a canary that has nothing else to do (0)"},
    {"tolerance", SCHEMA_NUMBER, .min = 0, .max = 1e300,
     .doc = "numbers of compared answers agree within it, absolutely or in relation to the larger (0.000001)"},
    {"promote_if", SCHEMA_STRING, SCHEMA_NULLABLE, .max = LIMIT_RULE,
     .doc = "jq rule over its statistics and the live version's (docs/SERVING.md): true makes it live"},
    {"abort_if", SCHEMA_STRING, SCHEMA_NULLABLE, .max = LIMIT_RULE,
     .doc = "jq rule: true ends it; of a canary, by default, that it fails clearly more often than the live version"},
    {"after", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &after_schema,
     .doc = "when promote_if is first looked at (100 requests and 60000 ms)"},
    {"sticky", SCHEMA_STRING, SCHEMA_NULLABLE, .max = LIMIT_STICKY_HEADER,
     .doc = "header whose equal values stay on the same version, from now on"},
    {},
};
static const struct schema deploy_schema = {"EndpointDeploy", deploy_fields,
                                            "what is to become live, or stand beside what is"};

static const struct schema_field traffic_fields[] = {
    {"shares", SCHEMA_MAP, SCHEMA_REQUIRED, .item = SCHEMA_NUMBER, .min = 1, .max = 2,
     .doc = "version to per cent, of the live version and the canary: {\"7\": 90, \"8\": 10}"},
    {},
};
static const struct schema traffic_schema = {"EndpointTraffic", traffic_fields, "who gets how much"};

static const struct schema_field log_fields[] = {
    {"replica", SCHEMA_STRING, SCHEMA_REQUIRED}, {"version", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"time", SCHEMA_STRING, SCHEMA_REQUIRED},    {"stream", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"text", SCHEMA_STRING, SCHEMA_REQUIRED},    {},
};
static const struct schema log_schema = {"ReplicaLogLine", log_fields, "a line that a replica printed"};

/* -- reading -- */

static void add_url(const struct http_request *request, json_t *endpoint)
{
    const struct daemon *daemon = request->context;
    const char *base = daemon->serving ? serving_url(daemon->serving) : NULL;
    cleanup_free char *url = base ? xasprintf("%s/predict/%s", base, json_get_string(endpoint, "name", "")) : NULL;

    cleanup_free char *problem = base ? serving_problem(daemon->serving) : NULL;

    json_set_string(endpoint, "url", url);
    json_set_string(endpoint, "problem", problem);
}

static int list_endpoints(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int limit = http_page_limit(request);
    const char *project, *next = NULL;
    json_t *items, *item;
    size_t i;

    if (model_api_begin(request, false, &tx, &project, error) < 0)
        return -1;
    items = endpoint_list(&tx, project, http_page_after(request), limit, error);
    if (!items)
        return -1;
    json_array_foreach(items, i, item)
        add_url(request, item);
    if (json_array_size(items) == (size_t)limit)
        next = json_get_string(json_array_get(items, json_array_size(items) - 1), "name", NULL);
    http_reply_page(response, items, next);
    return 0;
}

static int reply_endpoint(struct http_request *request, struct http_response *response, int status, struct db_tx *tx,
                          const char *project, const char *name, struct error *error)
{
    json_t *endpoint = endpoint_describe(tx, project, name, error);

    if (!endpoint)
        return -1;
    add_url(request, endpoint);
    http_reply_json(response, status, endpoint);
    return 0;
}

static int get_endpoint(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    const char *project;

    if (model_api_begin(request, false, &tx, &project, error) < 0)
        return -1;
    return reply_endpoint(request, response, 200, &tx, project, http_path_param(request, "name"), error);
}

static int list_deployments(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int limit = http_page_limit(request);
    const char *project;
    int64_t before;
    json_t *items;

    if (model_api_before(request, &before, error) < 0 || model_api_begin(request, false, &tx, &project, error) < 0)
        return -1;
    items = endpoint_deployments(&tx, project, http_path_param(request, "name"), before, limit, error);
    if (!items)
        return -1;
    model_api_reply_numbers(response, items, limit, "id");
    return 0;
}

static int get_deployment(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    const char *project;
    json_t *deployment;
    int64_t id;

    if (parse_int(http_path_param(request, "id"), 1, INT64_MAX, &id, error) < 0 ||
        model_api_begin(request, false, &tx, &project, error) < 0)
        return -1;
    deployment = endpoint_deployment(&tx, project, id, error);
    if (!deployment)
        return -1;
    http_reply_json(response, 200, deployment);
    return 0;
}

static int get_gateway(struct http_request *request, struct http_response *response, struct error *error)
{
    const struct daemon *daemon = request->context;
    json_t *status;

    if (!daemon->serving || !serving_url(daemon->serving))
        return error_set(error, ERROR_UNAVAILABLE, "this daemon runs without a gateway");
    status = serving_status(daemon->serving, error);
    if (!status)
        return -1;
    http_reply_json(response, 200, status);
    return 0;
}

/* -- changing -- */

/* "vision/digits@7", or only what stands behind '@' where `model` is known. */
static int resolve(struct db_tx *tx, const char *project, const char *model, const char *text,
                   struct model_version *ret, struct error *error)
{
    cleanup_ref struct ref ref = REF_INIT;
    const char *version;

    if (model && !strchr(text, '/'))
        return model_resolve(tx, project, model, strcmp(text, "newest") == 0 ? NULL : text, ret, error);
    if (ref_parse(text, "model", &ref, error) < 0)
        return -1;
    if (ref.project && strcmp(ref.project, project) != 0)
        return error_set(error, ERROR_INVALID, "'%s' is of project %s, the endpoint of %s", text, ref.project, project);
    version = ref.version && strcmp(ref.version, "newest") == 0 ? NULL : ref.version;
    return model_resolve(tx, project, ref.name, version, ret, error);
}

/* There must be somebody to serve it. */
static int require_gateway(const struct http_request *request, struct error *error)
{
    const struct daemon *daemon = request->context;

    if (!daemon->serving || !serving_url(daemon->serving))
        return error_set(error, ERROR_UNAVAILABLE,
                         "this daemon runs without a gateway (slipway serve --serve ADDRESS)");
    return 0;
}

static int post_endpoint(struct http_request *request, struct http_response *response, struct error *error)
{
    const struct daemon *daemon = request->context;
    cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
    const char *project, *name = json_get_string(request->json, "name", "");
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct endpoint_options options;
    int64_t deployment;

    endpoint_options_read(json_object_get(request->json, "options"), &options);
    if (require_gateway(request, error) < 0 || model_api_begin(request, true, &tx, &project, error) < 0 ||
        resolve(&tx, project, NULL, json_get_string(request->json, "model", ""), &version, error) < 0 ||
        endpoint_create(&tx, project, name, &version, &options, request->principal->name, &deployment, error) < 0 ||
        reply_endpoint(request, response, 201, &tx, project, name, error) < 0 || db_commit(&tx, error) < 0)
        return -1;
    serving_changed(daemon->serving);
    return 0;
}

static int patch_endpoint(struct http_request *request, struct http_response *response, struct error *error)
{
    const struct daemon *daemon = request->context;
    const char *project, *name = http_path_param(request, "name");
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (model_api_begin(request, true, &tx, &project, error) < 0 ||
        endpoint_set_options(&tx, project, name, request->json, request->principal->name, error) < 0 ||
        reply_endpoint(request, response, 200, &tx, project, name, error) < 0 || db_commit(&tx, error) < 0)
        return -1;
    if (daemon->serving)
        serving_apply(daemon->serving);
    return 0;
}

static int reply_deployment(struct http_response *response, int status, struct db_tx *tx, int64_t id,
                            struct error *error)
{
    json_t *deployment = endpoint_deployment(tx, NULL, id, error);

    if (!deployment)
        return -1;
    http_reply_json(response, status, deployment);
    return 0;
}

/* What is asked for beside the live version: its kind and the options of endpoint_try(); NULL: nothing. Starts child
 * processes, which check the rules. */
static int read_trial(const json_t *body, const char **ret_kind, json_t **ret_options, struct error *error)
{
    static const char *const rules[] = {"promote_if", "abort_if", "after", "sample", "tolerance"};
    bool is_canary = json_is_number(json_object_get(body, "canary")), is_shadow = json_get_bool(body, "shadow", false);
    cleanup_json json_t *options = json_object();

    if (is_canary && is_shadow)
        return error_set(error, ERROR_INVALID, "a version is a canary or a shadow, not both");
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
        json_t *value = json_object_get(body, rules[i]);

        if (!value || json_is_null(value))
            continue;
        if (!is_canary && !is_shadow)
            return error_set(error, ERROR_INVALID, "'%s' is of a canary or a shadow", rules[i]);
        json_object_set(options, rules[i], value);
    }
    if (is_canary)
        json_set_number(options, "share", json_get_number(body, "canary", 0));
    json_set_number(options, "sample", json_get_number(body, "sample", is_shadow));
    json_set_number(options, "tolerance", json_get_number(body, "tolerance", TOLERANCE));
    *ret_kind = is_canary ? "canary" : is_shadow ? "shadow" : NULL;
    if (*ret_kind && trial_check(*ret_kind, options, error) < 0)
        return -1;
    *ret_options = steal_ptr(options);
    return 0;
}

/* The version becomes live, or stands beside the live one. */
static int begin_deployment(const struct http_request *request, struct db_tx *tx, const char *project,
                            const struct model_version *version, const char *kind, json_t *options,
                            int64_t *ret_deployment, struct error *error)
{
    const char *name = http_path_param(request, "name"), *actor = request->principal->name;
    cleanup_json json_t *changes = json_object();
    const char *sticky = json_get_string(request->json, "sticky", NULL);

    json_set_string(changes, "sticky", sticky);
    if (sticky && endpoint_set_options(tx, project, name, changes, actor, error) < 0)
        return -1;
    if (!kind)
        return endpoint_deploy(tx, project, name, version, "deploy", actor, ret_deployment, error);
    return endpoint_try(tx, project, name, version, kind, options, actor, ret_deployment, error);
}

static int post_deploy(struct http_request *request, struct http_response *response, struct error *error)
{
    const struct daemon *daemon = request->context;
    cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
    const char *project, *name = http_path_param(request, "name"), *kind = NULL;
    cleanup_json json_t *endpoint = NULL, *options = NULL;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int64_t deployment;

    if (require_gateway(request, error) < 0 || read_trial(request->json, &kind, &options, error) < 0 ||
        model_api_begin(request, true, &tx, &project, error) < 0)
        return -1;
    endpoint = endpoint_describe(&tx, project, name, error);
    if (!endpoint ||
        resolve(&tx, project, json_get_string(endpoint, "model", NULL), json_get_string(request->json, "version", ""),
                &version, error) < 0 ||
        begin_deployment(request, &tx, project, &version, kind, options, &deployment, error) < 0 ||
        reply_deployment(response, 202, &tx, deployment, error) < 0 || db_commit(&tx, error) < 0)
        return -1;
    serving_changed(daemon->serving);
    return 0;
}

/* Commits a change of the routes of what is loaded already, and answers when they are in force. */
static int reply_in_force(const struct http_request *request, struct http_response *response, struct db_tx *tx,
                          int64_t deployment, int64_t start_ns, struct error *error)
{
    const struct daemon *daemon = request->context;
    cleanup_json json_t *reply = endpoint_deployment(tx, NULL, deployment, error);
    int64_t switch_us;

    if (!reply || db_commit(tx, error) < 0)
        return -1;
    serving_changed(daemon->serving);
    if (serving_wait(daemon->serving, deployment, LIMIT_SWITCH_WAIT_MS, &switch_us) && switch_us >= 0) {
        json_set_string(reply, "state", "live");
        json_set_int(reply, "switch_us", switch_us);
        json_set_int(reply, "total_us", (clock_monotonic_ns() - start_ns) / NS_PER_US);
        json_set_time_ms(reply, "switched_at", clock_wall_ms());
    }
    http_reply_json(response, 200, steal_ptr(reply));
    return 0;
}

static int post_rollback(struct http_request *request, struct http_response *response, struct error *error)
{
    int64_t deployment, start_ns = clock_monotonic_ns();
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    const char *project;

    if (require_gateway(request, error) < 0 || model_api_begin(request, true, &tx, &project, error) < 0 ||
        endpoint_rollback(&tx, project, http_path_param(request, "name"), request->principal->name, &deployment,
                          error) < 0)
        return -1;
    return reply_in_force(request, response, &tx, deployment, start_ns, error);
}

/* Which of the versions beside the live one is meant. */
static int take_kind(const struct http_request *request, const char **ret_kind, struct error *error)
{
    const char *kind = http_query_param(request, "kind");

    *ret_kind = kind ? kind : "canary";
    if (strcmp(*ret_kind, "canary") != 0 && strcmp(*ret_kind, "shadow") != 0)
        return error_set(error, ERROR_INVALID, "query parameter 'kind' is canary or shadow");
    return 0;
}

static int post_promote(struct http_request *request, struct http_response *response, struct error *error)
{
    int64_t deployment, start_ns = clock_monotonic_ns();
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    const char *project, *kind;

    if (take_kind(request, &kind, error) < 0 || require_gateway(request, error) < 0 ||
        model_api_begin(request, true, &tx, &project, error) < 0 ||
        endpoint_promote(&tx, project, http_path_param(request, "name"), kind, NULL, request->principal->name,
                         &deployment, error) < 0)
        return -1;
    return reply_in_force(request, response, &tx, deployment, start_ns, error);
}

static int post_abort(struct http_request *request, struct http_response *response, struct error *error)
{
    int64_t deployment, start_ns = clock_monotonic_ns();
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    const char *project, *kind;

    if (take_kind(request, &kind, error) < 0 || require_gateway(request, error) < 0 ||
        model_api_begin(request, true, &tx, &project, error) < 0 ||
        endpoint_abort(&tx, project, http_path_param(request, "name"), kind, NULL, NULL, request->principal->name,
                       &deployment, error) < 0)
        return -1;
    return reply_in_force(request, response, &tx, deployment, start_ns, error);
}

static int read_shares(struct db_tx *tx, const char *project, const char *model, json_t *shares,
                       struct endpoint_share ret[SHARES], size_t *ret_count, struct error *error)
{
    const char *text;
    json_t *share;

    *ret_count = 0;
    json_object_foreach(shares, text, share) {
        cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
        double value = json_number_value(share);

        if (*ret_count == SHARES)
            return error_set(error, ERROR_INVALID, "only the live version and the canary have shares");
        if (!(value >= 0 && value <= 100))
            return error_set(error, ERROR_INVALID, "the share of version %.60s must be 0 to 100 per cent", text);
        if (resolve(tx, project, model, text, &version, error) < 0)
            return -1;
        ret[(*ret_count)++] = (struct endpoint_share){version.id, value};
    }
    return 0;
}

static int post_traffic(struct http_request *request, struct http_response *response, struct error *error)
{
    int64_t deployment, start_ns = clock_monotonic_ns();
    const char *project, *name = http_path_param(request, "name");
    cleanup_json json_t *endpoint = NULL;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct endpoint_share shares[SHARES];
    size_t count;

    if (require_gateway(request, error) < 0 || model_api_begin(request, true, &tx, &project, error) < 0)
        return -1;
    endpoint = endpoint_describe(&tx, project, name, error);
    if (!endpoint ||
        read_shares(&tx, project, json_get_string(endpoint, "model", NULL), json_object_get(request->json, "shares"),
                    shares, &count, error) < 0 ||
        endpoint_set_shares(&tx, project, name, shares, count, request->principal->name, &deployment, error) < 0)
        return -1;
    return reply_in_force(request, response, &tx, deployment, start_ns, error);
}

static int delete_endpoint(struct http_request *request, struct http_response *response, struct error *error)
{
    const struct daemon *daemon = request->context;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    const char *project;

    if (model_api_begin(request, true, &tx, &project, error) < 0 ||
        endpoint_remove(&tx, project, http_path_param(request, "name"), request->principal->name, error) < 0 ||
        db_commit(&tx, error) < 0)
        return -1;
    if (daemon->serving)
        serving_changed(daemon->serving);
    response->status = 204;
    return 0;
}

/* -- logs -- */

/* What a program prints need not be UTF-8. */
static json_t *printable(const char *text, size_t length)
{
    json_t *value = json_stringn(text, length);
    cleanup_free char *copy = NULL;

    if (value)
        return value;
    copy = xstrndup(text, length);
    for (char *p = copy; *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    return json_string(copy);
}

static void add_line(json_t *lines, const json_t *replica, const struct crilog_entry *entry)
{
    char time[CLOCK_RFC3339_SIZE];

    json_array_append_new(
        lines, json_build("{s:O, s:O, s:s, s:s, s:o}", "replica", json_object_get(replica, "id"), "version",
                          json_object_get(replica, "version"), "time", clock_format_ns(entry->time_ns, time), "stream",
                          crilog_stream_name(entry->stream), "text", printable(entry->text, entry->length)));
}

/* The last lines of one replica's log, at most `limit`. */
static json_t *read_log(const struct daemon *daemon, const json_t *replica, int limit)
{
    cleanup_free char *path = store_path(daemon->store, "runs/%s/0/log", json_get_string(replica, "id", ""));
    cleanup_free char *text = NULL;
    cleanup_fclose FILE *file = fopen(path, "re");
    json_t *lines = json_array();
    size_t length, at = 0;
    long size;

    if (!file)
        return lines; /* it has not started yet */
    text = xmalloc(LOG_TAIL);
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    fseek(file, size > (long)LOG_TAIL ? size - (long)LOG_TAIL : 0, SEEK_SET);
    length = fread(text, 1, LOG_TAIL, file);
    while (at < length) {
        struct crilog_entry entry;
        ssize_t n = crilog_parse(text + at, length - at, &entry, NULL);
        const char *end;

        if (n == 0)
            break;
        if (n > 0) {
            add_line(lines, replica, &entry);
            at += (size_t)n;
        } else { /* the first one may be cut */
            end = memchr(text + at, '\n', length - at);
            at = end ? (size_t)(end - text) + 1 : length;
        }
        if (json_array_size(lines) > (size_t)limit)
            json_array_remove(lines, 0);
    }
    return lines;
}

static int get_logs(struct http_request *request, struct http_response *response, struct error *error)
{
    const struct daemon *daemon = request->context;
    const char *project, *wanted = http_query_param(request, "replica");
    int limit = (int)http_query_int(request, "lines", 100);
    cleanup_json json_t *endpoint = NULL, *all = json_array();
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    json_t *replica;
    size_t i;

    if (limit < 1 || limit > 10000)
        return error_set(error, ERROR_INVALID, "query parameter 'lines' must be 1 to 10000");
    if (model_api_begin(request, false, &tx, &project, error) < 0)
        return -1;
    endpoint = endpoint_describe(&tx, project, http_path_param(request, "name"), error);
    if (!endpoint)
        return -1;
    db_end(&tx);
    json_array_foreach(json_object_get(endpoint, "replicas"), i, replica) {
        cleanup_json json_t *lines = NULL;

        if (wanted && strncmp(json_get_string(replica, "id", ""), wanted, strlen(wanted)) != 0)
            continue;
        lines = read_log(daemon, replica, limit);
        json_array_extend(all, lines);
    }
    http_reply_page(response, steal_ptr(all), NULL);
    return 0;
}

static const struct http_query_row logs_query[] = {
    {"replica", SCHEMA_STRING, .doc = "only of this replica (the beginning of its id is enough)"},
    {"lines", SCHEMA_INTEGER, .doc = "newest lines of each replica (100)"},
    {},
};

static const struct http_query_row kind_query[] = {
    {"kind", SCHEMA_STRING, .doc = "canary or shadow (canary)"},
    {},
};

#define ENDPOINT "/api/v1/endpoints/{name}"

const struct http_route endpoint_routes[] = {
    {"GET", "/api/v1/endpoints", SCOPE_VIEW, list_endpoints, "list endpoints", .paged = true,
     .response = &endpoint_schema, .tag = "endpoints"},
    {"POST", "/api/v1/endpoints", SCOPE_DEVELOP, post_endpoint, "create an endpoint", .request = &create_schema,
     .body = HTTP_BODY_JSON, .response = &endpoint_schema, .status = 201, .tag = "endpoints"},
    {"GET", ENDPOINT, SCOPE_VIEW, get_endpoint, "show an endpoint", .response = &endpoint_schema, .tag = "endpoints"},
    {"PATCH", ENDPOINT, SCOPE_DEVELOP, patch_endpoint, "change how a living endpoint serves",
     .request = &options_schema, .body = HTTP_BODY_JSON, .response = &endpoint_schema, .tag = "endpoints"},
    {"DELETE", ENDPOINT, SCOPE_DEVELOP, delete_endpoint, "drain and remove an endpoint", .status = 204,
     .tag = "endpoints"},
    {"POST", ENDPOINT "/deploy", SCOPE_DEVELOP, post_deploy,
     "load a version and make it live, or a canary, when it is ready", .request = &deploy_schema,
     .body = HTTP_BODY_JSON, .response = &deployment_schema, .status = 202, .tag = "endpoints"},
    {"POST", ENDPOINT "/rollback", SCOPE_DEVELOP, post_rollback,
     "end the canary, else make the version before live again", .response = &deployment_schema, .tag = "endpoints"},
    {"POST", ENDPOINT "/promote", SCOPE_DEVELOP, post_promote, "make the canary live", .query = kind_query,
     .response = &deployment_schema, .tag = "endpoints"},
    {"POST", ENDPOINT "/abort", SCOPE_DEVELOP, post_abort, "end the canary", .query = kind_query,
     .response = &deployment_schema, .tag = "endpoints"},
    {"POST", ENDPOINT "/traffic", SCOPE_DEVELOP, post_traffic, "change the shares of live version and canary",
     .request = &traffic_schema, .body = HTTP_BODY_JSON, .response = &deployment_schema, .tag = "endpoints"},
    {"GET", ENDPOINT "/deployments", SCOPE_VIEW, list_deployments, "list deployments, newest first", .paged = true,
     .response = &deployment_schema, .tag = "endpoints"},
    {"GET", ENDPOINT "/logs", SCOPE_VIEW, get_logs, "show what the replicas printed", .query = logs_query,
     .paged = true, .response = &log_schema, .tag = "endpoints"},
    {"GET", "/api/v1/deployments/{id}", SCOPE_VIEW, get_deployment, "show a deployment", .response = &deployment_schema,
     .tag = "endpoints"},
    {"GET", "/api/v1/gateway", SCOPE_VIEW, get_gateway, "show the gateway's state and counters", .tag = "endpoints"},
    {},
};
