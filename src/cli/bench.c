/*
 * slipway bench: a load on any HTTP server, with honest latencies and a stated accuracy.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "cli/bench.h"
#include "cli/chart.h"
#include "cli/command.h"
#include "cli/terminal.h"
#include "load/generator.h"
#include "load/report.h"
#include "load/target.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define WINDOW_NS     (100 * NS_PER_MS) /* one measurement of the intensity */
#define LIVE_NS       (NS_PER_SEC / 2)  /* redraw on a terminal */
#define PLAIN_NS      (5 * NS_PER_SEC)  /* lines in a pipe */
#define SPARKLINE     20                /* measurements of the live line: the last two seconds */
#define BAD_TOKEN     "not-a-token-that-anybody-issued"
#define MOST_DURATION (3600 * INT64_C(1000))

struct text {
    char *data;
    size_t length;
};

struct bench {
    struct load_target target;
    struct load_options options;
    struct load_flow flow;
    struct text *requests; /* one for each token, round robin */
    size_t n_requests, next_request;
    struct text bad_request;
    double bad_probability;
    struct random_source random;
    uint64_t accepted, refused, accepted_before; /* counts of answers: so far, and at the window's start */
    int64_t window_start, next_live;
    struct histogram *recent;         /* latencies since the last line of progress */
    const struct load_result *result; /* so far */
    bool on_terminal, by_accuracy;
};

static void bench_release(struct bench *bench)
{
    load_target_release(&bench->target);
    load_flow_release(&bench->flow);
    for (size_t i = 0; i < bench->n_requests; i++)
        free(bench->requests[i].data);
    free(bench->requests);
    free(bench->bad_request.data);
    histogram_free(bench->recent);
}
#define cleanup_bench CLEANUP(bench_release)

/* -- what the generator calls -- */

static struct load_request next_request(void *userdata, int64_t when)
{
    struct bench *bench = userdata;
    const struct text *text;

    if (bench->bad_probability > 0 && random_uniform(&bench->random) < bench->bad_probability)
        text = &bench->bad_request;
    else
        text = &bench->requests[bench->next_request++ % bench->n_requests];
    return (struct load_request){text->data, text->length};
}

static void on_reply(void *userdata, const struct load_reply *reply)
{
    struct bench *bench = userdata;

    if (reply->status < 400)
        bench->accepted++;
    else
        bench->refused++;
    histogram_record(bench->recent, reply->latency_ns);
}

/* The flow of the last measurements, the latencies since the line before, and what went wrong so far. */
static char *live_line(const struct bench *bench, int64_t elapsed)
{
    const struct load_flow *flow = &bench->flow;
    size_t shown = flow->count < SPARKLINE ? flow->count : SPARKLINE;
    cleanup_free char *line = chart_sparkline(flow->series + flow->count - shown, shown, SPARKLINE);
    struct sample recent = {0};

    for (size_t i = flow->count - shown; i < flow->count; i++)
        sample_add(&recent, flow->series[i]);
    return xasprintf(
        "%6.1f s  %8.0f accepted/s  p50 %.2f  p99 %.2f  max %.2f ms  %" PRIu64 " refused  %" PRIu64 " errors%s%s",
        (double)elapsed / (double)NS_PER_SEC, recent.mean, (double)histogram_quantile(bench->recent, 0.5) / 1e6,
        (double)histogram_quantile(bench->recent, 0.99) / 1e6, (double)histogram_max(bench->recent) / 1e6,
        bench->refused, load_result_errors(bench->result), bench->on_terminal ? "  " : "",
        bench->on_terminal ? line : "");
}

static void show_live(struct bench *bench, int64_t elapsed)
{
    cleanup_free char *line = live_line(bench, elapsed);
    int width = terminal_width(stderr);

    if (bench->on_terminal)
        fprintf(stderr, "\r%.*s\x1b[K", (int)text_fit(line, width > 1 ? width - 1 : 1), line);
    else
        fprintf(stderr, "%s\n", line);
    bench->recent = histogram_free(bench->recent);
    bench->recent = histogram_new();
}

static bool is_accurate(const struct bench *bench)
{
    const struct load_flow *flow = &bench->flow;

    return flow->intensity.n >= STATISTICS_PRELIMINARY && flow->intensity.mean > 0 &&
           flow->intensity.n >=
               sample_needed(&flow->intensity, flow->confidence, flow->accuracy * flow->intensity.mean);
}

static int on_tick(void *userdata, int64_t elapsed)
{
    struct bench *bench = userdata;
    double seconds = (double)(elapsed - bench->window_start) / (double)NS_PER_SEC;

    load_flow_add(&bench->flow, (double)(bench->accepted - bench->accepted_before) / seconds);
    bench->accepted_before = bench->accepted;
    bench->window_start = elapsed;
    if (elapsed >= bench->next_live) {
        show_live(bench, elapsed);
        bench->next_live = elapsed + (bench->on_terminal ? LIVE_NS : PLAIN_NS);
    }
    return bench->by_accuracy && is_accurate(bench);
}

/* -- set up -- */

static int read_body(const char *text, char **ret_body, size_t *ret_length, struct error *error)
{
    if (!text)
        return 0;
    if (*text == '@')
        return fs_read(text + 1, LIMIT_PREDICT_BODY, ret_body, ret_length, error);
    *ret_body = xstrdup(text);
    *ret_length = strlen(text);
    return 0;
}

static struct text make_request(const struct bench *bench, struct invocation *invocation, const char *bearer,
                                const char *body, size_t body_length)
{
    const char *method = option_value(invocation, "method") ?: (body ? "POST" : "GET");
    struct text text;

    text.data = load_request_text(&bench->target, method, bearer, option_values(invocation, "header"), body,
                                  body_length, &text.length);
    return text;
}

static int make_requests(struct bench *bench, struct invocation *invocation, struct error *error)
{
    const struct strvec *tokens = option_values(invocation, "bearer");
    cleanup_free char *body = NULL;
    size_t body_length = 0;

    if (read_body(option_value(invocation, "body"), &body, &body_length, error) < 0)
        return -1;
    bench->n_requests = tokens->count ? tokens->count : 1;
    bench->requests = xcalloc(bench->n_requests, sizeof(*bench->requests));
    for (size_t i = 0; i < bench->n_requests; i++)
        bench->requests[i] = make_request(bench, invocation, tokens->count ? tokens->items[i] : NULL, body,
                                          body_length);
    bench->bad_request = make_request(bench, invocation, BAD_TOKEN, body, body_length);
    return 0;
}

static int parse_arrivals(struct bench *bench, struct invocation *invocation, struct error *error)
{
    static const char *const names[] = {
        [LOAD_POISSON] = "poisson", [LOAD_CONSTANT] = "constant", [LOAD_CLOSED] = "closed"};
    const char *name = option_value(invocation, "arrivals");

    if (!name)
        name = option_value(invocation, "rate") ? "poisson" : "closed";
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            bench->options.arrivals = (enum load_arrivals)i;
            return 0;
        }
    }
    return error_set(error, ERROR_INVALID, "--arrivals is '%.40s'; it must be poisson, constant or closed", name);
}

static int parse_numbers(struct bench *bench, struct invocation *invocation, struct error *error)
{
    int64_t connections = 32, duration = 10000, count = 0, timeout = 30000, seed = 1;

    bench->options.rate = 1000;
    bench->flow.confidence = 0.95;
    if (option_int(invocation, "connections", 1, 10000, &connections, error) < 0 ||
        option_number(invocation, "rate", 0.01, 1e6, &bench->options.rate, error) < 0 ||
        option_duration_ms(invocation, "duration", &duration, error) < 0 ||
        option_int(invocation, "requests", 1, INT64_MAX / 2, &count, error) < 0 ||
        option_duration_ms(invocation, "timeout", &timeout, error) < 0 ||
        option_int(invocation, "seed", 0, INT64_MAX, &seed, error) < 0 ||
        option_number(invocation, "bad-token", 0, 1, &bench->bad_probability, error) < 0 ||
        option_number(invocation, "confidence", 0.5, 0.999999, &bench->flow.confidence, error) < 0 ||
        option_number(invocation, "accuracy", 1e-6, 1, &bench->flow.accuracy, error) < 0)
        return -1;
    if (duration < 1 || duration > MOST_DURATION)
        return error_set(error, ERROR_INVALID, "--duration must be from 1 ms to 1 h");
    bench->by_accuracy = bench->flow.accuracy > 0;
    if (bench->by_accuracy && !option_value(invocation, "duration"))
        duration = MOST_DURATION;
    if (count && !option_value(invocation, "duration"))
        duration = MOST_DURATION;
    bench->options.connections = (int)connections;
    bench->options.duration_ns = duration * NS_PER_MS;
    bench->options.count = (uint64_t)count;
    bench->options.timeout_ns = timeout * NS_PER_MS;
    bench->options.seed = (uint64_t)seed;
    return 0;
}

static int set_up(struct bench *bench, struct invocation *invocation, struct error *error)
{
    if (load_target_parse(invocation->arguments[0], &bench->target, error) < 0 ||
        parse_arrivals(bench, invocation, error) < 0 || parse_numbers(bench, invocation, error) < 0 ||
        make_requests(bench, invocation, error) < 0)
        return -1;
    random_source_init(&bench->random, bench->options.seed + 1);
    bench->recent = histogram_new();
    bench->on_terminal = terminal_width(stderr) > 0;
    bench->next_live = bench->on_terminal ? 0 : PLAIN_NS;
    bench->flow.window_ns = WINDOW_NS;
    bench->options.host = bench->target.host;
    bench->options.port = bench->target.port;
    bench->options.unix_path = bench->target.unix_path;
    bench->options.next = next_request;
    bench->options.reply = on_reply;
    bench->options.tick = on_tick;
    bench->options.tick_ns = WINDOW_NS;
    bench->options.userdata = bench;
    return 0;
}

/* -- outcome -- */

static json_t *settings_json(const struct bench *bench, struct invocation *invocation)
{
    static const char *const names[] = {"open loop, Poisson arrivals", "open loop, constant gaps", "closed loop"};
    json_t *settings = json_object();

    json_set_string(settings, "url", invocation->arguments[0]);
    json_set_string(settings, "arrivals", names[bench->options.arrivals]);
    if (bench->options.arrivals != LOAD_CLOSED)
        json_set_number(settings, "rate", bench->options.rate);
    json_set_int(settings, "connections", bench->options.connections);
    json_set_number(settings, "bad_token_probability", bench->bad_probability);
    json_set_int(settings, "seed", (int64_t)bench->options.seed);
    json_set_int(settings, "processors", sysconf(_SC_NPROCESSORS_ONLN));
    return settings;
}

static int write_report(const char *path, const json_t *settings, const json_t *report,
                        const struct load_result *result, const struct bench *bench, struct error *error)
{
    cleanup_strbuf struct strbuf page = STRBUF_INIT(64 * MIB);

    load_report_html(settings, report, result, &bench->flow, &page);
    return fs_write_atomic(path, page.data, page.length, 0644, error);
}

static void print_outcome(const struct invocation *invocation, const json_t *settings, json_t *report)
{
    static const struct table_column columns[] = {
        {"requests", "requests", TABLE_NUMBER},
        {"answered", "answered", TABLE_NUMBER},
        {"accepted", "accepted", TABLE_NUMBER},
        {"answers/s", "requests_per_second", TABLE_NUMBER},
        {"latency p50, ms", "latency_ms.p50", TABLE_NUMBER},
        {"latency p90, ms", "latency_ms.p90", TABLE_NUMBER},
        {"latency p99, ms", "latency_ms.p99", TABLE_NUMBER},
        {"latency p99.9, ms", "latency_ms.p999", TABLE_NUMBER},
        {"latency max, ms", "latency_ms.max", TABLE_NUMBER},
        {"refused p99, ms", "refused_latency_ms.p99", TABLE_NUMBER},
        {"sent late p99, ms", "late_ms.p99", TABLE_NUMBER},
        {"errors: connect", "errors.connect", TABLE_NUMBER},
        {"errors: closed", "errors.closed", TABLE_NUMBER},
        {"errors: timeout", "errors.timeout", TABLE_NUMBER},
        {"errors: protocol", "errors.protocol", TABLE_NUMBER},
        {"accepted/s, mean", "intensity.mean", TABLE_NUMBER},
        {"accepted/s, ±", "intensity.accuracy", TABLE_NUMBER},
        {"measurements", "intensity.n", TABLE_NUMBER},
        {"measurements needed", "intensity.needed", TABLE_NUMBER},
        {},
    };
    cleanup_json json_t *whole = json_build("{s:O, s:O}", "settings", settings, "result", report);

    if (invocation->json)
        print_json(whole);
    else
        print_object(invocation, columns, report);
}

static int run_bench(struct invocation *invocation, struct error *error)
{
    cleanup_bench struct bench bench = {0};
    cleanup_json json_t *settings = NULL, *report = NULL;
    const char *path = option_value(invocation, "report");
    struct load_result result = {0};
    int r;

    if (set_up(&bench, invocation, error) < 0)
        return -1;
    bench.result = &result;
    r = load_run(&bench.options, &result, error);
    if (bench.on_terminal)
        fputs("\r\x1b[K", stderr);
    if (r == 0) {
        settings = settings_json(&bench, invocation);
        report = load_report_json(&result, &bench.flow);
        print_outcome(invocation, settings, report);
        if (path)
            r = write_report(path, settings, report, &result, &bench, error);
    }
    load_result_release(&result);
    return r;
}

static const struct option bench_options[] = {
    {"connections", 'c', "N", "connections that are kept open (32)"},
    {"rate", 'r', "PER_SECOND", "arrivals a second; makes the load an open one (1000)"},
    {"arrivals", 0, "KIND", "poisson, constant or closed (poisson with --rate, else closed)"},
    {"duration", 'd', "TIME", "how long requests are sent (10s)"},
    {"requests", 'n', "N", "end after so many requests"},
    {"method", 'X', "METHOD", "HTTP method (POST with a body, else GET)"},
    {"body", 'b', "TEXT|@FILE", "body of each request"},
    {"header", 'H', "NAME: VALUE", "a further header", .repeats = true},
    {"bearer", 0, "TOKEN", "bearer token; several are used in turn", .repeats = true},
    {"bad-token", 0, "P", "share of requests that carry a token nobody issued (0)"},
    {"confidence", 0, "P", "confidence of the stated accuracy (0.95)"},
    {"accuracy", 0, "SHARE", "go on until the flow of accepted requests is known to this share of its mean"},
    {"timeout", 0, "TIME", "an answer that takes longer is an error (30s)"},
    {"seed", 0, "N", "seed of the arrivals (1)"},
    {"report", 'o', "FILE", "write a page with plots (HTML)"},
    {},
};

static const struct option paper_options[] = {
    {"rate", 'r', "PER_SECOND", "intensity of the Poisson flow (10000)"},
    {"clients", 0, "N", "clients that share the flow, each with a token of its own (100)"},
    {"connections", 'c', "N", "connections that are kept open (32)"},
    {"time", 'd', "TIME", "how long the preliminary series of 100 measurements of each point takes (10s)"},
    {"bad-tokens", 0, "P,…", "probabilities of a bad token (0,0.1,…,1)"},
    {"ttls", 0, "SECONDS,…", "times to live of the tokens (1,2,3,5,8)"},
    {"confidence", 0, "P", "that all points of a figure lie inside of the predicted interval (0.95)"},
    {"accuracy", 0, "SHARE",
     "go on until each point is known to this share of the rate, up to 500 measurements (0.01)"},
    {"body", 'b', "TEXT", "body of each request ([])"},
    {"seed", 0, "N", "seed of the arrivals and the bad tokens (another one each time)"},
    {"report", 'o', "FILE", "write a page with both figures (HTML)"},
    {},
};

const struct command bench_commands[] = {
    {"bench", "URL", "measure a server under load", bench_options, run_bench, .offline = true,
     .details =
         "Open-loop arrivals come by a clock whatever the server does, and latency counts from the moment a "
         "request was meant to be sent; how late it was sent is told as well, because that part is the generator's "
         "own. A closed loop sends the next request when the last one was answered.\n"
         "\n"
         "With --accuracy the number of measurements follows from the published rule: a preliminary series of "
         "100 gives the standard deviation s, and n >= (t s / delta)^2 measurements of 100 ms are made.",
     .examples =
         "slipway bench http://127.0.0.1:8480/predict/digits --bearer $TOKEN --body @digit.json -r 5000 -d 30s\n"
         "slipway bench http://127.0.0.1:8480/ping -c 64 --report ping.html"},
    {"bench paper", "ENDPOINT", "measure the cost of token checks, beside what theory predicts", paper_options,
     bench_paper,
     .details = "Reproduces the two figures of the published measurement: the flow that reaches the model over the "
                "probability of a bad token, and the flow of token requests over the tokens' time to live. Tokens are "
                "issued by this daemon for client credentials and checked by the gateway. Each point is a preliminary "
                "series of 100 measurements and as many more as the accuracy needs: n >= (t s / delta)^2. The exit "
                "status is 1 if a point lies outside of its predicted interval.",
     .examples = "slipway bench paper digits --body @digit.json --report paper.html"},
    {},
};
