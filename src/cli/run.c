/* slipway run, slipway runs … */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/chart.h"
#include "cli/client.h"
#include "cli/error.h"
#include "cli/follow.h"
#include "cli/submit.h"
#include "cli/terminal.h"
#include "http/client.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

/* -- run -- */

static int run_run(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *body = json_object();
    cleanup_json json_t *run = NULL;
    const char *id;

    if (submit_options(invocation, body, error) < 0)
        return -1;
    if (option_value(invocation, "name"))
        json_set_string(body, "name", option_value(invocation, "name"));
    if (submit_code(invocation, invocation->arguments[0], body, error) < 0)
        return -1;
    if (invocation->n_arguments > 1) {
        json_object_set_new(body, "arguments", json_array());
        for (int i = 1; i < invocation->n_arguments; i++)
            json_array_append_new(json_object_get(body, "arguments"), json_string(invocation->arguments[i]));
    }
    if (client_post(invocation->client, "/api/v1/runs", NULL, json_incref(body), &run, error) < 0)
        return -1;
    id = json_get_string(run, "id", "");
    if (option_flag(invocation, "follow"))
        return follow_run(invocation, id, error);
    print_done(invocation, run, "%s", id);
    return 0;
}

/* -- runs -- */

static char *what_text(const json_t *run)
{
    const char *name = json_get_string(run, "name", NULL), *job = json_get_string(run, "job", NULL);
    cleanup_strvec struct strvec words = STRVEC_INIT;
    json_t *word;
    size_t i;

    if (name || job)
        return xstrdup(name ? name : job);
    json_array_foreach(json_object_get(json_object_get(run, "spec"), "entry"), i, word)
        strvec_push(&words, json_string_value(word));
    return strvec_join(&words, " ");
}

static const struct table_column list_columns[] = {
    {"RUN", "id"},
    {"STATE", "state", TABLE_STATE},
    {"REASON", "reason"},
    {"WHAT", .text = what_text, .shrink = true},
    {"MODEL", "model"},
    {"AGE", "created_at", TABLE_AGE},
    {"DURATION", "duration_ms", TABLE_DURATION},
    {},
};

static int runs_ls(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *items = NULL;
    json_t *query = json_object();
    static const char *const filters[] = {"state", "job", "label"};
    int64_t limit = 50;

    for (size_t i = 0; i < ARRAY_SIZE(filters); i++)
        json_set_string(query, filters[i], option_value(invocation, filters[i]));
    if (option_int(invocation, "limit", 0, INT32_MAX, &limit, error) < 0) {
        json_decref(query);
        return -1;
    }
    if (client_list(invocation->client, "/api/v1/runs", query, (size_t)limit, &items, error) < 0)
        return -1;
    print_items(invocation, list_columns, items, "there are no runs yet");
    return 0;
}

static char *resources_text(const json_t *run)
{
    const json_t *resources = json_object_get(json_object_get(run, "spec"), "resources");
    uint64_t memory = (uint64_t)json_get_int(resources, "memory", 0);
    int gpus = (int)json_get_int(resources, "gpus", 0);
    char bytes[FORMAT_SIZE];

    return xasprintf("%g cpus, %s memory%s", json_get_number(resources, "cpus", 0),
                     memory ? format_bytes(memory, bytes) : "unlimited",
                     gpus == 0   ? ""
                     : gpus == 1 ? ", 1 GPU"
                                 : ", GPUs");
}

static char *json_member_text(const json_t *run, const char *key)
{
    const json_t *value = json_object_get(json_object_get(run, "spec"), key);

    return json_is_object(value) && json_object_size(value) > 0 ? json_text(value) : NULL;
}

static char *parameters_text(const json_t *run)
{
    return json_member_text(run, "parameters");
}

static char *gate_text(const json_t *run)
{
    return xstrdup_null(json_get_string(json_object_get(json_object_get(run, "spec"), "gate"), "rule", NULL));
}

static char *datasets_text(const json_t *run)
{
    cleanup_strvec struct strvec names = STRVEC_INIT;
    json_t *dataset;
    size_t i;

    json_array_foreach(json_object_get(json_object_get(run, "spec"), "datasets"), i, dataset)
        strvec_push(&names, json_get_string(dataset, "address", ""));
    return names.count ? strvec_join(&names, ", ") : NULL;
}

static const struct table_column show_columns[] = {
    {"Run", "id"},
    {"Name", "name"},
    {"State", "state", TABLE_STATE},
    {"Reason", "reason"},
    {"Message", "message"},
    {"Exit status", "exit_code", TABLE_NUMBER},
    {"Attempt", "attempt", TABLE_NUMBER},
    {"What", .text = what_text},
    {"Job", "job"},
    {"Code", "code", TABLE_DIGEST},
    {"Environment", "spec.environment.name"},
    {"Datasets", .text = datasets_text},
    {"Parameters", .text = parameters_text},
    {"Resources", .text = resources_text},
    {"Priority", "priority", TABLE_NUMBER},
    {"Model", "model"},
    {"Gate", .text = gate_text},
    {"Created", "created_at", TABLE_TIME},
    {"Started", "started_at", TABLE_TIME},
    {"Ended", "ended_at", TABLE_TIME},
    {"Duration", "duration_ms", TABLE_DURATION},
    {"By", "created_by"},
    {},
};

static const struct table_column weights_columns[] = {
    {"GENERATION", "generation", TABLE_NUMBER},
    {"STEP", "step", TABLE_NUMBER},
    {"SIZE", "size", TABLE_BYTES},
    {"DIGEST", "digest", TABLE_DIGEST},
    {"NAME", "name"},
    {"AGE", "created_at", TABLE_AGE},
    {},
};

static int runs_show(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/runs/%s", invocation->arguments[0]);
    cleanup_json json_t *run = NULL, *weights = NULL, *metrics = NULL;
    cleanup_free char *weights_path = NULL, *metrics_path = NULL;
    json_t *item;
    size_t i;

    if (client_get(invocation->client, path, NULL, &run, error) < 0)
        return -1;
    weights_path = http_path("/api/v1/runs/%s/weights", json_get_string(run, "id", ""));
    metrics_path = http_path("/api/v1/runs/%s/metrics", json_get_string(run, "id", ""));
    if (client_list(invocation->client, weights_path, NULL, 0, &weights, error) < 0 ||
        client_list(invocation->client, metrics_path, json_build("{s:i}", "points", 2), 0, &metrics, error) < 0)
        return -1;
    if (invocation->json) {
        json_object_set(run, "weights", weights);
        json_object_set(run, "metrics", metrics);
        print_json(run);
        return 0;
    }
    print_object(invocation, show_columns, run);
    json_array_foreach(metrics, i, item)
        printf("%s%s = %.6g (%" PRId64 " values, %.6g to %.6g)\n", i ? "" : "\n", json_get_string(item, "name", ""),
               json_get_number(item, "last", NAN), json_get_int(item, "count", 0), json_get_number(item, "min", NAN),
               json_get_number(item, "max", NAN));
    if (json_array_size(weights)) {
        putchar('\n');
        table_print(stdout, weights_columns, weights);
    }
    return 0;
}

static const struct table_column holder_columns[] = {
    {"HELD BY", "owner"}, {"CPUS", "cpus", TABLE_NUMBER},   {"MEMORY", "memory", TABLE_BYTES},
    {"GPUS", "gpus"},     {"UNTIL", "ends_at", TABLE_TIME}, {},
};

static int runs_why(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/runs/%s/why", invocation->arguments[0]);
    cleanup_json json_t *why = NULL;
    const json_t *holders;

    if (client_get(invocation->client, path, NULL, &why, error) < 0)
        return -1;
    if (invocation->json) {
        print_json(why);
        return 0;
    }
    printf("run %s is %s (%s): %s\n", json_get_string(why, "run", ""), json_get_string(why, "state", ""),
           json_get_string(why, "reason", ""), json_get_string(why, "message", ""));
    if (json_is_integer(json_object_get(why, "position")))
        printf("position %" PRId64 " in the queue\n", json_get_int(why, "position", 0));
    if (json_get_string(why, "expected_at", NULL))
        printf("starts at the latest %s\n", json_get_string(why, "expected_at", ""));
    holders = json_object_get(why, "holders");
    if (json_array_size(holders)) {
        putchar('\n');
        table_print(stdout, holder_columns, holders);
    }
    return 0;
}

static int post_each(struct invocation *invocation, const char *action, const char *done, struct error *error)
{
    for (int i = 0; i < invocation->n_arguments; i++) {
        cleanup_free char *path = http_path("/api/v1/runs/%s/%s", invocation->arguments[i], action);
        cleanup_json json_t *run = NULL;

        if (client_post(invocation->client, path, NULL, NULL, &run, error) < 0)
            return -1;
        print_done(invocation, run, "run %s %s", json_get_string(run, "id", ""), done);
    }
    return 0;
}

static int runs_stop(struct invocation *invocation, struct error *error)
{
    return post_each(invocation, "stop", "is asked to stop", error);
}

static int runs_retry(struct invocation *invocation, struct error *error)
{
    return post_each(invocation, "retry", "is queued again", error);
}

static int runs_rm(struct invocation *invocation, struct error *error)
{
    for (int i = 0; i < invocation->n_arguments; i++) {
        cleanup_free char *path = http_path("/api/v1/runs/%s", invocation->arguments[i]);

        if (client_delete(invocation->client, path, NULL, NULL, error) < 0)
            return -1;
        print_done(invocation, NULL, "run %s is removed", invocation->arguments[i]);
    }
    return 0;
}

static int runs_logs(struct invocation *invocation, struct error *error)
{
    int64_t node = 0, tail = -1, attempt = 0;
    cleanup_free char *path = NULL;
    char number[16];
    json_t *query;

    if (option_int(invocation, "node", 0, LIMIT_RUN_NODES, &node, error) < 0 ||
        option_int(invocation, "tail", 0, INT32_MAX, &tail, error) < 0 ||
        option_int(invocation, "attempt", 1, INT32_MAX, &attempt, error) < 0)
        return -1;
    if (option_flag(invocation, "follow"))
        return follow_log(invocation, invocation->arguments[0], (int)node, tail, option_flag(invocation, "timestamps"),
                          error);
    snprintf(number, sizeof(number), "%d", (int)node);
    path = http_path("/api/v1/runs/%s/nodes/%s/log", invocation->arguments[0], number);
    query = json_object();
    if (tail >= 0)
        json_set_int(query, "tail", tail);
    if (attempt > 0)
        json_set_int(query, "attempt", attempt);
    if (option_flag(invocation, "timestamps"))
        json_set_bool(query, "timestamps", true);
    fflush(stdout);
    return client_download(invocation->client, path, query, STDOUT_FILENO, NULL, error);
}

static void plot_series(const json_t *series)
{
    const json_t *points = json_object_get(series, "points"), *point;
    size_t count = json_array_size(points), i;
    cleanup_free double *x = xcalloc(count + 1, sizeof(double)), *y = xcalloc(count + 1, sizeof(double));
    cleanup_free char *title = NULL;
    int width = terminal_width(stdout);

    json_array_foreach(points, i, point) {
        const json_t *step = json_array_get(point, 0), *value = json_array_get(point, 2);

        x[i] = json_is_number(step) ? json_number_value(step) : (double)json_integer_value(json_array_get(point, 3));
        if (i && x[i] < x[i - 1])
            x[i] = x[i - 1];
        y[i] = json_is_number(value) ? json_number_value(value) : NAN;
    }
    title = xasprintf("%s: %.6g (%" PRId64 " values, %.6g to %.6g)", json_get_string(series, "name", ""),
                      json_get_number(series, "last", NAN), json_get_int(series, "count", 0),
                      json_get_number(series, "min", NAN), json_get_number(series, "max", NAN));
    chart_plot(stdout, title, x, y, count, width ? width : 80, 12);
}

static int runs_metrics(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/runs/%s/metrics", invocation->arguments[0]);
    cleanup_json json_t *items = NULL;
    json_t *query = json_build("{s:i}", "points", invocation->json ? 0 : 400), *item;
    size_t i;

    json_set_string(query, "name", option_value(invocation, "name"));
    if (option_flag(invocation, "follow")) {
        json_decref(query);
        return follow_metrics(invocation, invocation->arguments[0], error);
    }
    if (client_list(invocation->client, path, query, 0, &items, error) < 0)
        return -1;
    if (invocation->json) {
        print_json(items);
        return 0;
    }
    if (json_array_size(items) == 0)
        puts("the run has written no metrics yet");
    json_array_foreach(items, i, item) {
        if (i)
            putchar('\n');
        plot_series(item);
    }
    return 0;
}

static int runs_follow(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/runs/%s", invocation->arguments[0]);
    cleanup_json json_t *run = NULL;

    if (client_get(invocation->client, path, NULL, &run, error) < 0)
        return -1;
    return follow_run(invocation, json_get_string(run, "id", ""), error);
}

static const struct table_column artifact_columns[] = {
    {"FILE", "path"}, {"SIZE", "size", TABLE_BYTES}, {"NODE", "node", TABLE_NUMBER}, {}};

static int runs_artifacts(struct invocation *invocation, struct error *error)
{
    const char *file = invocation->n_arguments > 1 ? invocation->arguments[1] : NULL;
    cleanup_free char *path = NULL;
    cleanup_json json_t *items = NULL;

    if (file) {
        path = http_path("/api/v1/runs/%s/artifacts/%p", invocation->arguments[0], file);
        fflush(stdout);
        return client_download(invocation->client, path, NULL, STDOUT_FILENO, NULL, error);
    }
    path = http_path("/api/v1/runs/%s/artifacts", invocation->arguments[0]);
    if (client_list(invocation->client, path, NULL, 0, &items, error) < 0)
        return -1;
    print_items(invocation, artifact_columns, items, "the run has left no artifacts");
    return 0;
}

/* -- rows -- */

static const struct option run_options[] = {
    SUBMIT_OPTIONS,
    {"name", 'n', "NAME", "free name"},
    {"follow", 'f', NULL, "show log and metrics until it ends"},
    {},
};

static const struct option ls_options[] = {
    {"state", 's', "STATE", "queued, starting, running, succeeded, failed, stopped or lost"},
    {"job", 0, "JOB", "runs of this job"},
    {"label", 0, "KEY=VALUE", "runs with this label"},
    {"limit", 0, "N", "at most so many, 0: all (50)"},
    {},
};

static const struct option log_options[] = {
    {"follow", 'f', NULL, "go on until the run has ended"},
    {"node", 0, "N", "which node (0)"},
    {"attempt", 0, "N", "which attempt (the newest)"},
    {"tail", 0, "N", "only the last N lines"},
    {"timestamps", 0, NULL, "each line begins with its time and stream"},
    {},
};

static const struct option metric_options[] = {
    {"name", 0, "METRIC", "only this one"},
    {"follow", 'f', NULL, "print values as they come"},
    {},
};

const struct command run_commands[] = {
    {"run", "SCRIPT|DIR|ZIP [ARGUMENT…]", "run a script, a directory or a zip", run_options, run_run,
     .details = "A script goes alone, or with the directory that --with names, or with its own directory if a model "
                "package (slipway.yaml, model.py, model.R) lies beside it. In a directory or zip train.py, main.py "
                "or "
                "run.py (or .R, .sh) is run unless --entry says otherwise. Arguments of the script that begin with "
                "a "
                "dash come after --.\n\nWith --follow the exit status tells how it ended: 0 succeeded, 1 failed, 7 "
                "the gate rejected the model, 8 timed out, 130 stopped.",
     .examples = "slipway run train.py --data digits --param rate=0.1 --follow\n"
                 "slipway run experiment/ --entry 'python3 -m experiment' --cpus 2 --memory 8G --timeout 5h\n"
                 "slipway run train.py --model vision/digits --gate 'accuracy >= 0.95' -- --verbose"},
    {"runs ls", NULL, "list runs, newest first", ls_options, runs_ls},
    {"runs show", "RUN", "show a run with its metrics and weights", NULL, runs_show,
     .details = "A run is named by its id, the first digits of it (at least 8), or 'last'."},
    {"runs why", "RUN", "say why a run waits and what would let it start", NULL, runs_why},
    {"runs follow", "RUN", "show log and metrics of a run until it ends", NULL, runs_follow},
    {"runs logs", "RUN", "print the log of a run", log_options, runs_logs},
    {"runs metrics", "RUN", "draw the metrics of a run", metric_options, runs_metrics},
    {"runs artifacts", "RUN [FILE]", "list the files that a run left, or print one", NULL, runs_artifacts},
    {"runs stop", "RUN…", "stop runs, also those that wait", NULL, runs_stop},
    {"runs retry", "RUN…", "begin new attempts of runs that failed, were stopped or lost", NULL, runs_retry},
    {"runs rm", "RUN…", "remove ended runs with log, metrics and artifacts", NULL, runs_rm},
    {},
};
