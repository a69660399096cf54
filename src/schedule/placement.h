/*
 * The resources of one machine: what there is, who holds what, and when it comes back.
 *
 * CPU and memory are divided in any amounts; GPUs are given whole, by index. A holder is a run (all its
 * nodes) or something that serves; it says when it will be over at the latest, and `never` if nobody knows.
 * No I/O and no time of its own: `now` is an argument, so that tests decide.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "core/run.h"
#include "util/list.h"

#define POOL_GPUS  64
#define POOL_NEVER INT64_MAX

struct pool_amount {
    double cpus;
    uint64_t memory;
    uint64_t gpus; /* bit i: device i */
};

struct pool_holder {
    struct list link;
    char owner[64]; /* run id, "endpoint:NAME" */
    struct pool_amount amount;
    int64_t since;   /* wall ms */
    int64_t ends_at; /* wall ms, or POOL_NEVER */
};

struct pool {
    double cpus;
    uint64_t memory;
    int n_gpus;
    uint64_t gpu_memory[POOL_GPUS];
    struct pool_amount used;
    struct list holders; /* in order of `since` */
    int n_holders;
};

/* A request for nodes of one size. */
struct pool_need {
    struct run_resources each;
    int nodes;
};

void pool_init(struct pool *pool, double cpus, uint64_t memory, int n_gpus, const uint64_t *gpu_memory);
void pool_release(struct pool *pool);

/* Whether it fits into what is free now; into the empty machine; into an amount. */
bool pool_fits(const struct pool *pool, const struct pool_need *need);
bool pool_is_possible(const struct pool *pool, const struct pool_need *need);
bool pool_fits_amount(const struct pool *pool, const struct pool_amount *free, const struct pool_need *need);
struct pool_amount pool_free_amount(const struct pool *pool);

/* Takes what fits (asserted). Devices are the free ones of lowest index with enough memory; those of node i
 * are the i-th group of need->each.gpus of them. */
const struct pool_holder *pool_take(struct pool *pool, const char *owner, const struct pool_need *need, int64_t now,
                                    int64_t ends_at);
/* For what was running before: takes even beyond what there is (the machine may have shrunk). */
const struct pool_holder *pool_take_again(struct pool *pool, const char *owner, const struct pool_need *need,
                                          uint64_t gpus, int64_t since, int64_t ends_at);
/* Does nothing for an owner that holds nothing. */
void pool_give(struct pool *pool, const char *owner);
const struct pool_holder *pool_holder(const struct pool *pool, const char *owner);

/* Indices of the devices of one node, "0,1"; NULL without any. To be freed. */
char *pool_gpu_list(uint64_t gpus, int per_node, int node);

/*
 * When a need that does not fit now can start at the latest: walks the holders in the order of their ends
 * until it fits. *ret_at may be POOL_NEVER (holders without an end are taken as the last to leave).
 * *ret_spare is what is left free at that moment beside the need: who fits into it never delays the need.
 */
void pool_reserve(const struct pool *pool, const struct pool_need *need, int64_t *ret_at,
                  struct pool_amount *ret_spare);
/* Subtracts the need from an amount it fits into. */
void pool_subtract(const struct pool *pool, struct pool_amount *amount, const struct pool_need *need);
