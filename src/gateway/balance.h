/*
 * Which replica runs which request, and who waits.
 *
 * Each route has one queue in private memory, first come first served. A replica that runs requests quickly is
 * given a few ahead, so that it need not wait for us between two: as many as it is expected to finish within
 * LIMIT_WORKER_AHEAD_MS, and always `concurrency`. What it has not started when it dies goes back to the head of the
 * queue; what it has started fails.
 */
#pragma once

#include "gateway/call.h"
#include "gateway/route.h"
#include "gateway/worker.h"

/* Routes a call that is ready to run: submits it, queues it, or ends it with 503. */
void balance_enqueue(struct gateway *gateway, struct call *call);
/* The call no longer wants an answer. */
void balance_cancel(struct gateway *gateway, struct call *call);
/* Hands out what waits, as far as replicas have room. */
void balance_dispatch(struct gateway *gateway, struct route *route);

/* The worker's answers, all that are there. */
void balance_answers(struct worker *worker);
/* The worker is ready. */
void balance_ready(struct worker *worker);
/* The worker is gone, for this reason; its ring is still there. */
void balance_lost(struct worker *worker, const char *why);
/* replica->wished may have changed. May free the replica. */
void balance_wish_changed(struct gateway *gateway, struct replica *replica);
/* Nothing routes there any more: what waits is run by the replicas that are left, or ended with 503 if none is. */
void balance_route_removed(struct gateway *gateway, struct route *route);
