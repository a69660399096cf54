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
    json_object_set_new(report, "intensity", intensity_json(flow));
    return report;
}

void report_page_begin(struct strbuf *out, const char *title)
{
    strbuf_adds(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
    html_escape(out, title);
    strbuf_adds(out, "</title><style>body{font:15px/1.5 sans-serif;max-width:760px;margin:2em auto;padding:0 1em;"
                     "color:#222}table{border-collapse:collapse;margin:1em 0}caption{text-align:left;font-weight:bold}"
                     "td{padding:.15em 1.2em .15em 0;border-bottom:1px solid #eee}td+td{text-align:right;"
                     "font-variant-numeric:tabular-nums}svg{width:100%}</style></head><body><h1>");
    html_escape(out, title);
    strbuf_adds(out, "</h1>\n");
}

void report_page_end(struct strbuf *out)
{
    strbuf_adds(out, "</body></html>\n");
}

static void add_rows(struct strbuf *out, const char *prefix, const json_t *object)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)object, key, value) {
        cleanup_free char *name = *prefix ? xasprintf("%s %s", prefix, key) : xstrdup(key);
        cleanup_free char *text = NULL;

        if (json_is_object(value)) {
            add_rows(out, name, value);
            continue;
        }
        if (json_is_null(value) || json_is_array(value))
            continue;
        text = json_is_real(value)     ? xasprintf("%.6g", json_real_value(value))
               : json_is_string(value) ? xstrdup(json_string_value(value))
                                       : json_text(value);
        strbuf_adds(out, "<tr><td>");
        html_escape(out, name);
        strbuf_adds(out, "</td><td>");
        html_escape(out, text);
        strbuf_adds(out, "</td></tr>\n");
    }
}

void report_table(struct strbuf *out, const char *caption, const json_t *object)
{
    strbuf_adds(out, "<table><caption>");
    html_escape(out, caption);
    strbuf_adds(out, "</caption>\n");
    add_rows(out, "", object);
    strbuf_adds(out, "</table>\n");
}

static void add_flow_plot(const struct load_flow *flow, struct strbuf *out)
{
    cleanup_free struct plot_point *points = xcalloc(flow->count, sizeof(*points));
    struct plot_series series = {"accepted", points, flow->count};
    struct plot plot = {"Flow of accepted requests", "time, s", "requests/s", &series, 1};

    for (size_t i = 0; i < flow->count; i++)
        points[i] = (struct plot_point){.x = (double)(i + 1) * (double)flow->window_ns / (double)NS_PER_SEC,
                                        .y = flow->series[i]};
    plot_svg(&plot, out);
}

/* Latency over 1/(1-q), so that each further nine takes the same width. */
static void add_latency_plot(const struct load_result *result, struct strbuf *out)
{
    struct plot_point points[101];
    size_t count = 0;
    struct plot_series series = {"latency", points, 0};
    struct plot plot = {"Latency by share of requests",
                        "1 / (1 - share): 10 is 90 %, 100 is 99 %, 1000 is 99.9 %",
                        "ms",
                        &series,
                        1,
                        .log_x = true};
    double most = fmax(log10((double)histogram_count(result->latency)), 1);

    for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
        double x = pow(10, most * (double)i / (ARRAY_SIZE(points) - 1));

        points[count++] = (struct plot_point){
            .x = x, .y = (double)histogram_quantile(result->latency, 1 - 1 / x) / (double)NS_PER_MS};
    }
    series.count = count;
    plot_svg(&plot, out);
}

void load_report_html(const json_t *settings, const json_t *report, const struct load_result *result,
                      const struct load_flow *flow, struct strbuf *out)
{
    report_page_begin(out, "Load report");
    report_table(out, "Settings", settings);
    report_table(out, "Outcome", report);
    if (flow->count)
        add_flow_plot(flow, out);
    if (histogram_count(result->latency))
        add_latency_plot(result, out);
    report_page_end(out);
}
