#include <string.h>
#include "api/api.h"
#include "api/daemon.h"
#include "core/project.h"
#include "util/limits.h"

static const struct schema_field project_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"description", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "null for default, which is always there"},
    {"datasets", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"environments", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"jobs", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"runs", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"models", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"endpoints", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {},
};
static const struct schema project_schema = {"Project", project_fields, "a name space, with how much it holds"};

static const struct schema_field create_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED, .max = LIMIT_NAME, .doc = "a-z 0-9 - _ ."},
    {"description", SCHEMA_STRING, .max = LIMIT_DESCRIPTION},
    {},
};
static const struct schema create_schema = {"ProjectCreate", create_fields};

/* A token of one project sees no other. */
static int check_visible(const struct http_request *request, const char *name, struct error *error)
{
    const char *own = request->principal->project;

    if (own && strcmp(own, name) != 0)
        return error_set(error, ERROR_FORBIDDEN, "the token is of project %s", own);
    return 0;
}

static int list_projects(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    const char *own = request->principal->project;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_free char *next = NULL;
    cleanup_json json_t *project = NULL;
    json_t *items;

    if (db_begin_read(daemon->store->db, &tx, error) < 0)
        return -1;
    if (own) {
        project = project_show(&tx, own, error);
        if (!project)
            return -1;
        http_reply_page(response, json_build("[O]", project), NULL);
        return 0;
    }
    items = project_list(&tx, http_page_after(request), http_page_limit(request), &next, error);
    if (!items)
        return -1;
    http_reply_page(response, items, next);
    return 0;
}

static int get_project(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    const char *name = http_path_param(request, "name");
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    json_t *project;

    if (check_visible(request, name, error) < 0 || db_begin_read(daemon->store->db, &tx, error) < 0)
        return -1;
    project = project_show(&tx, name, error);
    if (!project)
        return -1;
    http_reply_json(response, 200, project);
    return 0;
}

static int post_project(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    const char *name = json_get_string(request->json, "name", "");
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_json json_t *project = NULL;

    if (db_begin_write(daemon->store->db, &tx, error) < 0 ||
        project_create(&tx, name, json_get_string(request->json, "description", NULL), request->principal->name,
                       error) < 0)
        return -1;
    project = project_show(&tx, name, error);
    if (!project || db_commit(&tx, error) < 0)
        return -1;
    http_reply_json(response, 201, steal_ptr(project));
    return 0;
}

static int delete_project(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_write(daemon->store->db, &tx, error) < 0 ||
        project_remove(&tx, http_path_param(request, "name"), request->principal->name, error) < 0)
        return -1;
    response->status = 204;
    return db_commit(&tx, error);
}

const struct http_route project_routes[] = {
    {"GET", "/api/v1/projects", SCOPE_VIEW, list_projects, "list projects", .paged = true, .response = &project_schema,
     .tag = "projects"},
    {"POST", "/api/v1/projects", SCOPE_ADMIN, post_project, "make a project", .request = &create_schema,
     .response = &project_schema, .body = HTTP_BODY_JSON, .status = 201, .tag = "projects"},
    {"GET", "/api/v1/projects/{name}", SCOPE_VIEW, get_project, "show a project", .response = &project_schema,
     .tag = "projects"},
    {"DELETE", "/api/v1/projects/{name}", SCOPE_ADMIN, delete_project, "remove an empty project and its tokens",
     .status = 204, .tag = "projects"},
    {},
};
