/*
 * Requests that wait for a replica of a version: the most important first; among equals, who came first.
 *
 * One list for each priority, and a word of bits that says which of them hold something: every function takes the
 * same few steps, however many wait. Calls are linked by call->link and belong to themselves; one that ends is
 * removed by whoever ends it (balance_cancel()).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "util/limits.h"
#include "util/list.h"

#define QUEUE_LEVELS (2 * LIMIT_PRIORITY + 1)

struct call;

struct call_queue {
    struct list levels[QUEUE_LEVELS]; /* the least important at 0 */
    uint32_t occupied;                /* bit i: levels[i] is not empty */
    size_t count;
    size_t alone;                     /* of these: what no batch can take (a kind other than WIRE_PREDICT) */
};

void call_queue_init(struct call_queue *queue);
/* Behind its equals, from now on. */
void call_queue_push(struct call_queue *queue, struct call *call, int64_t now_ns);
/* Before its equals: it had its turn already. */
void call_queue_put_back(struct call_queue *queue, struct call *call);
void call_queue_remove(struct call_queue *queue, struct call *call);
/* Whose turn it is; NULL: nobody waits. */
struct call *call_queue_first(const struct call_queue *queue);
/* Who would give way: of the least important, the one that came last. NULL: nobody waits. */
struct call *call_queue_last(const struct call_queue *queue);
/* Since when the one waits that has waited for longest; INT64_MAX: nobody does. */
int64_t call_queue_oldest_ns(const struct call_queue *queue);
