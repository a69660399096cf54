#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "cli/chart.h"
#include "cli/client.h"
#include "cli/error.h"
#include "cli/follow.h"
#include "cli/terminal.h"
#include "http/client.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/map.h"
#include "util/parse.h"
#include "util/xalloc.h"

#define CHART_LINES  6    /* metrics that are drawn */
#define CHART_POINTS 4096 /* newest points that are kept of each */
#define REDRAW       (100 * NS_PER_MS)
#define RESUME_FOR   (120 * NS_PER_SEC) /* without a connection, then it is given up */
#define GATE_WAIT    (60 * NS_PER_SEC)

struct series {
    double values[CHART_POINTS];
    size_t count;
    uint64_t total;
};

struct follow {
    struct invocation *invocation;
    /* where to resume */
    int attempt, node;
    int64_t offset, sequence;
    int64_t tail; /* lines to begin with; -1: all */
    /* what the run is like */
    json_t *run;
    char state[32];
    /* the chart */
    bool live;
    bool in_line;           /* the cursor stands behind a partial line */
    int drawn;              /* lines of the chart on the screen */
    int cells[CHART_LINES]; /* of each of them */
    int64_t drawn_ns;
    struct map series;
    double step;
    bool timestamps;
    int64_t last_message_ns;
};

static void erase_chart(struct follow *follow)
{
    int width = terminal_width(stdout), rows = 0;

    /* A window that became narrower shows a line in several rows. */
    for (int i = 0; i < follow->drawn; i++)
        rows += width > 0 && follow->cells[i] > width ? (follow->cells[i] + width - 1) / width : 1;
    if (rows)
        printf("\033[%dF\033[J", rows);
    follow->drawn = 0;
}

static void draw_chart(struct follow *follow, bool now)
{
    int width = terminal_width(stdout), n = 0;
    struct map_iterator it = {0};

    if (!follow->live || map_count(&follow->series) == 0 || follow->in_line)
        return;
    if (!now && clock_monotonic_ns() - follow->drawn_ns < REDRAW)
        return;
    erase_chart(follow);
    while (n < CHART_LINES && map_next(&follow->series, &it)) {
        const struct series *series = it.value;
        cleanup_free char *name = text_printable(it.key);
        cleanup_free char *line = chart_sparkline(series->values, series->count, width > 60 ? width - 46 : 14);

        char number[32];

        snprintf(number, sizeof(number), "%.6g", series->values[series->count - 1]);
        printf("%s%-16.16s%s %s  %s\n", terminal_colour(COLOUR_BOLD), name, terminal_colour_off, line, number);
        follow->cells[n++] = 16 + 1 + text_width(line) + 2 + (int)strlen(number);
    }
    follow->drawn = n;
    follow->drawn_ns = clock_monotonic_ns();
    fflush(stdout);
}

static void add_point(struct follow *follow, const char *name, double value)
{
    struct series *series = map_get(&follow->series, name);

    if (!series) {
        series = xnew0(struct series);
        map_put(&follow->series, name, series);
    }
    if (series->count == CHART_POINTS) {
        memmove(series->values, series->values + CHART_POINTS / 2, sizeof(series->values) / 2);
        series->count = CHART_POINTS / 2;
    }
    series->values[series->count++] = value;
}

static void on_log(struct follow *follow, const json_t *message)
{
    const json_t *text = json_object_get(message, "text");

    follow->offset = json_get_int(message, "offset", follow->offset);
    erase_chart(follow);
    if (follow->timestamps && !follow->in_line)
        printf("%s %s ", json_get_string(message, "time", ""), json_get_string(message, "stream", ""));
    fwrite(json_string_value(text), 1, json_string_length(text), stdout);
    follow->in_line = json_get_bool(message, "partial", false);
    if (!follow->in_line)
        fputc('\n', stdout);
    draw_chart(follow, false);
}

static void on_metric(struct follow *follow, const json_t *message)
{
    json_t *values = json_object_get(message, "values"), *value;
    const char *name;

    follow->sequence = json_get_int(message, "sequence", follow->sequence);
    if (!follow->live)
        printf("metric");
    json_object_foreach(values, name, value) {
        if (follow->live) {
            if (strcmp(name, "step") != 0)
                add_point(follow, name, json_is_number(value) ? json_number_value(value) : NAN);
            continue;
        }
        if (json_is_number(value))
            printf(" %s=%.6g", name, json_number_value(value));
        else
            printf(" %s=null", name);
    }
    if (!follow->live)
        fputc('\n', stdout);
    draw_chart(follow, false);
}

static void on_state(struct follow *follow, const json_t *message)
{
    json_t *run = json_object_get(message, "run");
    const char *state = json_get_string(run, "state", ""), *text = json_get_string(run, "message", NULL);

    json_decref(follow->run);
    follow->run = json_incref(run);
    if (strcmp(state, follow->state) == 0)
        return;
    snprintf(follow->state, sizeof(follow->state), "%s", state);
    erase_chart(follow);
    fflush(stdout);
    if (strcmp(state, "queued") == 0 || strcmp(state, "starting") == 0 || strcmp(state, "running") == 0)
        fprintf(stderr, "run %s: %s%s%s\n", json_get_string(run, "id", ""), state, text ? ": " : "", text ? text : "");
    draw_chart(follow, true);
}

static int on_message(void *userdata, json_t *message)
{
    struct follow *follow = userdata;
    const char *type = json_get_string(message, "type", "");
    int attempt = (int)json_get_int(message, "attempt", follow->attempt);

    follow->last_message_ns = clock_monotonic_ns();
    if (attempt != follow->attempt && follow->attempt) {
        follow->offset = follow->sequence = 0;
        map_release(&follow->series);
    }
    follow->attempt = attempt;
    if (follow->invocation->json) {
        print_json_line(message);
        if (strcmp(type, "log") == 0)
            follow->offset = json_get_int(message, "offset", follow->offset);
        else if (strcmp(type, "metric") == 0)
            follow->sequence = json_get_int(message, "sequence", follow->sequence);
        else
            on_state(follow, message);
        return 0;
    }
    if (strcmp(type, "log") == 0)
        on_log(follow, message);
    else if (strcmp(type, "metric") == 0)
        on_metric(follow, message);
    else if (strcmp(type, "state") == 0)
        on_state(follow, message);
    fflush(stdout);
    return 0;
}

static void pause_ms(int ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

static int stream(struct follow *follow, const char *path, struct error *error)
{
    bool told = false;

    follow->last_message_ns = clock_monotonic_ns();
    for (;;) {
        cleanup_error struct error cause = ERROR_INIT;
        json_t *query = json_build("{s:i, s:I, s:I}", "node", follow->node, "after", (json_int_t)follow->offset,
                                   "metrics_after", (json_int_t)follow->sequence);

        if (follow->tail >= 0 && follow->offset == 0)
            json_set_int(query, "tail", follow->tail);
        if (follow->attempt)
            json_set_int(query, "attempt", follow->attempt);
        if (client_follow(follow->invocation->client, path, query, on_message, follow, &cause) == 0)
            return 0;
        if (cause.code != ERROR_UNAVAILABLE || clock_monotonic_ns() - follow->last_message_ns > RESUME_FOR) {
            error_move(error, &cause);
            return -1;
        }
        if (!told)
            fprintf(stderr, "connection lost, trying again: %s\n", cause.message);
        told = true;
        pause_ms(250);
    }
}

static void follow_release(struct follow *follow)
{
    map_release(&follow->series);
    json_decref(follow->run);
}
#define cleanup_follow CLEANUP(follow_release)

static void follow_init(struct follow *follow, struct invocation *invocation)
{
    *follow = (struct follow){.invocation = invocation,
                              .tail = -1,
                              .live = !invocation->json && terminal_width(stdout) > 0 && terminal_has_colours(stdout)};
    follow->series.destroy = free;
}

/* -- the end -- */

/* A run of a model with a gate is not over for people before the verdict. */
static int wait_for_gate(struct follow *follow, const char *run_id, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/runs/%s/gate", run_id);
    int64_t deadline = clock_monotonic_ns() + GATE_WAIT;

    for (;;) {
        cleanup_json json_t *gate = NULL;
        cleanup_error struct error cause = ERROR_INIT;
        const char *state;

        if (client_get(follow->invocation->client, path, NULL, &gate, &cause) < 0) {
            if (cause.code == ERROR_NOT_FOUND) {
                fprintf(stderr, "no gate was asked: the run kept no weights\n");
                return EXIT_REJECTED;
            }
            error_move(error, &cause);
            return -1;
        }
        state = json_get_string(gate, "state", "");
        if (strcmp(state, "pending") != 0) {
            bool accepted = strcmp(state, "accepted") == 0;

            if (follow->invocation->json)
                print_json_line(gate);
            else
                printf("gate %s: %s\n", state, json_get_string(gate, "reason", json_get_string(gate, "rule", "")));
            return accepted ? EXIT_OK : EXIT_REJECTED;
        }
        if (clock_monotonic_ns() > deadline)
            return error_set(error, ERROR_TIMEOUT, "the gate of run %s was not decided in time", run_id);
        pause_ms(50);
    }
}

static int finish(struct follow *follow, const char *run_id, struct error *error)
{
    const char *state = json_get_string(follow->run, "state", "");
    const char *reason = json_get_string(follow->run, "reason", "");
    const char *message = json_get_string(follow->run, "message", NULL);
    char duration[FORMAT_SIZE];

    if (!follow->invocation->json) {
        fflush(stdout);
        fprintf(stderr, "run %s: %s after %s", run_id, state,
                format_duration_ms(json_get_int(follow->run, "duration_ms", 0), duration));
        if (strcmp(state, "succeeded") != 0)
            fprintf(stderr, " (%s)%s%s", reason, message ? ": " : "", message ? message : "");
        fputc('\n', stderr);
    }
    if (strcmp(state, "succeeded") == 0)
        return json_is_object(json_object_get(json_object_get(follow->run, "spec"), "gate"))
                   ? wait_for_gate(follow, run_id, error)
                   : EXIT_OK;
    if (strcmp(state, "stopped") == 0)
        return EXIT_INTERRUPTED;
    return strcmp(reason, "timeout") == 0 ? EXIT_TIMEOUT : EXIT_FAILED;
}

/* Ctrl-C ends the following, not the run, and says so. Waited for by a thread, because the stream may be
 * anywhere; it ends with the program. */
static void *wait_for_interrupt(void *userdata)
{
    const char *run_id = userdata;
    sigset_t set;
    int signal;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    if (sigwait(&set, &signal) == 0) {
        fprintf(stderr,
                "\nrun %s goes on; follow it again with 'slipway runs follow %.12s', stop it with 'slipway "
                "runs stop "
                "%.12s'\n",
                run_id, run_id, run_id);
        _exit(EXIT_INTERRUPTED);
    }
    return NULL;
}

static void catch_interrupt(const char *run_id)
{
    pthread_t thread;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (pthread_create(&thread, NULL, wait_for_interrupt, (void *)run_id) == 0)
        pthread_detach(thread);
    else
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int follow_run(struct invocation *invocation, const char *run_id, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/runs/%s/follow", run_id);
    cleanup_follow struct follow follow;

    follow_init(&follow, invocation);
    follow.attempt = 1;
    if (!invocation->json)
        catch_interrupt(xstrdup(run_id));
    if (stream(&follow, path, error) < 0)
        return -1;
    return finish(&follow, run_id, error);
}

int follow_log(struct invocation *invocation, const char *run_id, int node, int64_t tail, bool timestamps,
               struct error *error)
{
    char number[16];
    cleanup_free char *path = NULL;
    cleanup_follow struct follow follow;

    snprintf(number, sizeof(number), "%d", node);
    path = http_path("/api/v1/runs/%s/nodes/%s/log/follow", run_id, number);
    follow_init(&follow, invocation);
    follow.live = false;
    follow.node = node;
    follow.tail = tail;
    follow.timestamps = timestamps;
    return stream(&follow, path, error);
}

int follow_metrics(struct invocation *invocation, const char *run_id, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/runs/%s/metrics/follow", run_id);
    cleanup_follow struct follow follow;

    follow_init(&follow, invocation);
    follow.attempt = 1;
    return stream(&follow, path, error);
}
