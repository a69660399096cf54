/* Runs. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "api/api.h"
#include "api/daemon.h"
#include "api/run.h"
#include "core/metric.h"
#include "core/project.h"
#include "schedule/launch.h"
#include "schedule/orchestrator.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

int run_of_request(struct http_request *request, bool write, struct db_tx *tx, struct run **ret_run,
                   struct error *error)
{
    struct daemon *daemon = request->context;
    const struct http_principal *principal = request->principal;
    cleanup_run struct run *run = NULL;
    const char *project;

    if (http_project(request, &project, error) < 0)
        return -1;
    /* An id is unique over all projects; only a token that is bound to one is held to it. */
    if (!principal->project && !http_query_param(request, "project"))
        project = NULL;
    if ((write ? db_begin_write(daemon->store->db, tx, error) : db_begin_read(daemon->store->db, tx, error)) < 0 ||
        run_find(tx, project, http_path_param(request, "id"), &run, error) < 0)
        return -1;
    if (principal->run_id && strcmp(principal->run_id, run->id) != 0)
        return error_set(error, ERROR_FORBIDDEN, "the token of run %s is for that run only", principal->run_id);
    *ret_run = steal_ptr(run);
    return 0;
}

int run_node_of_request(struct http_request *request, const struct run *run, int *ret_attempt, int *ret_node,
                        struct error *error)
{
    const char *text = http_path_param(request, "node");
    int64_t node = 0, attempt = http_query_int(request, "attempt", run->attempt);

    if (text && parse_int(text, 0, run->nodes - 1, &node, error) < 0)
        return error_wrap(error, "node of run %s", run->id);
    if (attempt < 1 || attempt > run->attempt)
        return error_set(error, ERROR_NOT_FOUND, "run %s has attempts 1 to %d, not %lld", run->id, run->attempt,
                         (long long)attempt);
    *ret_node = (int)node;
    *ret_attempt = (int)attempt;
    return 0;
}

/* -- submit, list, show -- */

int run_submit(struct http_request *request, struct http_response *response, const json_t *body, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;
    const char *project;
    char id[ID_SIZE];

    if (request->principal->run_id)
        return error_set(error, ERROR_FORBIDDEN, "the token of a run cannot submit runs");
    if (http_project(request, &project, error) < 0 || run_check_gate(body, error) < 0 ||
        run_check_code(request, body, error) < 0 || db_begin_write(daemon->store->db, &tx, error) < 0 ||
        project_check(&tx, project, error) < 0 ||
        run_create(&tx, project, request->principal->name, body, id, error) < 0 ||
        run_load(&tx, NULL, id, &run, error) < 0 || db_commit(&tx, error) < 0)
        return -1;
    orchestrator_run_queued(daemon->orchestrator, id);
    http_reply_json(response, 201, run_to_json(run));
    return 0;
}

static int post_run(struct http_request *request, struct http_response *response, struct error *error)
{
    return run_submit(request, response, request->json, error);
}

static int list_runs(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    const char *state = http_query_param(request, "state");
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct run_filter filter = {.state = -1,
                                .job = http_query_param(request, "job"),
                                .model = http_query_param(request, "model"),
                                .label = http_query_param(request, "label"),
                                .before = http_page_after(request),
                                .limit = http_page_limit(request)};
    char next[ID_SIZE];
    json_t *items;

    if (http_project(request, &filter.project, error) < 0)
        return -1;
    if (state) {
        filter.state = state_parse(&run_states, state, error);
        if (filter.state < 0)
            return -1;
    }
    if (db_begin_read(daemon->store->db, &tx, error) < 0)
        return -1;
    items = run_list(&tx, &filter, next, error);
    if (!items)
        return -1;
    http_reply_page(response, items, *next ? next : NULL);
    return 0;
}

static int get_run(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;

    if (run_of_request(request, false, &tx, &run, error) < 0)
        return -1;
    http_reply_json(response, 200, run_to_json(run));
    return 0;
}

/* -- change -- */

/* Commits, tells the orchestrator, answers with the run. */
static int finish_change(struct http_request *request, struct http_response *response, struct db_tx *tx,
                         const struct run *run, int status, struct error *error)
{
    struct daemon *daemon = request->context;

    if (db_commit(tx, error) < 0)
        return -1;
    if (run->state == RUN_QUEUED)
        orchestrator_run_queued(daemon->orchestrator, run->id);
    orchestrator_run_changed(daemon->orchestrator, run->id);
    http_reply_json(response, status, run_to_json(run));
    return 0;
}

static int stop_run(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;

    if (run_of_request(request, true, &tx, &run, error) < 0 ||
        run_request_stop(&tx, run, request->principal->name, error) < 0)
        return -1;
    return finish_change(request, response, &tx, run, 202, error);
}

static int retry_run(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;

    if (run_of_request(request, true, &tx, &run, error) < 0 || run_retry(&tx, run, request->principal->name, error) < 0)
        return -1;
    return finish_change(request, response, &tx, run, 202, error);
}

static int patch_run(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;

    if (run_of_request(request, true, &tx, &run, error) < 0 ||
        run_set_priority(&tx, run, (int)json_get_int(request->json, "priority", 0), "requested",
                         request->principal->name, error) < 0)
        return -1;
    return finish_change(request, response, &tx, run, 200, error);
}

static int delete_run(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_free char *directory = NULL;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;

    if (run_of_request(request, true, &tx, &run, error) < 0 ||
        run_delete(&tx, run, request->principal->name, error) < 0 || db_commit(&tx, error) < 0)
        return -1;
    directory = store_path(daemon->store, "runs/%s", run->id);
    if (fs_remove_all(directory, error) < 0)
        return -1;
    response->status = 204;
    return 0;
}

/* -- look closer -- */

static int get_why(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;
    json_t *why;

    if (run_of_request(request, false, &tx, &run, error) < 0)
        return -1;
    db_end(&tx);
    why = orchestrator_why(daemon->orchestrator, run->id, error);
    if (!why)
        return -1;
    json_set_string(why, "run", run->id);
    http_reply_json(response, 200, why);
    return 0;
}

static int get_nodes(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;
    json_t *items;

    if (run_of_request(request, false, &tx, &run, error) < 0)
        return -1;
    items = run_nodes(&tx, run->id, error);
    if (!items)
        return -1;
    http_reply_page(response, items, NULL);
    return 0;
}

static int get_metrics(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;
    struct metric_query query = {.name = http_query_param(request, "name"),
                                 .attempt = (int)http_query_int(request, "attempt", 0),
                                 .node = (int)http_query_int(request, "node", -1),
                                 .after = http_query_int(request, "after", 0),
                                 .points = (int)http_query_int(request, "points", 1000)};
    json_t *items;

    if (run_of_request(request, false, &tx, &run, error) < 0)
        return -1;
    query.run_id = run->id;
    items = metric_read(&tx, &query, error);
    if (!items)
        return -1;
    http_reply_page(response, items, NULL);
    return 0;
}

static int get_weights(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;
    json_t *items;

    if (run_of_request(request, false, &tx, &run, error) < 0)
        return -1;
    items = run_weights_list(&tx, run->id, error);
    if (!items)
        return -1;
    http_reply_page(response, items, NULL);
    return 0;
}

static int find_weights(struct db_tx *tx, const char *run_id, int64_t generation, struct digest *ret_digest,
                        struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT digest FROM run_weights WHERE run_id = ?1 AND (?2 = 0 OR generation = ?2) "
                 "ORDER BY generation DESC LIMIT 1",
                 "si", run_id, generation) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r < 0 ? -1 : error_set(error, ERROR_NOT_FOUND, "run %s has no such weights generation", run_id);
    return digest_parse(db_text(&rows, 0), ret_digest, error);
}

static int download_weights(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    const char *text = http_path_param(request, "generation");
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;
    cleanup_close int fd = -1;
    struct digest digest;
    int64_t generation = 0;
    uint64_t size;

    if (strcmp(text, "latest") != 0 && parse_int(text, 1, INT32_MAX, &generation, error) < 0)
        return -1;
    if (run_of_request(request, false, &tx, &run, error) < 0 ||
        find_weights(&tx, run->id, generation, &digest, error) < 0)
        return -1;
    db_end(&tx);
    if (vault_size(daemon->store->vault, &digest, &size, error) < 0 ||
        vault_get(daemon->store->vault, &digest, &fd, error) < 0)
        return -1;
    http_reply_fd(response, 200, "application/octet-stream", steal_fd(&fd), size);
    return 0;
}

/* -- artifacts -- */

static int open_out(struct http_request *request, struct run **ret_run, int *ret_fd, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_free char *directory = NULL, *out = NULL;
    int attempt, node;

    if (run_of_request(request, false, &tx, ret_run, error) < 0 ||
        run_node_of_request(request, *ret_run, &attempt, &node, error) < 0)
        return -1;
    node = (int)http_query_int(request, "node", node);
    directory = launch_directory(daemon->store, (*ret_run)->id, attempt, node);
    out = fs_join(directory, "out");
    *ret_fd = open(out, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (*ret_fd < 0)
        return error_set(error, ERROR_NOT_FOUND, "node %d of run %s has left no artifacts (they appear at its end)",
                         node, (*ret_run)->id);
    return 0;
}

/* Names and sizes as the exit record lists them. */
static int list_artifacts(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;
    cleanup_json json_t *nodes = NULL;
    json_t *items, *node, *artifact;
    size_t i, k;
    int attempt, unused;

    if (run_of_request(request, false, &tx, &run, error) < 0 ||
        run_node_of_request(request, run, &attempt, &unused, error) < 0)
        return -1;
    nodes = run_nodes(&tx, run->id, error);
    if (!nodes)
        return -1;
    items = json_array();
    json_array_foreach(nodes, i, node) {
        if (json_get_int(node, "attempt", 0) != attempt)
            continue;
        json_array_foreach(json_object_get(json_object_get(node, "exit"), "artifacts"), k, artifact) {
            json_t *item = json_copy(artifact);

            json_set_int(item, "node", json_get_int(node, "node", 0));
            json_array_append_new(items, item);
        }
    }
    http_reply_page(response, items, NULL);
    return 0;
}

static int get_artifact(struct http_request *request, struct http_response *response, struct error *error)
{
    const char *path = http_path_param(request, "path");
    cleanup_run struct run *run = NULL;
    cleanup_close int directory = -1, fd = -1;
    struct stat st;

    if (!fs_is_safe_name(path))
        return error_set(error, ERROR_INVALID, "'%.200s' is not the name of an artifact", path);
    if (open_out(request, &run, &directory, error) < 0)
        return -1;
    fd = fs_open_beneath(directory, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0, error);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return error_set(error, ERROR_NOT_FOUND, "'%.200s' is not a file", path);
    http_reply_fd(response, 200, "application/octet-stream", steal_fd(&fd), (uint64_t)st.st_size);
    return 0;
}

/* -- rows -- */

static const struct http_query_row list_query[] = {
    {"state", SCHEMA_STRING, .doc = "queued, starting, running, succeeded, failed, stopped, lost"},
    {"job", SCHEMA_STRING, .doc = "runs of this job"},
    {"model", SCHEMA_STRING, .doc = "runs for this model"},
    {"label", SCHEMA_STRING, .doc = "KEY or KEY=VALUE"},
    {},
};

static const struct http_query_row metric_query[] = {
    {"name", SCHEMA_STRING, .doc = "one metric (all)"},
    {"attempt", SCHEMA_INTEGER, .doc = "one attempt (all)"},
    {"node", SCHEMA_INTEGER, .doc = "one node (all)"},
    {"after", SCHEMA_INTEGER, .doc = "points with a greater sequence number"},
    {"points", SCHEMA_INTEGER, .doc = "at most so many a series, 0: all (1000)"},
    {},
};

static const struct http_query_row log_query[] = {
    {"attempt", SCHEMA_INTEGER, .doc = "which attempt (the newest)"},
    {"after", SCHEMA_INTEGER, .doc = "byte offset to go on from; then at most about 4 MiB are sent"},
    {"tail", SCHEMA_INTEGER, .doc = "only so many of the last lines"},
    {"skip_lines", SCHEMA_INTEGER, .doc = "lines to leave out at the start"},
    {"timestamps", SCHEMA_BOOLEAN, .doc = "each line begins with its time and stream"},
    {},
};

static const struct http_query_row follow_query[] = {
    {"attempt", SCHEMA_INTEGER, .doc = "attempt to begin with (the newest)"},
    {"node", SCHEMA_INTEGER, .doc = "node whose log is followed (0)"},
    {"after", SCHEMA_INTEGER, .doc = "byte offset of the log to go on from"},
    {"tail", SCHEMA_INTEGER, .doc = "begin with so many of the last lines"},
    {"metrics_after", SCHEMA_INTEGER, .doc = "sequence number of the last metric that was seen"},
    {},
};

static const struct http_query_row attempt_query[] = {
    {"attempt", SCHEMA_INTEGER, .doc = "which attempt (the newest)"},
    {"node", SCHEMA_INTEGER, .doc = "which node (0)"},
    {},
};

static const struct schema_field patch_fields[] = {
    {"priority", SCHEMA_INTEGER, SCHEMA_REQUIRED, .min = -1000, .max = 1000},
    {},
};
static const struct schema patch_schema = {"RunPatch", patch_fields, "what can be changed of a run"};

static const struct schema why_schema = {
    "RunWhy",
    (const struct schema_field[]){
        {"run", SCHEMA_STRING, SCHEMA_REQUIRED},
        {"state", SCHEMA_STRING, SCHEMA_REQUIRED},
        {"reason", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "resources, behind, environment, impossible, starting, …"},
        {"message", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "what it waits for and what would let it start"},
        {"position", SCHEMA_INTEGER, .doc = "in the queue, from 1"},
        {"ahead", SCHEMA_INTEGER, .doc = "runs before it"},
        {"missing", SCHEMA_ARRAY, .item = SCHEMA_OBJECT, .doc = "resource, needed, free, total"},
        {"holders", SCHEMA_ARRAY, .item = SCHEMA_OBJECT, .doc = "who has what, until when"},
        {"head", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "the run that the machine is kept free for"},
        {"expected_at", SCHEMA_TIME, SCHEMA_NULLABLE, .doc = "when it starts at the latest, if that is known"},
        {}},
    "why a run waits"};

static const struct schema node_schema = {
    "RunNode",
    (const struct schema_field[]){
        {"attempt", SCHEMA_INTEGER, SCHEMA_REQUIRED},
        {"node", SCHEMA_INTEGER, SCHEMA_REQUIRED},
        {"role", SCHEMA_STRING, SCHEMA_REQUIRED},
        {"state", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "launching, running, exited, lost"},
        {"gpus", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "devices it was given"},
        {"warnings", SCHEMA_INTEGER, SCHEMA_REQUIRED},
        {"launched_at", SCHEMA_TIME, SCHEMA_NULLABLE},
        {"started_at", SCHEMA_TIME, SCHEMA_NULLABLE},
        {"ended_at", SCHEMA_TIME, SCHEMA_NULLABLE},
        {"exit", SCHEMA_OBJECT, SCHEMA_NULLABLE, .doc = "the exit record, see the run contract"},
        {"stats", SCHEMA_OBJECT, SCHEMA_NULLABLE, .doc = "newest resource use"},
        {}},
    "a process of a run"};

static const struct schema series_schema = {
    "MetricSeries",
    (const struct schema_field[]){
        {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
        {"attempt", SCHEMA_INTEGER, SCHEMA_REQUIRED},
        {"node", SCHEMA_INTEGER, SCHEMA_REQUIRED},
        {"count", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "points before thinning out"},
        {"min", SCHEMA_NUMBER, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
        {"max", SCHEMA_NUMBER, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
        {"last", SCHEMA_NUMBER, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
        {"points", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_ANY, .doc = "[step, time in ms, value, sequence]"},
        {}},
    "a metric over time"};

static const struct schema weights_schema = {
    "RunWeights",
    (const struct schema_field[]){
        {"generation", SCHEMA_INTEGER, SCHEMA_REQUIRED},
        {"digest", SCHEMA_STRING, SCHEMA_REQUIRED},
        {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED},
        {"step", SCHEMA_NUMBER, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "newest step before it"},
        {"name", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "as the program called the file"},
        {"created_at", SCHEMA_TIME, SCHEMA_NULLABLE},
        {"attempt", SCHEMA_INTEGER, SCHEMA_REQUIRED},
        {"node", SCHEMA_INTEGER, SCHEMA_REQUIRED},
        {}},
    "a weights generation"};

static const struct schema artifact_schema = {
    "RunArtifact",
    (const struct schema_field[]){{"path", SCHEMA_STRING, SCHEMA_REQUIRED},
                                  {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "bytes"},
                                  {"node", SCHEMA_INTEGER, SCHEMA_REQUIRED},
                                  {}},
    "a file that a run left in /slipway/out"};

#define RUN "/api/v1/runs/{id}"

const struct http_route run_routes[] = {
    {"GET", "/api/v1/runs", SCOPE_VIEW, list_runs, "list runs, newest first", .query = list_query, .paged = true,
     .response = &run_schema, .tag = "runs"},
    {"POST", "/api/v1/runs", SCOPE_DEVELOP, post_run, "submit a run", .request = &run_request_schema,
     .body = HTTP_BODY_JSON, .response = &run_schema, .status = 201, .tag = "runs"},
    {"GET", RUN, SCOPE_VIEW, get_run, "show a run (id, a prefix of 8 digits, or 'last')", .response = &run_schema,
     .tag = "runs"},
    {"PATCH", RUN, SCOPE_DEVELOP, patch_run, "change a run's priority", .request = &patch_schema,
     .body = HTTP_BODY_JSON, .response = &run_schema, .tag = "runs"},
    {"DELETE", RUN, SCOPE_DEVELOP, delete_run, "remove an ended run with log, metrics and artifacts", .status = 204,
     .tag = "runs", .slow = true},
    {"POST", RUN "/stop", SCOPE_DEVELOP, stop_run, "stop a run", .response = &run_schema, .status = 202, .tag = "runs"},
    {"POST", RUN "/retry", SCOPE_DEVELOP, retry_run, "begin a new attempt of a run that failed, was stopped or lost",
     .response = &run_schema, .status = 202, .tag = "runs"},
    {"GET", RUN "/why", SCOPE_VIEW, get_why, "say why a run waits and what would let it start", .response = &why_schema,
     .tag = "runs"},
    {"GET", RUN "/nodes", SCOPE_VIEW, get_nodes, "list the nodes of all attempts", .paged = true,
     .response = &node_schema, .tag = "runs"},
    {"GET", RUN "/nodes/{node}/log", SCOPE_VIEW, run_get_log,
     "read a node's log; the header Slipway-Log-Offset says "
     "where to go on",
     .query = log_query, .content_type = "text/plain", .tag = "runs"},
    {"GET", RUN "/nodes/{node}/log/follow", SCOPE_VIEW, run_follow_log, "follow a node's log", .query = follow_query,
     .websocket = true, .tag = "runs"},
    {"GET", RUN "/metrics", SCOPE_VIEW, get_metrics, "read metrics", .query = metric_query, .paged = true,
     .response = &series_schema, .tag = "runs"},
    {"GET", RUN "/metrics/follow", SCOPE_VIEW, run_follow_metrics, "follow metrics", .query = follow_query,
     .websocket = true, .tag = "runs"},
    {"GET", RUN "/follow", SCOPE_VIEW, run_follow, "follow states, log and metrics until the run has ended",
     .query = follow_query, .websocket = true, .tag = "runs"},
    {"GET", RUN "/weights", SCOPE_VIEW, get_weights, "list weights generations", .paged = true,
     .response = &weights_schema, .tag = "runs"},
    {"GET", RUN "/weights/{generation}", SCOPE_VIEW, download_weights, "download a generation ('latest': newest)",
     .content_type = "application/octet-stream", .tag = "runs"},
    {"GET", RUN "/artifacts", SCOPE_VIEW, list_artifacts, "list artifacts", .query = attempt_query, .paged = true,
     .response = &artifact_schema, .tag = "runs"},
    {"GET", RUN "/artifacts/{path...}", SCOPE_VIEW, get_artifact, "download an artifact", .query = attempt_query,
     .content_type = "application/octet-stream", .tag = "runs"},
    {},
};
