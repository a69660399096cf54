#include <assert.h>
#include <string.h>
#include "gateway/balance.h"
#include "gateway/gateway.h"
#include "gateway/record.h"
#include "util/clock.h"
#include "util/limits.h"

/* Requests that one call of the model takes. */
static uint32_t batch_size(const struct route *route)
{
    return route->can_batch ? route->batch_size : 1;
}

/* Whether requests wait for each other; where nothing may wait, each is a batch of its own. */
static bool gathers(const struct route *route)
{
    return batch_size(route) > 1 && route->endpoint->queue > 0;
}

/* Whether waiting longer would add nothing to the next batch. */
static bool is_full(const struct route *route)
{
    return route->queue.alone || route->queue.count >= batch_size(route) ||
           route->queue.count >= route->endpoint->queue;
}

/* Requests, or batches, that the worker may hold at a time. */
static uint32_t capacity(const struct worker *worker)
{
    uint32_t concurrency = worker->replica->route->concurrency > 0 ? (uint32_t)worker->replica->route->concurrency : 1;
    double ahead = worker->run_ns > 0 ? (LIMIT_WORKER_AHEAD_MS * NS_PER_MS) / worker->run_ns : 0;
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

static bool has_room(const struct worker *worker)
{
    const struct route *route = worker->replica->route;
    const struct call *first = call_queue_first(&route->queue);
    uint32_t size = batch_size(route), held = worker->ring->n_used;

    if (size == 1 || (first && first->kind != WIRE_PREDICT))
        return held < capacity(worker);
    /* A batch that is not full goes only to who is idle: while somebody works, more may come. */
    return !held ||
           (route->queue.count >= size && held + size <= WIRE_SLOTS && (held + size - 1) / size < capacity(worker));
}

static struct worker *choose(const struct route *route)
{
    const struct replica *replica;
    struct worker *best = NULL;

    list_for_each(replica, &route->replicas, link) {
        struct worker *worker = replica->worker;

        if (!takes_requests(replica) || !has_room(worker))
            continue;
        if (!best || worker->ring->n_used < best->ring->n_used)
            best = worker;
    }
    return best;
}

/* A number that differs from that of the batch before; 0: this call is not for predict_batch(). */
static uint32_t next_batch(struct worker *worker, const struct call *call)
{
    if (batch_size(call->route) == 1 || call->kind != WIRE_PREDICT)
        return 0;
    worker->batch += worker->batch == UINT32_MAX ? 2 : 1;
    return worker->batch;
}

/* False while there is no room for the body. The worker sees nothing of it before it is woken. */
static bool submit(struct worker *worker, struct call *call, uint32_t batch)
{
    int64_t now = clock_monotonic_ns();
    struct ring_call item = {
        .kind = call->kind,
        .batch = batch,
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
        return false;
    load_submitted(call->route, call, now);
    call->state = CALL_RUNNING;
    call->worker = worker;
    call->route->n_running++;
    call->route->stats.batched += batch != 0;
    if (call_counts(call))
        duration_add(&call->route->stats.queue, now - call->arrived_ns);
    if (call->record)
        call->record->queue_ns = now - call->arrived_ns;
    return true;
}

/* The worker sees what was submitted. */
static void show(struct worker *worker, uint32_t batch)
{
    worker->replica->route->stats.batches += batch != 0;
    worker_wake(worker);
}

/* The next request or batch goes to the worker. False while there is no room for its first body. */
static bool hand_out(struct route *route, struct worker *worker)
{
    struct call *call = call_queue_first(&route->queue);
    uint32_t batch = 0, size = call->kind == WIRE_PREDICT ? batch_size(route) : 1, n = 0;

    while (n < size && (call = call_queue_first(&route->queue)) && (n == 0 || call->kind == WIRE_PREDICT)) {
        if (n == 0)
            batch = next_batch(worker, call);
        if (!submit(worker, call, batch))
            break;
        call_queue_remove(&route->queue, call);
        n++;
    }
    if (n)
        show(worker, batch);
    return n > 0;
}

static void on_batch_timer(void *userdata)
{
    struct route *route = userdata;
    struct call *call = call_queue_first(&route->queue);

    route->batch_timer = NULL;
    if (call)
        balance_dispatch(call->gateway, route);
}

/* False: a replica is idle, but what waits may still become a larger batch. */
static bool is_due(struct gateway *gateway, struct route *route)
{
    int64_t left;

    if (!gathers(route) || is_full(route) || route->removed)
        return true;
    left = call_queue_oldest_ns(&route->queue) + route->batch_delay_ns - clock_monotonic_ns();
    if (left > 0 && !route->batch_timer)
        route->batch_timer = loop_add_timer(gateway->loop, left, on_batch_timer, route);
    return left <= 0;
}

void balance_dispatch(struct gateway *gateway, struct route *route)
{
    struct worker *worker;

    while (route->queue.count && (worker = choose(route))) {
        if (!is_due(gateway, route) || !hand_out(route, worker))
            return; /* until more come, or their time; until an answer makes room */
    }
}

/* More came for the next batch. Even without a delay it goes out at the end of this turn of the loop, with all that
 * the turn brought. */
static void gather(struct gateway *gateway, struct route *route)
{
    if (is_full(route))
        balance_dispatch(gateway, route);
    else if (!route->batch_timer && choose(route))
        route->batch_timer = loop_add_timer(gateway->loop, route->batch_delay_ns, on_batch_timer, route);
}

/* The queue is full: somebody of lower priority gives way, or the call is refused. */
static bool make_way(struct call *call)
{
    const struct call_queue *queue = &call->route->queue;
    struct call *last = call_queue_last(queue);

    if (!last || last->priority >= call->priority) {
        call_fail(call, OUTCOME_QUEUE_FULL, ERROR_UNAVAILABLE, "%zu requests wait already", queue->count);
        return false;
    }
    call_fail(last, OUTCOME_QUEUE_FULL, ERROR_UNAVAILABLE, "%zu requests wait already, and one of higher priority came",
              queue->count);
    return true;
}

void balance_enqueue(struct gateway *gateway, struct call *call)
{
    struct route *route = call->route;
    struct worker *worker = route->queue.count || gathers(route) ? NULL : choose(route);
    uint32_t batch = worker ? next_batch(worker, call) : 0;

    call->state = CALL_QUEUED;
    if (worker && submit(worker, call, batch)) {
        load_came(route);
        show(worker, batch);
        return;
    }
    if (route->removed && !can_serve(route)) {
        call_fail(call, OUTCOME_UNAVAILABLE, ERROR_UNAVAILABLE, "version %s is no longer served", route->version);
        return;
    }
    if (route->queue.count >= route->endpoint->queue && !make_way(call))
        return;
    call_queue_push(&route->queue, call, clock_monotonic_ns());
    load_waits(route, call);
    if (gathers(route))
        gather(gateway, route);
}

void balance_cancel(struct gateway *gateway, struct call *call)
{
    if (call->state == CALL_QUEUED && call->route && !list_is_empty(&call->link)) {
        call_queue_remove(&call->route->queue, call);
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
        (replica->route->removed && replica->route->queue.count))
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

    replica->route->can_batch = worker->functions & WIRE_CAN_BATCH; /* replicas of a version have the same code */
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

    while ((call = call_queue_first(&route->queue)))
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
    call_queue_put_back(&route->queue, call);
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
