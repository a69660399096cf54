#include <string.h>
#include "gateway/call.h"
#include "gateway/gateway.h"
#include "gateway/load.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/xalloc.h"

static int64_t count_ready(const struct route *route)
{
    const struct replica *replica;
    int64_t count = 0;

    list_for_each(replica, &route->replicas, link)
        count += replica->phase == REPLICA_READY;
    return count;
}

static bool has_wished(const struct route *route)
{
    const struct replica *replica;

    list_for_each(replica, &route->replicas, link) {
        if (replica->wished)
            return true;
    }
    return false;
}

/* -- telling -- */

static struct load_window look(const struct route *route, int64_t now)
{
    const struct route_load *load = &route->load;
    int64_t length = now - load->begun_ns;
    int64_t age_us = route->queue.count ? (now - call_queue_oldest_ns(&route->queue)) / NS_PER_US : 0;
    int64_t concurrency = route->concurrency > 0 ? route->concurrency : 1, ready = count_ready(route);
    struct load_window w = {
        .queue_time_us = load->submitted ? load->waited_ns / load->submitted / NS_PER_US : 0,
        .queued = (int64_t)route->queue.count,
        .running = (int64_t)route->n_running,
        .requests = load->requests,
        .ready = ready < load->ready_at_begin ? ready : load->ready_at_begin,
        .busy = load->timer && length > 0 ? (double)load->busy_ns / (double)(length * concurrency) : 0,
    };

    if (age_us > w.queue_time_us)
        w.queue_time_us = age_us;
    w.level = load_level(&w, load->target_us);
    if (w.level == LOAD_IDLE)
        w.idle_ms = (now - load->quiet_ns) / NS_PER_MS;
    return w;
}

static json_t *event_of(const char *event, const struct route *route)
{
    return json_build("{s:s, s:s, s:s}", "event", event, "endpoint", route->endpoint->name, "version", route->version);
}

static void tell(struct route *route, const struct load_window *w)
{
    struct route_load *load = &route->load;
    json_t *event = event_of("load", route);

    load->has_told = true;
    load->told_level = w->level;
    load->told_ready = w->ready;
    load_write(w, event);
    control_send(load->gateway->control, event);
}

void load_tell_all(struct gateway *gateway)
{
    struct map_iterator it = {0};

    while (map_next(&gateway->routes.endpoints, &it)) {
        struct endpoint *endpoint = it.value;
        struct route *route;

        list_for_each(route, &endpoint->routes, link) {
            struct load_window w;

            if (!route->load.gateway)
                continue;
            w = look(route, clock_monotonic_ns());
            tell(route, &w);
        }
    }
}

/* -- windows -- */

static void begin(struct route *route, int64_t now)
{
    struct route_load *load = &route->load;

    load->begun_ns = load->changed_ns = now;
    load->busy_ns = load->requests = load->submitted = load->waited_ns = 0;
    load->ready_at_begin = count_ready(route);
}

/* Up to now so many were at work: what a replica is given ahead does not count. */
static void advance(struct route *route, int64_t now)
{
    struct route_load *load = &route->load;
    int64_t most = count_ready(route) * (route->concurrency > 0 ? route->concurrency : 1);
    int64_t running = (int64_t)route->n_running;

    load->busy_ns += (now - load->changed_ns) * (running < most ? running : most);
    load->changed_ns = now;
}

static void on_window(void *userdata)
{
    struct route *route = userdata;
    struct route_load *load = &route->load;
    int64_t now = clock_monotonic_ns();
    struct load_window w;

    advance(route, now);
    w = look(route, now);
    if (!load->has_told || w.level == LOAD_OVER || w.level != load->told_level || w.ready != load->told_ready)
        tell(route, &w);
    if (w.level != LOAD_IDLE)
        load->quiet_ns = now;
    begin(route, now);
    if (w.level == LOAD_IDLE && w.ready == count_ready(route))
        load->timer = loop_remove(load->timer);
}

/* Short enough to see what waits twice as long as it should, long enough to cost nothing. */
static int64_t window_ns(const struct route_load *load)
{
    int64_t ns = 2 * load->target_us * NS_PER_US;

    if (ns < LIMIT_LOAD_WINDOW_MIN_MS * NS_PER_MS)
        return LIMIT_LOAD_WINDOW_MIN_MS * NS_PER_MS;
    return ns < LIMIT_LOAD_WINDOW_MAX_MS * NS_PER_MS ? ns : LIMIT_LOAD_WINDOW_MAX_MS * NS_PER_MS;
}

static void start(struct route *route)
{
    struct route_load *load = &route->load;

    if (load->timer)
        return;
    begin(route, clock_monotonic_ns());
    load->timer = loop_add_interval(load->gateway->loop, window_ns(load), on_window, route);
}

/* -- requests -- */

static void set_trouble(struct route_load *load, const char *why)
{
    free(load->trouble);
    load->trouble = xstrdup_null(why);
}

static void came(struct route *route)
{
    struct route_load *load = &route->load;
    bool was_idle = !load->timer;

    start(route);
    load->requests++;
    /* Whoever is about to take the last replica away should know. */
    if (was_idle && load->may_sleep && load->has_told && load->told_level == LOAD_IDLE) {
        struct load_window w = look(route, load->begun_ns);

        tell(route, &w);
    }
}

void load_came(struct route *route)
{
    if (route->load.gateway)
        came(route);
}

void load_waits(struct route *route, struct call *call)
{
    struct route_load *load = &route->load;

    if (!load->gateway)
        return;
    if (load->may_sleep && !has_wished(route) && (!load->woken_ns || route->queue.count == 1)) {
        load->woken_ns = call->queued_ns;
        set_trouble(load, NULL);
        load->has_told = false;
    }
    call->is_cold = load->woken_ns != 0;
    came(route);
    if (call->is_cold && !load->has_told) {
        struct load_window w = look(route, call->queued_ns);

        tell(route, &w);
    }
}

void load_changes(struct route *route)
{
    if (route->load.timer)
        advance(route, clock_monotonic_ns());
}

void load_submitted(struct route *route, struct call *call, int64_t now)
{
    struct route_load *load = &route->load;
    int64_t waited = call->queued_ns ? now - call->queued_ns : 0;

    if (!load->gateway)
        return;
    if (load->timer)
        advance(route, now);
    load->submitted++;
    load->waited_ns += waited;
    if (call->is_cold && call->request) {
        char text[24];

        snprintf(text, sizeof(text), "%lld", (long long)(waited / NS_PER_MS));
        loop_request_add_header(call->request, "Slipway-Cold-Start-Ms", text);
    }
    call->is_cold = false;
}

/* -- replicas -- */

void load_replicas_changed(struct route *route)
{
    if (route->load.gateway && !route->removed)
        start(route);
}

void load_replica_ready(struct route *route)
{
    struct route_load *load = &route->load;
    int64_t ns = clock_monotonic_ns() - load->woken_ns;
    json_t *event;

    if (!load->gateway)
        return;
    load_replicas_changed(route);
    set_trouble(load, NULL);
    if (!load->woken_ns)
        return;
    load->woken_ns = 0;
    duration_add(&load->cold_starts, ns);
    event = event_of("cold_start", route);
    json_set_int(event, "ms", ns / NS_PER_MS);
    json_set_int(event, "waited", (int64_t)route->queue.count);
    control_send(load->gateway->control, event);
}

void load_replica_failed(struct route *route, const char *why)
{
    struct route_load *load = &route->load;

    if (load->gateway && load->woken_ns)
        set_trouble(load, why);
}

bool load_is_asleep(const struct route *route)
{
    const struct route_load *load = &route->load;

    return load->may_sleep && !load->trouble && (load->woken_ns || !has_wished(route));
}

char *load_excuse(const struct route *route)
{
    const struct route_load *load = &route->load;

    if (count_ready(route))
        return NULL;
    if (load->trouble)
        return xasprintf("no replica of version %s is ready: the last one %s", route->version, load->trouble);
    if (load->gateway && !control_is_connected(load->gateway->control))
        return xasprintf("no replica of version %s is ready, and the daemon that starts them is away", route->version);
    return xasprintf("no replica of version %s is ready yet", route->version);
}

/* -- life -- */

void load_release(struct route *route)
{
    struct route_load *load = &route->load;

    load->timer = loop_remove(load->timer);
    set_trouble(load, NULL);
    load->gateway = NULL;
    load->may_sleep = false;
}

void load_configure(struct gateway *gateway, struct route *route, const json_t *scale)
{
    struct route_load *load = &route->load;
    int64_t target_us = json_get_int(scale, "queue_time_ms", 0) * 1000;

    if (!scale || json_is_null(scale)) {
        if (load->gateway)
            load_release(route);
        return;
    }
    if (!load->gateway)
        load->quiet_ns = clock_monotonic_ns();
    if (!load->gateway || load->target_us != target_us) {
        load->timer = loop_remove(load->timer);
        load->has_told = false;
    }
    load->gateway = gateway;
    load->target_us = target_us;
    load->may_sleep = json_get_bool(scale, "to_zero", false);
    if (!load->has_told)
        start(route);
}
