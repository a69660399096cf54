#include "gateway/stats.h"
#include "gateway/gateway.h"
#include "gateway/route.h"
#include "gateway/shadow.h"
#include "util/clock.h"

const double stats_bounds[STATS_BUCKETS] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                            0.1,    0.25,  0.5,    1,     2.5,  5,     10};

const char *outcome_name(enum outcome outcome)
{
    static const char *const names[] = {
        [OUTCOME_OK] = "ok",
        [OUTCOME_MODEL_ERROR] = "model_error",
        [OUTCOME_INVALID] = "invalid",
        [OUTCOME_QUEUE_FULL] = "queue_full",
        [OUTCOME_TIMEOUT] = "timeout",
        [OUTCOME_CANCELLED] = "cancelled",
        [OUTCOME_WORKER_LOST] = "worker_lost",
        [OUTCOME_UNAVAILABLE] = "unavailable",
    };
    _Static_assert(ARRAY_SIZE(names) == OUTCOME_COUNT_, "a name for each outcome");

    return names[outcome];
}

void duration_add(struct duration_stats *stats, int64_t ns)
{
    double seconds = (double)ns / NS_PER_SEC;
    int i = 0;

    while (i < STATS_BUCKETS && seconds > stats_bounds[i])
        i++;
    stats->buckets[i]++;
    stats->count++;
    stats->sum_ns += ns;
    durations_add(&stats->fine, ns);
}

/* Names of endpoints, projects and versions hold no character that Prometheus would want escaped. */
static void add_duration(struct strbuf *text, const char *name, const char *labels, const struct duration_stats *stats)
{
    uint64_t sum = 0;

    for (int i = 0; i < STATS_BUCKETS; i++) {
        sum += stats->buckets[i];
        strbuf_addf(text, "%s_bucket{%s,le=\"%g\"} %lu\n", name, labels, stats_bounds[i], sum);
    }
    strbuf_addf(text, "%s_bucket{%s,le=\"+Inf\"} %lu\n", name, labels, stats->count);
    strbuf_addf(text, "%s_sum{%s} %.9f\n", name, labels, (double)stats->sum_ns / NS_PER_SEC);
    strbuf_addf(text, "%s_count{%s} %lu\n", name, labels, stats->count);
}

static void add_head(struct strbuf *text, const char *name, const char *type, const char *help)
{
    strbuf_addf(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

typedef void (*route_fn)(struct strbuf *text, const struct route *route, const char *labels);

static void each_route(const struct gateway *gateway, struct strbuf *text, route_fn fn)
{
    struct map_iterator it = {0};

    while (map_next(&gateway->routes.endpoints, &it)) {
        const struct endpoint *endpoint = it.value;
        const struct route *route;

        list_for_each(route, &endpoint->routes, link) {
            cleanup_strbuf struct strbuf labels = STRBUF_INIT(1024);

            strbuf_addf(&labels, "endpoint=\"%s\",version=\"%s\"", endpoint->name, route->version);
            fn(text, route, labels.data);
        }
    }
}

static void add_outcomes(struct strbuf *text, const struct route *route, const char *labels)
{
    for (int i = 0; i < OUTCOME_COUNT_; i++)
        strbuf_addf(text, "slipway_predict_requests_total{%s,outcome=\"%s\"} %lu\n", labels, outcome_name(i),
                    route->stats.outcomes[i]);
}

static void add_latency(struct strbuf *text, const struct route *route, const char *labels)
{
    add_duration(text, "slipway_predict_seconds", labels, &route->stats.latency);
}

static void add_queue_time(struct strbuf *text, const struct route *route, const char *labels)
{
    add_duration(text, "slipway_predict_queue_seconds", labels, &route->stats.queue);
}

static void add_run_time(struct strbuf *text, const struct route *route, const char *labels)
{
    add_duration(text, "slipway_predict_run_seconds", labels, &route->stats.run);
}

static void add_queued(struct strbuf *text, const struct route *route, const char *labels)
{
    strbuf_addf(text, "slipway_predict_queued{%s} %zu\n", labels, route->queue.count);
}

static void add_cache(struct strbuf *text, const struct route *route, const char *labels)
{
    strbuf_addf(text, "slipway_answer_cache_total{%s,result=\"hit\"} %lu\n", labels, route->stats.cache_hits);
    strbuf_addf(text, "slipway_answer_cache_total{%s,result=\"miss\"} %lu\n", labels, route->stats.cache_misses);
}

static void add_batches(struct strbuf *text, const struct route *route, const char *labels)
{
    strbuf_addf(text, "slipway_predict_batches_total{%s} %lu\n", labels, route->stats.batches);
}

static void add_batched(struct strbuf *text, const struct route *route, const char *labels)
{
    strbuf_addf(text, "slipway_predict_batched_requests_total{%s} %lu\n", labels, route->stats.batched);
}

static void add_running(struct strbuf *text, const struct route *route, const char *labels)
{
    strbuf_addf(text, "slipway_predict_running{%s} %zu\n", labels, route->n_running);
}

static void add_replicas(struct strbuf *text, const struct route *route, const char *labels)
{
    int counts[REPLICA_PHASE_COUNT_] = {0};
    const struct replica *replica;

    list_for_each(replica, &route->replicas, link)
        counts[replica->phase]++;
    for (int i = 0; i < REPLICA_PHASE_COUNT_; i++)
        strbuf_addf(text, "slipway_replicas{%s,state=\"%s\"} %d\n", labels, replica_phase_name(i), counts[i]);
}

static void add_cold_starts(struct strbuf *text, const struct route *route, const char *labels)
{
    if (route->load.gateway || route->load.cold_starts.count)
        add_duration(text, "slipway_cold_start_seconds", labels, &route->load.cold_starts);
}

static void add_bad_answers(struct strbuf *text, const struct route *route, const char *labels)
{
    const struct replica *replica;
    uint64_t sum = 0;

    list_for_each(replica, &route->replicas, link)
        sum += replica->bad_answers;
    strbuf_addf(text, "slipway_bad_answers_total{%s} %lu\n", labels, sum);
}

static void add_weight(struct strbuf *text, const struct route *route, const char *labels)
{
    strbuf_addf(text, "slipway_route_weight{%s} %g\n", labels, route->weight);
}

static void add_shadow(struct strbuf *text, const struct route *route, const char *labels)
{
    const struct shadow *shadow = route->shadow;

    if (!shadow)
        return;
    strbuf_addf(text, "slipway_shadow_copies_total{%s,result=\"agreed\"} %lu\n", labels, shadow->agreed);
    strbuf_addf(text, "slipway_shadow_copies_total{%s,result=\"disagreed\"} %lu\n", labels, shadow->disagreed);
    strbuf_addf(text, "slipway_shadow_copies_total{%s,result=\"failed\"} %lu\n", labels, shadow->failed);
}

static void add_shadow_dropped(struct strbuf *text, const struct route *route, const char *labels)
{
    for (int i = 0; route->shadow && i < SHADOW_DROP_COUNT_; i++)
        strbuf_addf(text, "slipway_shadow_dropped_total{%s,reason=\"%s\"} %lu\n", labels, shadow_drop_name(i),
                    route->shadow->dropped[i]);
}

static void add_shadow_difference(struct strbuf *text, const struct route *route, const char *labels)
{
    if (route->shadow)
        strbuf_addf(text, "slipway_shadow_largest_difference{%s} %g\n", labels, route->shadow->max_abs);
}

static const struct {
    const char *name, *type, *help;
    route_fn fn;
} route_rows[] = {
    {"slipway_predict_requests_total", "counter", "requests by how they ended", add_outcomes},
    {"slipway_predict_seconds", "histogram", "from arrival to answer", add_latency},
    {"slipway_predict_queue_seconds", "histogram", "from arrival to a replica", add_queue_time},
    {"slipway_predict_run_seconds", "histogram", "in the model", add_run_time},
    {"slipway_answer_cache_total", "counter", "requests whose answer was remembered, or could have been", add_cache},
    {"slipway_predict_batches_total", "counter", "batches that a replica got", add_batches},
    {"slipway_predict_batched_requests_total", "counter", "requests in these batches", add_batched},
    {"slipway_predict_queued", "gauge", "requests that wait", add_queued},
    {"slipway_predict_running", "gauge", "requests that a replica has", add_running},
    {"slipway_route_weight", "gauge", "share of the traffic, relative to the endpoint's other versions", add_weight},
    {"slipway_shadow_copies_total", "counter", "copies that a shadow ran, by how its answer compares", add_shadow},
    {"slipway_shadow_dropped_total", "counter", "copies that were not run", add_shadow_dropped},
    {"slipway_shadow_largest_difference", "gauge", "largest absolute difference of two numbers", add_shadow_difference},
    {"slipway_replicas", "gauge", "replicas by state", add_replicas},
    {"slipway_cold_start_seconds", "histogram", "from a request to a route that slept to its first replica",
     add_cold_starts},
    {"slipway_bad_answers_total", "counter", "answers that broke the protocol", add_bad_answers},
};

static void add_endpoints(const struct gateway *gateway, struct strbuf *text)
{
    struct map_iterator it = {0};

    add_head(text, "slipway_endpoint_requests_total", "counter", "requests to an endpoint, before any check");
    while (map_next(&gateway->routes.endpoints, &it)) {
        const struct endpoint *endpoint = it.value;

        strbuf_addf(text, "slipway_endpoint_requests_total{endpoint=\"%s\"} %lu\n", endpoint->name,
                    endpoint->stats.requests);
    }
    add_head(text, "slipway_answer_cache_bytes", "gauge", "answers that are remembered");
    it = (struct map_iterator){0};
    while (map_next(&gateway->routes.endpoints, &it)) {
        const struct endpoint *endpoint = it.value;

        strbuf_addf(text, "slipway_answer_cache_bytes{endpoint=\"%s\"} %lu\n", endpoint->name,
                    endpoint->cache ? endpoint->cache->size : 0);
    }
    add_head(text, "slipway_request_log_lines_total", "counter", "logged requests: lines written, and dropped");
    it = (struct map_iterator){0};
    while (map_next(&gateway->routes.endpoints, &it)) {
        const struct endpoint *endpoint = it.value;

        strbuf_addf(text, "slipway_request_log_lines_total{endpoint=\"%s\",result=\"written\"} %lu\n", endpoint->name,
                    endpoint->log.written);
        strbuf_addf(text, "slipway_request_log_lines_total{endpoint=\"%s\",result=\"dropped\"} %lu\n", endpoint->name,
                    endpoint->log.dropped);
    }
    add_head(text, "slipway_endpoint_refused_total", "counter", "requests that no version saw");
    it = (struct map_iterator){0};
    while (map_next(&gateway->routes.endpoints, &it)) {
        const struct endpoint *endpoint = it.value;
        const char *name = endpoint->name;

        strbuf_addf(text, "slipway_endpoint_refused_total{endpoint=\"%s\",reason=\"unauthenticated\"} %lu\n", name,
                    endpoint->stats.unauthenticated);
        strbuf_addf(text, "slipway_endpoint_refused_total{endpoint=\"%s\",reason=\"forbidden\"} %lu\n", name,
                    endpoint->stats.forbidden);
        strbuf_addf(text, "slipway_endpoint_refused_total{endpoint=\"%s\",reason=\"rate_limited\"} %lu\n", name,
                    endpoint->stats.rate_limited);
        strbuf_addf(text, "slipway_endpoint_refused_total{endpoint=\"%s\",reason=\"quota_exceeded\"} %lu\n", name,
                    endpoint->stats.quota_exceeded);
    }
}

static void add_auth(const struct auth_stats *auth, struct strbuf *text)
{
    const struct {
        const char *flow;
        uint64_t value;
    } rows[] = {
        {"requests", auth->requests},
        {"no_token", auth->no_token},
        {"bad_token", auth->bad_token},
        {"forbidden", auth->forbidden},
        {"cache_hits", auth->cache_hits},
        {"introspections", auth->introspections},
        {"introspection_failures", auth->introspection_failures},
        {"reached_model", auth->reached_model},
    };

    add_head(text, "slipway_auth_flow_total", "counter", "flows of authorisation");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        strbuf_addf(text, "slipway_auth_flow_total{flow=\"%s\"} %lu\n", rows[i].flow, rows[i].value);
}

void stats_format(const struct gateway *gateway, struct strbuf *text)
{
    for (size_t i = 0; i < ARRAY_SIZE(route_rows); i++) {
        add_head(text, route_rows[i].name, route_rows[i].type, route_rows[i].help);
        each_route(gateway, text, route_rows[i].fn);
    }
    add_endpoints(gateway, text);
    add_auth(&gateway->auth_stats, text);
    add_head(text, "slipway_gateway_connections", "gauge", "open connections");
    strbuf_addf(text, "slipway_gateway_connections %zu\n", loop_server_connections(gateway->server));
}
