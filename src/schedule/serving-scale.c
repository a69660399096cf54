/*
 * Replicas that follow the load. The gateway tells what it sees (gateway/load.h), scale.c says how many replicas that
 * calls for, and the number is stored with its event before reconciliation acts on it. What was seen is of the moment
 * and is not kept; how many there are to be is, in endpoint_scaling.
 */
#include <string.h>
#include "schedule/serving-internal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/xalloc.h"

/* One version of an endpoint that scales. */
struct scaler {
    int64_t endpoint, version; /* rows */
    char *name, *project;
    int64_t number;
    struct scale_rule rule;
    struct scale_view view;
    int64_t calm_since_ns, idle_since_ns; /* 0: it is not */
    bool waits;                           /* being deployed: not yet scaled */
    bool is_standby;
    bool is_seen;                         /* in the present reconciliation */
};

static void scaler_free(void *value)
{
    struct scaler *scaler = value;

    free(scaler->name);
    free(scaler->project);
    free(scaler);
}

struct map scaling_map(void)
{
    return (struct map)MAP_INIT(scaler_free);
}

static char *key_of(const char *endpoint, const char *version)
{
    return xasprintf("%s/%s", endpoint, version);
}

/* -- how many are to be there -- */

/* awake: it has a replica also while nobody asks. */
static struct scale_rule rule_of(const struct endpoint_options *o, bool awake)
{
    return (struct scale_rule){
        .min = awake && o->min_replicas == 0 ? 1 : o->min_replicas,
        .max = o->max_replicas,
        .queue_time_us = o->scale_queue_time_ms * 1000,
        .down_after_ns = o->scale_down_after_ms * NS_PER_MS,
        .idle_after_ns = o->idle_ms * NS_PER_MS,
    };
}

static int64_t clamp(const struct scale_rule *rule, int64_t wished)
{
    return wished < rule->min ? rule->min : wished > rule->max ? rule->max : wished;
}

static struct scaler *scaler_new(struct serving *s, const struct scaling_route *route)
{
    struct scaler *scaler = xnew0(struct scaler);
    cleanup_free char *number = xasprintf("%lld", (long long)route->number);
    cleanup_free char *key = key_of(route->name, number);

    scaler->endpoint = route->endpoint;
    scaler->version = route->version;
    scaler->name = xstrdup(route->name);
    scaler->project = xstrdup(route->project);
    scaler->number = route->number;
    scaler->view.wished = route->stored;
    map_put(&s->scalers, key, scaler);
    return scaler;
}

static struct scaler *find(struct serving *s, const char *name, int64_t number)
{
    cleanup_free char *text = xasprintf("%lld", (long long)number);
    cleanup_free char *key = key_of(name, text);

    return map_get(&s->scalers, key);
}

/* A standby has no requests, which says nothing of the live version that it becomes. */
static void set_standby(struct scaler *scaler, bool is_standby)
{
    int64_t now = clock_monotonic_ns();

    if (scaler->is_standby && !is_standby) {
        scaler->calm_since_ns = scaler->calm_since_ns ? now : 0;
        scaler->idle_since_ns = scaler->idle_since_ns ? now : 0;
    }
    scaler->is_standby = is_standby;
}

int64_t scaling_wished(struct serving *s, const struct scaling_route *route, const struct endpoint_options *options)
{
    struct scaler *scaler;

    if (!endpoint_options_scale(options))
        return options->min_replicas;
    scaler = find(s, route->name, route->number);
    if (!scaler || scaler->endpoint != route->endpoint || scaler->version != route->version)
        scaler = scaler_new(s, route); /* perhaps in place of an endpoint of the same name that is gone */
    scaler->is_seen = true;
    scaler->waits = route->waits;
    set_standby(scaler, route->is_standby);
    scaler->rule = rule_of(options, route->waits || route->is_trial ||
                                        (route->is_standby && route->live != 0 && scaler->view.wished > 0));
    if (scaler->view.wished < 0) /* new: as many as serve now, and one to show that it works */
        scaler->view.wished = clamp(&scaler->rule, route->live > 1 ? route->live : 1);
    return clamp(&scaler->rule, scaler->view.wished);
}

void scaling_begin(struct serving *s)
{
    struct map_iterator it = {0};

    while (map_next(&s->scalers, &it))
        ((struct scaler *)it.value)->is_seen = false;
}

/* -- decisions -- */

static json_t *decision_json(const struct scaler *scaler, const struct scale_decision *d)
{
    const struct load_window *w = &scaler->view.window;
    json_t *json = json_build("{s:I, s:I, s:I, s:s}", "version", (json_int_t)scaler->number, "from",
                              (json_int_t)scaler->view.wished, "to", (json_int_t)d->wished, "reason", d->reason);

    if (scaler->view.is_known) {
        json_set_number(json, "queue_time_ms", (double)w->queue_time_us / 1000);
        json_set_int(json, "queued", w->queued);
        json_set_int(json, "running", w->running);
        json_set_int(json, "ready", w->ready);
        json_set_number(json, "busy", w->busy);
    }
    return json;
}

static int store(struct serving *s, const struct scaler *scaler, int64_t wished, json_t *decision, struct error *error)
{
    cleanup_free char *subject = xasprintf("endpoint/%s", scaler->name);
    const struct journal_event event = {
        .type = "slipway.endpoint.scaled", .subject = subject, .project = scaler->project, .data = decision};
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_write(s->store->db, &tx, error) < 0 ||
        endpoint_scaled(&tx, scaler->endpoint, scaler->version, wished, decision, error) < 0 ||
        journal_append(&tx, &event, NULL, error) < 0)
        return -1;
    return db_commit(&tx, error);
}

static int count_ready(struct serving *s, const struct scaler *scaler)
{
    struct map_iterator it = {0};
    int count = 0;

    while (map_next(&s->replicas, &it)) {
        const struct replica *r = it.value;

        count += r->endpoint == scaler->endpoint && r->version == scaler->version && r->state == REPLICA_READY;
    }
    return count;
}

static struct scale_decision decide(struct serving *s, struct scaler *scaler)
{
    int64_t now = clock_monotonic_ns();

    scaler->view.ready = count_ready(s, scaler);
    scaler->view.calm_ns = scaler->calm_since_ns ? now - scaler->calm_since_ns : 0;
    scaler->view.idle_ns = scaler->idle_since_ns ? now - scaler->idle_since_ns : 0;
    return scale_decide(&scaler->rule, &scaler->view);
}

int scaling_decide(struct serving *s, struct error *error)
{
    struct map_iterator it = {0};

    while (map_next(&s->scalers, &it)) {
        struct scaler *scaler = it.value;
        cleanup_json json_t *decision = NULL;
        struct scale_decision d;

        if (!scaler->is_seen) {
            map_remove(&s->scalers, it.key);
            continue;
        }
        d = decide(s, scaler);
        if (d.again_ns != SCALE_NEVER)
            serving_wake_in(s, d.again_ns);
        if (!d.reason || scaler->waits)
            continue;
        decision = decision_json(scaler, &d);
        if (store(s, scaler, d.wished, decision, error) < 0)
            return -1;
        log_info("scaled", "endpoint", scaler->name, "reason", d.reason);
        scaler->view.wished = d.wished;
        scaler->view.is_known = false; /* it was seen with the replicas before */
        scaler->calm_since_ns = 0;
    }
    return 0;
}

void scaling_forget_seen(struct serving *s)
{
    struct map_iterator it = {0};

    while (map_next(&s->scalers, &it))
        ((struct scaler *)it.value)->view.is_known = false;
}

/* -- what the gateway tells -- */

static void on_load(struct serving *s, struct scaler *scaler, const json_t *message)
{
    cleanup_error struct error error = ERROR_INIT;
    struct load_window w;
    struct scale_decision d;
    int64_t now = clock_monotonic_ns();

    if (load_read(message, &w, &error) < 0) {
        log_warning("the gateway told a load that cannot be read", "error", error.message);
        return;
    }
    scaler->view.window = w;
    scaler->view.is_known = true;
    scaler->idle_since_ns = w.level == LOAD_IDLE ? now - w.idle_ms * NS_PER_MS : 0;
    if (w.level > LOAD_SLACK)
        scaler->calm_since_ns = 0;
    else if (!scaler->calm_since_ns)
        scaler->calm_since_ns = now;
    d = decide(s, scaler);
    if (d.reason)
        serving_reconcile(s);
    else if (d.again_ns != SCALE_NEVER)
        serving_wake_in(s, d.again_ns);
}

static void on_cold_start(struct serving *s, struct scaler *scaler, const json_t *message)
{
    cleanup_free char *subject = xasprintf("endpoint/%s", scaler->name);
    int64_t ms = json_get_int(message, "ms", 0);
    cleanup_json json_t *data = json_build("{s:I, s:I, s:I}", "version", (json_int_t)scaler->number, "ms",
                                           (json_int_t)ms, "waited", (json_int_t)json_get_int(message, "waited", 0));
    const struct journal_event event = {
        .type = "slipway.endpoint.cold_start", .subject = subject, .project = scaler->project, .data = data};
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_write(s->store->db, &tx, &error) < 0 ||
        endpoint_cold_started(&tx, scaler->endpoint, scaler->version, ms, &error) < 0 ||
        journal_append(&tx, &event, NULL, &error) < 0 || db_commit(&tx, &error) < 0)
        log_error("cannot store a cold start", "error", error.message);
}

void scaling_on_route(struct serving *s, const char *event, const json_t *message)
{
    cleanup_free char *key = key_of(json_get_string(message, "endpoint", ""), json_get_string(message, "version", ""));
    struct scaler *scaler = map_get(&s->scalers, key);

    if (!scaler)
        return;
    if (strcmp(event, "load") == 0)
        on_load(s, scaler, message);
    else if (strcmp(event, "cold_start") == 0)
        on_cold_start(s, scaler, message);
}
