#include <string.h>
#include <uthash.h>
#include "util/map.h"
#include "util/xalloc.h"

/* uthash's hash function falls through its switch, which gcc forgives in a macro of a system header and
 * clang does not. */
#pragma GCC diagnostic ignored "-Wimplicit-fallthrough"

struct map_entry {
    UT_hash_handle hh;
    void *value;
    char key[];
};

static struct map_entry *find(const struct map *map, const char *key)
{
    struct map_entry *entry = NULL;

    HASH_FIND_STR(map->entries, key, entry);
    return entry;
}

void map_release(struct map *map)
{
    struct map_entry *entry, *tmp;

    HASH_ITER(hh, map->entries, entry, tmp)
    {
        HASH_DEL(map->entries, entry);
        if (map->destroy)
            map->destroy(entry->value);
        free(entry);
    }
}

void map_put(struct map *map, const char *key, void *value)
{
    struct map_entry *entry = find(map, key);
    size_t length;

    if (entry) {
        if (map->destroy && entry->value != value)
            map->destroy(entry->value);
        entry->value = value;
        return;
    }

    length = strlen(key);
    entry = xmalloc(sizeof(*entry) + length + 1);
    memcpy(entry->key, key, length + 1);
    entry->value = value;
    HASH_ADD_KEYPTR(hh, map->entries, entry->key, length, entry);
}

void *map_get(const struct map *map, const char *key)
{
    struct map_entry *entry = find(map, key);

    return entry ? entry->value : NULL;
}

void *map_take(struct map *map, const char *key)
{
    struct map_entry *entry = find(map, key);
    void *value;

    if (!entry)
        return NULL;
    value = entry->value;
    HASH_DEL(map->entries, entry);
    free(entry);
    return value;
}

bool map_remove(struct map *map, const char *key)
{
    struct map_entry *entry = find(map, key);

    if (!entry)
        return false;
    HASH_DEL(map->entries, entry);
    if (map->destroy)
        map->destroy(entry->value);
    free(entry);
    return true;
}

size_t map_count(const struct map *map)
{
    return HASH_COUNT(map->entries);
}

bool map_next(const struct map *map, struct map_iterator *it)
{
    struct map_entry *entry = it->started_ ? it->next_ : map->entries;

    it->started_ = true;
    if (!entry)
        return false;
    it->key = entry->key;
    it->value = entry->value;
    it->next_ = entry->hh.next;
    return true;
}
