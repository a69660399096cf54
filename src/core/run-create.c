/* Submission: what a request may say, how it meets the job's definition, and what is decided for good. */
#include <string.h>
#include "core/environment.h"
#include "core/job.h"
#include "core/job-fields.h"
#include "core/model.h"
#include "core/run.h"
#include "core/run-data.h"
#include "store/journal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

#define DEFAULT_CPUS     1.0
#define DEFAULT_GRACE_MS 10000

static const struct schema_field resource_fields[] = {
    {"cpus", SCHEMA_NUMBER, .min = 0.01, .max = 65536, .doc = "CPU cores of a node, fractions allowed (1)"},
    {"memory", SCHEMA_INTEGER, .min = 0, .max = 1e18, .doc = "bytes of a node; 0: not limited (0)"},
    {"gpus", SCHEMA_INTEGER, .min = 0, .max = 1024, .doc = "GPUs of a node, for it alone (0)"},
    {"gpu_memory", SCHEMA_INTEGER, .min = 0, .max = 1e18, .doc = "bytes that each of its GPUs must have (0)"},
    {},
};
static const struct schema resource_schema = {"RunResources", resource_fields, "what a node of a run needs"};

static const struct schema_field gate_fields[] = {
    {"rule", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 1, .max = LIMIT_DESCRIPTION,
     .doc = "jq program; true accepts the model"},
    {"alias", SCHEMA_STRING, .max = LIMIT_NAME, .doc = "alias that an accepted model gets (production)"},
    {},
};
static const struct schema gate_schema = {"RunGate", gate_fields, "accept or reject the model that the run makes"};

static const struct schema_field node_count_fields[] = {
    {"chief", SCHEMA_INTEGER, .min = 0, .max = 1},
    {"main", SCHEMA_INTEGER, .min = 0, .max = LIMIT_RUN_NODES},
    {"worker", SCHEMA_INTEGER, .min = 0, .max = LIMIT_RUN_NODES},
    {"ps", SCHEMA_INTEGER, .min = 0, .max = LIMIT_RUN_NODES},
    {},
};
static const struct schema node_count_schema = {"RunNodeCounts", node_count_fields, "nodes of a run by role"};

#define DEFINITION_FIELDS                                                                                              \
    {"code", SCHEMA_STRING, SCHEMA_NULLABLE, .max = 71, .doc = "digest of a zip that was uploaded as a blob"},         \
        {"entry",  SCHEMA_ARRAY, .item = SCHEMA_STRING,                                                                \
         .min = 1, .max = 1024,  .doc = "program and its arguments, run in the code's directory"},                     \
        {"environment", SCHEMA_STRING, SCHEMA_NULLABLE, .max = 200, .doc = "host, or NAME[@VERSION] (host)"},          \
        {"datasets", SCHEMA_ARRAY, .item = SCHEMA_STRING, .max = LIMIT_RUN_DATASETS,                                   \
         .doc = "addresses; seen at /slipway/data/NAME/"},                                                             \
        {"parameters", SCHEMA_OBJECT, .doc = "free; seen in /slipway/params.json"},                                    \
        {"resources", SCHEMA_OBJECT, .object = &resource_schema},                                                      \
        {"nodes", SCHEMA_OBJECT, .object = &node_count_schema, .doc = "nodes by role ({\"main\":1})"},                 \
        {"priority", SCHEMA_INTEGER, .min = -1000, .max = 1000, .doc = "higher runs first (0)"},                       \
        {"timeout_ms", SCHEMA_INTEGER, .min = 0, .max = 1e13, .doc = "longest run time; 0: none (0)"},                 \
        {"grace_ms", SCHEMA_INTEGER, .min = 0, .max = 86400000, .doc = "between SIGTERM and SIGKILL (10000)"},         \
        {"retries", SCHEMA_INTEGER, .min = 0, .max = 1000, .doc = "attempts after one that failed (0)"},               \
        {"network", SCHEMA_BOOLEAN, .doc = "the host's network instead of loopback only (false)"},                     \
        {"model", SCHEMA_STRING, SCHEMA_NULLABLE, .max = 2 * LIMIT_NAME + 1,                                           \
         .doc = "model whose versions the weights become"},                                                            \
        {"gate", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &gate_schema},                                              \
        {"labels", SCHEMA_MAP, .item = SCHEMA_STRING, .doc = "free words to find runs by"}

const struct schema_field job_definition_fields[] = {DEFINITION_FIELDS, {}};
const struct schema job_definition_schema = {"JobDefinition", job_definition_fields, "defaults of a job's runs"};

static const struct schema_field job_create_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 1, .max = LIMIT_NAME, .doc = "name of the job"},
    DEFINITION_FIELDS,
    {},
};
const struct schema job_create_schema = {"JobCreate", job_create_fields, "a new job"};

static const struct schema_field run_request_fields[] = {
    {"job", SCHEMA_STRING, SCHEMA_NULLABLE, .max = LIMIT_NAME, .doc = "job that gives the defaults"},
    {"code_version", SCHEMA_INTEGER, .min = 1, .max = 1e9, .doc = "of the job (its newest)"},
    {"name", SCHEMA_STRING, SCHEMA_NULLABLE, .max = LIMIT_NAME, .doc = "free name"},
    {"arguments", SCHEMA_ARRAY, .item = SCHEMA_STRING, .max = 1024, .doc = "appended to the entry"},
    DEFINITION_FIELDS,
    {},
};
const struct schema run_request_schema = {"RunRequest", run_request_fields, "what to run"};

/* -- meeting of job and request -- */

static bool is_merged_by_key(const char *key)
{
    return strcmp(key, "resources") == 0 || strcmp(key, "parameters") == 0 || strcmp(key, "labels") == 0;
}

void job_definition_merge(json_t *definition, const json_t *changes)
{
    const char *key;
    json_t *value, *old;

    json_object_foreach((json_t *)changes, key, value) {
        old = json_object_get(definition, key);
        if (json_is_null(value))
            json_object_del(definition, key);
        else if (is_merged_by_key(key) && json_is_object(old) && json_is_object(value))
            json_object_update(old, value);
        else
            json_object_set_new(definition, key, json_deep_copy(value));
    }
}

struct submission {
    struct db_tx *tx;
    const char *project;
    json_t *definition; /* job and request */
    json_t *spec;
    char *code;
    int code_version;
    int nodes;
    struct run_resources resources;
};

static int check_entry(struct submission *s, struct error *error)
{
    cleanup_json json_t *entry = json_deep_copy(json_object_get(s->definition, "entry"));
    const json_t *more = json_object_get(s->definition, "arguments");
    json_t *word;
    size_t i;

    if (!entry)
        return error_set(error, ERROR_INVALID, "field 'entry' is missing: name the program to run");
    json_array_foreach(more, i, word)
        json_array_append(entry, word);
    json_array_foreach(entry, i, word) {
        if (strlen(json_string_value(word)) != json_string_length(word))
            return error_set(error, ERROR_INVALID, "field 'entry[%zu]' holds a NUL character", i);
    }
    if (json_string_length(json_array_get(entry, 0)) == 0)
        return error_set(error, ERROR_INVALID, "field 'entry[0]' must name a program");
    json_object_set(s->spec, "entry", entry);
    return 0;
}

static int check_code(struct submission *s, const struct job *job, struct error *error)
{
    const char *text = json_get_string(s->definition, "code", NULL);
    int version = (int)json_get_int(s->definition, "code_version", 0);
    char buffer[DIGEST_TEXT_SIZE];
    struct digest digest;

    if (text && version == 0) {
        if (digest_parse(text, &digest, error) < 0)
            return error_wrap(error, "field 'code'");
        s->code = xstrdup(text);
    } else if (job) {
        cleanup_error struct error missing = ERROR_INIT;

        if (job_code(s->tx, job, version, &digest, &s->code_version, &missing) < 0) {
            if (version || missing.code != ERROR_NOT_FOUND) {
                error_move(error, &missing);
                return -1;
            }
            return 0; /* a job without code runs a program of its environment */
        }
        s->code = xstrdup(digest_format(&digest, buffer));
    } else if (version) {
        return error_set(error, ERROR_INVALID, "field 'code_version' needs field 'job'");
    }
    return 0;
}

static int check_environment(struct submission *s, struct error *error)
{
    const char *address = json_get_string(s->definition, "environment", "host");
    cleanup_environment struct environment environment = {0};
    cleanup_free char *full = NULL;

    if (strcmp(address, "host") == 0) {
        json_object_set_new(s->spec, "environment", json_build("{s:s}", "name", "host"));
        return 0;
    }
    if (environment_load(s->tx, s->project, address, &environment, error) < 0)
        return -1;
    full = xasprintf("%s@%d", environment.name, environment.version);
    json_object_set_new(s->spec, "environment",
                        json_build("{s:s, s:s}", "name", full, "digest", environment.digest[s->resources.gpus > 0]));
    return 0;
}

static int check_parameters(struct submission *s, struct error *error)
{
    json_t *parameters = json_object_get(s->definition, "parameters"), *value;
    const char *key;

    if (json_object_size(parameters) > LIMIT_PARAMETERS)
        return error_set(error, ERROR_TOO_LARGE, "a run takes at most %d parameters", LIMIT_PARAMETERS);
    json_object_foreach(parameters, key, value) {
        cleanup_free char *text = json_text(value);

        if (!*key || strlen(key) > 200)
            return error_set(error, ERROR_INVALID, "the name of a parameter has 1 to 200 characters");
        if (strlen(text) > LIMIT_PARAMETER)
            return error_set(error, ERROR_TOO_LARGE, "parameter '%s' is over %d bytes", key, (int)LIMIT_PARAMETER);
    }
    json_object_set_new(s->spec, "parameters", parameters ? json_incref(parameters) : json_object());
    return 0;
}

static int check_resources(struct submission *s, struct error *error)
{
    const json_t *resources = json_object_get(s->definition, "resources");
    json_t *nodes = json_object_get(s->definition, "nodes"), *count;
    const char *role;

    s->resources.cpus = json_get_number(resources, "cpus", DEFAULT_CPUS);
    s->resources.memory = (uint64_t)json_get_int(resources, "memory", 0);
    s->resources.gpus = (int)json_get_int(resources, "gpus", 0);
    s->resources.gpu_memory = (uint64_t)json_get_int(resources, "gpu_memory", 0);
    if (s->resources.gpu_memory && !s->resources.gpus)
        s->resources.gpus = 1;
    json_object_set_new(s->spec, "resources",
                        json_build("{s:f, s:I, s:i, s:I}", "cpus", s->resources.cpus, "memory",
                                   (json_int_t)s->resources.memory, "gpus", s->resources.gpus, "gpu_memory",
                                   (json_int_t)s->resources.gpu_memory));

    json_object_foreach(nodes, role, count)
        s->nodes += (int)json_integer_value(count);
    if (!nodes)
        s->nodes = 1;
    if (s->nodes < 1 || s->nodes > LIMIT_RUN_NODES)
        return error_set(error, ERROR_INVALID, "field 'nodes' must sum to 1 to %d, not %d", LIMIT_RUN_NODES, s->nodes);
    json_object_set_new(s->spec, "nodes", nodes ? json_incref(nodes) : json_build("{s:i}", "main", 1));
    return 0;
}

static int check_model(struct submission *s, struct error *error)
{
    const char *model = json_get_string(s->definition, "model", NULL);
    json_t *gate = json_object_get(s->definition, "gate");

    if (gate && !model)
        return error_set(error, ERROR_INVALID, "field 'gate' needs field 'model'");
    if (model && model_check_name(model, error) < 0)
        return -1;
    if (model && !s->code)
        return error_set(error, ERROR_INVALID, "field 'model' needs field 'code': a version is code and weights");
    json_set_string(s->spec, "model", model);
    json_object_set_new(s->spec, "gate", gate ? json_incref(gate) : json_null());
    return 0;
}

static void copy_int(struct submission *s, const char *key, int64_t otherwise)
{
    json_set_int(s->spec, key, json_get_int(s->definition, key, otherwise));
}

static int resolve_datasets(struct submission *s, struct error *error)
{
    const json_t *addresses = json_object_get(s->definition, "datasets");
    json_t *datasets = json_array(), *address;
    size_t i, k;

    json_object_set_new(s->spec, "datasets", datasets);
    json_array_foreach(addresses, i, address) {
        json_t *dataset = run_resolve_dataset(s->tx, s->project, json_string_value(address), error), *other;

        if (!dataset)
            return -1;
        json_array_foreach(datasets, k, other) {
            if (strcmp(json_get_string(other, "name", ""), json_get_string(dataset, "name", "")) == 0) {
                json_decref(dataset);
                return error_set(error, ERROR_INVALID, "two datasets are called '%s'",
                                 json_get_string(other, "name", ""));
            }
        }
        json_array_append_new(datasets, dataset);
    }
    return 0;
}

static int insert(struct submission *s, const char *id, const char *actor, struct error *error)
{
    cleanup_json json_t *data = json_object();
    cleanup_free char *subject = xasprintf("run/%s", id);
    const json_t *d = s->definition, *labels = json_object_get(d, "labels");
    struct journal_event event = {
        .type = "slipway.run.queued", .subject = subject, .project = s->project, .actor = actor, .data = data};

    if (db_exec(s->tx, error,
                "INSERT INTO runs (id, project, name, job, job_code, code, model, state, reason, retries, "
                "priority, "
                "nodes, cpus, memory, gpus, gpu_memory, timeout_ms, spec, labels, created_at, created_by) "
                "VALUES (?, ?, ?, ?, nullif(?, 0), ?, ?, ?, 'submitted', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                "ssssissiiiidiiiijjis", id, s->project, json_get_string(d, "name", NULL),
                json_get_string(d, "job", NULL), (int64_t)s->code_version, s->code, json_get_string(d, "model", NULL),
                (int64_t)RUN_QUEUED, json_get_int(d, "retries", 0), json_get_int(d, "priority", 0), (int64_t)s->nodes,
                s->resources.cpus, (int64_t)s->resources.memory, (int64_t)s->resources.gpus,
                (int64_t)s->resources.gpu_memory, json_get_int(d, "timeout_ms", 0), s->spec, labels, clock_wall_ms(),
                actor ? actor : "system") < 0)
        return -1;
    if (run_use_datasets(s->tx, s->project, id, s->spec, error) < 0)
        return -1;

    json_set_string(data, "reason", "submitted");
    json_set_int(data, "attempt", 1);
    json_set_string(data, "job", json_get_string(d, "job", NULL));
    return journal_append(s->tx, &event, NULL, error);
}

/* The parts are tested in the order in which a person would mend them. */
static int decide(struct submission *s, const struct job *job, struct error *error)
{
    if (check_entry(s, error) < 0 || check_code(s, job, error) < 0 || check_resources(s, error) < 0 ||
        check_environment(s, error) < 0 || check_parameters(s, error) < 0 || resolve_datasets(s, error) < 0 ||
        check_model(s, error) < 0)
        return -1;
    copy_int(s, "timeout_ms", 0);
    copy_int(s, "grace_ms", DEFAULT_GRACE_MS);
    copy_int(s, "retries", 0);
    copy_int(s, "priority", 0);
    json_set_bool(s->spec, "network", json_get_bool(s->definition, "network", false));
    json_set_string(s->spec, "code", s->code);
    return 0;
}

int run_create(struct db_tx *tx, const char *project, const char *actor, const json_t *request, char ret_id[ID_SIZE],
               struct error *error)
{
    cleanup_json json_t *definition = NULL;
    cleanup_json json_t *spec = json_object();
    cleanup_job struct job *job = NULL;
    cleanup_free char *code = NULL;
    const char *job_name = json_get_string(request, "job", NULL);
    struct submission s = {.tx = tx, .project = project, .spec = spec};
    char id[ID_SIZE];
    int r;

    if (job_name && job_load(tx, project, job_name, &job, error) < 0)
        return -1;
    definition = job ? json_deep_copy(job->definition) : json_object();
    job_definition_merge(definition, request);
    s.definition = definition;
    r = decide(&s, job, error);
    code = s.code;
    if (r < 0)
        return -1;

    id_new(id);
    if (insert(&s, id, actor, error) < 0)
        return -1;
    memcpy(ret_id, id, sizeof(id));
    return 0;
}
