#include <assert.h>
#include <string.h>
#include "gateway/balance.h"
#include "gateway/gateway.h"
#include "util/clock.h"

/* Requests that the worker may hold at a time. */
static uint32_t capacity(const struct worker *worker)
{
    uint32_t concurrency = worker->replica->route->concurrency > 0 ? (uint32_t)worker->replica->route->concurrency : 1;
    double ahead = worker->run_ns > 0 ? BALANCE_AHEAD_NS / worker->run_ns : 0;
    double sum = concurrency + ahead;

    return sum > WIRE_SLOTS ? WIRE_SLOTS : (uint32_t)sum;
}

/* What waited when its version was withdrawn is still run by the replicas that are leaving. */
static bool takes_requests(const struct replica *replica)
{
    return replica->phase == REPLICA_READY || (replica->phase == REPLICA_DRAINING && replica->route->removed);
}

static bool can_serve(const struct route *route)
{
    const struct replica *replica;

    list_for_each(replica, &route->replicas, link) {
        if (takes_requests(replica))
            return true;
    }
    return false;
}

static struct worker *choose(const struct route *route)
{
    const struct replica *replica;
    struct worker *best = NULL;

    list_for_each(replica, &route->replicas, link) {
        struct worker *worker = replica->worker;

        if (!takes_requests(replica) || worker->ring->n_used >= capacity(worker))
            continue;
        if (!best || worker->ring->n_used < best->ring->n_used)
            best = worker;
    }
    return best;
}

static int submit(struct worker *worker, struct call *call)
{
    int64_t now = clock_monotonic_ns();
    struct ring_call item = {
        .kind = call->kind,
        .body = call->encoded,
        .length = call->encoded_length,
        .deadline_ns = call->deadline_ns,
        .overrun_ns = now + call->endpoint->timeout_ms * NS_PER_MS,
        .now_ns = now,
        .trace = call->has_trace ? call->trace : NULL,
        .user = call,
    };

    if (!call->encoded)
        item.body = loop_request_body(call->request, &item.length);
    call->slot = ring_submit(worker->ring, &item);
    if (call->slot < 0)
        return -1;
    load_submitted(call->route, call, now);
    call->state = CALL_RUNNING;
    call->worker = worker;
    call->route->n_running++;
    duration_add(&call->route->stats.queue, now - call->arrived_ns);
    worker_wake(worker);
    return 0;
}

void balance_dispatch(struct gateway *gateway, struct route *route)
{
    struct worker *worker;
    struct call *call;

    while ((call = list_first(&route->queue, struct call, link)) && (worker = choose(route))) {
        list_unlink(&call->link);
        route->n_queued--;
        if (submit(worker, call) < 0) {
            list_prepend(&route->queue, &call->link);
            route->n_queued++;
            return; /* no room for the body until an answer comes */
        }
    }
}

void balance_enqueue(struct gateway *gateway, struct call *call)
{
    struct route *route = call->route;
    struct worker *worker;

    call->state = CALL_QUEUED;
    if (list_is_empty(&route->queue) && (worker = choose(route)) && submit(worker, call) == 0) {
        load_came(route);
        return;
    }
    if (route->removed && !can_serve(route)) {
        call_fail(call, OUTCOME_UNAVAILABLE, ERROR_UNAVAILABLE, "version %s is no longer served", route->version);
        return;
    }
    if (route->n_queued >= route->endpoint->queue) {
        call_fail(call, OUTCOME_QUEUE_FULL, ERROR_UNAVAILABLE, "%zu requests wait already", route->n_queued);
        return;
    }
    list_append(&route->queue, &call->link);
    route->n_queued++;
    load_waits(route, call);
}

void balance_cancel(struct gateway *gateway, struct call *call)
{
    if (call->state == CALL_QUEUED && call->route && !list_is_empty(&call->link)) {
        list_unlink(&call->link);
        call->route->n_queued--;
    } else if (call->state == CALL_RUNNING && call->worker) {
        ring_abandon(call->worker->ring, call->slot);
        load_changes(call->route);
        call->route->n_running--;
        call->worker = NULL;
    }
}

/* A replica that is no longer wished and has answered everything. */
static void check_drained(struct gateway *gateway, struct replica *replica)
{
    if (replica->phase != REPLICA_DRAINING || replica->worker->ring->n_used ||
        (replica->route->removed && !list_is_empty(&replica->route->queue)))
        return;
    replica->phase = REPLICA_DRAINED;
    control_replica_event(gateway->control, replica->id, "drained", NULL, false);
}

void balance_answers(struct worker *worker)
{
    struct gateway *gateway = worker->gateway;
    struct replica *replica = worker->replica;
    struct ring_answer answer;

    worker->stirred = false;
    load_changes(replica->route);
    do {
        while (ring_take(worker->ring, &answer)) {
            struct call *call = answer.user;

            worker->run_ns = worker->run_ns > 0 ? 0.9 * worker->run_ns + 0.1 * (double)answer.run_ns
                                                : (double)answer.run_ns;
            replica->requests++;
            if (answer.status != WIRE_STATUS_OK)
                replica->errors++;
            if (!call)
                continue;
            call->route->n_running--;
            call_answer(call, answer.status, answer.body, answer.length, answer.run_ns);
        }
    } while (!worker->ring->complaint && ring_sleep(worker->ring));

    if (worker->ring->complaint) {
        replica->bad_answers += worker->ring->bad_answers;
        worker_kill(worker, worker->ring->complaint);
        return;
    }
    balance_dispatch(gateway, replica->route);
    check_drained(gateway, replica);
}

void balance_ready(struct worker *worker)
{
    struct replica *replica = worker->replica;

    replica->phase = replica->wished ? REPLICA_READY : REPLICA_DRAINING;
    control_replica_event(worker->gateway->control, replica->id, "ready", NULL, false);
    load_replica_ready(replica->route);
    if (replica->wished)
        balance_dispatch(worker->gateway, replica->route);
    else
        check_drained(worker->gateway, replica);
}

static void fail_queue(struct route *route, const char *why)
{
    struct call *call;

    while ((call = list_first(&route->queue, struct call, link)))
        call_fail(call, OUTCOME_UNAVAILABLE, ERROR_UNAVAILABLE, "%s", why);
}

/* The newest submission that is not answered, or -1. */
static int newest(const struct ring *ring)
{
    uint32_t least = UINT32_MAX;
    int slot = -1;

    for (int i = 0; i < WIRE_SLOTS; i++) {
        uint32_t age = ring->tail - ring->slots[i].sequence;

        if (ring->slots[i].used && age < least) {
            least = age;
            slot = i;
        }
    }
    return slot;
}

/* A request that the lost worker had: failed if it may have run, else put back at the head of the queue. */
static void recover(struct worker *worker, int slot, const char *why)
{
    struct route *route = worker->replica->route;
    struct call *call = worker->ring->slots[slot].user;
    bool started = ring_has_started(worker->ring, slot);

    worker->ring->slots[slot].used = false;
    worker->ring->n_used--;
    if (!call)
        return;
    call->worker = NULL;
    call->state = CALL_QUEUED;
    load_changes(route);
    route->n_running--;
    if (started) {
        call_fail(call, OUTCOME_WORKER_LOST, ERROR_UNAVAILABLE, "the replica %s while it ran the request", why);
        return;
    }
    list_prepend(&route->queue, &call->link);
    route->n_queued++;
}

void balance_lost(struct worker *worker, const char *why)
{
    struct replica *replica = worker->replica;
    struct route *route = replica->route;

    route_ref(route);
    replica->worker = NULL;
    replica->phase = REPLICA_ABSENT;
    /* From the newest to the oldest, so that those put back keep their order. */
    while (worker->ring && worker->ring->n_used)
        recover(worker, newest(worker->ring), why);
    load_replica_failed(route, why);
    load_replicas_changed(route);
    replica_settle(replica);
    if (route->removed && !can_serve(route))
        fail_queue(route, "the version is no longer served");
    else
        balance_dispatch(worker->gateway, route);
    route_unref(route);
}

void balance_wish_changed(struct gateway *gateway, struct replica *replica)
{
    if (!replica->worker) {
        replica_settle(replica);
        return;
    }
    if (!replica->wished && replica->phase == REPLICA_READY) {
        replica->phase = REPLICA_DRAINING;
        load_replicas_changed(replica->route);
        check_drained(gateway, replica);
    } else if (replica->wished && (replica->phase == REPLICA_DRAINING || replica->phase == REPLICA_DRAINED)) {
        replica->phase = REPLICA_READY;
        control_replica_event(gateway->control, replica->id, "ready", NULL, false);
        load_replica_ready(replica->route);
        balance_dispatch(gateway, replica->route);
    }
}

void balance_route_removed(struct gateway *gateway, struct route *route)
{
    if (!can_serve(route))
        fail_queue(route, "the version is no longer served");
}
