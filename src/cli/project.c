#include "cli/client.h"
#include "cli/command.h"
#include "http/client.h"

static const struct table_column project_columns[] = {
    {"NAME", "name"},
    {"DATASETS", "datasets", TABLE_NUMBER},
    {"JOBS", "jobs", TABLE_NUMBER},
    {"RUNS", "runs", TABLE_NUMBER},
    {"MODELS", "models", TABLE_NUMBER},
    {"ENDPOINTS", "endpoints", TABLE_NUMBER},
    {"AGE", "created_at", TABLE_AGE},
    {"DESCRIPTION", "description", .shrink = true},
    {},
};

static int project_ls(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *items = NULL;

    if (client_list(invocation->client, "/api/v1/projects", NULL, 0, &items, error) < 0)
        return -1;
    print_items(invocation, project_columns, items, "there are no projects");
    return 0;
}

static int project_show(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/projects/%s", invocation->arguments[0]);
    cleanup_json json_t *project = NULL;

    if (client_get(invocation->client, path, NULL, &project, error) < 0)
        return -1;
    print_object(invocation, project_columns, project);
    return 0;
}

static int project_create(struct invocation *invocation, struct error *error)
{
    json_t *body = json_build("{s:s}", "name", invocation->arguments[0]);
    cleanup_json json_t *project = NULL;

    if (option_value(invocation, "description"))
        json_set_string(body, "description", option_value(invocation, "description"));
    if (client_post(invocation->client, "/api/v1/projects", NULL, body, &project, error) < 0)
        return -1;
    print_done(invocation, project, "project %s is there", invocation->arguments[0]);
    return 0;
}

static int project_rm(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/projects/%s", invocation->arguments[0]);

    if (client_delete(invocation->client, path, NULL, NULL, error) < 0)
        return -1;
    print_done(invocation, NULL, "project %s and its tokens are gone", invocation->arguments[0]);
    return 0;
}

static const struct option create_options[] = {
    {"description", 'd', "TEXT", "what it is for"},
    {},
};

const struct command project_commands[] = {
    {"project ls", NULL, "list projects and how much they hold", NULL, project_ls},
    {"project show", "PROJECT", "show one project", NULL, project_show},
    {"project create", "NAME", "make a name space of its own", create_options, project_create,
     .examples = "slipway project create team-a\nslipway dataset ls --project team-a"},
    {"project rm", "PROJECT", "remove a project that is empty, and its tokens", NULL, project_rm},
    {},
};
