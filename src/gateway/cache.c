#include <string.h>
#include <uthash.h>
#include "gateway/cache.h"
#include "util/xalloc.h"

#pragma GCC diagnostic ignored "-Wimplicit-fallthrough" /* in uthash's hash; clang reads no comments */

struct node {
    struct digest token;
    struct cache_entry entry;
    UT_hash_handle hh; /* in order of last use, the oldest first */
};

struct cache {
    struct node *nodes;
    size_t max;
};

struct cache *cache_new(size_t max)
{
    struct cache *cache = xnew0(struct cache);

    cache->max = max;
    return cache;
}

static void drop(struct cache *cache, struct node *node)
{
    HASH_DEL(cache->nodes, node);
    free(node->entry.scope);
    free(node->entry.project);
    free(node->entry.client);
    free(node->entry.subject);
    free(node);
}

static struct node *find(struct cache *cache, const struct digest *token)
{
    struct node *node;

    HASH_FIND(hh, cache->nodes, token, sizeof(*token), node);
    return node;
}

struct cache_entry *cache_get(struct cache *cache, const struct digest *token, int64_t now_ns)
{
    struct node *node = find(cache, token);

    if (!node)
        return NULL;
    if (node->entry.until_ns <= now_ns) {
        drop(cache, node);
        return NULL;
    }
    if (node->hh.next) {
        HASH_DEL(cache->nodes, node);
        HASH_ADD(hh, cache->nodes, token, sizeof(node->token), node);
    }
    return &node->entry;
}

struct cache_entry *cache_put(struct cache *cache, const struct digest *token, const struct cache_entry *entry)
{
    struct node *node;

    cache_remove(cache, token);
    if (HASH_COUNT(cache->nodes) >= cache->max)
        drop(cache, cache->nodes);
    node = xnew0(struct node);
    node->token = *token;
    node->entry = *entry;
    HASH_ADD(hh, cache->nodes, token, sizeof(node->token), node);
    return &node->entry;
}

bool cache_remove(struct cache *cache, const struct digest *token)
{
    struct node *node = find(cache, token);

    if (!node)
        return false;
    drop(cache, node);
    return true;
}

size_t cache_clear(struct cache *cache)
{
    size_t n = HASH_COUNT(cache->nodes);

    while (cache->nodes)
        drop(cache, cache->nodes);
    return n;
}

size_t cache_count(const struct cache *cache)
{
    return HASH_COUNT(cache->nodes);
}

struct cache *cache_free(struct cache *cache)
{
    if (!cache)
        return NULL;
    cache_clear(cache);
    free(cache);
    return NULL;
}
