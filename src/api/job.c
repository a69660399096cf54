/* Jobs and their code versions. */
#include <string.h>
#include "api/api.h"
#include "api/daemon.h"
#include "api/run.h"
#include "core/gate.h"
#include "core/job.h"
#include "core/job-fields.h"
#include "core/project.h"
#include "core/run.h"
#include "schedule/orchestrator.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/strvec.h"

/* Checked before any transaction: a rule is compiled by a child process. */
int run_check_gate(const json_t *body, struct error *error)
{
    const json_t *gate = json_object_get(body, "gate");

    if (!json_is_object(gate))
        return 0;
    return gate_check(json_get_string(gate, "rule", ""), json_get_string(gate, "alias", NULL), error);
}

static int begin(struct http_request *request, bool write, struct db_tx *tx, const char **ret_project,
                 struct error *error)
{
    struct daemon *daemon = request->context;

    if (http_project(request, ret_project, error) < 0)
        return -1;
    return write ? db_begin_write(daemon->store->db, tx, error) : db_begin_read(daemon->store->db, tx, error);
}

static int begin_with_job(struct http_request *request, bool write, struct db_tx *tx, struct job **ret_job,
                          struct error *error)
{
    const char *project;

    if (begin(request, write, tx, &project, error) < 0)
        return -1;
    return job_load(tx, project, http_path_param(request, "name"), ret_job, error);
}

static int list_jobs(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int limit = http_page_limit(request);
    const char *project, *next = NULL;
    json_t *items;

    if (begin(request, false, &tx, &project, error) < 0)
        return -1;
    items = job_list(&tx, project, http_page_after(request), limit, error);
    if (!items)
        return -1;
    if (json_array_size(items) == (size_t)limit)
        next = json_get_string(json_array_get(items, json_array_size(items) - 1), "name", NULL);
    http_reply_page(response, items, next);
    return 0;
}

static int reply_job(struct http_response *response, int status, struct db_tx *tx, const char *project,
                     const char *name, struct error *error)
{
    cleanup_job struct job *job = NULL;
    json_t *reply;

    if (job_load(tx, project, name, &job, error) < 0)
        return -1;
    reply = job_to_json(tx, job, error);
    if (!reply)
        return -1;
    http_reply_json(response, status, reply);
    return 0;
}

/* A digest that a client names must be of a blob that is there. */
static int check_blob(struct http_request *request, const char *text, struct digest *ret_digest, uint64_t *ret_size,
                      struct error *error)
{
    struct daemon *daemon = request->context;

    if (digest_parse(text, ret_digest, error) < 0)
        return error_wrap(error, "field 'code'");
    if (vault_size(daemon->store->vault, ret_digest, ret_size, error) < 0)
        return error_wrap(error, "upload the code first: POST /api/v1/blobs");
    if (*ret_size > LIMIT_CODE)
        return error_set(error, ERROR_TOO_LARGE, "code is over %llu bytes", (unsigned long long)LIMIT_CODE);
    return 0;
}

int run_check_code(struct http_request *request, const json_t *body, struct error *error)
{
    const char *code = json_get_string(body, "code", NULL);
    struct digest digest;
    uint64_t size;

    return code ? check_blob(request, code, &digest, &size, error) : 0;
}

static int post_job(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_json json_t *definition = json_copy(request->json);
    const char *name = json_get_string(request->json, "name", ""), *project;
    const char *code = json_get_string(request->json, "code", NULL), *actor = request->principal->name;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_job struct job *job = NULL;
    struct digest digest;
    uint64_t size = 0;
    int version;

    if (run_check_gate(request->json, error) < 0 || (code && check_blob(request, code, &digest, &size, error) < 0) ||
        begin(request, true, &tx, &project, error) < 0 || project_check(&tx, project, error) < 0)
        return -1;
    json_object_del(definition, "code");
    if (job_create(&tx, project, actor, name, definition, error) < 0 || job_load(&tx, project, name, &job, error) < 0)
        return -1;
    if (code && job_push_code(&tx, job, &digest, size, NULL, actor, &version, error) < 0)
        return -1;
    if (reply_job(response, 201, &tx, project, name, error) < 0)
        return -1;
    return db_commit(&tx, error);
}

static int get_job(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    const char *project;

    if (begin(request, false, &tx, &project, error) < 0)
        return -1;
    return reply_job(response, 200, &tx, project, http_path_param(request, "name"), error);
}

static int patch_job(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_job struct job *job = NULL;

    if (json_object_get(request->json, "code"))
        return error_set(error, ERROR_INVALID, "field 'code' cannot be patched: push a code version");
    if (run_check_gate(request->json, error) < 0 || begin_with_job(request, true, &tx, &job, error) < 0 ||
        job_update(&tx, job, request->json, request->principal->name, error) < 0 ||
        reply_job(response, 200, &tx, job->project, job->name, error) < 0)
        return -1;
    return db_commit(&tx, error);
}

static int delete_job(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_job struct job *job = NULL;

    if (begin_with_job(request, true, &tx, &job, error) < 0 ||
        job_delete(&tx, job, request->principal->name, error) < 0 || db_commit(&tx, error) < 0)
        return -1;
    response->status = 204;
    return 0;
}

/* -- runs of a job -- */

static int run_job(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_json json_t *body = json_is_object(request->json) ? json_copy(request->json) : json_object();

    json_set_string(body, "job", http_path_param(request, "name"));
    return run_submit(request, response, body, error);
}

static int stop_job(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_strvec struct strvec ids = STRVEC_INIT;
    cleanup_job struct job *job = NULL;
    json_t *stopped;
    int r;

    if (begin_with_job(request, true, &tx, &job, error) < 0 ||
        db_query(&tx, &rows, error, "SELECT id FROM runs WHERE project = ? AND job = ? AND state IN (0, 1, 2)", "ss",
                 job->project, job->name) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0)
        strvec_push(&ids, db_text(&rows, 0));
    if (r < 0)
        return -1;
    for (size_t i = 0; i < ids.count; i++) {
        cleanup_run struct run *run = NULL;

        if (run_load(&tx, NULL, ids.items[i], &run, error) < 0 ||
            run_request_stop(&tx, run, request->principal->name, error) < 0)
            return -1;
    }
    if (db_commit(&tx, error) < 0)
        return -1;
    stopped = json_array();
    for (size_t i = 0; i < ids.count; i++) {
        orchestrator_run_changed(daemon->orchestrator, ids.items[i]);
        json_array_append_new(stopped, json_string(ids.items[i]));
    }
    http_reply_json(response, 202, json_build("{s:o}", "runs", stopped));
    return 0;
}

/* -- code versions -- */

static int list_code(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_job struct job *job = NULL;
    json_t *items;

    if (begin_with_job(request, false, &tx, &job, error) < 0)
        return -1;
    items = job_code_list(&tx, job, error);
    if (!items)
        return -1;
    http_reply_page(response, items, NULL);
    return 0;
}

static int push(struct http_request *request, struct http_response *response, const struct digest *digest,
                uint64_t size, const char *note, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_job struct job *job = NULL;
    char text[DIGEST_TEXT_SIZE];
    int version;

    if (begin_with_job(request, true, &tx, &job, error) < 0 ||
        job_push_code(&tx, job, digest, size, note, request->principal->name, &version, error) < 0 ||
        db_commit(&tx, error) < 0)
        return -1;
    http_reply_json(response, 201,
                    json_build("{s:i, s:s, s:I}", "version", version, "digest", digest_format(digest, text), "size",
                               (json_int_t)size));
    return 0;
}

static int post_code(struct http_request *request, struct http_response *response, struct error *error)
{
    struct digest digest;
    uint64_t size;

    if (check_blob(request, json_get_string(request->json, "digest", ""), &digest, &size, error) < 0)
        return -1;
    return push(request, response, &digest, size, json_get_string(request->json, "note", NULL), error);
}

static int put_code(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    struct digest digest;
    uint64_t size;

    if (vault_put_fd(daemon->store->vault, request->body_fd, &digest, &size, error) < 0)
        return -1;
    return push(request, response, &digest, size, http_query_param(request, "note"), error);
}

static int get_code(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    const char *text = http_path_param(request, "version");
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_job struct job *job = NULL;
    cleanup_close int fd = -1;
    struct digest digest;
    int64_t wanted = 0;
    uint64_t size;
    int version;

    if (strcmp(text, "latest") != 0 && parse_int(text, 1, INT32_MAX, &wanted, error) < 0)
        return -1;
    if (begin_with_job(request, false, &tx, &job, error) < 0 ||
        job_code(&tx, job, (int)wanted, &digest, &version, error) < 0)
        return -1;
    db_end(&tx);
    if (vault_size(daemon->store->vault, &digest, &size, error) < 0 ||
        vault_get(daemon->store->vault, &digest, &fd, error) < 0)
        return -1;
    http_reply_fd(response, 200, "application/zip", steal_fd(&fd), size);
    return 0;
}

static const struct schema_field code_push_fields[] = {
    {"digest", SCHEMA_STRING, SCHEMA_REQUIRED, .max = 71, .doc = "of a zip that was uploaded as a blob"},
    {"note", SCHEMA_STRING, SCHEMA_NULLABLE, .max = LIMIT_DESCRIPTION},
    {},
};
static const struct schema code_push_schema = {"JobCodePush", code_push_fields, "a new code version"};

static const struct schema_field code_pushed_fields[] = {
    {"version", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"digest", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "bytes"},
    {},
};
static const struct schema code_pushed_schema = {"JobCodePushed", code_pushed_fields, "number that the code got"};

static const struct schema_field stopped_fields[] = {
    {"runs", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_STRING, .doc = "runs that were asked to end"},
    {},
};
static const struct schema stopped_schema = {"JobStopped", stopped_fields, "what was stopped"};

static const struct http_query_row note_query[] = {
    {"note", SCHEMA_STRING, .doc = "what is new"},
    {},
};

const struct http_route job_routes[] = {
    {"GET", "/api/v1/jobs", SCOPE_VIEW, list_jobs, "list jobs", .paged = true, .response = &job_schema, .tag = "jobs"},
    {"POST", "/api/v1/jobs", SCOPE_DEVELOP, post_job, "create a job", .request = &job_create_schema,
     .body = HTTP_BODY_JSON, .response = &job_schema, .status = 201, .tag = "jobs"},
    {"GET", "/api/v1/jobs/{name}", SCOPE_VIEW, get_job, "show a job", .response = &job_schema, .tag = "jobs"},
    {"PATCH", "/api/v1/jobs/{name}", SCOPE_DEVELOP, patch_job, "change a job's defaults",
     .request = &job_definition_schema, .body = HTTP_BODY_JSON, .response = &job_schema, .tag = "jobs"},
    {"DELETE", "/api/v1/jobs/{name}", SCOPE_DEVELOP, delete_job, "remove a job; its runs stay", .status = 204,
     .tag = "jobs"},
    {"POST", "/api/v1/jobs/{name}/run", SCOPE_DEVELOP, run_job, "submit a run of a job", .request = &run_request_schema,
     .body = HTTP_BODY_JSON, .response = &run_schema, .status = 201, .tag = "jobs"},
    {"POST", "/api/v1/jobs/{name}/stop", SCOPE_DEVELOP, stop_job, "stop all runs of a job that have not ended",
     .response = &stopped_schema, .status = 202, .tag = "jobs"},
    {"GET", "/api/v1/jobs/{name}/code", SCOPE_VIEW, list_code, "list code versions, newest first", .paged = true,
     .response = &job_code_schema, .tag = "jobs"},
    {"POST", "/api/v1/jobs/{name}/code", SCOPE_DEVELOP, post_code, "make an uploaded zip a code version",
     .request = &code_push_schema, .body = HTTP_BODY_JSON, .response = &code_pushed_schema, .status = 201,
     .tag = "jobs"},
    {"PUT", "/api/v1/jobs/{name}/code", SCOPE_DEVELOP, put_code, "upload a zip as a code version", .query = note_query,
     .body = HTTP_BODY_FILE, .body_limit = LIMIT_CODE, .response = &code_pushed_schema, .status = 201, .tag = "jobs"},
    {"GET", "/api/v1/jobs/{name}/code/{version}", SCOPE_VIEW, get_code, "download a code version ('latest': newest)",
     .content_type = "application/zip", .tag = "jobs"},
    {},
};
