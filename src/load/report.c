#include <inttypes.h>
#include <math.h>
#include "load/plot.h"
#include "load/report.h"
#include "util/clock.h"
#include "util/xalloc.h"

void load_flow_add(struct load_flow *flow, double intensity)
{
    sample_add(&flow->intensity, intensity);
    if (flow->count == flow->capacity) {
        flow->capacity = flow->capacity ? flow->capacity * 2 : 256;
        flow->series = xreallocarray(flow->series, flow->capacity, sizeof(double));
    }
    flow->series[flow->count++] = intensity;
}

void load_flow_release(struct load_flow *flow)
{
    free(flow->series);
    flow->series = NULL;
    flow->count = flow->capacity = 0;
}

static json_t *latency_json(const struct histogram *histogram)
{
    static const struct {
        const char *name;
        double q;
    } rows[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
    json_t *value;

    if (!histogram_count(histogram))
        return json_null();
    value = json_object();
    json_set_number(value, "mean", histogram_mean(histogram) / (double)NS_PER_MS);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        json_set_number(value, rows[i].name, (double)histogram_quantile(histogram, rows[i].q) / (double)NS_PER_MS);
    json_set_number(value, "max", (double)histogram_max(histogram) / (double)NS_PER_MS);
    return value;
}

static json_t *intensity_json(const struct load_flow *flow)
{
    const struct sample *sample = &flow->intensity;
    json_t *value = json_object();

    json_set_number(value, "mean", sample->mean);
    json_set_number(value, "deviation", sample_deviation(sample));
    json_set_int(value, "n", (int64_t)sample->n);
    if (flow->accuracy > 0 && sample->mean > 0)
        json_set_int(value, "needed", (int64_t)sample_needed(sample, flow->confidence, flow->accuracy * sample->mean));
    json_set_number(value, "confidence", flow->confidence);
    json_set_number(value, "accuracy", sample_accuracy(sample, flow->confidence));
    return value;
}

json_t *load_report_json(const struct load_result *result, const struct load_flow *flow)
{
    json_t *report = json_object(), *statuses = json_object();
    double seconds = (double)result->elapsed_ns / (double)NS_PER_SEC;

    for (int status = 100; status < 600; status++) {
        cleanup_free char *name = xasprintf("%d", status);

        if (result->statuses[status])
            json_set_int(statuses, name, (int64_t)result->statuses[status]);
    }
    json_set_number(report, "seconds", seconds);
    json_set_int(report, "requests", (int64_t)result->arrivals);
    json_set_int(report, "answered", (int64_t)result->answered);
    json_set_int(report, "accepted", (int64_t)histogram_count(result->latency));
    json_set_number(report, "requests_per_second", seconds > 0 ? (double)result->answered / seconds : 0);
    json_object_set_new(report, "statuses", statuses);
    json_object_set_new(report, "errors",
                        json_build("{s:I, s:I, s:I, s:I}", "connect", (json_int_t)result->errors_connect, "closed",
                                   (json_int_t)result->errors_closed, "timeout", (json_int_t)result->errors_timeout,
                                   "protocol", (json_int_t)result->errors_protocol));
    json_set_int(report, "most_waiting", (int64_t)result->most_waiting);
    json_object_set_new(report, "latency_ms", latency_json(result->latency));
    json_object_set_new(report, "refused_latency_ms", latency_json(result->refused));
    json_object_set_new(report, "late_ms", latency_json(result->late));
    json_object_set_new(report, "intensity", intensity_json(flow));
    return report;
}

/* -- parts of a page -- */

static const char style[] =
    ":root{--page:#fff;--ink:#1c2330;--faint:#667085;--line:#e4e7ec;--card:#f7f8fa;--bad:#c81e1e}"
    "@media(prefers-color-scheme:dark){:root{--page:#14171c;--ink:#e6e8ec;--faint:#98a2b3;--line:#2c313a;"
    "--card:#1d2128;--bad:#ff7b72}}"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:820px;margin:2.5em auto;padding:0 1.2em;color:var(--ink);"
    "background:var(--page)}h1{font-size:1.7em;margin:0}p{color:var(--faint);margin:.3em 0 1.2em}"
    "svg{width:100%;margin:1em 0 0}.cards{display:flex;flex-wrap:wrap;gap:.8em;margin:1.2em 0}"
    ".cards div{flex:1;min-width:6.5em;background:var(--card);border-radius:8px;padding:.6em .9em}"
    ".cards b{display:block;font-size:1.35em;font-weight:600;white-space:nowrap;font-variant-numeric:tabular-nums}"
    ".cards span{color:var(--faint);font-size:.85em}.bad b,td.bad{color:var(--bad)}"
    ".columns{display:flex;flex-wrap:wrap;gap:0 3em;align-items:start}"
    "table{border-collapse:collapse;margin:1.2em 0}caption{text-align:left;font-weight:600;padding-bottom:.3em}"
    "th{font-weight:normal;text-align:right;color:var(--faint)}th,td{padding:.2em 0 .2em 1.4em;"
    "border-bottom:1px solid var(--line)}td:first-child,th:first-child{text-align:left;padding-left:0}"
    "td+td{text-align:right;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}";

void report_page_begin(struct strbuf *out, const char *title, const char *lead)
{
    strbuf_adds(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
                     "content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\"><title>");
    html_escape(out, title);
    strbuf_addf(out, "</title><style>%s</style></head><body><h1>", style);
    html_escape(out, title);
    strbuf_adds(out, "</h1>\n");
    report_text(out, lead);
}

void report_page_end(struct strbuf *out)
{
    strbuf_adds(out, "</body></html>\n");
}

void report_text(struct strbuf *out, const char *text)
{
    strbuf_adds(out, "<p>");
    html_escape(out, text);
    strbuf_adds(out, "</p>\n");
}

void report_cards(struct strbuf *out, const struct report_card *cards)
{
    strbuf_adds(out, "<div class=\"cards\">");
    for (; cards->name; cards++) {
        strbuf_addf(out, "<div%s><b>", cards->is_bad ? " class=\"bad\"" : "");
        html_escape(out, cards->value);
        strbuf_adds(out, "</b><span>");
        html_escape(out, cards->name);
        strbuf_adds(out, "</span></div>");
    }
    strbuf_adds(out, "</div>\n");
}

void report_columns_begin(struct strbuf *out)
{
    strbuf_adds(out, "<div class=\"columns\">\n");
}

void report_columns_end(struct strbuf *out)
{
    strbuf_adds(out, "</div>\n");
}

static char *cell_text(const json_t *value)
{
    char number[PLOT_NUMBER_SIZE];

    if (json_is_number(value))
        return xstrdup(plot_number(json_number_value(value), number));
    return json_is_string(value) ? xstrdup(json_string_value(value)) : json_text(value);
}

static void add_rows(struct strbuf *out, const char *prefix, const json_t *object)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)object, key, value) {
        cleanup_free char *name = *prefix ? xasprintf("%s %s", prefix, key) : xstrdup(key), *text = NULL;

        if (json_is_object(value)) {
            add_rows(out, name, value);
            continue;
        }
        if (json_is_null(value) || json_is_array(value))
            continue;
        for (char *p = name; *p; p++)
            *p = *p == '_' ? ' ' : *p;
        text = cell_text(value);
        strbuf_adds(out, "<tr><td>");
        html_escape(out, name);
        strbuf_adds(out, "</td><td>");
        html_escape(out, text);
        strbuf_adds(out, "</td></tr>\n");
    }
}

void report_table(struct strbuf *out, const char *caption, const json_t *object)
{
    if (!json_object_size(object))
        return;
    strbuf_adds(out, "<table><caption>");
    html_escape(out, caption);
    strbuf_adds(out, "</caption>\n");
    add_rows(out, "", object);
    strbuf_adds(out, "</table>\n");
}

/* -- the page of a load -- */

static void add_flow_plot(const struct load_flow *flow, struct strbuf *out)
{
    const struct sample *sample = &flow->intensity;
    double delta = sample_accuracy(sample, flow->confidence);
    cleanup_free struct plot_point *points = xcalloc(flow->count, sizeof(*points));
    struct plot_point mean[2] = {{0}};
    const struct plot_series series[] = {{"confidence of the mean", mean, 2, PLOT_BAND, 1},
                                         {"mean", mean, 2, PLOT_DASHED, 1},
                                         {"measured", points, flow->count, PLOT_LINE, 0}};
    const struct plot plot = {"Flow of accepted requests", "time, s", "requests/s, each point a measurement", series,
                              ARRAY_SIZE(series)};

    for (size_t i = 0; i < flow->count; i++)
        points[i] = (struct plot_point){.x = (double)(i + 1) * (double)flow->window_ns / (double)NS_PER_SEC,
                                        .y = flow->series[i]};
    mean[0] = (struct plot_point){points[0].x, sample->mean, sample->mean - delta, sample->mean + delta};
    mean[1] = (struct plot_point){points[flow->count - 1].x, sample->mean, mean[0].low, mean[0].high};
    plot_svg(&plot, out);
}

static size_t latency_points(const struct histogram *histogram, double nines, struct plot_point *points, size_t count)
{
    double most = fmin(log10((double)histogram_count(histogram)), nines);

    if (!histogram_count(histogram))
        return 0;
    for (size_t i = 0; i < count; i++) {
        double share = 1 - pow(10, -most * (double)i / (double)(count - 1));

        points[i] = (struct plot_point){share, (double)histogram_quantile(histogram, share) / (double)NS_PER_MS, 0, 0};
    }
    return count;
}

static void add_latency_plot(const struct load_result *result, struct strbuf *out)
{
    struct plot_point accepted[101], refused[101];
    struct plot_series series[] = {{"refused", refused, 0, PLOT_LINE, 1}, {"accepted", accepted, 0, PLOT_LINE, 0}};
    struct plot plot = {"Latency by share of requests",
                        "share of requests that took no longer",
                        "ms from the intended time of sending",
                        series,
                        ARRAY_SIZE(series),
                        .nines = true};
    double nines = 6;

    series[0].count = latency_points(result->refused, nines, refused, ARRAY_SIZE(refused));
    series[1].count = latency_points(result->latency, nines, accepted, ARRAY_SIZE(accepted));
    if (!series[0].count) { /* nothing to tell apart */
        plot.series++;
        plot.n_series--;
    }
    plot_svg(&plot, out);
}

static char *figure(double value, const char *unit)
{
    char number[PLOT_NUMBER_SIZE];

    return xasprintf("%s%s", plot_number(value, number), unit);
}

static void add_cards(const json_t *report, const struct load_result *result, struct strbuf *out)
{
    const json_t *latency = json_object_get(report, "latency_ms");
    cleanup_free char *rate = figure(json_get_number(report, "requests_per_second", 0), "/s"),
                      *p50 = figure(json_get_number(latency, "p50", 0), " ms"),
                      *p99 = figure(json_get_number(latency, "p99", 0), " ms"),
                      *p999 = figure(json_get_number(latency, "p999", 0), " ms"),
                      *refused = figure((double)histogram_count(result->refused), ""),
                      *errors = figure((double)load_result_errors(result), "");
    const struct report_card cards[] = {{"answers", rate, false},    {"half within", p50, false},
                                        {"99 % within", p99, false}, {"99.9 % within", p999, false},
                                        {"refused", refused, false}, {"errors", errors, load_result_errors(result) > 0},
                                        {NULL, NULL, false}};

    report_cards(out, cards);
}

void load_report_html(const json_t *settings, const json_t *report, const struct load_result *result,
                      const struct load_flow *flow, struct strbuf *out)
{
    static const struct {
        const char *key, *caption;
    } tables[] = {
        {"latency_ms", "Latency of accepted requests, ms"},
        {"refused_latency_ms", "Latency of refused requests, ms"},
        {"late_ms", "Sent later than meant, ms"},
        {"intensity", "Accepted requests a second"},
        {"statuses", "Answers by status"},
        {"errors", "Requests without an answer"},
    };
    cleanup_json json_t *counts = json_object();
    const char *key;
    json_t *value;

    report_page_begin(out, "Load report", json_get_string(settings, "url", ""));
    add_cards(report, result, out);
    if (flow->count)
        add_flow_plot(flow, out);
    if (result->answered)
        add_latency_plot(result, out);
    json_object_foreach((json_t *)report, key, value)
        if (!json_is_object(value))
            json_object_set(counts, key, value);
    report_columns_begin(out);
    report_table(out, "Settings", settings);
    report_table(out, "Counts", counts);
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
        report_table(out, tables[i].caption, json_object_get(report, tables[i].key));
    report_columns_end(out);
    report_page_end(out);
}
