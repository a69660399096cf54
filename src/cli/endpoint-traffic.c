#include <string.h>
#include "cli/client.h"
#include "cli/endpoint-traffic.h"
#include "http/client.h"
#include "util/parse.h"
#include "util/xalloc.h"

/* -- asking -- */

/* "1000/10m", "1000" or "/10m". */
static int read_after(const char *text, json_t *body, struct error *error)
{
    const char *slash = strchr(text, '/');
    cleanup_free char *requests = slash ? xstrndup(text, (size_t)(slash - text)) : xstrdup(text);
    cleanup_json json_t *after = json_object();
    int64_t value;

    if (*requests || !slash) {
        if (parse_int(requests, 0, INT64_C(1000000000000000), &value, error) < 0)
            return error_wrap(error, "--after, which is REQUESTS/TIME such as 1000/10m");
        json_set_int(after, "requests", value);
    }
    if (slash) {
        if (parse_duration_ms(slash + 1, &value, error) < 0)
            return error_wrap(error, "--after, which is REQUESTS/TIME such as 1000/10m");
        json_set_int(after, "ms", value);
    }
    json_object_set(body, "after", after);
    return 0;
}

int traffic_read_options(const struct invocation *invocation, json_t *body, struct error *error)
{
    static const struct {
        const char *option, *key;
        double max;
    } numbers[] = {{"canary", "canary", 100}, {"sample", "sample", 1}, {"tolerance", "tolerance", 1e300}};
    static const struct {
        const char *option, *key;
    } texts[] = {{"promote-if", "promote_if"}, {"abort-if", "abort_if"}, {"sticky", "sticky"}};
    const char *after = option_value(invocation, "after");

    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        double value = -1;

        if (option_number(invocation, numbers[i].option, 0, numbers[i].max, &value, error) < 0)
            return -1;
        if (value >= 0)
            json_set_number(body, numbers[i].key, value);
    }
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        if (option_value(invocation, texts[i].option))
            json_set_string(body, texts[i].key, option_value(invocation, texts[i].option));
    }
    if (option_flag(invocation, "shadow"))
        json_set_bool(body, "shadow", true);
    return after ? read_after(after, body, error) : 0;
}

/* -- showing -- */

static char *ms_text(const json_t *version, const char *key)
{
    const json_t *value = json_object_get(version, key);

    return json_is_number(value) ? xasprintf("%.3g", json_number_value(value)) : NULL;
}

static char *p50_text(const json_t *version)
{
    return ms_text(version, "p50_ms");
}

static char *p99_text(const json_t *version)
{
    return ms_text(version, "p99_ms");
}

static char *queue_text(const json_t *version)
{
    return ms_text(version, "queue_p99_ms");
}

static char *share_text(const json_t *version)
{
    return xasprintf("%g %%", json_get_number(version, "share", 0));
}

static const struct table_column version_columns[] = {
    {"VERSION", "version", TABLE_NUMBER},
    {"ROLE", "role"},
    {"SHARE", .text = share_text},
    {"REQUESTS", "requests", TABLE_NUMBER},
    {"ERRORS", "error_rate", TABLE_PERCENT},
    {"P50 ms", .text = p50_text},
    {"P99 ms", .text = p99_text},
    {"QUEUE P99 ms", .text = queue_text},
    {"COMPARED", "copies", TABLE_NUMBER},
    {"DISAGREED", "disagreement", TABLE_PERCENT},
    {"FAILED", "failed", TABLE_NUMBER},
    {"DROPPED", "dropped", TABLE_NUMBER},
    {"LARGEST", "max_abs", TABLE_NUMBER},
    {},
};

int traffic_show(struct invocation *invocation, json_t *endpoint, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/endpoints/%s/statistics", invocation->arguments[0]);
    cleanup_json json_t *statistics = NULL;
    cleanup_error struct error why = ERROR_INIT;
    char duration[FORMAT_SIZE];
    const char *beside;

    if (client_get(invocation->client, path, NULL, &statistics, &why) < 0) {
        if (why.code != ERROR_UNAVAILABLE) {
            error_move(error, &why);
            return -1;
        }
        json_object_set_new(endpoint, "statistics", json_null());
        return 0;
    }
    json_object_set(endpoint, "statistics", statistics);
    if (invocation->json)
        return 0;
    beside = json_get_string(statistics, "beside", NULL);
    printf("\nSince the %s %s ago:\n", beside ? beside : "gateway was started",
           format_duration_ms((int64_t)(json_get_number(statistics, "seconds", 0) * 1000), duration));
    table_print(stdout, version_columns, json_object_get(statistics, "versions"));
    return 0;
}

static char *difference_text(const json_t *comparison)
{
    const json_t *value = json_object_get(comparison, "max_abs");

    if (json_get_bool(comparison, "failed", false))
        return xstrdup("failed");
    if (!json_get_bool(comparison, "numeric", false))
        return xstrdup("other");
    return json_is_number(value) ? xasprintf("%g", json_number_value(value)) : xstrdup("infinite");
}

static const struct table_column comparison_columns[] = {
    {"TIME", "time", TABLE_TIME},     {"DIFFERENCE", .text = difference_text}, {"REQUEST", "request", .shrink = true},
    {"LIVE", "live", .shrink = true}, {"SHADOW", "shadow", .shrink = true},    {},
};

int traffic_compare(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/endpoints/%s/comparisons", invocation->arguments[0]);
    cleanup_json json_t *items = NULL;

    if (client_list(invocation->client, path, NULL, 0, &items, error) < 0)
        return -1;
    print_items(invocation, comparison_columns, items, "no answer of a shadow differs so far");
    return 0;
}
