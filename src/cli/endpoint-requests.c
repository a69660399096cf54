#include <string.h>
#include "cli/client.h"
#include "cli/draft.h"
#include "cli/endpoint-requests.h"
#include "http/client.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define EXCERPT 60 /* characters of a body in the table */

int log_read_options(const struct invocation *invocation, json_t *options, struct error *error)
{
    const char *body = option_value(invocation, "log-body");
    uint64_t bytes = 0;
    double sample = -1;

    if (option_number(invocation, "log-sample", 0, 1, &sample, error) < 0 ||
        option_bytes(invocation, "log-body", &bytes, error) < 0)
        return -1;
    if (sample >= 0)
        json_set_number(options, "log_sample", sample);
    if (body)
        json_set_int(options, "log_body", (int64_t)bytes);
    return 0;
}

char *log_text(const json_t *endpoint)
{
    const json_t *options = json_object_get(endpoint, "options");
    double sample = json_get_number(options, "log_sample", 0);
    char bytes[FORMAT_SIZE];

    if (sample <= 0)
        return NULL;
    return xasprintf("a part of %g, %s of each", sample,
                     format_bytes((uint64_t)json_get_int(options, "log_body", 0), bytes));
}

/* -- the table -- */

/* The beginning of a body, or what it is where that is no text. */
static char *body_text(const json_t *event, const char *key)
{
    const json_t *body = json_object_get(json_object_get(event, "data"), key);
    const char *text = json_get_string(body, "text", NULL), *at = text;
    char bytes[FORMAT_SIZE];

    if (!json_is_object(body))
        return NULL;
    if (!text)
        return xasprintf("(%s)", format_bytes((uint64_t)json_get_int(body, "size", 0), bytes));
    for (int i = 0; i < EXCERPT && *at; i++)
        for (at++; (*at & 0xc0) == 0x80; at++)
            ;
    if (!*at && !json_get_bool(body, "truncated", false))
        return xstrdup(text);
    return xasprintf("%.*s…", (int)(at - text), text);
}

static char *request_text(const json_t *event)
{
    return body_text(event, "request");
}

static char *response_text(const json_t *event)
{
    return body_text(event, "response");
}

static char *latency_text(const json_t *event)
{
    return xasprintf("%.3g", json_get_number(json_object_get(event, "data"), "latency_ms", 0));
}

static const struct table_column request_columns[] = {
    {"TIME", "time", TABLE_TIME},
    {"VERSION", "data.version"},
    {"STATUS", "data.status", TABLE_NUMBER},
    {"OUTCOME", "data.outcome"},
    {"ms", .text = latency_text},
    {"REQUEST", .text = request_text, .shrink = true},
    {"RESPONSE", .text = response_text, .shrink = true},
    {},
};

static json_t *filters(const struct invocation *invocation)
{
    return json_build("{s:s?, s:s?}", "version", option_value(invocation, "model-version"), "outcome",
                      option_value(invocation, "outcome"));
}

/* -- all of them, into a file -- */

static int write_items(int fd, const json_t *items, int64_t *count, struct error *error)
{
    json_t *event;
    size_t i;

    json_array_foreach(items, i, event) {
        cleanup_free char *text = json_text(event);

        if (fs_write_all(fd, text, strlen(text), error) < 0 || fs_write_all(fd, "\n", 1, error) < 0)
            return -1;
        ++*count;
    }
    return 0;
}

/* A page at a time: they need not fit into memory. */
static int write_pages(struct invocation *invocation, const char *path, int fd, int64_t *ret_count, struct error *error)
{
    cleanup_json json_t *query = filters(invocation);
    const char *next;

    *ret_count = 0;
    json_set_int(query, "limit", LIMIT_PAGE);
    do {
        cleanup_json json_t *page = NULL;

        if (client_get(invocation->client, path, json_deep_copy(query), &page, error) < 0 ||
            write_items(fd, json_object_get(page, "items"), ret_count, error) < 0)
            return -1;
        next = json_get_string(page, "next", NULL);
        json_set_string(query, "after", next);
    } while (!json_is_null(json_object_get(query, "after")));
    return 0;
}

/* Not for everybody's eyes: what people asked is in it. */
static int write_file(struct invocation *invocation, const char *path, const char *file, struct error *error)
{
    bool is_stdout = strcmp(file, "-") == 0;
    cleanup_draft struct draft draft = DRAFT_INIT;
    cleanup_json json_t *result = NULL;
    int64_t count;

    if (draft_begin(&draft, is_stdout ? NULL : file, 0600, error) < 0 ||
        write_pages(invocation, path, draft.fd, &count, error) < 0 || draft_finish(&draft, error) < 0)
        return error_wrap(error, "%s", file);
    if (is_stdout)
        return 0;
    result = json_build("{s:s, s:I}", "file", file, "requests", (json_int_t)count);
    print_done(invocation, result, "wrote %lld requests to %s", (long long)count, file);
    return 0;
}

/* -- the command -- */

int endpoint_requests(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/endpoints/%s/requests", invocation->arguments[0]);
    cleanup_json json_t *page = NULL;
    json_t *query;
    int64_t lines = 20;

    if (option_value(invocation, "output"))
        return write_file(invocation, path, option_value(invocation, "output"), error);
    if (option_int(invocation, "lines", 1, LIMIT_REQUEST_LOG_LINES, &lines, error) < 0)
        return -1;
    query = filters(invocation);
    json_set_int(query, "lines", lines);
    if (client_get(invocation->client, path, query, &page, error) < 0)
        return -1;
    print_items(invocation, request_columns, json_object_get(page, "items"),
                "no request was logged; `slipway endpoint set NAME --log-sample 1` logs all from now on");
    return 0;
}

const struct option requests_options[] = {
    {"lines", 'n', "N", "newest requests (20)"},
    {"model-version", 0, "N", "only of this version"},
    {"outcome", 0, "OUTCOME", "only what ended so: ok, model_error, invalid, queue_full, timeout, cancelled, …"},
    {"output", 'o', "FILE", "write all of them as JSON lines; -: to standard output"},
    {},
};
