#include <string.h>
#include "gateway/answers.h"
#include "util/clock.h"
#include "util/xalloc.h"

#define BUCKETS  (1 << 18) /* of a fixed number, because growing would hold up everybody */
#define SWEEP_NS (1 * NS_PER_MS)

struct entry {
    struct entry *next; /* in its bucket */
    struct list of_all, of_share, of_route;
    struct answers_share *share;
    struct digest key;
    char *body;
    size_t length;
};
_Static_assert(sizeof(struct entry) + 2 * 16 <= ANSWERS_OVERHEAD, "two allocations and their heads");

struct answers {
    struct loop *loop;
    struct loop_source *sweep; /* while there is something in `dead` */
    uint64_t max, size;
    struct list used; /* all entries, the one unused longest first */
    struct list dead; /* entries (of_route) of routes that are gone */
    struct entry **buckets;
};

struct answers *answers_new(struct loop *loop, uint64_t max)
{
    struct answers *answers = xnew0(struct answers);

    answers->loop = loop;
    answers->max = max;
    list_init(&answers->used);
    list_init(&answers->dead);
    answers->buckets = xcalloc(BUCKETS, sizeof(struct entry *));
    return answers;
}

struct answers_share *answers_share_new(uint64_t max)
{
    struct answers_share *share = xnew0(struct answers_share);

    share->refs = 1;
    share->max = max;
    list_init(&share->used);
    return share;
}

void answers_share_unref(struct answers_share *share)
{
    if (share && --share->refs == 0)
        free(share);
}

static struct entry **place_of(struct answers *answers, const struct digest *key)
{
    uint32_t hash;
    struct entry **at;

    memcpy(&hash, key->bytes, sizeof(hash));
    for (at = &answers->buckets[hash % BUCKETS]; *at && !digest_equal(&(*at)->key, key); at = &(*at)->next)
        ;
    return at;
}

static uint64_t cost_of(size_t length)
{
    return (uint64_t)length + ANSWERS_OVERHEAD;
}

static void drop(struct answers *answers, struct entry *entry)
{
    *place_of(answers, &entry->key) = entry->next;
    list_unlink(&entry->of_all);
    list_unlink(&entry->of_share);
    list_unlink(&entry->of_route);
    answers->size -= cost_of(entry->length);
    entry->share->size -= cost_of(entry->length);
    entry->share->count--;
    answers_share_unref(entry->share);
    free(entry->body);
    free(entry);
}

struct answers *answers_free(struct answers *answers)
{
    struct entry *entry;

    if (!answers)
        return NULL;
    while ((entry = list_first(&answers->used, struct entry, of_all)))
        drop(answers, entry);
    loop_remove(answers->sweep);
    free(answers->buckets);
    free(answers);
    return NULL;
}

/* One hash of the body as it lies there, and one of what names it: no copy. */
void answers_key(uint64_t route, uint32_t kind, const void *body, size_t length, struct digest *ret_key)
{
    struct {
        uint64_t route, kind;
        struct digest body;
    } name = {.route = route, .kind = kind};

    digest_of(body, length, &name.body);
    digest_of(&name, sizeof(name), ret_key);
}

/* To the end: the one that was used last. */
static void move_back(struct list *list, struct list *node)
{
    list_unlink(node);
    list_append(list, node);
}

const char *answers_get(struct answers *answers, const struct digest *key, size_t *ret_length)
{
    struct entry *entry = *place_of(answers, key);

    if (!entry)
        return NULL;
    move_back(&answers->used, &entry->of_all);
    move_back(&entry->share->used, &entry->of_share);
    *ret_length = entry->length;
    return entry->body;
}

void answers_put_take(struct answers *answers, struct answers_share *share, struct list *of_route,
                      const struct digest *key, char *body, size_t length)
{
    uint64_t cost = cost_of(length);
    struct entry *entry = *place_of(answers, key), **place;

    if (entry) /* somebody else asked the same meanwhile */
        drop(answers, entry);
    if (cost > share->max || cost > answers->max) {
        free(body);
        return;
    }
    while (share->size + cost > share->max)
        drop(answers, list_first(&share->used, struct entry, of_share));
    while (answers->size + cost > answers->max)
        drop(answers, list_first(&answers->used, struct entry, of_all));
    entry = xnew0(struct entry);
    entry->share = share;
    entry->key = *key;
    entry->body = body;
    entry->length = length;
    place = place_of(answers, key);
    entry->next = *place;
    *place = entry;
    list_append(&answers->used, &entry->of_all);
    list_append(&share->used, &entry->of_share);
    list_append(of_route, &entry->of_route);
    answers->size += cost;
    share->size += cost;
    share->count++;
    share->refs++;
}

static void on_sweep(void *userdata)
{
    struct answers *answers = userdata;
    struct entry *entry;

    answers->sweep = NULL;
    for (int i = 0; i < ANSWERS_SWEEP && (entry = list_first(&answers->dead, struct entry, of_route)); i++)
        drop(answers, entry);
    if (!list_is_empty(&answers->dead))
        answers->sweep = loop_add_timer(answers->loop, SWEEP_NS, on_sweep, answers);
}

void answers_forget(struct answers *answers, struct list *of_route)
{
    struct list *first = of_route->next, *last = of_route->prev;

    if (!answers || list_is_empty(of_route))
        return;
    list_init(of_route);
    first->prev = answers->dead.prev;
    answers->dead.prev->next = first;
    last->next = &answers->dead;
    answers->dead.prev = last;
    if (!answers->sweep)
        answers->sweep = loop_add_timer(answers->loop, 0, on_sweep, answers);
}
