/* Environments and their builds. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "api/api.h"
#include "api/daemon.h"
#include "core/environment.h"
#include "core/project.h"
#include "http/websocket.h"
#include "schedule/builder.h"
#include "schedule/orchestrator.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/xalloc.h"

static int begin(struct http_request *request, bool write, struct db_tx *tx, const char **ret_project,
                 struct error *error)
{
    struct daemon *daemon = request->context;

    if (http_project(request, ret_project, error) < 0)
        return -1;
    return write ? db_begin_write(daemon->store->db, tx, error) : db_begin_read(daemon->store->db, tx, error);
}

static int list_environments(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    const char *project;
    json_t *items;

    if (begin(request, false, &tx, &project, error) < 0)
        return -1;
    items = environment_list(&tx, project, error);
    if (!items)
        return -1;
    http_reply_page(response, items, NULL);
    return 0;
}

static int post_environment(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    const char *name = json_get_string(request->json, "name", ""), *project;
    cleanup_environment struct environment environment = {0};
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_free char *python = NULL, *address = NULL;
    json_t *reply;
    int version;

    if (orchestrator_identify_python(daemon->orchestrator, &python, error) < 0 ||
        begin(request, true, &tx, &project, error) < 0 || project_check(&tx, project, error) < 0 ||
        environment_create(&tx, project, request->principal->name, name,
                           json_get_string(request->json, "requirements", ""),
                           json_get_string(request->json, "requirements_gpu", NULL), python, &version, error) < 0)
        return -1;
    address = xasprintf("%s@%d", name, version);
    if (environment_load(&tx, project, address, &environment, error) < 0)
        return -1;
    reply = environment_to_json(&tx, project, address, error);
    if (!reply)
        return -1;
    if (db_commit(&tx, error) < 0) {
        json_decref(reply);
        return -1;
    }
    orchestrator_build(daemon->orchestrator, environment.digest[0]);
    http_reply_json(response, 201, reply);
    return 0;
}

static int get_environment(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    const char *project;
    json_t *reply;

    if (begin(request, false, &tx, &project, error) < 0)
        return -1;
    reply = environment_to_json(&tx, project, http_path_param(request, "name"), error);
    if (!reply)
        return -1;
    http_reply_json(response, 200, reply);
    return 0;
}

static int delete_environment(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    const char *project;

    if (begin(request, true, &tx, &project, error) < 0 ||
        environment_delete(&tx, project, http_path_param(request, "name"), request->principal->name, error) < 0 ||
        db_commit(&tx, error) < 0)
        return -1;
    response->status = 204;
    return 0;
}

static int find_digest(struct http_request *request, char ret_digest[ENVIRONMENT_DIGEST_SIZE], struct error *error)
{
    const char *variant = http_query_param(request, "variant"), *project;
    cleanup_environment struct environment environment = {0};
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (begin(request, false, &tx, &project, error) < 0 ||
        environment_load(&tx, project, http_path_param(request, "name"), &environment, error) < 0)
        return -1;
    memcpy(ret_digest, environment.digest[variant && strcmp(variant, "gpu") == 0], ENVIRONMENT_DIGEST_SIZE);
    return 0;
}

static int build_environment(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    char digest[ENVIRONMENT_DIGEST_SIZE];

    if (find_digest(request, digest, error) < 0)
        return -1;
    orchestrator_build(daemon->orchestrator, digest);
    http_reply_json(response, 202, json_build("{s:s}", "digest", digest));
    return 0;
}

/* -- log -- */

static int get_log(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    char digest[ENVIRONMENT_DIGEST_SIZE];
    cleanup_free char *path = NULL;
    cleanup_close int fd = -1;
    struct stat st;

    if (find_digest(request, digest, error) < 0)
        return -1;
    path = builder_log(daemon->store, digest);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set(error, ERROR_NOT_FOUND, "environment %s was not built yet: there is no log",
                         http_path_param(request, "name"));
    http_reply_fd(response, 200, "text/plain; charset=utf-8", steal_fd(&fd), (uint64_t)st.st_size);
    return 0;
}

struct follow {
    struct daemon *daemon;
    struct websocket *ws;
    struct loop_source *timer;
    char digest[ENVIRONMENT_DIGEST_SIZE];
    int64_t offset;
};

static void free_follow(void *userdata)
{
    struct follow *follow = userdata;

    loop_remove(follow->timer);
    free(follow);
}

static void wake(void *userdata)
{
    struct follow *follow = userdata;

    websocket_wake(follow->ws);
}

static void on_open(struct websocket *ws, void *userdata)
{
    struct follow *follow = userdata;

    follow->ws = ws;
    follow->timer = loop_add_interval(websocket_loop(ws), 100 * NS_PER_MS, wake, follow);
}

/* Whole lines; returns 1 if something was sent. */
static int send_lines(struct follow *follow)
{
    cleanup_free char *path = builder_log(follow->daemon->store, follow->digest);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    char buffer[65536], *line = buffer, *end;
    ssize_t n = fd < 0 ? 0 : pread(fd, buffer, sizeof(buffer), follow->offset);
    int sent = 0;

    while (n > 0 && (end = memchr(line, '\n', (size_t)(buffer + n - line))) != NULL) {
        json_t *text = json_stringn(line, (size_t)(end - line));

        follow->offset += end + 1 - line;
        websocket_send_json(follow->ws, json_build("{s:s, s:I, s:o}", "type", "log", "offset",
                                                   (json_int_t)follow->offset, "text", text ? text : json_string("?")));
        line = end + 1;
        sent = 1;
    }
    return sent;
}

static int pump(struct websocket *ws, void *userdata, struct error *error)
{
    struct follow *follow = userdata;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_build struct build build = {0};
    cleanup_error struct error missing = ERROR_INIT;

    follow->ws = ws;
    if (db_begin_read(follow->daemon->store->db, &tx, error) < 0)
        return -1;
    if (build_load(&tx, follow->digest, &build, &missing) < 0)
        return 0; /* was asked for a moment ago */
    db_end(&tx);
    if (send_lines(follow))
        return 1;
    if (build.state != BUILD_BUILDING) {
        json_t *message = json_build("{s:s, s:s}", "type", "state", "state",
                                     state_name(&build_states, (int)build.state));

        json_set_string(message, "message", build.message);
        websocket_send_json(ws, message);
        websocket_close(ws, WEBSOCKET_NORMAL, "end");
    }
    return 0;
}

static const struct websocket_handler handler = {.open = on_open, .pump = pump, .close = free_follow};

static int follow_log(struct http_request *request, struct http_response *response, struct error *error)
{
    struct follow *follow = xnew0(struct follow);

    follow->daemon = request->context;
    follow->offset = http_query_int(request, "after", 0);
    if (find_digest(request, follow->digest, error) < 0) {
        free(follow);
        return -1;
    }
    return http_websocket_accept(request, response, &handler, follow, error);
}

static const char *const variants[] = {"cpu", "gpu", NULL};
static const struct http_query_row variant_query[] = {
    {"variant", SCHEMA_STRING, variants, .doc = "cpu or gpu (cpu)"},
    {"after", SCHEMA_INTEGER, .doc = "byte offset to follow from"},
    {},
};

static const struct schema_field build_fields[] = {
    {"digest", SCHEMA_STRING, SCHEMA_REQUIRED},
    {},
};
static const struct schema build_schema = {"EnvironmentBuild", build_fields, "a build that was asked for"};

#define ENVIRONMENT "/api/v1/environments/{name}"

const struct http_route environment_routes[] = {
    {"GET", "/api/v1/environments", SCOPE_VIEW, list_environments, "list environments", .paged = true,
     .response = &environment_schema, .tag = "environments"},
    {"POST", "/api/v1/environments", SCOPE_DEVELOP, post_environment,
     "create an environment version and build its cpu variant", .request = &environment_create_schema,
     .body = HTTP_BODY_JSON, .response = &environment_schema, .status = 201, .tag = "environments", .slow = true},
    {"GET", ENVIRONMENT, SCOPE_VIEW, get_environment, "show an environment (NAME or NAME@VERSION)",
     .response = &environment_schema, .tag = "environments"},
    {"DELETE", ENVIRONMENT, SCOPE_DEVELOP, delete_environment, "remove an environment version", .status = 204,
     .tag = "environments"},
    {"POST", ENVIRONMENT "/build", SCOPE_DEVELOP, build_environment, "build a variant, again if it failed",
     .query = variant_query, .response = &build_schema, .status = 202, .tag = "environments"},
    {"GET", ENVIRONMENT "/log", SCOPE_VIEW, get_log, "read the log of the build", .query = variant_query,
     .content_type = "text/plain", .tag = "environments"},
    {"GET", ENVIRONMENT "/log/follow", SCOPE_VIEW, follow_log, "follow the log of the build", .query = variant_query,
     .websocket = true, .tag = "environments"},
    {},
};
