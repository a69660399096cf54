#include <string.h>
#include "format/load.h"
#include "util/cleanup.h"

static const char *const level_names[] = {
    [LOAD_IDLE] = "idle", [LOAD_SLACK] = "slack", [LOAD_STEADY] = "steady", [LOAD_OVER] = "over"};
_Static_assert(ARRAY_SIZE(level_names) == LOAD_LEVEL_COUNT_, "a name for each level");

const char *load_level_name(enum load_level level)
{
    return level_names[level];
}

enum load_level load_level(const struct load_window *w, int64_t target_us)
{
    if (w->queue_time_us > target_us || (w->queued && w->ready == 0))
        return LOAD_OVER;
    if (w->requests == 0 && w->queued == 0 && w->running == 0)
        return LOAD_IDLE;
    if (w->ready >= 2 && w->queue_time_us <= target_us / 2 && w->busy <= LOAD_SLACK_SHARE * (double)(w->ready - 1))
        return LOAD_SLACK;
    return LOAD_STEADY;
}

void load_write(const struct load_window *w, json_t *object)
{
    json_set_string(object, "level", load_level_name(w->level));
    json_set_int(object, "queue_time_us", w->queue_time_us);
    json_set_int(object, "queued", w->queued);
    json_set_int(object, "running", w->running);
    json_set_int(object, "requests", w->requests);
    json_set_int(object, "ready", w->ready);
    json_set_number(object, "busy", w->busy);
    json_set_int(object, "idle_ms", w->idle_ms);
}

int load_read(const json_t *object, struct load_window *ret, struct error *error)
{
    const char *level = json_get_string(object, "level", "");

    for (size_t i = 0; i < ARRAY_SIZE(level_names); i++) {
        if (strcmp(level, level_names[i]) != 0)
            continue;
        *ret = (struct load_window){
            .level = (enum load_level)i,
            .queue_time_us = json_get_int(object, "queue_time_us", 0),
            .queued = json_get_int(object, "queued", 0),
            .running = json_get_int(object, "running", 0),
            .requests = json_get_int(object, "requests", 0),
            .ready = json_get_int(object, "ready", 0),
            .busy = json_get_number(object, "busy", 0),
            .idle_ms = json_get_int(object, "idle_ms", 0),
        };
        return 0;
    }
    return error_set(error, ERROR_INVALID, "'%.40s' is no level of load", level);
}
