/*
 * slipway bench paper: the two figures of the published measurement of token-checked models, on an endpoint of
 * this platform, with what queueing theory predicts beside what was measured.
 *
 * Source: M. Rovnyagin, K. Timofeev, A. Elenkin, V. Shipugin, "Cloud Computing Architecture for High-volume
 * ML-based Solutions", EIConRus 2019, relations (1) and (2), figures 5 and 6.
 *
 * Figure 5. Of a Poisson flow of intensity I a share p carries bad tokens; what reaches the model is the rest:
 * (1 - p) I. Figure 6. K clients share the flow. Each asks for a token when it has a request and its token has
 * ended, so that a token lasts for its time to live and until the next request of that client, K / I on
 * average: together they ask K / (TTL + K / I) times a second.
 *
 * A counted flow of intensity r is measured over a time T with a standard deviation of sqrt(r / T) if it is
 * Poisson; the predicted interval is t times that to both sides, with t chosen so that all points of a figure
 * lie inside together with the stated confidence (Bonferroni: 1 - (1 - p) / points for each).
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "cli/bench.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/terminal.h"
#include "http/client.h"
#include "load/generator.h"
#include "load/plot.h"
#include "load/report.h"
#include "load/target.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

#define WINDOW_NS   (100 * NS_PER_MS)
#define LONG_TTL_S  3600
#define CAREFUL_S   1 /* a client renews so long before the server's end of its token */
#define MOST_POINTS 64
#define BAD_TOKEN   "not-a-token-that-anybody-issued"

struct point {
    double x;
    double measured, accuracy;       /* ± at the stated confidence */
    double predicted, low, high;
};

struct figure {
    const char *name, *x_label, *y_label;
    struct point points[MOST_POINTS];
    size_t count;
};

/* One of the K clients: its token and the request made of it. */
struct paper_client {
    char *text;
    size_t length;
    int64_t ends_ns; /* of the token, as the client reckons; since the start of the load */
};

struct paper {
    struct invocation *invocation;
    struct load_target target;
    struct http_client *http;
    char *form;                /* what a client sends to get a token, with %d for the seconds */
    const char *body;
    struct paper_client *clients;
    size_t n_clients;
    struct text_list {
        char **items;
        size_t count;
    } retired;                 /* requests with tokens of before; some may still be on their way */
    char *bad_text;
    size_t bad_length;
    double rate, bad_probability, confidence;
    int64_t ttl_ns, time_ns;
    int connections;
    struct random_source random;
    uint64_t token_requests, accepted, accepted_before;
    struct load_flow flow;
    struct error failure;      /* of a token request inside the load */
    uint64_t seed;
};

/* -- tokens -- */

static int ask_for_token(struct paper *paper, int seconds, char **ret_token, struct error *error)
{
    cleanup_free char *form = xasprintf("%s&expires_in=%d", paper->form, seconds);
    cleanup_json json_t *reply = NULL;

    if (http_client_form(paper->http, "/api/v1/oauth2/token", form, &reply, error) < 0)
        return error_wrap(error, "cannot get a token");
    *ret_token = xstrdup(json_get_string(reply, "access_token", ""));
    return 0;
}

static void retire(struct paper *paper, char *text)
{
    if (!text)
        return;
    paper->retired.items = xreallocarray(paper->retired.items, paper->retired.count + 1, sizeof(char *));
    paper->retired.items[paper->retired.count++] = text;
}

static void forget_retired(struct paper *paper)
{
    for (size_t i = 0; i < paper->retired.count; i++)
        free(paper->retired.items[i]);
    free(paper->retired.items);
    paper->retired.items = NULL;
    paper->retired.count = 0;
}

static char *request_with(struct paper *paper, const char *token, size_t *ret_length)
{
    return load_request_text(&paper->target, "POST", token, NULL, paper->body, strlen(paper->body), ret_length);
}

static int renew(struct paper *paper, struct paper_client *client, int64_t now, struct error *error)
{
    cleanup_free char *token = NULL;

    if (ask_for_token(paper, (int)(paper->ttl_ns / NS_PER_SEC) + CAREFUL_S, &token, error) < 0)
        return -1;
    retire(paper, client->text);
    client->text = request_with(paper, token, &client->length);
    client->ends_ns = now + paper->ttl_ns;
    return 0;
}

/* -- what the generator calls -- */

static struct load_request next_request(void *userdata, int64_t when)
{
    struct paper *paper = userdata;
    size_t index = (size_t)(random_uniform(&paper->random) * (double)paper->n_clients);
    struct paper_client *client = &paper->clients[index < paper->n_clients ? index : paper->n_clients - 1];

    if (random_uniform(&paper->random) < paper->bad_probability)
        return (struct load_request){paper->bad_text, paper->bad_length};
    if (when >= client->ends_ns && !error_is_set(&paper->failure)) {
        paper->token_requests++;
        renew(paper, client, when, &paper->failure);
    }
    return (struct load_request){client->text, client->length};
}

static void on_reply(void *userdata, const struct load_reply *reply)
{
    struct paper *paper = userdata;

    if (reply->status < 400)
        paper->accepted++;
}

static int on_tick(void *userdata, int64_t elapsed)
{
    struct paper *paper = userdata;

    load_flow_add(&paper->flow, (double)(paper->accepted - paper->accepted_before) / ((double)WINDOW_NS / 1e9));
    paper->accepted_before = paper->accepted;
    return error_is_set(&paper->failure);
}

/* -- one point -- */

/* Loads for paper->time_ns. The clients' tokens end at times spread over one life, as in a flow that has been
 * going on for long. */
static int measure(struct paper *paper, struct load_result *ret_result, struct error *error)
{
    struct load_options options = {.host = paper->target.host,
                                   .port = paper->target.port,
                                   .unix_path = paper->target.unix_path,
                                   .connections = paper->connections,
                                   .arrivals = LOAD_POISSON,
                                   .rate = paper->rate,
                                   .duration_ns = paper->time_ns,
                                   .seed = paper->seed++,
                                   .next = next_request,
                                   .reply = on_reply,
                                   .tick = on_tick,
                                   .tick_ns = WINDOW_NS,
                                   .userdata = paper};

    for (size_t i = 0; i < paper->n_clients; i++) {
        if (renew(paper, &paper->clients[i], 0, error) < 0)
            return -1;
        paper->clients[i].ends_ns = (int64_t)(random_uniform(&paper->random) * (double)paper->ttl_ns);
    }
    load_flow_release(&paper->flow);
    paper->flow = (struct load_flow){.window_ns = WINDOW_NS, .confidence = paper->confidence};
    paper->token_requests = paper->accepted = paper->accepted_before = 0;
    if (load_run(&options, ret_result, error) < 0)
        return -1;
    forget_retired(paper);
    if (error_is_set(&paper->failure)) {
        error_move(error, &paper->failure);
        return -1;
    }
    if (load_result_errors(ret_result))
        return error_set(error, ERROR_UNAVAILABLE, "%" PRIu64 " requests failed: the server does not stand this rate",
                         load_result_errors(ret_result));
    return 0;
}

static void set_interval(struct point *point, double confidence, size_t points, double seconds)
{
    double t = laplace_inverse(1 - (1 - confidence) / (double)points);
    double delta = t * sqrt(point->predicted / seconds);

    point->low = point->predicted - delta;
    point->high = point->predicted + delta;
}

static bool is_inside(const struct point *point)
{
    return point->measured >= point->low && point->measured <= point->high;
}

static void say_point(const struct figure *figure, const struct point *point)
{
    fprintf(stderr, "%s  %-8.4g measured %9.2f  predicted %9.2f  (%.2f to %.2f)  %s\n", figure->name, point->x,
            point->measured, point->predicted, point->low, point->high, is_inside(point) ? "inside" : "OUTSIDE");
}

static int measure_bad_tokens(struct paper *paper, double p, size_t points, struct figure *figure, struct error *error)
{
    struct point *point = &figure->points[figure->count];
    double seconds = (double)paper->time_ns / 1e9;
    struct load_result result = {0};
    int r;

    paper->bad_probability = p;
    paper->ttl_ns = LONG_TTL_S * NS_PER_SEC;
    r = measure(paper, &result, error);
    if (r == 0) {
        *point = (struct point){.x = p, .predicted = (1 - p) * paper->rate};
        point->measured = (double)paper->accepted / seconds;
        point->accuracy = sample_accuracy(&paper->flow.intensity, paper->confidence);
        set_interval(point, paper->confidence, points, seconds);
        figure->count++;
        say_point(figure, point);
    }
    load_result_release(&result);
    return r;
}

static int measure_ttl(struct paper *paper, double ttl, size_t points, struct figure *figure, struct error *error)
{
    struct point *point = &figure->points[figure->count];
    double seconds = (double)paper->time_ns / 1e9, clients = (double)paper->n_clients;
    struct load_result result = {0};
    int r;

    paper->bad_probability = 0;
    paper->ttl_ns = (int64_t)(ttl * 1e9);
    r = measure(paper, &result, error);
    if (r == 0) {
        *point = (struct point){.x = ttl, .predicted = clients / (ttl + clients / paper->rate)};
        point->measured = (double)paper->token_requests / seconds;
        point->accuracy = laplace_inverse(paper->confidence) * sqrt(point->measured / seconds);
        set_interval(point, paper->confidence, points, seconds);
        figure->count++;
        say_point(figure, point);
    }
    load_result_release(&result);
    return r;
}

/* -- outcome -- */

static json_t *figure_json(const struct figure *figure)
{
    json_t *points = json_array();

    for (size_t i = 0; i < figure->count; i++) {
        const struct point *p = &figure->points[i];

        json_array_append_new(points, json_build("{s:f, s:f, s:f, s:f, s:f, s:f, s:b}", "x", p->x, "measured",
                                                 p->measured, "accuracy", p->accuracy, "predicted", p->predicted, "low",
                                                 p->low, "high", p->high, "inside", is_inside(p)));
    }
    return json_build("{s:s, s:s, s:s, s:o}", "name", figure->name, "x", figure->x_label, "y", figure->y_label,
                      "points", points);
}

static size_t count_outside(const struct figure *figure)
{
    size_t outside = 0;

    for (size_t i = 0; i < figure->count; i++)
        outside += !is_inside(&figure->points[i]);
    return outside;
}

static void add_plot(const struct figure *figure, struct strbuf *page)
{
    struct plot_point measured[MOST_POINTS], predicted[MOST_POINTS];
    const struct plot_series series[] = {{"measured", measured, figure->count, .dots = true},
                                         {"predicted", predicted, figure->count, .dashed = true}};
    const struct plot plot = {figure->name, figure->x_label, figure->y_label, series, ARRAY_SIZE(series)};

    for (size_t i = 0; i < figure->count; i++) {
        const struct point *p = &figure->points[i];

        measured[i] = (struct plot_point){p->x, p->measured, p->measured - p->accuracy, p->measured + p->accuracy};
        predicted[i] = (struct plot_point){p->x, p->predicted, 0, 0};
    }
    plot_svg(&plot, page);
}

static int write_page(const char *path, const json_t *settings, const struct figure *bad, const struct figure *ttl,
                      struct error *error)
{
    cleanup_strbuf struct strbuf page = STRBUF_INIT(16 * MIB);

    report_page_begin(&page, "Token checks: measured and predicted");
    report_table(&page, "Settings", settings);
    add_plot(bad, &page);
    add_plot(ttl, &page);
    report_page_end(&page);
    return fs_write_atomic(path, page.data, page.length, 0644, error);
}

static void print_figure(const struct invocation *invocation, const json_t *figure)
{
    static const struct table_column columns[] = {
        {"X", "x", TABLE_NUMBER},
        {"MEASURED", "measured", TABLE_NUMBER},
        {"±", "accuracy", TABLE_NUMBER},
        {"PREDICTED", "predicted", TABLE_NUMBER},
        {"FROM", "low", TABLE_NUMBER},
        {"TO", "high", TABLE_NUMBER},
        {"INSIDE", "inside"},
        {},
    };

    printf("%s: %s over %s\n", json_get_string(figure, "name", ""), json_get_string(figure, "y", ""),
           json_get_string(figure, "x", ""));
    print_items(invocation, columns, json_object_get(figure, "points"), "nothing was measured");
    printf("\n");
}

static json_t *settings_json(const struct paper *paper)
{
    return json_build("{s:f, s:I, s:i, s:f, s:f, s:i}", "rate", paper->rate, "clients", (json_int_t)paper->n_clients,
                      "connections", paper->connections, "seconds_a_point", (double)paper->time_ns / 1e9, "confidence",
                      paper->confidence, "processors", (int)sysconf(_SC_NPROCESSORS_ONLN));
}

/* -- set up -- */

static int parse_list(const char *text, const char *option, double min, double max, double *ret_values,
                      size_t *ret_count, struct error *error)
{
    cleanup_strvec struct strvec parts = STRVEC_INIT;

    strvec_split(&parts, text, ',');
    if (parts.count > MOST_POINTS)
        return error_set(error, ERROR_INVALID, "--%s takes at most %d values", option, MOST_POINTS);
    for (size_t i = 0; i < parts.count; i++)
        if (parse_number(parts.items[i], min, max, &ret_values[i], error) < 0)
            return error_wrap(error, "--%s", option);
    *ret_count = parts.count;
    return 0;
}

/* A client of its own at the token endpoint, which may ask for tokens of this endpoint only. */
static int make_client(struct paper *paper, const char *endpoint, char **ret_id, struct error *error)
{
    struct client *client = paper->invocation->client;
    cleanup_free char *scope = xasprintf("predict:%s", endpoint);
    cleanup_json json_t *token = NULL;

    if (client_post(client, "/api/v1/tokens", NULL,
                    json_build("{s:s, s:i}", "scopes", scope, "ttl_ms", 6 * 3600 * 1000), &token, error) < 0)
        return -1;
    *ret_id = xstrdup(json_get_string(token, "id", ""));
    paper->form = http_path("grant_type=client_credentials&client_id=%s&client_secret=%s",
                            json_get_string(token, "name", ""), json_get_string(token, "token", ""));
    paper->http = client_http(client);
    return 0;
}

static int find_endpoint(struct paper *paper, const char *endpoint, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/endpoints/%s", endpoint);
    cleanup_json json_t *found = NULL;
    const char *url;

    if (client_get(paper->invocation->client, path, NULL, &found, error) < 0)
        return -1;
    url = json_get_string(found, "url", NULL);
    if (!url)
        return error_set(error, ERROR_CONFLICT, "endpoint %s has no URL: the daemon runs without a gateway", endpoint);
    return load_target_parse(url, &paper->target, error);
}

static int set_up(struct paper *paper, struct error *error)
{
    struct invocation *invocation = paper->invocation;
    int64_t clients = 100, connections = 32, time_ms = 10000;

    paper->rate = 10000;
    paper->confidence = 0.95;
    paper->body = option_value(invocation, "body") ?: "[]";
    if (option_number(invocation, "rate", 1, 1e6, &paper->rate, error) < 0 ||
        option_int(invocation, "clients", 1, 100000, &clients, error) < 0 ||
        option_int(invocation, "connections", 1, 10000, &connections, error) < 0 ||
        option_number(invocation, "confidence", 0.5, 0.999, &paper->confidence, error) < 0 ||
        option_duration_ms(invocation, "time", &time_ms, error) < 0)
        return -1;
    if (time_ms < 1000 || time_ms > 3600000)
        return error_set(error, ERROR_INVALID, "--time must be from 1 s to 1 h");
    paper->n_clients = (size_t)clients;
    paper->clients = xcalloc(paper->n_clients, sizeof(*paper->clients));
    paper->connections = (int)connections;
    paper->time_ns = time_ms * NS_PER_MS;
    paper->seed = 1;
    random_source_init(&paper->random, 42);
    if (find_endpoint(paper, invocation->arguments[0], error) < 0)
        return -1;
    paper->bad_text = request_with(paper, BAD_TOKEN, &paper->bad_length);
    return 0;
}

static void paper_release(struct paper *paper)
{
    for (size_t i = 0; i < paper->n_clients; i++)
        free(paper->clients[i].text);
    free(paper->clients);
    forget_retired(paper);
    free(paper->bad_text);
    free(paper->form);
    load_flow_release(&paper->flow);
    load_target_release(&paper->target);
    error_clear(&paper->failure);
}
#define cleanup_paper CLEANUP(paper_release)

static int measure_figures(struct paper *paper, struct figure *bad, struct figure *ttl, struct error *error)
{
    double bads[MOST_POINTS], ttls[MOST_POINTS];
    size_t n_bads, n_ttls;

    if (parse_list(option_value(paper->invocation, "bad-tokens") ?: "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1",
                   "bad-tokens", 0, 1, bads, &n_bads, error) < 0 ||
        parse_list(option_value(paper->invocation, "ttls") ?: "1,2,3,5,8", "ttls", 1, 3600, ttls, &n_ttls, error) < 0)
        return -1;
    for (size_t i = 0; i < n_bads; i++)
        if (measure_bad_tokens(paper, bads[i], n_bads, bad, error) < 0)
            return -1;
    for (size_t i = 0; i < n_ttls; i++)
        if (measure_ttl(paper, ttls[i], n_ttls, ttl, error) < 0)
            return -1;
    return 0;
}

static int show(struct paper *paper, const struct figure *bad, const struct figure *ttl, struct error *error)
{
    const char *path = option_value(paper->invocation, "report");
    json_t *first = figure_json(bad), *second = figure_json(ttl);
    cleanup_json json_t *settings = settings_json(paper);
    size_t outside = count_outside(bad) + count_outside(ttl);
    cleanup_json json_t *whole = json_build("{s:O, s:[o, o], s:I}", "settings", settings, "figures", first, second,
                                            "outside", (json_int_t)outside);

    if (paper->invocation->json) {
        print_json(whole);
    } else {
        print_figure(paper->invocation, first);
        print_figure(paper->invocation, second);
        printf("%zu of %zu points lie inside of the predicted interval\n", bad->count + ttl->count - outside,
               bad->count + ttl->count);
    }
    if (path && write_page(path, settings, bad, ttl, error) < 0)
        return -1;
    return outside ? 1 : 0;
}

int bench_paper(struct invocation *invocation, struct error *error)
{
    cleanup_paper struct paper paper = {.invocation = invocation};
    struct figure bad = {"Figure 5", "probability of a bad token", "requests that reach the model, 1/s"};
    struct figure ttl = {"Figure 6", "time to live of a token, s", "token requests, 1/s"};
    cleanup_free char *client_id = NULL;
    int r;

    if (set_up(&paper, error) < 0 || make_client(&paper, invocation->arguments[0], &client_id, error) < 0)
        return -1;
    r = measure_figures(&paper, &bad, &ttl, error);
    if (r == 0)
        r = show(&paper, &bad, &ttl, error);
    if (client_id) {
        cleanup_free char *path = http_path("/api/v1/tokens/%s", client_id);

        client_delete(invocation->client, path, NULL, NULL, NULL);
    }
    return r;
}
