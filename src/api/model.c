/* Models, versions, aliases, release records. */
#include <string.h>
#include "api/daemon.h"
#include "api/model.h"
#include "core/compare.h"
#include "core/model.h"
#include "core/package.h"
#include "core/release.h"
#include "core/run.h"
#include "schedule/orchestrator.h"
#include "schedule/serving.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

int model_api_begin(struct http_request *request, bool write, struct db_tx *tx, const char **ret_project,
                    struct error *error)
{
    struct daemon *daemon = request->context;

    if (http_project(request, ret_project, error) < 0)
        return -1;
    return write ? db_begin_write(daemon->store->db, tx, error) : db_begin_read(daemon->store->db, tx, error);
}

/* "vision/digits" from the two parts of the path; to be freed. */
static char *model_name(const struct http_request *request)
{
    return xasprintf("%s/%s", http_path_param(request, "type"), http_path_param(request, "name"));
}

/* "newest" and "latest" stand for no version at all. */
static const char *version_text(const char *text)
{
    return text && (strcmp(text, "newest") == 0 || strcmp(text, "latest") == 0) ? NULL : text;
}

static int begin_with_version(struct http_request *request, bool write, struct db_tx *tx, const char *text,
                              struct model_version *ret, struct error *error)
{
    cleanup_free char *name = model_name(request);
    const char *project;

    if (model_api_begin(request, write, tx, &project, error) < 0)
        return -1;
    return model_resolve(tx, project, name, version_text(text), ret, error);
}

static void tell_serving(const struct http_request *request)
{
    const struct daemon *daemon = request->context;

    if (daemon->serving)
        serving_changed(daemon->serving);
}

/* -- schemas -- */

static const struct schema_field model_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "TYPE/NAME"},
    {"type", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"project", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"newest", SCHEMA_INTEGER, SCHEMA_NULLABLE, .doc = "number of the newest version"},
    {"versions", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "how many there are"},
    {"aliases", SCHEMA_MAP, SCHEMA_REQUIRED, .item = SCHEMA_INTEGER, .doc = "alias → version"},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {},
};
static const struct schema model_schema = {"Model", model_fields, "a named series of versions"};

static const struct schema_field version_fields[] = {
    {"model", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"project", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"address", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "vision/digits@7"},
    {"version", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"code_weights", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "the same as code.weights: 3.5"},
    {"code", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "number of the code version"},
    {"weights", SCHEMA_INTEGER, SCHEMA_NULLABLE, .doc = "number of the weights generation"},
    {"code_digest", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"code_size", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "bytes"},
    {"weights_digest", SCHEMA_STRING, SCHEMA_NULLABLE},
    {"weights_size", SCHEMA_INTEGER, SCHEMA_NULLABLE, .doc = "bytes"},
    {"weights_name", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "as the program called the file"},
    {"run", SCHEMA_STRING, SCHEMA_NULLABLE},
    {"generation", SCHEMA_INTEGER, SCHEMA_NULLABLE, .doc = "of the run"},
    {"step", SCHEMA_INTEGER, SCHEMA_NULLABLE},
    {"metrics", SCHEMA_OBJECT, .doc = "newest values when the weights were saved"},
    {"package", SCHEMA_OBJECT, SCHEMA_NULLABLE, .doc = "what the package is; null: not looked at yet"},
    {"aliases", SCHEMA_ARRAY, .item = SCHEMA_STRING},
    {"gate", SCHEMA_OBJECT, SCHEMA_NULLABLE, .doc = "verdict, reason, alias"},
    {"served_by", SCHEMA_ARRAY, .item = SCHEMA_STRING, .doc = "endpoints where it is live"},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"created_by", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"release", SCHEMA_OBJECT, .doc = "the fact sheet; when one version is asked for"},
    {},
};
static const struct schema version_schema = {"ModelVersion", version_fields, "a pair of code and weights"};

static const struct schema_field addition_fields[] = {
    {"code", SCHEMA_STRING, .max = 71, .doc = "digest of the package's zip; default: the newest code version"},
    {"weights", SCHEMA_STRING, .max = 71, .doc = "digest of the weights' safetensors file"},
    {"weights_name", SCHEMA_STRING, .max = 255, .doc = "file name of the weights"},
    {"metrics", SCHEMA_MAP, .item = SCHEMA_NUMBER},
    {"facts", SCHEMA_OBJECT, .doc = "goes to the release record"},
    {},
};
static const struct schema addition_schema = {"ModelAddition", addition_fields, "what becomes a version without a run"};

static const struct schema_field alias_fields[] = {
    {"version", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 1, .max = 64, .doc = "7, 3.5, an alias, or newest"},
    {},
};
static const struct schema alias_schema = {"ModelAliasRequest", alias_fields, "where an alias is to point"};

static const struct schema_field move_fields[] = {
    {"alias", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"version", SCHEMA_INTEGER, SCHEMA_NULLABLE},
    {"previous", SCHEMA_INTEGER, SCHEMA_NULLABLE},
    {"reason", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"actor", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"time", SCHEMA_TIME, SCHEMA_REQUIRED},
    {},
};
static const struct schema move_schema = {"ModelAliasMove", move_fields, "a move of an alias"};

static const struct schema_field verify_fields[] = {
    {"model", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"project", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"ok", SCHEMA_BOOLEAN, SCHEMA_REQUIRED},
    {"records", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "length of the chain"},
    {"head", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "hash of its last record"},
    {"versions", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"blobs", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "blobs that were read again and have their digest"},
    {"broken", SCHEMA_OBJECT, SCHEMA_NULLABLE, .doc = "the first fault"},
    {},
};
static const struct schema verify_schema = {"ModelVerification", verify_fields, "is the record chain whole"};

static const struct schema_field diff_fields[] = {
    {"a", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"b", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "what a is compared with"},
    {"total", SCHEMA_OBJECT, SCHEMA_REQUIRED},
    {"tensors", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT},
    {},
};
static const struct schema diff_schema = {"ModelDiff", diff_fields, "differences of weights, per tensor"};

/* -- reading -- */

static int list_models(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int limit = http_page_limit(request);
    const char *project, *next = NULL;
    json_t *items;

    if (model_api_begin(request, false, &tx, &project, error) < 0)
        return -1;
    items = model_list(&tx, project, http_query_param(request, "type"), http_page_after(request), limit, error);
    if (!items)
        return -1;
    if (json_array_size(items) == (size_t)limit)
        next = json_get_string(json_array_get(items, json_array_size(items) - 1), "name", NULL);
    http_reply_page(response, items, next);
    return 0;
}

static int get_model(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_free char *name = model_name(request);
    const char *project;
    json_t *model;

    if (model_api_begin(request, false, &tx, &project, error) < 0)
        return -1;
    model = model_describe(&tx, project, name, error);
    if (!model)
        return -1;
    http_reply_json(response, 200, model);
    return 0;
}

/* The cursor of lists that go from the newest number downwards. */
int model_api_before(const struct http_request *request, int64_t *ret_before, struct error *error)
{
    const char *after = http_page_after(request);

    *ret_before = 0;
    return after ? parse_int(after, 1, INT64_MAX, ret_before, error) : 0;
}

void model_api_reply_numbers(struct http_response *response, json_t *items, int limit, const char *key)
{
    char next[24];
    bool more = json_array_size(items) == (size_t)limit;

    if (more)
        snprintf(next, sizeof(next), "%lld",
                 (long long)json_get_int(json_array_get(items, json_array_size(items) - 1), key, 0));
    http_reply_page(response, items, more ? next : NULL);
}

static int list_versions(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_free char *name = model_name(request);
    int limit = http_page_limit(request);
    const char *project;
    int64_t before;
    json_t *items;

    if (model_api_before(request, &before, error) < 0 || model_api_begin(request, false, &tx, &project, error) < 0)
        return -1;
    items = model_versions(&tx, project, name, before, limit, error);
    if (!items)
        return -1;
    model_api_reply_numbers(response, items, limit, "version");
    return 0;
}

static int reply_version(struct http_response *response, int status, struct db_tx *tx,
                         const struct model_version *version, struct error *error)
{
    cleanup_json json_t *reply = model_version_describe(tx, version->id, error);
    json_t *sheet;

    if (!reply)
        return -1;
    sheet = release_sheet(tx, version->project, version->model, version->number, error);
    if (!sheet)
        return -1;
    json_object_set_new(reply, "release", sheet);
    http_reply_json(response, status, steal_ptr(reply));
    return 0;
}

static int get_version(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (begin_with_version(request, false, &tx, http_path_param(request, "version"), &version, error) < 0)
        return -1;
    return reply_version(response, 200, &tx, &version, error);
}

static int get_release(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    json_t *records;

    if (begin_with_version(request, false, &tx, http_path_param(request, "version"), &version, error) < 0)
        return -1;
    records = release_records(&tx, version.project, version.model, version.number, error);
    if (!records)
        return -1;
    http_reply_json(response, 200, records);
    return 0;
}

static int send_blob(struct http_request *request, struct http_response *response, bool weights, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct digest digest;
    const char *text;
    uint64_t size;
    int fd;

    if (begin_with_version(request, false, &tx, http_path_param(request, "version"), &version, error) < 0)
        return -1;
    db_end(&tx);
    text = weights ? version.weights_digest : version.code_digest;
    if (!text)
        return error_set(error, ERROR_NOT_FOUND, "%s@%lld has no weights", version.model, (long long)version.number);
    if (digest_parse(text, &digest, error) < 0 || vault_size(daemon->store->vault, &digest, &size, error) < 0 ||
        vault_get(daemon->store->vault, &digest, &fd, error) < 0)
        return -1;
    http_reply_header(response, "ETag", text);
    http_reply_fd(response, 200, weights ? "application/octet-stream" : "application/zip", fd, size);
    return 0;
}

static int get_code(struct http_request *request, struct http_response *response, struct error *error)
{
    return send_blob(request, response, false, error);
}

static int get_weights(struct http_request *request, struct http_response *response, struct error *error)
{
    return send_blob(request, response, true, error);
}

static int get_diff(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_model_version struct model_version a = MODEL_VERSION_INIT, b = MODEL_VERSION_INIT;
    const char *base = http_query_param(request, "base");
    cleanup_free char *name_a = NULL, *name_b = NULL;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    json_t *diff;

    if (!base)
        return error_set(error, ERROR_INVALID, "query parameter 'base' is missing: the version to compare with");
    if (begin_with_version(request, false, &tx, http_path_param(request, "version"), &a, error) < 0 ||
        model_resolve(&tx, a.project, a.model, version_text(base), &b, error) < 0)
        return -1;
    db_end(&tx);
    if (!a.weights_digest || !b.weights_digest)
        return error_set(error, ERROR_CONFLICT, "%s@%lld has no weights", a.model,
                         (long long)(a.weights_digest ? b.number : a.number));
    diff = compare_blobs(daemon->store, a.weights_digest, b.weights_digest, error);
    if (!diff)
        return -1;
    name_a = xasprintf("%s@%lld", a.model, (long long)a.number);
    name_b = xasprintf("%s@%lld", b.model, (long long)b.number);
    json_set_string(diff, "a", name_a);
    json_set_string(diff, "b", name_b);
    http_reply_json(response, 200, diff);
    return 0;
}

static int post_verify(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_free char *name = model_name(request);
    const char *project;
    json_t *report;

    if (http_project(request, &project, error) < 0 || model_check_name(name, error) < 0)
        return -1;
    report = release_verify(daemon->store, project, name, !http_query_bool(request, "chain_only"), error);
    if (!report)
        return -1;
    http_reply_json(response, 200, report);
    return 0;
}

/* -- changing -- */

static int blob_size(struct daemon *daemon, const char *text, const char *field, uint64_t *ret_size,
                     struct error *error)
{
    struct digest digest;

    if (digest_parse(text, &digest, error) < 0)
        return error_wrap(error, "field '%s'", field);
    if (vault_size(daemon->store->vault, &digest, ret_size, error) < 0)
        return error_wrap(error, "upload the %s first: POST /api/v1/blobs", field);
    return 0;
}

/* The weights must be what they say, or nothing could be compared or served. */
static int check_weights(struct daemon *daemon, const char *text, struct error *error)
{
    cleanup_json json_t *same = compare_blobs(daemon->store, text, text, error);

    return same ? 0 : error_wrap(error, "field 'weights'");
}

static int post_version(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_model_version struct model_version newest = MODEL_VERSION_INIT, added = MODEL_VERSION_INIT;
    cleanup_free char *name = model_name(request);
    cleanup_json json_t *package = NULL;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct model_addition addition = {
        .model = name,
        .code = json_get_string(request->json, "code", NULL),
        .weights = json_get_string(request->json, "weights", NULL),
        .weights_name = json_get_string(request->json, "weights_name", NULL),
        .metrics = json_object_get(request->json, "metrics"),
        .facts = json_object_get(request->json, "facts"),
        .step = -1,
        .actor = request->principal->name,
    };
    int64_t number;
    char text[24];

    if (!addition.code && !addition.weights)
        return error_set(error, ERROR_INVALID, "there must be 'code', 'weights', or both");
    if (model_check_name(name, error) < 0 ||
        (addition.weights && (blob_size(daemon, addition.weights, "weights", &addition.weights_size, error) < 0 ||
                              check_weights(daemon, addition.weights, error) < 0)))
        return -1;
    if (addition.code) {
        if (blob_size(daemon, addition.code, "code", &addition.code_size, error) < 0)
            return -1;
        package = package_inspect(daemon->store, addition.code, error);
        if (!package)
            return -1;
        if (!json_get_bool(package, "servable", false))
            return error_set(error, ERROR_INVALID, "this is not a model package: %s",
                             json_get_string(package, "reason", ""));
        addition.package = package;
    }
    if (model_api_begin(request, true, &tx, &addition.project, error) < 0)
        return -1;
    if (!addition.code) {
        if (model_resolve(&tx, addition.project, name, NULL, &newest, error) < 0)
            return error_wrap(error, "weights alone need a code version");
        addition.code = newest.code_digest;
    }
    if (model_add(&tx, &addition, &number, error) < 0)
        return -1;
    snprintf(text, sizeof(text), "%lld", (long long)number);
    if (model_resolve(&tx, addition.project, name, text, &added, error) < 0 ||
        reply_version(response, 201, &tx, &added, error) < 0)
        return -1;
    return db_commit(&tx, error);
}

static int delete_version(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (begin_with_version(request, true, &tx, http_path_param(request, "version"), &version, error) < 0 ||
        model_remove_version(&tx, &version, request->principal->name, error) < 0 || db_commit(&tx, error) < 0)
        return -1;
    response->status = 204;
    return 0;
}

static int delete_model(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_free char *name = model_name(request);
    const char *project;

    if (model_api_begin(request, true, &tx, &project, error) < 0 ||
        model_remove(&tx, project, name, request->principal->name, error) < 0 || db_commit(&tx, error) < 0)
        return -1;
    response->status = 204;
    return 0;
}

static int put_alias(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (begin_with_version(request, true, &tx, json_get_string(request->json, "version", ""), &version, error) < 0 ||
        model_promote(&tx, &version, http_path_param(request, "alias"), "promoted", request->principal->name, error) <
            0 ||
        reply_version(response, 200, &tx, &version, error) < 0 || db_commit(&tx, error) < 0)
        return -1;
    tell_serving(request);
    return 0;
}

static int delete_alias(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_free char *name = model_name(request);
    const char *project;

    if (model_api_begin(request, true, &tx, &project, error) < 0 ||
        model_remove_alias(&tx, project, name, http_path_param(request, "alias"), request->principal->name, error) <
            0 ||
        db_commit(&tx, error) < 0)
        return -1;
    response->status = 204;
    return 0;
}

static int rollback_alias(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_free char *name = model_name(request);
    const char *project;
    int64_t number;
    char text[24];

    if (model_api_begin(request, true, &tx, &project, error) < 0 ||
        model_rollback(&tx, project, name, http_path_param(request, "alias"), request->principal->name, &number,
                       error) < 0)
        return -1;
    snprintf(text, sizeof(text), "%lld", (long long)number);
    if (model_resolve(&tx, project, name, text, &version, error) < 0 ||
        reply_version(response, 200, &tx, &version, error) < 0 || db_commit(&tx, error) < 0)
        return -1;
    tell_serving(request);
    return 0;
}

static int list_moves(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_free char *name = model_name(request);
    const char *project;
    json_t *moves;

    if (model_api_begin(request, false, &tx, &project, error) < 0)
        return -1;
    moves = model_alias_history(&tx, project, name, http_query_param(request, "alias"), LIMIT_PAGE, error);
    if (!moves)
        return -1;
    http_reply_page(response, moves, NULL);
    return 0;
}

/* -- the same run again -- */

static json_t *string_of(const json_t *value, const char *otherwise)
{
    if (json_is_object(value))
        return json_string(json_get_string(value, "address", json_get_string(value, "name", otherwise)));
    return json_is_string(value) ? json_incref((json_t *)value) : json_string(otherwise);
}

/* The body of POST /api/v1/runs that the release record describes. */
static json_t *run_request(const struct model_version *version, const json_t *sheet, struct error *error)
{
    static const char *const kept[] = {"entry", "parameters", "resources", "nodes"};
    cleanup_free char *label = xasprintf("%s@%lld", version->model, (long long)version->number);
    cleanup_json json_t *body = NULL, *datasets = json_array(), *seen = json_object();
    json_t *entry;
    size_t i;

    if (!version->run_id) {
        error_set(error, ERROR_CONFLICT, "%s was pushed by hand: there is no run to repeat", label);
        return NULL;
    }
    json_array_foreach(json_object_get(sheet, "data"), i, entry) {
        const char *address = json_get_string(entry, "address", "");

        if (!json_object_get(seen, address))
            json_array_append_new(datasets, json_string(address));
        json_object_set_new(seen, address, json_true());
    }
    body = json_build("{s:s, s:O, s:o, s:{s:s}}", "code", version->code_digest, "datasets", datasets, "environment",
                      string_of(json_object_get(sheet, "environment"), "host"), "labels", "reproduces", label);
    for (i = 0; i < ARRAY_SIZE(kept); i++)
        if (json_object_get(sheet, kept[i]))
            json_object_set(body, kept[i], json_object_get(sheet, kept[i]));
    return steal_ptr(body);
}

static int post_reproduce(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
    cleanup_json json_t *sheet = NULL, *body = NULL;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    char id[ID_SIZE];

    if (begin_with_version(request, true, &tx, http_path_param(request, "version"), &version, error) < 0)
        return -1;
    sheet = release_sheet(&tx, version.project, version.model, version.number, error);
    body = sheet ? run_request(&version, sheet, error) : NULL;
    if (!body)
        return -1;
    if (run_create(&tx, version.project, request->principal->name, body, id, error) < 0)
        return error_wrap(error, "cannot repeat run %s", version.run_id);
    if (db_commit(&tx, error) < 0)
        return -1;
    orchestrator_run_queued(daemon->orchestrator, id);
    http_reply_json(response, 201,
                    json_build("{s:s, s:s, s:s?, s:O}", "run", id, "original", version.run_id, "weights_digest",
                               version.weights_digest, "generation", json_object_get(sheet, "generation")));
    return 0;
}

static const struct schema_field reproduce_fields[] = {
    {"run", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "the new run"},
    {"original", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "the run that made the version"},
    {"weights_digest", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "what the new run's weights must have"},
    {"generation", SCHEMA_INTEGER, SCHEMA_NULLABLE, .doc = "the generation to compare"},
    {},
};
static const struct schema reproduce_schema = {"ModelReproduction", reproduce_fields, "a run that repeats another"};

static const struct http_query_row list_query[] = {
    {"type", SCHEMA_STRING, .doc = "only models of this type"},
    {},
};
static const struct http_query_row verify_query[] = {
    {"chain_only", SCHEMA_BOOLEAN, .doc = "do not read the blobs"},
    {},
};
static const struct http_query_row diff_query[] = {
    {"base", SCHEMA_STRING, .doc = "version to compare with (required)"},
    {},
};
static const struct http_query_row moves_query[] = {
    {"alias", SCHEMA_STRING, .doc = "only this alias"},
    {},
};

#define MODEL   "/api/v1/models/{type}/{name}"
#define VERSION MODEL "/versions/{version}"

const struct http_route model_routes[] = {
    {"GET", "/api/v1/models", SCOPE_VIEW, list_models, "list models", .query = list_query, .paged = true,
     .response = &model_schema, .tag = "models"},
    {"GET", MODEL, SCOPE_VIEW, get_model, "show a model", .response = &model_schema, .tag = "models"},
    {"DELETE", MODEL, SCOPE_DEVELOP, delete_model, "remove a model with all versions", .status = 204, .tag = "models"},
    {"GET", MODEL "/versions", SCOPE_VIEW, list_versions, "list versions, newest first", .paged = true,
     .response = &version_schema, .tag = "models"},
    {"POST", MODEL "/versions", SCOPE_DEVELOP, post_version, "add a version from uploaded blobs",
     .request = &addition_schema, .body = HTTP_BODY_JSON, .response = &version_schema, .status = 201, .slow = true,
     .tag = "models"},
    {"GET", VERSION, SCOPE_VIEW, get_version, "show a version with its fact sheet", .response = &version_schema,
     .tag = "models"},
    {"DELETE", VERSION, SCOPE_DEVELOP, delete_version, "remove a version that nothing uses", .status = 204,
     .tag = "models"},
    {"GET", VERSION "/release", SCOPE_VIEW, get_release, "show the release records of a version", .tag = "models"},
    {"GET", VERSION "/code", SCOPE_VIEW, get_code, "download the code or package", .content_type = "application/zip",
     .slow = true, .tag = "models"},
    {"GET", VERSION "/weights", SCOPE_VIEW, get_weights, "download the weights",
     .content_type = "application/octet-stream", .slow = true, .tag = "models"},
    {"GET", VERSION "/diff", SCOPE_VIEW, get_diff, "compare weights with another version", .query = diff_query,
     .response = &diff_schema, .slow = true, .tag = "models"},
    {"POST", VERSION "/reproduce", SCOPE_DEVELOP, post_reproduce, "run again exactly what made a version",
     .response = &reproduce_schema, .status = 201, .tag = "models"},
    {"POST", MODEL "/verify", SCOPE_VIEW, post_verify, "check the chain of release records and the blobs",
     .query = verify_query, .response = &verify_schema, .slow = true, .tag = "models"},
    {"GET", MODEL "/aliases", SCOPE_VIEW, list_moves, "list the moves of aliases, newest first", .query = moves_query,
     .paged = true, .response = &move_schema, .tag = "models"},
    {"PUT", MODEL "/aliases/{alias}", SCOPE_DEVELOP, put_alias, "point an alias to a version", .request = &alias_schema,
     .body = HTTP_BODY_JSON, .response = &version_schema, .tag = "models"},
    {"DELETE", MODEL "/aliases/{alias}", SCOPE_DEVELOP, delete_alias, "remove an alias", .status = 204,
     .tag = "models"},
    {"POST", MODEL "/aliases/{alias}/rollback", SCOPE_DEVELOP, rollback_alias, "point an alias to where it was before",
     .response = &version_schema, .tag = "models"},
    {},
};
