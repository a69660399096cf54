/*
 * The outcome of a load as JSON and as a page.
 */
#pragma once

#include <stdbool.h>
#include "load/generator.h"
#include "load/statistics.h"
#include "util/json.h"
#include "util/strbuf.h"

/* What was measured besides the counters: the flow of accepted requests, window by window. */
struct load_flow {
    int64_t window_ns;      /* length of a window: one measurement of the intensity */
    struct sample intensity; /* accepted requests a second */
    double *series;         /* each measurement, in order */
    size_t count, capacity;
    double confidence;      /* p */
    double accuracy;        /* wanted, as a share of the mean; 0: none was asked for */
};

void load_flow_add(struct load_flow *flow, double intensity);
void load_flow_release(struct load_flow *flow);

/* {"seconds","requests","answered","accepted","requests_per_second","statuses":{…},"errors":{…},
 *  "latency_ms":{"mean","p50","p90","p99","p999","max"},"refused_latency_ms":{…}|null,"late_ms":{…}|null,
 *  "intensity":{"mean","deviation","n","needed","confidence","accuracy"}} A new reference. */
json_t *load_report_json(const struct load_result *result, const struct load_flow *flow);

/* A complete page with tables and plots that needs nothing from outside. `report` is that of
 * load_report_json, `settings` a flat object of what was asked for. */
void load_report_html(const json_t *settings, const json_t *report, const struct load_result *result,
                      const struct load_flow *flow, struct strbuf *out);

/* Parts of a page, for reports of other kinds. What it says first, below the title, is the lead. */
void report_page_begin(struct strbuf *out, const char *title, const char *lead);
void report_page_end(struct strbuf *out);
/* A paragraph. */
void report_text(struct strbuf *out, const char *text);
/* The figures that matter, large, in one row; ended by a name of NULL. */
struct report_card {
    const char *name, *value;
    bool is_bad;
};
void report_cards(struct strbuf *out, const struct report_card *cards);
/* Tables between these stand beside each other where there is room. */
void report_columns_begin(struct strbuf *out);
void report_columns_end(struct strbuf *out);
/* A table of the scalar fields of an object; nested objects become rows "outer inner". */
void report_table(struct strbuf *out, const char *caption, const json_t *object);
