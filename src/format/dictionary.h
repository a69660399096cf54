/* Byte strings numbered in the order in which they were first seen, with how often each was. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "util/cleanup.h"

struct dictionary_entry {
    char *key; /* NUL-terminated, may hold NULs */
    uint32_t length;
    uint64_t hash;
    uint64_t count;
};

struct dictionary {
    struct dictionary_entry *entries;
    size_t count, capacity;
    uint32_t *slots; /* index + 1 into entries; 0: free */
    size_t n_slots;  /* power of two */
};

#define DICTIONARY_INIT {NULL, 0, 0, NULL, 0}

void dictionary_release(struct dictionary *dictionary);
/* The number of the key; it is added if it is new and there are fewer than `max`; else -1. Counts it. */
int64_t dictionary_add(struct dictionary *dictionary, const void *key, size_t length, size_t max);
/* -1 if absent. */
int64_t dictionary_find(const struct dictionary *dictionary, const void *key, size_t length);
