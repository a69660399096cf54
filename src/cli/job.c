/* slipway job … */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/draft.h"
#include "cli/follow.h"
#include "cli/submit.h"
#include "http/client.h"
#include "util/xalloc.h"

static char *job_path(const struct invocation *invocation, const char *rest)
{
    cleanup_free char *path = http_path("/api/v1/jobs/%s", invocation->arguments[0]);

    return xasprintf("%s%s", path, rest);
}

static int job_create(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *body = json_build("{s:s}", "name", invocation->arguments[0]);
    cleanup_json json_t *job = NULL;

    if (submit_options(invocation, body, error) < 0 ||
        (invocation->n_arguments > 1 && submit_code(invocation, invocation->arguments[1], body, error) < 0) ||
        client_post(invocation->client, "/api/v1/jobs", NULL, json_incref(body), &job, error) < 0)
        return -1;
    print_done(invocation, job, "job %s is created", invocation->arguments[0]);
    return 0;
}

static int job_set(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *body = json_object();
    cleanup_json json_t *job = NULL;
    cleanup_free char *path = job_path(invocation, "");

    if (submit_options(invocation, body, error) < 0 ||
        client_patch(invocation->client, path, NULL, json_incref(body), &job, error) < 0)
        return -1;
    print_done(invocation, job, "job %s is changed", invocation->arguments[0]);
    return 0;
}

static char *entry_text(const json_t *job)
{
    cleanup_strvec struct strvec words = STRVEC_INIT;
    json_t *word;
    size_t i;

    json_array_foreach(json_object_get(json_object_get(job, "definition"), "entry"), i, word)
        strvec_push(&words, json_string_value(word));
    return words.count ? strvec_join(&words, " ") : NULL;
}

static char *definition_text(const json_t *job)
{
    return json_text(json_object_get(job, "definition"));
}

static const struct table_column list_columns[] = {
    {"JOB", "name"},
    {"WHAT", .text = entry_text, .shrink = true},
    {"CODE", "code_versions", TABLE_NUMBER},
    {"RUNS", "runs", TABLE_NUMBER},
    {"CHANGED", "updated_at", TABLE_AGE},
    {},
};

static const struct table_column show_columns[] = {
    {"Job", "name"},
    {"What", .text = entry_text},
    {"Code versions", "code_versions", TABLE_NUMBER},
    {"Newest code", "code", TABLE_DIGEST},
    {"Definition", .text = definition_text},
    {"Runs", "runs", TABLE_NUMBER},
    {"Created", "created_at", TABLE_TIME},
    {"Changed", "updated_at", TABLE_TIME},
    {"By", "created_by"},
    {},
};

static int job_ls(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *items = NULL;

    if (client_list(invocation->client, "/api/v1/jobs", NULL, 0, &items, error) < 0)
        return -1;
    print_items(invocation, list_columns, items, "there are no jobs yet");
    return 0;
}

static int job_show(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = job_path(invocation, "");
    cleanup_json json_t *job = NULL;

    if (client_get(invocation->client, path, NULL, &job, error) < 0)
        return -1;
    print_object(invocation, show_columns, job);
    return 0;
}

static int job_run(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = job_path(invocation, "/run");
    cleanup_json json_t *body = json_object();
    cleanup_json json_t *run = NULL;
    int64_t version = 0;

    if (submit_options(invocation, body, error) < 0 ||
        option_int(invocation, "code", 1, INT32_MAX, &version, error) < 0)
        return -1;
    if (version)
        json_set_int(body, "code_version", version);
    if (invocation->n_arguments > 1) {
        json_object_set_new(body, "arguments", json_array());
        for (int i = 1; i < invocation->n_arguments; i++)
            json_array_append_new(json_object_get(body, "arguments"), json_string(invocation->arguments[i]));
    }
    if (client_post(invocation->client, path, NULL, json_incref(body), &run, error) < 0)
        return -1;
    if (option_flag(invocation, "follow"))
        return follow_run(invocation, json_get_string(run, "id", ""), error);
    print_done(invocation, run, "%s", json_get_string(run, "id", ""));
    return 0;
}

static int job_stop(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = job_path(invocation, "/stop");
    cleanup_json json_t *reply = NULL;

    if (client_post(invocation->client, path, NULL, NULL, &reply, error) < 0)
        return -1;
    print_done(invocation, reply, "%zu runs are asked to stop", json_array_size(json_object_get(reply, "runs")));
    return 0;
}

static int job_rm(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = job_path(invocation, "");

    if (client_delete(invocation->client, path, NULL, NULL, error) < 0)
        return -1;
    print_done(invocation, NULL, "job %s is removed", invocation->arguments[0]);
    return 0;
}

/* -- code -- */

static int code_push(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = job_path(invocation, "/code");
    cleanup_json json_t *packed = json_build("{s:[s]}", "entry", "-"); /* the job has one: none is looked for */
    cleanup_json json_t *reply = NULL;
    json_t *body;

    if (submit_code(invocation, invocation->arguments[1], packed, error) < 0)
        return -1;
    body = json_build("{s:s}", "digest", json_get_string(packed, "code", ""));
    if (option_value(invocation, "note"))
        json_set_string(body, "note", option_value(invocation, "note"));
    if (client_post(invocation->client, path, NULL, body, &reply, error) < 0)
        return -1;
    print_done(invocation, reply, "code version %d of job %s", (int)json_get_int(reply, "version", 0),
               invocation->arguments[0]);
    return 0;
}

static const struct table_column code_columns[] = {
    {"VERSION", "version", TABLE_NUMBER},
    {"DIGEST", "digest", TABLE_DIGEST},
    {"SIZE", "size", TABLE_BYTES},
    {"AGE", "created_at", TABLE_AGE},
    {"BY", "created_by"},
    {"NOTE", "note", .shrink = true},
    {},
};

static int code_ls(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = job_path(invocation, "/code");
    cleanup_json json_t *items = NULL;

    if (client_list(invocation->client, path, NULL, 0, &items, error) < 0)
        return -1;
    print_items(invocation, code_columns, items, "the job has no code yet");
    return 0;
}

static int code_get(struct invocation *invocation, struct error *error)
{
    cleanup_free char *rest = xasprintf("/code/%s", invocation->n_arguments > 1 ? invocation->arguments[1] : "latest");
    cleanup_free char *path = job_path(invocation, rest);
    const char *output = option_value(invocation, "output");
    cleanup_free char *usual = xasprintf("%s.zip", invocation->arguments[0]);
    cleanup_draft struct draft draft = DRAFT_INIT;

    output = output ? output : usual;
    if (draft_begin(&draft, output, 0666, error) < 0 ||
        client_download(invocation->client, path, NULL, draft.fd, NULL, error) < 0 || draft_finish(&draft, error) < 0)
        return -1;
    print_done(invocation, NULL, "%s", output);
    return 0;
}

/* -- rows -- */

static const struct option create_options[] = {SUBMIT_OPTIONS, {}};

static const struct option run_options[] = {
    SUBMIT_OPTIONS,
    {"code", 0, "N", "code version (the newest)"},
    {"follow", 'f', NULL, "show log and metrics until it ends"},
    {},
};

static const struct option push_options[] = {
    {"with", 'w', "DIR", "pack this directory, which the script is in"},
    {"note", 0, "TEXT", "what is new"},
    {},
};

static const struct option get_options[] = {{"output", 'o', "FILE", "where to write it (JOB.zip)"}, {}};

const struct command job_commands[] = {
    {"job create", "NAME [SCRIPT|DIR|ZIP]", "create a job: code and the defaults of its runs", create_options,
     job_create,
     .examples = "slipway job create train-digits examples/digits --data digits --cpus 2 --model vision/digits"},
    {"job ls", NULL, "list jobs", NULL, job_ls},
    {"job show", "JOB", "show a job", NULL, job_show},
    {"job set", "JOB", "change the defaults of a job", create_options, job_set},
    {"job run", "JOB [ARGUMENT…]", "run a job", run_options, job_run,
     .examples = "slipway job run train-digits --param epochs=50 --follow"},
    {"job stop", "JOB", "stop all runs of a job", NULL, job_stop},
    {"job rm", "JOB", "remove a job; its runs stay", NULL, job_rm},
    {"job code push", "JOB SCRIPT|DIR|ZIP", "add a code version", push_options, code_push},
    {"job code ls", "JOB", "list code versions", NULL, code_ls},
    {"job code get", "JOB [VERSION]", "download a code version as a zip", get_options, code_get},
    {},
};
