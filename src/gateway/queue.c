#include <assert.h>
#include "format/wire.h"
#include "gateway/call.h"
#include "gateway/queue.h"

_Static_assert(QUEUE_LEVELS <= 32, "a bit for each level");

static unsigned level_of(const struct call *call)
{
    assert(call->priority >= -LIMIT_PRIORITY && call->priority <= LIMIT_PRIORITY);
    return (unsigned)(call->priority + LIMIT_PRIORITY);
}

static void count_in(struct call_queue *queue, const struct call *call)
{
    queue->occupied |= UINT32_C(1) << level_of(call);
    queue->count++;
    queue->alone += call->kind != WIRE_PREDICT;
}

void call_queue_init(struct call_queue *queue)
{
    *queue = (struct call_queue){0};
    for (int i = 0; i < QUEUE_LEVELS; i++)
        list_init(&queue->levels[i]);
}

void call_queue_push(struct call_queue *queue, struct call *call, int64_t now_ns)
{
    call->queued_ns = now_ns;
    list_append(&queue->levels[level_of(call)], &call->link);
    count_in(queue, call);
}

void call_queue_put_back(struct call_queue *queue, struct call *call)
{
    list_prepend(&queue->levels[level_of(call)], &call->link);
    count_in(queue, call);
}

void call_queue_remove(struct call_queue *queue, struct call *call)
{
    unsigned level = level_of(call);

    list_unlink(&call->link);
    if (list_is_empty(&queue->levels[level]))
        queue->occupied &= ~(UINT32_C(1) << level);
    queue->count--;
    queue->alone -= call->kind != WIRE_PREDICT;
}

struct call *call_queue_first(const struct call_queue *queue)
{
    if (!queue->occupied)
        return NULL;
    return list_entry(queue->levels[31 - __builtin_clz(queue->occupied)].next, struct call, link);
}

struct call *call_queue_last(const struct call_queue *queue)
{
    if (!queue->occupied)
        return NULL;
    return list_entry(queue->levels[__builtin_ctz(queue->occupied)].prev, struct call, link);
}

int64_t call_queue_oldest_ns(const struct call_queue *queue)
{
    int64_t oldest = INT64_MAX;

    for (uint32_t left = queue->occupied; left; left &= left - 1) {
        const struct call *call = list_entry(queue->levels[__builtin_ctz(left)].next, struct call, link);

        oldest = call->queued_ns < oldest ? call->queued_ns : oldest;
    }
    return oldest;
}
