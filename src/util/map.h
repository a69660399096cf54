/*
 * String → pointer hash map that keeps insertion order (uthash underneath).
 *
 * Keys are copied. Values belong to the map if it was given a destructor, else to the caller.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "util/cleanup.h"

struct map_entry;

struct map {
    struct map_entry *entries;
    void (*destroy)(void *value); /* NULL: values are borrowed */
};

#define MAP_INIT(destroy_) {NULL, (destroy_)}

void map_release(struct map *map);
/* Replaces (and destroys) what the key held. */
void map_put(struct map *map, const char *key, void *value);
/* NULL if absent. */
void *map_get(const struct map *map, const char *key);
/* Destroys the value; false if absent. */
bool map_remove(struct map *map, const char *key);
/* Removes without destroying; NULL if absent. */
void *map_take(struct map *map, const char *key);
size_t map_count(const struct map *map);

/* Iteration in insertion order; removing the current key is allowed.
 *
 *     struct map_iterator it = {0};
 *     while (map_next(&map, &it))
 *         use(it.key, it.value);
 */
struct map_iterator {
    const char *key;
    void *value;
    struct map_entry *next_;
    bool started_;
};
bool map_next(const struct map *map, struct map_iterator *it);

#define cleanup_map CLEANUP(map_release)
