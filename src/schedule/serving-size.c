/*
 * The replicas of one route: as many as are wished, with the limits that are wished. One that was started with others
 * is outdated, and is replaced while it serves: first comes one more, and only when that is ready does an outdated one
 * go.
 */
#include "schedule/serving-internal.h"
#include "util/clock.h"
#include "util/limits.h"

bool replica_is_active(const struct replica *r)
{
    return r->state == REPLICA_STARTING || r->state == REPLICA_WARMING || r->state == REPLICA_READY;
}

static bool is_of(const struct replica *r, const struct route *route)
{
    return r->endpoint == route->endpoint && r->version == route->version && replica_is_active(r);
}

static bool is_outdated(const struct replica *r, const struct route *route)
{
    return r->cpus != route->cpus || r->memory != route->memory;
}

struct census {
    int64_t current, current_ready, outdated, ready;
};

static struct census count(struct serving *s, const struct route *route)
{
    struct map_iterator it = {0};
    struct census c = {0};

    while (map_next(&s->replicas, &it)) {
        const struct replica *r = it.value;
        bool is_ready = r->state == REPLICA_READY, is_old = is_outdated(r, route);

        if (!is_of(r, route))
            continue;
        c.outdated += is_old;
        c.current += !is_old;
        c.ready += is_ready;
        c.current_ready += is_ready && !is_old;
    }
    return c;
}

int64_t route_count_ready(struct serving *s, const struct route *route)
{
    return count(s, route).ready;
}

int route_start_missing(struct serving *s, const struct route *route, struct error *error)
{
    struct backoff *backoff = serving_backoff(s, route->endpoint, route->version);
    struct census c = count(s, route);
    int64_t now = clock_monotonic_ns(), missing = route->replicas - c.current;
    int64_t room = route->replicas + (c.outdated > 0) - c.current - c.outdated;

    for (int64_t n = missing < room ? missing : room; n > 0; n--) {
        if (backoff->not_before_ns > now) {
            serving_wake_in(s, backoff->not_before_ns - now);
            return 0;
        }
        if (replica_start(s, route->endpoint, route->version, error) < 0)
            return -1;
    }
    return 0;
}

/* Of several that are one too many the one that does least: one that is not ready yet, else the newest. */
static struct replica *find_surplus(struct serving *s, const struct route *route, bool outdated)
{
    struct map_iterator it = {0};
    struct replica *found = NULL;

    while (map_next(&s->replicas, &it)) {
        struct replica *r = it.value;

        if (is_of(r, route) && is_outdated(r, route) == outdated &&
            (!found || r->state != REPLICA_READY || found->state == REPLICA_READY))
            found = r;
    }
    return found;
}

void route_drain_surplus(struct serving *s, const struct route *route)
{
    int64_t patience_ns = (route->timeout_ms + LIMIT_REPLICA_DRAIN_MS) * NS_PER_MS;
    struct census c = count(s, route);

    for (; c.outdated > 0 && c.current_ready + c.outdated > route->replicas; c.outdated--)
        replica_drain(find_surplus(s, route, true), patience_ns);
    for (; c.current > route->replicas; c.current--)
        replica_drain(find_surplus(s, route, false), patience_ns);
}
