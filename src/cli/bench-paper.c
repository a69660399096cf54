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
 * Each point is a series of measurements by relations (3) to (7), see load/statistics.h: a preliminary series of
 * 100 gives their standard deviation s, and n >= (t s / delta)^2 are made in all, delta being a share of I, up
 * to a bound. What is needed stands beside what was made.
 *
 * A counted flow of intensity r is measured over a time T with a standard deviation of sqrt(r / T) if it is
 * Poisson; the predicted interval is t times that to both sides, with t chosen so that all points of a figure
 * lie inside together with the stated confidence (Bonferroni: 1 - (1 - p) / points for each). The flow of token
 * requests is steadier than that, since each client's token ends after a fixed time.
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
#include "util/hash.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

#define LONG_TTL_S  3600
#define CAREFUL_S   1 /* a client renews so long before the server's end of its token */
#define MOST_POINTS 64
#define MOST_SERIES (5 * STATISTICS_PRELIMINARY) /* measurements of a point, if the machine is never quiet */
#define CURVE       101                          /* points of the predicted line */
#define BAD_TOKEN   "not-a-token-that-anybody-issued"

struct paper;

struct point {
    double x;
    double measured, deviation, accuracy; /* mean, s, and ± at the stated confidence */
    uint64_t n, needed;                   /* measurements */
    double predicted, low, high;
};

struct figure {
    const char *name, *title, *x_label, *y_label;
    /* Sets the load for one value of x. */
    void (*set)(struct paper *paper, double x);
    double (*predict)(const struct paper *paper, double x);
    /* What is counted: its place in the paper. */
    uint64_t *(*count)(struct paper *paper);
    const char *option, *defaults; /* the values of x */
    double least, most;
    size_t n_points;
    struct point points[MOST_POINTS];
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
    double rate, bad_probability, confidence, accuracy;
    int64_t ttl_ns, time_ns;   /* of tokens; of a preliminary series */
    int connections;
    struct random_source random;
    uint64_t token_requests, accepted;
    uint64_t *counted, counted_before; /* one of these; at the start of the measurement */
    int64_t window_start, span_ns;     /* of this measurement; of all of the point */
    uint64_t needed, wanted;           /* measurements: for the accuracy, and those that are made */
    struct load_flow flow;
    const struct figure *figure;       /* what is measured now, for the line on the terminal */
    double x;
    struct error failure;      /* of a token request inside the load */
    int64_t seed;              /* of the first point's arrivals; each point has its own */
    uint64_t n_loads;
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

static void show_live(const struct paper *paper)
{
    if (terminal_width(stderr) > 0)
        fprintf(stderr, "\r%s  %-8.4g measurement %" PRIu64 " of %" PRIu64 "\x1b[K", paper->figure->name, paper->x,
                paper->flow.intensity.n, paper->wanted);
}

/* The end of a measurement. The series ends when it has as many as the preliminary one showed to be needed. */
static int on_tick(void *userdata, int64_t elapsed)
{
    struct paper *paper = userdata;
    const struct sample *sample = &paper->flow.intensity;
    double seconds = (double)(elapsed - paper->window_start) / (double)NS_PER_SEC;

    if (sample->n >= paper->wanted) /* only the last answers are waited for */
        return 1;
    load_flow_add(&paper->flow, (double)(*paper->counted - paper->counted_before) / seconds);
    paper->counted_before = *paper->counted;
    paper->window_start = paper->span_ns = elapsed;
    if (sample->n == STATISTICS_PRELIMINARY) {
        paper->needed = sample_needed(sample, paper->confidence, paper->accuracy * paper->rate);
        paper->wanted = paper->needed < MOST_SERIES ? paper->needed : MOST_SERIES;
    }
    if (sample->n % (STATISTICS_PRELIMINARY / 20) == 0)
        show_live(paper);
    return sample->n >= paper->wanted || error_is_set(&paper->failure);
}

/* -- one point -- */

/* The clients' tokens end at times spread over one life, as in a flow that has been going on for long. */
static int renew_all(struct paper *paper, struct error *error)
{
    for (size_t i = 0; i < paper->n_clients; i++) {
        if (renew(paper, &paper->clients[i], 0, error) < 0)
            return -1;
        paper->clients[i].ends_ns = (int64_t)(random_uniform(&paper->random) * (double)paper->ttl_ns);
    }
    return 0;
}

static int run_load(struct paper *paper, struct load_result *ret_result, struct error *error)
{
    struct load_options options = {.host = paper->target.host,
                                   .port = paper->target.port,
                                   .unix_path = paper->target.unix_path,
                                   .connections = paper->connections,
                                   .arrivals = LOAD_POISSON,
                                   .rate = paper->rate,
                                   .seed = (uint64_t)paper->seed + paper->n_loads++,
                                   .next = next_request,
                                   .reply = on_reply,
                                   .tick = on_tick,
                                   .tick_ns = paper->time_ns / STATISTICS_PRELIMINARY,
                                   .userdata = paper};

    load_flow_release(&paper->flow);
    paper->flow = (struct load_flow){.window_ns = options.tick_ns, .confidence = paper->confidence};
    paper->token_requests = paper->accepted = paper->counted_before = 0;
    paper->window_start = paper->span_ns = 0;
    paper->needed = paper->wanted = STATISTICS_PRELIMINARY;
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

/* Half the width of the interval that a point of this figure must lie in, measured for so long. */
static double predicted_delta(const struct paper *paper, double predicted, size_t points, double seconds)
{
    double t = laplace_inverse(1 - (1 - paper->confidence) / (double)points);

    return t * sqrt(predicted / seconds);
}

static bool is_inside(const struct point *point)
{
    return point->measured >= point->low && point->measured <= point->high;
}

static void say_point(const struct figure *figure, const struct point *point)
{
    fprintf(stderr, "%s%s  %-8.4g measured %9.2f  predicted %9.2f  (%.2f to %.2f)  %s\n",
            terminal_width(stderr) > 0 ? "\r\x1b[K" : "", figure->name, point->x, point->measured, point->predicted,
            point->low, point->high, is_inside(point) ? "inside" : "OUTSIDE");
}

static int measure_point(struct paper *paper, struct figure *figure, double x, size_t points, struct error *error)
{
    struct point *point = &figure->points[figure->n_points];
    const struct sample *sample = &paper->flow.intensity;
    struct load_result result = {0};
    double seconds, delta;
    int r;

    figure->set(paper, x);
    paper->figure = figure;
    paper->x = x;
    paper->counted = figure->count(paper);
    if (renew_all(paper, error) < 0)
        return -1;
    r = run_load(paper, &result, error);
    load_result_release(&result);
    if (r < 0)
        return -1;
    seconds = (double)paper->span_ns / (double)NS_PER_SEC;
    *point = (struct point){.x = x,
                            .measured = (double)*paper->counted / seconds,
                            .deviation = sample_deviation(sample),
                            .accuracy = sample_accuracy(sample, paper->confidence),
                            .n = sample->n,
                            .needed = paper->needed,
                            .predicted = figure->predict(paper, x)};
    delta = predicted_delta(paper, point->predicted, points, seconds);
    point->low = point->predicted - delta;
    point->high = point->predicted + delta;
    figure->n_points++;
    say_point(figure, point);
    return 0;
}

/* -- the figures -- */

static void set_bad_tokens(struct paper *paper, double p)
{
    paper->bad_probability = p;
    paper->ttl_ns = LONG_TTL_S * NS_PER_SEC;
}

static double predict_accepted(const struct paper *paper, double p)
{
    return (1 - p) * paper->rate;
}

static uint64_t *count_accepted(struct paper *paper)
{
    return &paper->accepted;
}

static void set_ttl(struct paper *paper, double seconds)
{
    paper->bad_probability = 0;
    paper->ttl_ns = (int64_t)(seconds * (double)NS_PER_SEC);
}

static double predict_token_requests(const struct paper *paper, double ttl)
{
    double clients = (double)paper->n_clients;

    return clients / (ttl + clients / paper->rate);
}

static uint64_t *count_token_requests(struct paper *paper)
{
    return &paper->token_requests;
}

static const struct figure figure_rows[] = {
    {.name = "Figure 5",
     .title = "What bad tokens leave of a flow",
     .x_label = "probability of a bad token",
     .y_label = "requests that reach the model, 1/s",
     .set = set_bad_tokens,
     .predict = predict_accepted,
     .count = count_accepted,
     .option = "bad-tokens",
     .defaults = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1",
     .least = 0,
     .most = 1},
    {.name = "Figure 6",
     .title = "What short-lived tokens cost",
     .x_label = "time to live of a token, s",
     .y_label = "token requests, 1/s",
     .set = set_ttl,
     .predict = predict_token_requests,
     .count = count_token_requests,
     .option = "ttls",
     .defaults = "1,2,3,5,8",
     .least = 1,
     .most = 3600},
};

/* -- outcome -- */

static json_t *figure_json(const struct figure *figure)
{
    json_t *points = json_array();

    for (size_t i = 0; i < figure->n_points; i++) {
        const struct point *p = &figure->points[i];

        json_array_append_new(points,
                              json_build("{s:f, s:f, s:f, s:f, s:I, s:I, s:f, s:f, s:f, s:b}", "x", p->x, "measured",
                                         p->measured, "deviation", p->deviation, "accuracy", p->accuracy, "n",
                                         (json_int_t)p->n, "needed", (json_int_t)p->needed, "predicted", p->predicted,
                                         "low", p->low, "high", p->high, "inside", is_inside(p)));
    }
    return json_build("{s:s, s:s, s:s, s:s, s:o}", "name", figure->name, "title", figure->title, "x", figure->x_label,
                      "y", figure->y_label, "points", points);
}

static size_t count_outside(const struct figure *figure)
{
    size_t outside = 0;

    for (size_t i = 0; i < figure->n_points; i++)
        outside += !is_inside(&figure->points[i]);
    return outside;
}

static void add_plot(const struct paper *paper, const struct figure *figure, struct strbuf *page)
{
    const struct point *first = &figure->points[0], *last = &figure->points[figure->n_points - 1];
    struct plot_point measured[MOST_POINTS], predicted[CURVE];
    const struct plot_series series[] = {{"predicted interval", predicted, CURVE, PLOT_BAND, 1},
                                         {"predicted", predicted, CURVE, PLOT_DASHED, 1},
                                         {"measured", measured, figure->n_points, PLOT_DOTS, 0}};
    cleanup_free char *title = xasprintf("%s: %s", figure->name, figure->title);
    const struct plot plot = {title, figure->x_label, figure->y_label, series, ARRAY_SIZE(series)};
    double seconds = (double)paper->time_ns / (double)NS_PER_SEC; /* each is measured for at least so long */

    for (size_t i = 0; i < figure->n_points; i++) {
        const struct point *p = &figure->points[i];

        measured[i] = (struct plot_point){p->x, p->measured, p->measured - p->accuracy, p->measured + p->accuracy};
    }
    for (size_t i = 0; i < CURVE; i++) {
        double x = first->x + (last->x - first->x) * (double)i / (CURVE - 1), y = figure->predict(paper, x),
               delta = predicted_delta(paper, y, figure->n_points, seconds);

        predicted[i] = (struct plot_point){x, y, y - delta, y + delta};
    }
    plot_svg(&plot, page);
}

static void add_points(const struct figure *figure, struct strbuf *page)
{
    char number[PLOT_NUMBER_SIZE];

    strbuf_addf(page,
                "<table><tr><th>%s</th><th>measured</th><th>±</th><th>n</th><th>needed</th><th>predicted</th>"
                "<th>from</th><th>to</th><th></th></tr>\n",
                figure->x_label);
    for (size_t i = 0; i < figure->n_points; i++) {
        const struct point *p = &figure->points[i];
        const double cells[] = {p->measured,  p->accuracy, (double)p->n, (double)p->needed,
                                p->predicted, p->low,      p->high};

        strbuf_addf(page, "<tr><td>%s</td>", plot_number(p->x, number));
        for (size_t k = 0; k < ARRAY_SIZE(cells); k++)
            strbuf_addf(page, "<td>%s</td>", plot_number(round(cells[k] * 10) / 10, number));
        strbuf_adds(page, is_inside(p) ? "<td>inside</td></tr>\n" : "<td class=\"bad\">outside</td></tr>\n");
    }
    strbuf_adds(page, "</table>\n");
}

static int write_page(const char *path, const struct paper *paper, const json_t *settings, const struct figure *figures,
                      struct error *error)
{
    cleanup_strbuf struct strbuf page = STRBUF_INIT(16 * MIB);
    cleanup_free char *lead = xasprintf(
        "A Poisson flow of %g requests a second with bearer tokens, of %zu clients: what "
        "was measured, and what queueing theory predicts with a confidence of %g.",
        paper->rate, paper->n_clients, paper->confidence);

    report_page_begin(&page, "Token checks: measured and predicted", lead);
    for (size_t i = 0; i < ARRAY_SIZE(figure_rows); i++)
        add_plot(paper, &figures[i], &page);
    report_columns_begin(&page);
    for (size_t i = 0; i < ARRAY_SIZE(figure_rows); i++)
        add_points(&figures[i], &page);
    report_table(&page, "Settings", settings);
    report_columns_end(&page);
    report_text(&page,
                "Bars and ± are the accuracy t·s/√n of the mean of n measurements with standard deviation s. The "
                "predicted interval is that of a Poisson flow counted for as long; all points of a figure lie in "
                "it together with the stated confidence.");
    report_page_end(&page);
    return fs_write_atomic(path, page.data, page.length, 0644, error);
}

static void print_figure(const struct invocation *invocation, const json_t *figure)
{
    static const struct table_column columns[] = {
        {"X", "x", TABLE_NUMBER},
        {"MEASURED", "measured", TABLE_NUMBER},
        {"±", "accuracy", TABLE_NUMBER},
        {"N", "n", TABLE_NUMBER},
        {"NEEDED", "needed", TABLE_NUMBER},
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
    return json_build("{s:f, s:I, s:i, s:f, s:f, s:f, s:I, s:i}", "rate", paper->rate, "clients",
                      (json_int_t)paper->n_clients, "connections", paper->connections, "preliminary_series_s",
                      (double)paper->time_ns / 1e9, "confidence", paper->confidence, "accuracy", paper->accuracy,
                      "seed", (json_int_t)paper->seed, "processors", (int)sysconf(_SC_NPROCESSORS_ONLN));
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
    uint32_t seed;

    /* Another one each time: an unlucky draw is not to be met again and again. */
    random_bytes(&seed, sizeof(seed));
    paper->seed = seed;

    paper->rate = 10000;
    paper->confidence = 0.95;
    paper->accuracy = 0.01;
    paper->body = option_value(invocation, "body") ?: "[]";
    if (option_number(invocation, "rate", 1, 1e6, &paper->rate, error) < 0 ||
        option_int(invocation, "clients", 1, 100000, &clients, error) < 0 ||
        option_int(invocation, "connections", 1, 10000, &connections, error) < 0 ||
        option_number(invocation, "confidence", 0.5, 0.999, &paper->confidence, error) < 0 ||
        option_number(invocation, "accuracy", 1e-5, 1, &paper->accuracy, error) < 0 ||
        option_int(invocation, "seed", 0, UINT32_MAX, &paper->seed, error) < 0 ||
        option_duration_ms(invocation, "time", &time_ms, error) < 0)
        return -1;
    if (time_ms < 1000 || time_ms > 3600000)
        return error_set(error, ERROR_INVALID, "--time must be from 1 s to 1 h");
    paper->n_clients = (size_t)clients;
    paper->clients = xcalloc(paper->n_clients, sizeof(*paper->clients));
    paper->connections = (int)connections;
    paper->time_ns = time_ms * NS_PER_MS;
    random_source_init(&paper->random, ~(uint64_t)paper->seed);
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

static int measure_figure(struct paper *paper, struct figure *figure, struct error *error)
{
    const char *list = option_value(paper->invocation, figure->option) ?: figure->defaults;
    double values[MOST_POINTS];
    size_t count = 0;

    if (parse_list(list, figure->option, figure->least, figure->most, values, &count, error) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (measure_point(paper, figure, values[i], count, error) < 0)
            return -1;
    return 0;
}

static int show(struct paper *paper, const struct figure *figures, struct error *error)
{
    const char *path = option_value(paper->invocation, "report");
    cleanup_json json_t *settings = settings_json(paper), *list = json_array(), *whole = NULL;
    size_t outside = 0, points = 0;

    for (size_t i = 0; i < ARRAY_SIZE(figure_rows); i++) {
        json_array_append_new(list, figure_json(&figures[i]));
        outside += count_outside(&figures[i]);
        points += figures[i].n_points;
    }
    whole = json_build("{s:O, s:O, s:I}", "settings", settings, "figures", list, "outside", (json_int_t)outside);
    if (paper->invocation->json) {
        print_json(whole);
    } else {
        for (size_t i = 0; i < ARRAY_SIZE(figure_rows); i++)
            print_figure(paper->invocation, json_array_get(list, i));
        printf("%zu of %zu points lie inside of the predicted interval (--seed %lld)\n", points - outside, points,
               (long long)paper->seed);
    }
    if (path && write_page(path, paper, settings, figures, error) < 0)
        return -1;
    return outside ? 1 : 0;
}

int bench_paper(struct invocation *invocation, struct error *error)
{
    cleanup_paper struct paper paper = {.invocation = invocation};
    struct figure figures[ARRAY_SIZE(figure_rows)];
    cleanup_free char *client_id = NULL;
    int r = 0;

    memcpy(figures, figure_rows, sizeof(figures));
    if (set_up(&paper, error) < 0 || make_client(&paper, invocation->arguments[0], &client_id, error) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_SIZE(figures) && r == 0; i++)
        r = measure_figure(&paper, &figures[i], error);
    if (r == 0)
        r = show(&paper, figures, error);
    if (client_id) {
        cleanup_free char *path = http_path("/api/v1/tokens/%s", client_id);

        client_delete(invocation->client, path, NULL, NULL, NULL);
    }
    return r;
}
