/* slipway env … */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/command.h"
#include "cli/error.h"
#include "http/client.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/xalloc.h"

struct follow {
    struct invocation *invocation;
    char state[16];
    char *message;
};

static int on_message(void *userdata, json_t *message)
{
    struct follow *follow = userdata;

    if (follow->invocation->json) {
        print_json_line(message);
    } else if (strcmp(json_get_string(message, "type", ""), "log") == 0) {
        printf("%s\n", json_get_string(message, "text", ""));
        fflush(stdout);
    }
    if (strcmp(json_get_string(message, "type", ""), "state") == 0) {
        snprintf(follow->state, sizeof(follow->state), "%s", json_get_string(message, "state", ""));
        free(follow->message);
        follow->message = xstrdup_null(json_get_string(message, "message", NULL));
    }
    return 0;
}

/* Shows the log of a build until it ends. */
static int follow_build(struct invocation *invocation, const char *address, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/environments/%s/log/follow", address);
    struct follow follow = {.invocation = invocation};
    json_t *query = json_object();
    int r;

    json_set_string(query, "variant", option_value(invocation, "variant"));
    r = client_follow(invocation->client, path, query, on_message, &follow, error);
    if (r == 0 && strcmp(follow.state, "ready") != 0) {
        r = EXIT_FAILED;
        fprintf(stderr, "environment %s: %s%s%s\n", address, follow.state, follow.message ? ": " : "",
                follow.message ? follow.message : "");
    } else if (r == 0 && !invocation->json) {
        fprintf(stderr, "environment %s is ready\n", address);
    }
    free(follow.message);
    return r;
}

static int read_text(const char *path, char **ret_text, struct error *error)
{
    if (strcmp(path, "-") == 0)
        return fs_read_fd(STDIN_FILENO, "standard input", LIMIT_REQUIREMENTS, ret_text, NULL, error);
    return fs_read(path, LIMIT_REQUIREMENTS, ret_text, NULL, error);
}

static int env_create(struct invocation *invocation, struct error *error)
{
    const char *gpu_path = option_value(invocation, "gpu");
    cleanup_free char *cpu = NULL, *gpu = NULL, *address = NULL;
    cleanup_json json_t *environment = NULL;
    json_t *body;

    if (read_text(invocation->arguments[1], &cpu, error) < 0 || (gpu_path && read_text(gpu_path, &gpu, error) < 0))
        return -1;
    body = json_build("{s:s, s:s}", "name", invocation->arguments[0], "requirements", cpu);
    if (gpu)
        json_set_string(body, "requirements_gpu", gpu);
    if (client_post(invocation->client, "/api/v1/environments", NULL, body, &environment, error) < 0)
        return -1;
    address = xasprintf("%s@%d", json_get_string(environment, "name", ""),
                        (int)json_get_int(environment, "version", 0));
    if (option_flag(invocation, "follow"))
        return follow_build(invocation, address, error);
    print_done(invocation, environment, "environment %s is being built", address);
    return 0;
}

static char *address_text(const json_t *environment)
{
    return xasprintf("%s@%d", json_get_string(environment, "name", ""), (int)json_get_int(environment, "version", 0));
}

static const struct table_column list_columns[] = {
    {"ENVIRONMENT", .text = address_text},
    {"KIND", "kind"},
    {"CPU", "cpu.state", TABLE_STATE},
    {"SIZE", "cpu.size", TABLE_BYTES},
    {"GPU", "gpu.state", TABLE_STATE},
    {"AGE", "created_at", TABLE_AGE},
    {},
};

static const struct table_column show_columns[] = {
    {"Environment", .text = address_text},
    {"Kind", "kind"},
    {"State (cpu)", "cpu.state", TABLE_STATE},
    {"Message (cpu)", "cpu.message"},
    {"Size (cpu)", "cpu.size", TABLE_BYTES},
    {"Digest (cpu)", "cpu.digest"},
    {"State (gpu)", "gpu.state", TABLE_STATE},
    {"Message (gpu)", "gpu.message"},
    {"Size (gpu)", "gpu.size", TABLE_BYTES},
    {"Digest (gpu)", "gpu.digest"},
    {"Created", "created_at", TABLE_TIME},
    {"By", "created_by"},
    {},
};

static int env_ls(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *items = NULL;

    if (client_list(invocation->client, "/api/v1/environments", NULL, 0, &items, error) < 0)
        return -1;
    print_items(invocation, list_columns, items, "there is only the environment 'host', the machine's own programs");
    return 0;
}

static int env_show(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/environments/%s", invocation->arguments[0]);
    cleanup_json json_t *environment = NULL;

    if (client_get(invocation->client, path, NULL, &environment, error) < 0)
        return -1;
    print_object(invocation, show_columns, environment);
    if (!invocation->json)
        printf("\n%s", json_get_string(json_object_get(environment, "cpu"), "requirements", ""));
    return 0;
}

static int env_rm(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/environments/%s", invocation->arguments[0]);

    if (client_delete(invocation->client, path, NULL, NULL, error) < 0)
        return -1;
    print_done(invocation, NULL, "environment %s is removed", invocation->arguments[0]);
    return 0;
}

static int env_build(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/environments/%s/build", invocation->arguments[0]);
    cleanup_json json_t *reply = NULL;
    json_t *query = json_object();

    json_set_string(query, "variant", option_value(invocation, "variant"));
    if (client_post(invocation->client, path, query, NULL, &reply, error) < 0)
        return -1;
    if (option_flag(invocation, "follow"))
        return follow_build(invocation, invocation->arguments[0], error);
    print_done(invocation, reply, "environment %s is being built", invocation->arguments[0]);
    return 0;
}

static int env_log(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/environments/%s/log", invocation->arguments[0]);
    json_t *query = json_object();

    if (option_flag(invocation, "follow")) {
        json_decref(query);
        return follow_build(invocation, invocation->arguments[0], error);
    }
    json_set_string(query, "variant", option_value(invocation, "variant"));
    fflush(stdout);
    return client_download(invocation->client, path, query, STDOUT_FILENO, NULL, error);
}

static const struct option create_options[] = {
    {"gpu", 0, "FILE", "requirements of the gpu variant (the same)"},
    {"follow", 'f', NULL, "show the log of the build until it ends"},
    {},
};

static const struct option log_options[] = {
    {"variant", 0, "cpu|gpu", "which variant (cpu)"},
    {"follow", 'f', NULL, "until the build ends"},
    {},
};

const struct command environment_commands[] = {
    {"env create", "NAME FILE", "make an environment of a pip requirements file ('-': standard input)", create_options,
     env_create,
     .details = "Other content under the same name makes a new version, NAME@2. It is built once on a machine and "
                "shared, read-only, by all runs.",
     .examples = "slipway env create torch requirements.txt --gpu requirements-gpu.txt --follow"},
    {"env ls", NULL, "list environments", NULL, env_ls},
    {"env show", "ENVIRONMENT", "show an environment", NULL, env_show},
    {"env build", "ENVIRONMENT", "build a variant, again if it failed", log_options, env_build},
    {"env log", "ENVIRONMENT", "print the log of the build", log_options, env_log},
    {"env rm", "ENVIRONMENT", "remove an environment version", NULL, env_rm},
    {},
};
