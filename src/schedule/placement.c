#include <assert.h>
#include <string.h>
#include "schedule/placement.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

/* Amounts of CPU are added and subtracted many times: a thousandth of a core is no difference. */
#define CPU_SLACK 1e-3

void pool_init(struct pool *pool, double cpus, uint64_t memory, int n_gpus, const uint64_t *gpu_memory)
{
    *pool = (struct pool){.cpus = cpus, .memory = memory, .n_gpus = n_gpus < POOL_GPUS ? n_gpus : POOL_GPUS};
    for (int i = 0; i < pool->n_gpus; i++)
        pool->gpu_memory[i] = gpu_memory ? gpu_memory[i] : 0;
    list_init(&pool->holders);
}

void pool_release(struct pool *pool)
{
    struct pool_holder *holder, *tmp;

    list_for_each_safe(holder, tmp, &pool->holders, link)
        free(holder);
    list_init(&pool->holders);
    pool->n_holders = 0;
}

static uint64_t all_gpus(const struct pool *pool)
{
    return pool->n_gpus == 64 ? UINT64_MAX : (UINT64_C(1) << pool->n_gpus) - 1;
}

/* The `count` devices of lowest index out of `among` with enough memory; fewer bits if there are fewer. */
static uint64_t choose_gpus(const struct pool *pool, uint64_t among, int count, uint64_t memory)
{
    uint64_t chosen = 0;

    for (int i = 0; i < pool->n_gpus && count > 0; i++) {
        if ((among & UINT64_C(1) << i) && pool->gpu_memory[i] >= memory) {
            chosen |= UINT64_C(1) << i;
            count--;
        }
    }
    return chosen;
}

static int gpu_count(const struct pool_need *need)
{
    return need->each.gpus * need->nodes;
}

bool pool_fits_amount(const struct pool *pool, const struct pool_amount *amount, const struct pool_need *need)
{
    int gpus = gpu_count(need);

    return need->each.cpus * need->nodes <= amount->cpus + CPU_SLACK &&
           (need->each.memory == 0 || need->each.memory <= amount->memory / (uint64_t)need->nodes) &&
           (gpus == 0 || __builtin_popcountll(choose_gpus(pool, amount->gpus, gpus, need->each.gpu_memory)) == gpus);
}

struct pool_amount pool_free_amount(const struct pool *pool)
{
    return (struct pool_amount){
        .cpus = pool->cpus - pool->used.cpus,
        .memory = pool->memory > pool->used.memory ? pool->memory - pool->used.memory : 0,
        .gpus = all_gpus(pool) & ~pool->used.gpus,
    };
}

bool pool_fits(const struct pool *pool, const struct pool_need *need)
{
    struct pool_amount unused = pool_free_amount(pool);

    return pool_fits_amount(pool, &unused, need);
}

bool pool_is_possible(const struct pool *pool, const struct pool_need *need)
{
    struct pool_amount all = {pool->cpus, pool->memory, all_gpus(pool)};

    return pool_fits_amount(pool, &all, need);
}

const struct pool_holder *pool_take_again(struct pool *pool, const char *owner, const struct pool_need *need,
                                          uint64_t gpus, int64_t since, int64_t ends_at)
{
    struct pool_holder *holder = xnew0(struct pool_holder);

    snprintf(holder->owner, sizeof(holder->owner), "%s", owner);
    holder->amount = (struct pool_amount){need->each.cpus * need->nodes, need->each.memory * (uint64_t)need->nodes,
                                          gpus};
    holder->since = since;
    holder->ends_at = ends_at;
    pool->used.cpus += holder->amount.cpus;
    pool->used.memory += holder->amount.memory;
    pool->used.gpus |= gpus;
    list_append(&pool->holders, &holder->link);
    pool->n_holders++;
    return holder;
}

const struct pool_holder *pool_take(struct pool *pool, const char *owner, const struct pool_need *need, int64_t now,
                                    int64_t ends_at)
{
    struct pool_amount unused = pool_free_amount(pool);

    assert(pool_fits(pool, need));
    return pool_take_again(pool, owner, need, choose_gpus(pool, unused.gpus, gpu_count(need), need->each.gpu_memory),
                           now, ends_at);
}

const struct pool_holder *pool_holder(const struct pool *pool, const char *owner)
{
    struct pool_holder *holder;

    list_for_each(holder, &pool->holders, link)
        if (strcmp(holder->owner, owner) == 0)
            return holder;
    return NULL;
}

void pool_give(struct pool *pool, const char *owner)
{
    struct pool_holder *holder = (struct pool_holder *)pool_holder(pool, owner);

    if (!holder)
        return;
    list_unlink(&holder->link);
    pool->n_holders--;
    /* Sums anew rather than subtracts, so that rounding cannot pile up. */
    pool->used = (struct pool_amount){0};
    free(holder);
    list_for_each(holder, &pool->holders, link) {
        pool->used.cpus += holder->amount.cpus;
        pool->used.memory += holder->amount.memory;
        pool->used.gpus |= holder->amount.gpus;
    }
}

char *pool_gpu_list(uint64_t gpus, int per_node, int node)
{
    cleanup_strbuf struct strbuf text = STRBUF_INIT(LIMIT_DESCRIPTION);
    int n = 0;

    for (int i = 0; i < POOL_GPUS; i++) {
        if (!(gpus & UINT64_C(1) << i))
            continue;
        if (n / (per_node ? per_node : 1) == node)
            strbuf_addf(&text, "%s%d", text.length ? "," : "", i);
        n++;
    }
    return text.length ? strbuf_detach(&text, NULL) : NULL;
}

void pool_subtract(const struct pool *pool, struct pool_amount *amount, const struct pool_need *need)
{
    amount->cpus -= need->each.cpus * need->nodes;
    amount->memory -= need->each.memory * (uint64_t)need->nodes;
    amount->gpus &= ~choose_gpus(pool, amount->gpus, gpu_count(need), need->each.gpu_memory);
}

static int by_end(const void *a, const void *b)
{
    const struct pool_holder *x = *(struct pool_holder *const *)a, *y = *(struct pool_holder *const *)b;

    if (x->ends_at != y->ends_at)
        return x->ends_at < y->ends_at ? -1 : 1;
    return (x->since > y->since) - (x->since < y->since);
}

void pool_reserve(const struct pool *pool, const struct pool_need *need, int64_t *ret_at, struct pool_amount *ret_spare)
{
    cleanup_free struct pool_holder **order = xcalloc((size_t)pool->n_holders + 1, sizeof(*order));
    struct pool_amount amount = pool_free_amount(pool);
    struct pool_holder *holder;
    int64_t at = POOL_NEVER;
    int n = 0;

    list_for_each(holder, &pool->holders, link)
        order[n++] = holder;
    qsort(order, (size_t)n, sizeof(*order), by_end);
    for (int i = 0; i < n && !pool_fits_amount(pool, &amount, need); i++) {
        amount.cpus += order[i]->amount.cpus;
        amount.memory += order[i]->amount.memory;
        amount.gpus |= order[i]->amount.gpus;
        at = order[i]->ends_at;
    }
    if (pool_fits_amount(pool, &amount, need)) {
        pool_subtract(pool, &amount, need);
        *ret_at = at;
        *ret_spare = amount;
    } else {
        *ret_at = POOL_NEVER;
        *ret_spare = (struct pool_amount){0};
    }
}
