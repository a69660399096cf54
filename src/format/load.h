/*
 * What one route of the gateway saw in one window of time: how long its requests waited and how busy its replicas were.
 * The gateway measures and tells (gateway/control.h), the daemon decides (schedule/scale.h); this is the part that both
 * know.
 */
#pragma once

#include <stdint.h>
#include "util/error.h"
#include "util/json.h"

/* In a word, from the least to the most. */
enum load_level {
    LOAD_IDLE,   /* no request came, none waits, none runs */
    LOAD_SLACK,  /* one replica fewer would do */
    LOAD_STEADY, /* as it should be */
    LOAD_OVER,   /* requests wait longer than they should */
    LOAD_LEVEL_COUNT_,
};

struct load_window {
    enum load_level level;
    int64_t
        queue_time_us; /* mean wait of those that got a replica, or the age of the oldest that waits, if that is more */
    int64_t queued, running; /* at its end */
    int64_t requests; /* that came */
    int64_t ready; /* replicas, at its beginning or its end, whichever were fewer */
    double busy; /* replicas that were at work on average, as their concurrency counts */
    int64_t idle_ms; /* since the last request was answered; 0 unless LOAD_IDLE */
};

/* A replica fewer would do where the others would then be busy for at most this share of the time, and requests wait
 * less than half of what they may: the distance to LOAD_OVER is what keeps it from going back and forth. */
#define LOAD_SLACK_SHARE 0.7

/* The level of the rest; target_us: how long a request may wait. */
enum load_level load_level(const struct load_window *window, int64_t target_us);
const char *load_level_name(enum load_level level);

/* Adds the fields to an object, and takes them from one. */
void load_write(const struct load_window *window, json_t *object);
int load_read(const json_t *object, struct load_window *ret, struct error *error);
