#include <math.h>
#include "gateway/meter.h"
#include "util/clock.h"
#include "util/list.h"
#include "util/map.h"
#include "util/xalloc.h"

struct meter {
    struct list link; /* in meters->used, the longest unused first */
    char *key;
    /* of a rate */
    double level;
    int64_t at_ns; /* 0: fresh */
    /* of a quota */
    int64_t window; /* number of the window that `count` belongs to */
    int64_t count;
};

struct meters {
    struct map map; /* by key; owned */
    struct list used;
    size_t max;
};

static void meter_free(void *value)
{
    struct meter *meter = value;

    list_unlink(&meter->link);
    free(meter->key);
    free(meter);
}

struct meters *meters_new(size_t max)
{
    struct meters *meters = xnew0(struct meters);

    meters->map = (struct map)MAP_INIT(meter_free);
    list_init(&meters->used);
    meters->max = max;
    return meters;
}

struct meters *meters_free(struct meters *meters)
{
    if (!meters)
        return NULL;
    map_release(&meters->map);
    free(meters);
    return NULL;
}

/* Takes the key. */
static struct meter *find(struct meters *meters, char *key)
{
    struct meter *meter = map_get(&meters->map, key);

    if (meter) {
        free(key);
        list_unlink(&meter->link);
        list_append(&meters->used, &meter->link);
        return meter;
    }
    if (map_count(&meters->map) >= meters->max)
        map_remove(&meters->map, list_first(&meters->used, struct meter, link)->key);
    meter = xnew0(struct meter);
    meter->key = key;
    list_append(&meters->used, &meter->link);
    map_put(&meters->map, key, meter);
    return meter;
}

bool meter_take_rate(struct meters *meters, const char *subject, const char *endpoint, const struct rate_limit *limit,
                     int64_t now_ns, int64_t *ret_wait_s)
{
    struct meter *meter = find(meters, xasprintf("rate %s %s", endpoint, subject)); /* names hold no blanks */

    meter->level = meter->at_ns ? meter->level + (double)(now_ns - meter->at_ns) / NS_PER_SEC * limit->per_second
                                : limit->burst;
    if (meter->level > limit->burst)
        meter->level = limit->burst;
    meter->at_ns = now_ns;
    if (meter->level < 1) {
        *ret_wait_s = (int64_t)fmax(1, ceil((1 - meter->level) / limit->per_second));
        return false;
    }
    meter->level -= 1;
    return true;
}

bool meter_take_quota(struct meters *meters, const char *subject, const struct quota *quota, int64_t wall_ms,
                      int64_t *ret_wait_s)
{
    struct meter *meter = find(meters, xasprintf("quota %s", subject));
    int64_t window = wall_ms / quota->window_ms;

    if (meter->window != window) {
        meter->window = window;
        meter->count = 0;
    }
    if (meter->count >= quota->requests) {
        *ret_wait_s = ((window + 1) * quota->window_ms - wall_ms + 999) / 1000;
        return false;
    }
    meter->count++;
    return true;
}

size_t meters_count(const struct meters *meters)
{
    return map_count(&meters->map);
}
