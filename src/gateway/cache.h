/*
 * Remembers what introspection said about tokens, by the SHA-256 of the token.
 *
 * At most `max` entries: a new one pushes out the one that was unused for longest. An entry is gone at its
 * time. Entries returned are valid until the next cache_put or cache_remove.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/cleanup.h"
#include "gateway/meter.h"
#include "util/hash.h"

struct cache;

struct cache_entry {
    bool active;        /* false: the token is bad */
    char *scope;        /* words with spaces between */
    char *project;      /* NULL: any */
    char *client;       /* whose it is, for the log of requests; NULL: nobody said */
    int64_t until_ns;   /* CLOCK_MONOTONIC */
    char *subject;      /* who is counted for rates and quotas (meter.h) */
    struct quota quota;
};

struct cache *cache_new(size_t max);
struct cache *cache_free(struct cache *cache);
DEFINE_CLEANUP(struct cache *, cache_free)
#define cleanup_cache CLEANUP(cache_free_cleanup)

/* NULL if unknown or over. */
struct cache_entry *cache_get(struct cache *cache, const struct digest *token, int64_t now_ns);
/* Takes the strings of the entry. */
struct cache_entry *cache_put(struct cache *cache, const struct digest *token, const struct cache_entry *entry);
bool cache_remove(struct cache *cache, const struct digest *token);
size_t cache_clear(struct cache *cache);
size_t cache_count(const struct cache *cache);
