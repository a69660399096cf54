#include <string.h>
#include "schedule/queue.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/map.h"
#include "util/parse.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

struct entry {
    struct list link; /* in its bucket, or in queue->parked */
    struct queue_item item;
    enum queue_park park;
};

struct bucket {
    struct list link;
    struct list entries;
    int priority;
};

struct queue {
    struct list buckets; /* by falling priority; none is empty for long */
    struct list parked;
    struct map entries; /* id → entry, borrowed */
    size_t count, paused;
};

struct queue *queue_new(void)
{
    struct queue *queue = xnew0(struct queue);

    list_init(&queue->buckets);
    list_init(&queue->parked);
    return queue;
}

static void free_entries(struct list *entries)
{
    struct entry *entry, *tmp;

    list_for_each_safe(entry, tmp, entries, link)
        free(entry);
}

struct queue *queue_free(struct queue *queue)
{
    struct bucket *bucket, *tmp;

    if (!queue)
        return NULL;
    list_for_each_safe(bucket, tmp, &queue->buckets, link) {
        free_entries(&bucket->entries);
        free(bucket);
    }
    free_entries(&queue->parked);
    map_release(&queue->entries);
    free(queue);
    return NULL;
}

static struct bucket *bucket_for(struct queue *queue, int priority)
{
    struct bucket *bucket, *made;
    struct list *before = &queue->buckets;

    list_for_each(bucket, &queue->buckets, link) {
        if (bucket->priority == priority)
            return bucket;
        if (bucket->priority < priority) {
            before = &bucket->link;
            break;
        }
    }
    made = xnew0(struct bucket);
    made->priority = priority;
    list_init(&made->entries);
    list_append(before, &made->link); /* at the end of a ring that begins at `before`: in front of it */
    return made;
}

/* New runs have the greatest id, so that the search from the end is short. */
static void place(struct queue *queue, struct entry *entry)
{
    struct bucket *bucket;
    struct list *at;

    queue->paused += entry->park == QUEUE_PAUSED;
    if (entry->park != QUEUE_READY) {
        list_append(&queue->parked, &entry->link);
        return;
    }
    bucket = bucket_for(queue, entry->item.priority);
    for (at = bucket->entries.prev; at != &bucket->entries; at = at->prev)
        if (strcmp(list_entry(at, struct entry, link)->item.id, entry->item.id) < 0)
            break;
    list_insert_after_(at, &entry->link);
}

bool queue_add(struct queue *queue, const struct queue_item *item, enum queue_park park)
{
    struct entry *entry;

    if (map_get(&queue->entries, item->id))
        return false;
    entry = xnew0(struct entry);
    entry->item = *item;
    entry->park = park;
    place(queue, entry);
    map_put(&queue->entries, item->id, entry);
    queue->count++;
    return true;
}

bool queue_remove(struct queue *queue, const char *id)
{
    struct entry *entry = map_take(&queue->entries, id);

    if (!entry)
        return false;
    list_unlink(&entry->link);
    queue->paused -= entry->park == QUEUE_PAUSED;
    free(entry);
    queue->count--;
    return true;
}

const struct queue_item *queue_find(const struct queue *queue, const char *id, enum queue_park *ret_park)
{
    struct entry *entry = map_get(&queue->entries, id);

    if (entry && ret_park)
        *ret_park = entry->park;
    return entry ? &entry->item : NULL;
}

bool queue_set_park(struct queue *queue, const char *id, enum queue_park park)
{
    struct entry *entry = map_get(&queue->entries, id);

    if (!entry)
        return false;
    list_unlink(&entry->link);
    queue->paused -= entry->park == QUEUE_PAUSED;
    entry->park = park;
    place(queue, entry);
    return true;
}

bool queue_set_priority(struct queue *queue, const char *id, int priority)
{
    struct entry *entry = map_get(&queue->entries, id);

    if (!entry)
        return false;
    list_unlink(&entry->link);
    queue->paused -= entry->park == QUEUE_PAUSED;
    entry->item.priority = priority;
    place(queue, entry);
    return true;
}

size_t queue_count(const struct queue *queue)
{
    return queue->count;
}

int64_t queue_resume(struct queue *queue, int64_t now)
{
    struct entry *entry, *tmp;
    int64_t next = POOL_NEVER;

    if (queue->paused == 0)
        return next;
    list_for_each_safe(entry, tmp, &queue->parked, link) {
        if (entry->park != QUEUE_PAUSED)
            continue;
        if (entry->item.not_before <= now)
            queue_set_park(queue, entry->item.id, QUEUE_READY);
        else if (entry->item.not_before < next)
            next = entry->item.not_before;
    }
    return next;
}

void queue_review(struct queue *queue, const struct pool *pool)
{
    struct entry *entry, *tmp;

    list_for_each_safe(entry, tmp, &queue->parked, link)
        if (entry->park == QUEUE_IMPOSSIBLE && pool_is_possible(pool, &entry->item.need))
            queue_set_park(queue, entry->item.id, QUEUE_READY);
}

static int64_t end_of(const struct queue_item *item, int64_t now)
{
    return item->lasts_ms ? now + item->lasts_ms : POOL_NEVER;
}

struct head {
    const struct entry *entry; /* NULL: none yet */
    int64_t starts_at;
    struct pool_amount spare;
};

/* Whether an entry behind the head may start now although the head waits. */
static bool may_overtake(const struct pool *pool, const struct head *head, const struct queue_item *item, int64_t now)
{
    int64_t end = end_of(item, now);

    if (end != POOL_NEVER && head->starts_at != POOL_NEVER && end <= head->starts_at)
        return true;
    return pool_fits_amount(pool, &head->spare, &item->need);
}

/* Resources came back or runs were added: each call starts at the front, because what started before changed
 * the reservation. */
bool queue_next(struct queue *queue, struct pool *pool, int64_t now, struct queue_item *ret_item)
{
    struct bucket *bucket, *next_bucket;
    struct entry *entry, *next;
    struct head head = {0};
    int tried = 0;

    list_for_each_safe(bucket, next_bucket, &queue->buckets, link) {
        list_for_each_safe(entry, next, &bucket->entries, link) {
            bool fits = pool_fits(pool, &entry->item.need);

            if (!fits && !pool_is_possible(pool, &entry->item.need)) {
                queue_set_park(queue, entry->item.id, QUEUE_IMPOSSIBLE);
                continue;
            }
            if (!head.entry && !fits) {
                head.entry = entry;
                pool_reserve(pool, &entry->item.need, &head.starts_at, &head.spare);
                continue;
            }
            if (head.entry && ++tried > QUEUE_DEPTH)
                return false;
            if (!fits || (head.entry && !may_overtake(pool, &head, &entry->item, now)))
                continue;
            *ret_item = entry->item;
            pool_take(pool, entry->item.id, &entry->item.need, now, end_of(&entry->item, now));
            queue_remove(queue, ret_item->id);
            return true;
        }
        if (list_is_empty(&bucket->entries)) {
            list_unlink(&bucket->link);
            free(bucket);
        }
    }
    return false;
}

/* -- why -- */

static void add_missing(json_t *missing, struct strbuf *message, const char *resource, double needed, double unused,
                        double total)
{
    char need_text[FORMAT_SIZE], free_text[FORMAT_SIZE];

    json_array_append_new(missing, json_build("{s:s, s:f, s:f, s:f}", "resource", resource, "needed", needed, "free",
                                              unused, "total", total));
    if (strcmp(resource, "memory") == 0) {
        format_bytes((uint64_t)needed, need_text);
        format_bytes((uint64_t)unused, free_text);
    } else {
        snprintf(need_text, sizeof(need_text), "%g", needed);
        snprintf(free_text, sizeof(free_text), "%.4g", unused);
    }
    strbuf_addf(message, "%sneeds %s %s, %s of %g are free", message->length ? "; " : "", need_text, resource,
                free_text, strcmp(resource, "memory") == 0 ? total / (double)GIB : total);
    if (strcmp(resource, "memory") == 0)
        strbuf_adds(message, " GiB");
}

static json_t *list_missing(const struct pool *pool, const struct pool_need *need, const struct pool_amount *amount,
                            struct strbuf *message)
{
    json_t *missing = json_array();
    struct pool_need gpus = {.each = {.gpus = need->each.gpus, .gpu_memory = need->each.gpu_memory},
                             .nodes = need->nodes};
    double cpus = need->each.cpus * need->nodes, memory = (double)need->each.memory * need->nodes;

    if (cpus > amount->cpus + 1e-3)
        add_missing(missing, message, "cpus", cpus, amount->cpus, pool->cpus);
    if (memory > (double)amount->memory)
        add_missing(missing, message, "memory", memory, (double)amount->memory, (double)pool->memory);
    if (!pool_fits_amount(pool, amount, &gpus)) {
        add_missing(missing, message, "gpus", need->each.gpus * need->nodes, __builtin_popcountll(amount->gpus),
                    pool->n_gpus);
        if (need->each.gpu_memory)
            strbuf_addf(message, " (each with at least %.4g GiB)", (double)need->each.gpu_memory / (double)GIB);
    }
    return missing;
}

static json_t *list_holders(const struct pool *pool)
{
    json_t *holders = json_array();
    struct pool_holder *holder;

    list_for_each(holder, &pool->holders, link) {
        cleanup_free char *gpus = pool_gpu_list(holder->amount.gpus, POOL_GPUS, 0);
        json_t *item = json_object();

        if (json_array_size(holders) >= LIMIT_PAGE_DEFAULT) {
            json_decref(item);
            break;
        }
        json_set_string(item, "owner", holder->owner);
        json_set_number(item, "cpus", holder->amount.cpus);
        json_set_int(item, "memory", (int64_t)holder->amount.memory);
        json_set_string(item, "gpus", gpus);
        json_set_time_ms(item, "ends_at", holder->ends_at == POOL_NEVER ? 0 : holder->ends_at);
        json_array_append_new(holders, item);
    }
    return holders;
}

static void find_head(const struct queue *queue, const struct pool *pool, struct head *head)
{
    struct bucket *bucket;
    struct entry *entry;

    list_for_each(bucket, &queue->buckets, link) {
        list_for_each(entry, &bucket->entries, link) {
            if (pool_fits(pool, &entry->item.need))
                continue;
            head->entry = entry;
            pool_reserve(pool, &entry->item.need, &head->starts_at, &head->spare);
            return;
        }
    }
}

static int count_ahead(const struct queue *queue, const struct entry *of)
{
    struct bucket *bucket;
    struct entry *entry;
    int ahead = 0;

    list_for_each(bucket, &queue->buckets, link) {
        if (bucket->priority < of->item.priority)
            break;
        list_for_each(entry, &bucket->entries, link) {
            if (entry == of || (bucket->priority == of->item.priority && strcmp(entry->item.id, of->item.id) > 0))
                break;
            ahead++;
        }
    }
    return ahead;
}

static void explain_overtaking(struct strbuf *message, const struct head *head, int64_t now)
{
    char duration[FORMAT_SIZE];

    strbuf_addf(message, "it would fit, but could delay run %s, which is before it", head->entry->item.id);
    if (head->starts_at != POOL_NEVER && head->starts_at > now)
        strbuf_addf(message, "; with time-out and grace under %s it could start now",
                    format_duration_ms(head->starts_at - now, duration));
}

json_t *queue_why(const struct queue *queue, const struct pool *pool, const char *id, int64_t now)
{
    const struct entry *entry = map_get(&queue->entries, id);
    cleanup_strbuf struct strbuf message = STRBUF_INIT(LIMIT_DESCRIPTION);
    struct pool_amount unused = pool_free_amount(pool);
    struct head head = {0};
    const char *reason = "resources";
    char duration[FORMAT_SIZE];
    int64_t expected = 0;
    json_t *missing;
    int ahead;

    if (!entry)
        return NULL;
    ahead = count_ahead(queue, entry);
    find_head(queue, pool, &head);
    if (entry->park == QUEUE_IMPOSSIBLE)
        unused = (struct pool_amount){pool->cpus, pool->memory,
                                      pool->n_gpus == 64 ? UINT64_MAX : (UINT64_C(1) << pool->n_gpus) - 1};
    missing = list_missing(pool, &entry->item.need, &unused, &message);

    if (entry->park == QUEUE_ENVIRONMENT) {
        reason = "environment";
        strbuf_reset(&message);
        strbuf_adds(&message, "its environment is being built");
    } else if (entry->park == QUEUE_PAUSED) {
        int64_t left = entry->item.not_before > now ? entry->item.not_before - now : 0;

        reason = "paused";
        expected = entry->item.not_before;
        strbuf_reset(&message);
        strbuf_addf(&message, "its last attempt failed; the next one may start in %s",
                    format_duration_ms(left, duration));
    } else if (entry->park == QUEUE_IMPOSSIBLE) {
        reason = "impossible";
        strbuf_adds(&message, ": more than this machine has, so it cannot start here");
    } else if (json_array_size(missing) == 0 && head.entry && head.entry != entry) {
        reason = "behind";
        explain_overtaking(&message, &head, now);
    } else if (json_array_size(missing) == 0) {
        reason = "starting";
        strbuf_adds(&message, "it is about to start");
    } else if (head.entry != entry) {
        strbuf_addf(&message, "; %d %s before it", ahead, ahead == 1 ? "run is" : "runs are");
    } else if (head.starts_at != POOL_NEVER) {
        expected = head.starts_at;
        strbuf_adds(&message, "; it is the next to start");
    } else {
        strbuf_adds(&message, "; it is the next to start, when a run without time-out ends");
    }

    json_t *why = json_build("{s:i, s:i, s:s, s:s, s:o, s:o}", "position", ahead + 1, "ahead", ahead, "reason", reason,
                             "message", message.data, "missing", missing, "holders", list_holders(pool));
    json_set_string(why, "head", head.entry ? head.entry->item.id : NULL);
    json_set_time_ms(why, "expected_at", expected);
    return why;
}
