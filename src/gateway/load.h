/*
 * How loaded each route is, for the daemon to scale it by.
 *
 * Only routes whose configuration has "scale" are measured, and only while they have something to do: a window begins
 * with a request, and windows follow one another until one saw nothing. At the end of a window its figures
 * (format/load.h) are told on the control socket if requests waited too long in it, or if it was of another level, or
 * had another number of replicas, than the one that was told last. So an idle route costs nothing, and a busy one whose
 * replicas are as many as it needs next to nothing.
 *
 * A route that "may sleep" may have no replica at all. It is asleep then and counts as ready. The first request that
 * waits there is told at once; from then until a replica is ready it is being woken, which is what is measured as its
 * cold start.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "format/load.h"
#include "gateway/stats.h"
#include "util/json.h"

struct call;
struct gateway;
struct route;

struct route_load {
    struct gateway *gateway; /* NULL: not measured */
    int64_t target_us;
    bool may_sleep;
    struct loop_source *timer; /* end of the present window; NULL: nothing happens */
    int64_t begun_ns, changed_ns;
    int64_t busy_ns; /* of all replicas, up to changed_ns */
    int64_t requests, submitted, waited_ns;
    int64_t ready_at_begin;
    int64_t quiet_ns; /* since when nothing happens */
    bool has_told;
    enum load_level told_level;
    int64_t told_ready;
    int64_t woken_ns; /* a request waits for the first replica since; 0: none does */
    char *trouble;    /* why the replica that was to come did not; NULL: it did, or is on its way */
    struct duration_stats cold_starts;
};

/* From the route's configuration: {"queue_time_ms":50,"to_zero":true}; NULL: not measured any more. After its replicas
 * were taken over. */
void load_configure(struct gateway *gateway, struct route *route, const json_t *scale);
void load_release(struct route *route);

/* What happens to requests: one came and could not be submitted at once; one came and was; one is about to begin or to
 * stop running. */
void load_waits(struct route *route, struct call *call);
void load_came(struct route *route);
void load_changes(struct route *route);
/* It is about to be submitted; adds Slipway-Cold-Start-Ms to its answer if it waited for one. */
void load_submitted(struct route *route, struct call *call, int64_t now_ns);

/* What happens to replicas: the number that is ready or wished is another; one is ready; one could not start. */
void load_replicas_changed(struct route *route);
void load_replica_ready(struct route *route);
void load_replica_failed(struct route *route, const char *why);

/* No replica is wished, and that is as it should be; or the first one is on its way. */
bool load_is_asleep(const struct route *route);
/* Why a request that waits there got no answer; NULL: it had its turn like any other. */
char *load_excuse(const struct route *route);
/* Tells all that is known, to a client of the control socket that has just come. */
void load_tell_all(struct gateway *gateway);
