/*
 * The queue: runs that wait, in strict order of priority, then of submission.
 *
 *     bucket 10:  a ─ b                     highest priority first
 *     bucket  0:  c ─ d ─ e                 in a bucket by id, which is the order of submission
 *     parked:     f                         waits for something else than resources (its environment), or
 *                                           needs more than the machine has: it neither starts nor blocks
 *
 * The first entry that does not fit is the head. It gets a reservation: the time at which enough holders will
 * have ended. Entries behind it may start early (backfill) only if they are over by then, or fit beside the
 * head: so no choice can delay the head beyond its reservation. A run without time-out may end at any time,
 * so behind a head that waits for one only what fits beside it starts.
 *
 * An entry costs about 300 bytes.
 */
#pragma once

#include "schedule/placement.h"
#include "util/hash.h"

struct queue;

struct queue_item {
    char id[ID_SIZE];
    int priority;
    int64_t lasts_ms;   /* at the longest: time-out and grace; 0: nobody knows */
    int64_t not_before; /* wall ms; 0: at once */
    struct pool_need need;
};

enum queue_park {
    QUEUE_READY,       /* takes part */
    QUEUE_ENVIRONMENT, /* its environment is being built */
    QUEUE_PAUSED,      /* between two attempts, until not_before */
    QUEUE_IMPOSSIBLE,  /* needs more than the machine has */
};

struct queue *queue_new(void);
/* Accepts NULL; returns NULL. */
struct queue *queue_free(struct queue *queue);

/* False if it is in there already. */
bool queue_add(struct queue *queue, const struct queue_item *item, enum queue_park park);
bool queue_remove(struct queue *queue, const char *id);
/* NULL: not there. Valid until it is removed. */
const struct queue_item *queue_find(const struct queue *queue, const char *id, enum queue_park *ret_park);
bool queue_set_park(struct queue *queue, const char *id, enum queue_park park);
bool queue_set_priority(struct queue *queue, const char *id, int priority);
size_t queue_count(const struct queue *queue);

/* Takes the next run that may start out of the queue and its resources out of the pool; the devices are in
 * pool_holder(pool, id). False: none may start now. Behind the head at most QUEUE_DEPTH entries are tried. */
#define QUEUE_DEPTH 1000
bool queue_next(struct queue *queue, struct pool *pool, int64_t now, struct queue_item *ret_item);

/* Ends the pauses that are over. Returns when the next one is, or POOL_NEVER. */
int64_t queue_resume(struct queue *queue, int64_t now);

/* Tries anew those that were parked as impossible, after the machine has changed. */
void queue_review(struct queue *queue, const struct pool *pool);

/*
 * Why a queued run waits:
 *   {"position":3,"ahead":2,"reason":"resources"|"behind"|"environment"|"paused"|"impossible"|"starting",
 *    "message":"needs 2 GPUs, 1 is free", "missing":[{"resource","needed","free","total"}],
 *    "holders":[{"owner","cpus","memory","gpus","ends_at"}],"head":id|null,"expected_at":time|null}
 * NULL: not queued.
 */
json_t *queue_why(const struct queue *queue, const struct pool *pool, const char *id, int64_t now);
