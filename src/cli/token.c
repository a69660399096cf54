#include <string.h>
#include "cli/client.h"
#include "cli/command.h"
#include "http/client.h"
#include "util/parse.h"
#include "util/xalloc.h"

static char *project_text(const json_t *token)
{
    const char *project = json_get_string(token, "project", NULL);

    return xstrdup(project ? project : "all");
}

static char *state_text(const json_t *token)
{
    return xstrdup(json_get_string(token, "revoked_at", NULL) ? "revoked" : "valid");
}

/* "100000 in 1d 00h" */
static char *quota_text(const json_t *token)
{
    const json_t *quota = json_object_get(token, "quota");
    char window[FORMAT_SIZE];

    if (!json_is_object(quota))
        return NULL;
    return xasprintf("%lld in %s", (long long)json_get_int(quota, "requests", 0),
                     format_duration_ms(json_get_int(quota, "window_ms", 0), window));
}

static const struct table_column token_columns[] = {
    {"NAME", "name"},
    {"SCOPES", "scopes", .shrink = true},
    {"QUOTA", .text = quota_text},
    {"PROJECT", .text = project_text},
    {"AGE", "created_at", TABLE_AGE},
    {"EXPIRES", "expires_at", TABLE_TIME},
    {"LAST USED", "last_used_at", TABLE_AGE},
    {"BY", "created_by"},
    {},
};

static const struct table_column token_columns_all[] = {
    {"NAME", "name"},
    {"STATE", .text = state_text},
    {"SCOPES", "scopes", .shrink = true},
    {"PROJECT", .text = project_text},
    {"AGE", "created_at", TABLE_AGE},
    {"EXPIRES", "expires_at", TABLE_TIME},
    {"REVOKED", "revoked_at", TABLE_TIME},
    {"ID", "id"},
    {},
};

static int token_ls(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *items = NULL;
    bool all = option_flag(invocation, "all");

    if (client_list(invocation->client, "/api/v1/tokens", all ? json_build("{s:b}", "all", 1) : NULL, 0, &items,
                    error) < 0)
        return -1;
    print_items(invocation, all ? token_columns_all : token_columns, items, "there are no tokens");
    return 0;
}

static int add_quota(const struct invocation *invocation, json_t *body, struct error *error)
{
    const char *text = option_value(invocation, "quota");
    int64_t window_ms;
    double count;

    if (!text)
        return 0;
    if (parse_per(text, &count, &window_ms, error) < 0)
        return error_wrap(error, "option --quota");
    if (count > 1e15 || count != (double)(int64_t)count)
        return error_set(error, ERROR_INVALID, "option --quota: a quota is a whole number of requests");
    json_object_set_new(body, "quota",
                        json_build("{s:I, s:I}", "requests", (json_int_t)count, "window_ms", (json_int_t)window_ms));
    return 0;
}

static int token_create(struct invocation *invocation, struct error *error)
{
    cleanup_free char *scopes = strvec_join(option_values(invocation, "scope"), " ");
    json_t *body = json_build("{s:s}", "scopes", scopes);
    cleanup_json json_t *token = NULL;
    int64_t ttl_ms = 0;

    if (option_duration_ms(invocation, "expires", &ttl_ms, error) < 0 || add_quota(invocation, body, error) < 0) {
        json_decref(body);
        return -1;
    }
    if (invocation->n_arguments)
        json_set_string(body, "name", invocation->arguments[0]);
    if (invocation_project(invocation))
        json_set_string(body, "project", invocation_project(invocation));
    if (ttl_ms)
        json_set_int(body, "ttl_ms", ttl_ms);
    if (client_post(invocation->client, "/api/v1/tokens", NULL, body, &token, error) < 0)
        return -1;
    /* Nothing but the secret on standard output: it goes into a variable. */
    if (!invocation->json)
        fprintf(stderr, "token %s, scopes %s; this is the only time that it is shown:\n",
                json_get_string(token, "name", ""), json_get_string(token, "scopes", ""));
    print_done(invocation, token, "%s", json_get_string(token, "token", ""));
    return 0;
}

static int token_revoke(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/tokens/%s", invocation->arguments[0]);

    if (client_delete(invocation->client, path, NULL, NULL, error) < 0)
        return -1;
    print_done(invocation, NULL, "token %s is revoked", invocation->arguments[0]);
    return 0;
}

static const struct option ls_options[] = {
    {"all", 'a', NULL, "also those that were revoked"},
    {},
};
static const struct option create_options[] = {
    {"scope", 's', "SCOPE", "admin, develop, view, predict:ENDPOINT or predict:*", .repeats = true},
    {"expires", 'e', "DURATION", "how long it is valid, e.g. 30d (for ever)"},
    {"quota", 0, "N/TIME", "inference requests in a window of time, e.g. 100000/day (no quota)"},
    {},
};

const struct command token_commands[] = {
    {"token ls", NULL, "list tokens", ls_options, token_ls},
    {"token create", "[NAME]", "make a bearer token and print its secret, once", create_options, token_create,
     .details = "view reads everything, develop also changes things, admin also manages tokens, projects, garbage "
                "and backups; predict:ENDPOINT calls that endpoint. With --project the token is for that project "
                "only. Beyond its quota a token gets 429 until the window ends; windows begin at multiples of their "
                "length, a day at midnight UTC.",
     .examples = "slipway token create phone --scope predict:digits --expires 90d --quota 100000/day\n"
                 "SLIPWAY_TOKEN=$(slipway token create alice --scope develop)"},
    {"token revoke", "TOKEN", "end a token now, by name or id", NULL, token_revoke},
    {},
};
