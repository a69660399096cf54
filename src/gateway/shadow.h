/*
 * Shadows: a version that gets copies of requests which another one has answered, and whose answers nobody sees.
 *
 *     live answer ──▶ client
 *         └──▶ copy (of a sample) ──▶ queue of the shadow's route ──▶ its worker ──▶ difference.h ──▶ counters, samples
 *
 * A copy is a call without a request: made after the live answer was chosen, bounded in number, size and memory
 * (LIMIT_SHADOW_*), dropped and counted where there is no room, and ended by the endpoint's time-out. It therefore
 * costs the live request nothing but the copying of its body. A version that has requests of its own can be given
 * copies, too: only while it has nothing else to do, and they are no part of its other figures. Whatever the shadow
 * does, including nothing and dying, is a figure here and never seen by a client.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "gateway/difference.h"
#include "gateway/stats.h"
#include "util/json.h"
#include "util/limits.h"

struct call;
struct gateway;
struct route;

/* Why a copy was not made, or not run. */
enum shadow_drop { SHADOW_DROP_FULL, SHADOW_DROP_LARGE, SHADOW_DROP_UNREADY, SHADOW_DROP_COUNT_ };
const char *shadow_drop_name(enum shadow_drop drop);

/* A pair of answers that differ, or a copy that failed; texts are cut to LIMIT_SHADOW_EXCERPT. */
struct shadow_sample {
    int64_t wall_ms;
    char *request, *live, *shadow; /* shadow: of a failure its message */
    bool failed;
    struct difference difference;
};

struct shadow {
    double sample;    /* part of the answers that are compared, 0 to 1 */
    double tolerance; /* difference.h */
    char *against;    /* version whose answers are compared; NULL: any other's */
    uint64_t turn;
    uint64_t agreed, disagreed, failed, dropped[SHADOW_DROP_COUNT_];
    double max_abs, max_rel;
    uint64_t noted; /* disagreements and failures so far: each has the same chance to be among the samples */
    size_t n_samples;
    struct shadow_sample samples[LIMIT_SHADOW_SAMPLES];
};

/* The route is a shadow as its configuration says, or no longer is one: then the copies that wait are dropped. */
void shadow_configure(struct gateway *gateway, struct route *route, const json_t *wish);
/* Nothing routes there any more. */
void shadow_end(struct gateway *gateway, struct route *route);
void shadow_free(struct shadow *shadow);
/* Ends all copies, when the gateway ends. */
void shadows_close(struct gateway *gateway);

/* Before the live answer goes out, which ends the request: takes what a copy will need. Of a request that is several
 * (parts.h) each part is copied for itself. */
struct shadow_plan {
    struct route *route; /* NULL: no copy is made */
    char *body;          /* NULL: it is what the codec made of it, which the call still has */
    size_t length;
};
void shadow_plan(struct call *call, struct shadow_plan *ret);
/* After it: begins the copy. `answer` is in memory that the live worker may change. */
void shadow_begin(struct call *call, struct shadow_plan *plan, const char *answer, size_t length);
/* Instead: there was no good answer after all. */
void shadow_discard(struct shadow_plan *plan);

/* A call that nobody waits for ended without an answer, or with an error; counted if it is a copy. */
void shadow_failed(struct call *call, enum outcome outcome, const char *message);

/* {"sample","tolerance","against","copies","agreed","disagreed","failed","dropped":{…},"max_abs","max_rel"}; null for
 * a route that is no shadow. */
json_t *shadow_describe(const struct route *route);
/* [{"time","request","live","shadow","failed","numeric","max_abs","max_rel"}], oldest first. */
json_t *shadow_samples(const struct route *route);
