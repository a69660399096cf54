/*
 * How many replicas a version should have: a rule without memory, clock or effects, so that it can be read and tested
 * by itself. schedule/serving-scale.c asks it after every window that the gateway tells of.
 *
 *     none ◀── nobody asked for idle_after_ns ──┐
 *      │                                        │
 *      └─ a request waits ─▶ one ──▶ … ──▶ present ── requests wait longer than queue_time_us ─▶ more, at once
 *                                               └──── one fewer would have done for down_after_ns ─▶ one fewer
 *
 * It grows at once, at most to twice as many, and not again before those are ready and a whole window has been seen
 * with them. It shrinks by one at a time. That "one fewer would do" is further from "they wait too long" than one
 * replica makes (format/load.h), and has to last, keeps it from going back and forth.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "format/load.h"

struct scale_rule {
    int64_t min, max;       /* replicas; 0 ≤ min ≤ max, 1 ≤ max */
    int64_t queue_time_us;  /* how long requests may wait */
    int64_t down_after_ns;  /* how long one fewer would have done */
    int64_t idle_after_ns;  /* how long nobody asked, for none at all (min 0) */
};

struct scale_view {
    int64_t wished; /* replicas that are to be there now */
    int64_t ready;  /* of these, so many are */
    bool is_known;  /* a window was told since the last change; else only the limits count */
    struct load_window window; /* the newest */
    int64_t calm_ns; /* since when its level is no more than LOAD_SLACK */
    int64_t idle_ns; /* since when it is LOAD_IDLE */
};

#define SCALE_NEVER INT64_MAX

struct scale_decision {
    int64_t wished;
    const char *reason; /* "minimum", "maximum", "request", "queue_time", "slack", "idle"; NULL: no change */
    int64_t again_ns;   /* without news the rule says something else then; SCALE_NEVER: it does not */
};

struct scale_decision scale_decide(const struct scale_rule *rule, const struct scale_view *view);
