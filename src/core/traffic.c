#include <math.h>
#include <stdio.h>
#include <string.h>
#include "core/traffic.h"
#include "util/durations.h"

static json_t *find(const json_t *list, const char *key, const char *value)
{
    json_t *item;
    size_t i;

    json_array_foreach(list, i, item) {
        if (strcmp(json_get_string(item, key, ""), value) == 0)
            return item;
    }
    return NULL;
}

json_t *traffic_counters(const json_t *status, const char *endpoint, int64_t now_ms)
{
    const json_t *found = find(json_object_get(status, "endpoints"), "name", endpoint);
    json_t *versions = json_object(), *route;
    size_t i;

    json_array_foreach(json_object_get(found, "routes"), i, route) {
        json_t *latency = json_object_get(json_object_get(route, "latency"), "slots");
        json_t *queue_time = json_object_get(json_object_get(route, "queue_time"), "slots");

        json_object_set_new(versions, json_get_string(route, "version", ""),
                            json_build("{s:O?, s:O?, s:O?, s:O?}", "outcomes", json_object_get(route, "outcomes"),
                                       "latency", latency, "queue_time", queue_time, "shadow",
                                       json_object_get(route, "shadow")));
    }
    return json_build("{s:s, s:I, s:o}", "instance", json_get_string(status, "instance", ""), "time_ms",
                      (json_int_t)now_ms, "versions", versions);
}

bool traffic_is_comparable(const json_t *counters, const json_t *before)
{
    return before && strcmp(json_get_string(counters, "instance", "?"), json_get_string(before, "instance", "")) == 0;
}

static const json_t *version_of(const json_t *counters, int64_t version)
{
    char key[24];

    snprintf(key, sizeof(key), "%lld", (long long)version);
    return json_object_get(json_object_get(counters, "versions"), key);
}

static int64_t delta(const json_t *now, const json_t *before, const char *object, const char *key)
{
    int64_t value = json_get_int(json_object_get(now, object), key, 0) -
                    json_get_int(json_object_get(before, object), key, 0);

    return value > 0 ? value : 0;
}

static void set_quantiles(json_t *into, const char *p50, const char *p99, const json_t *now, const json_t *before,
                          const char *key)
{
    struct durations durations = {0}, earlier = {0};

    durations_add_json(&durations, json_object_get(now, key));
    durations_add_json(&earlier, json_object_get(before, key));
    durations_subtract(&durations, &earlier);
    json_set_number(into, p50, durations_quantile_ms(&durations, 0.5));
    json_set_number(into, p99, durations_quantile_ms(&durations, 0.99));
}

static void set_share(json_t *into, const char *key, int64_t part, int64_t whole)
{
    json_set_number(into, key, whole ? (double)part / (double)whole : NAN);
}

static void set_copies(json_t *into, const json_t *now, const json_t *before)
{
    static const char *const keys[] = {"copies",  "agreed",       "disagreed", "failed",
                                       "dropped", "disagreement", "max_abs",   "max_rel"};
    const json_t *shadow = json_object_get(now, "shadow");
    int64_t agreed = delta(now, before, "shadow", "agreed"), disagreed = delta(now, before, "shadow", "disagreed");
    int64_t dropped = 0;
    json_t *count;
    const char *key;

    if (!json_is_object(shadow)) {
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
            json_object_set_new(into, keys[i], json_null());
        return;
    }
    json_object_foreach(json_object_get(shadow, "dropped"), key, count) {
        const json_t *earlier = json_object_get(json_object_get(before, "shadow"), "dropped");

        dropped += json_integer_value(count) - json_get_int(earlier, key, 0);
    }
    json_set_int(into, "copies", delta(now, before, "shadow", "copies"));
    json_set_int(into, "agreed", agreed);
    json_set_int(into, "disagreed", disagreed);
    json_set_int(into, "failed", delta(now, before, "shadow", "failed"));
    json_set_int(into, "dropped", dropped > 0 ? dropped : 0);
    set_share(into, "disagreement", disagreed, agreed + disagreed);
    json_object_set(into, "max_abs", json_object_get(shadow, "max_abs"));
    json_object_set(into, "max_rel", json_object_get(shadow, "max_rel"));
}

json_t *traffic_version(const json_t *counters, const json_t *before, int64_t version)
{
    static const char *const errors[] = {"model_error", "timeout", "worker_lost", "unavailable", "queue_full"};
    const json_t *now = version_of(counters, version);
    const json_t *then = traffic_is_comparable(counters, before) ? version_of(before, version) : NULL;
    int64_t requests = 0, wrong = 0;
    json_t *into = json_object(), *count;
    const char *outcome;

    json_object_foreach(json_object_get(now, "outcomes"), outcome, count)
        requests += delta(now, then, "outcomes", outcome);
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        wrong += delta(now, then, "outcomes", errors[i]);
    json_set_int(into, "requests", requests);
    json_set_int(into, "errors", wrong);
    set_share(into, "error_rate", wrong, requests);
    set_quantiles(into, "p50_ms", "p99_ms", now, then, "latency");
    set_quantiles(into, "queue_p50_ms", "queue_p99_ms", now, then, "queue_time");
    set_copies(into, now, then);
    return into;
}

json_t *traffic_document(const json_t *counters, const json_t *before, int64_t live, int64_t canary)
{
    double ms = (double)(json_get_int(counters, "time_ms", 0) - json_get_int(before, "time_ms", 0));

    return json_build("{s:o, s:o, s:f}", "canary", traffic_version(counters, before, canary), "live",
                      traffic_version(counters, before, live), "seconds", ms / 1000);
}
