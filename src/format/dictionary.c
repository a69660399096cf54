#include "format/dictionary.h"

#include <string.h>
#include "util/xalloc.h"

void dictionary_release(struct dictionary *dictionary)
{
    for (size_t i = 0; i < dictionary->count; i++)
        free(dictionary->entries[i].key);
    free(dictionary->entries);
    free(dictionary->slots);
    *dictionary = (struct dictionary)DICTIONARY_INIT;
}

static uint64_t hash_of(const void *key, size_t length)
{
    const uint8_t *p = key;
    uint64_t h = 0x9e3779b97f4a7c15 ^ length, v;

    for (; length >= 8; p += 8, length -= 8) {
        memcpy(&v, p, 8);
        h = (h ^ v) * 0xff51afd7ed558ccd;
        h ^= h >> 32;
    }
    v = 0;
    memcpy(&v, p, length);
    h = (h ^ v) * 0xff51afd7ed558ccd;
    h ^= h >> 32;
    h *= 0xc4ceb9fe1a85ec53;
    return h ^ h >> 29;
}

/* The slot that holds the key, or the free one where it belongs. */
static size_t locate(const struct dictionary *d, const void *key, size_t length, uint64_t hash)
{
    size_t at = hash & (d->n_slots - 1);

    for (; d->slots[at]; at = (at + 1) & (d->n_slots - 1)) {
        const struct dictionary_entry *entry = &d->entries[d->slots[at] - 1];

        if (entry->hash == hash && entry->length == length && memcmp(entry->key, key, length) == 0)
            break;
    }
    return at;
}

static void grow(struct dictionary *d)
{
    d->n_slots = d->n_slots ? 2 * d->n_slots : 64;
    free(d->slots);
    d->slots = xcalloc(d->n_slots, sizeof(*d->slots));
    for (size_t i = 0; i < d->count; i++) {
        size_t at = d->entries[i].hash & (d->n_slots - 1);

        while (d->slots[at])
            at = (at + 1) & (d->n_slots - 1);
        d->slots[at] = i + 1;
    }
}

int64_t dictionary_add(struct dictionary *d, const void *key, size_t length, size_t max)
{
    uint64_t hash = hash_of(key, length);
    struct dictionary_entry *entry;
    size_t at;

    if (2 * (d->count + 1) > d->n_slots)
        grow(d);
    at = locate(d, key, length, hash);
    if (d->slots[at]) {
        d->entries[d->slots[at] - 1].count++;
        return d->slots[at] - 1;
    }
    if (d->count >= max)
        return -1;
    if (d->count == d->capacity) {
        d->capacity = d->capacity ? 2 * d->capacity : 16;
        d->entries = xreallocarray(d->entries, d->capacity, sizeof(*d->entries));
    }
    entry = &d->entries[d->count];
    *entry = (struct dictionary_entry){.key = xmalloc(length + 1), .length = length, .hash = hash, .count = 1};
    memcpy(entry->key, key, length);
    entry->key[length] = '\0';
    d->slots[at] = ++d->count;
    return d->count - 1;
}

int64_t dictionary_find(const struct dictionary *d, const void *key, size_t length)
{
    size_t at;

    if (!d->count)
        return -1;
    at = locate(d, key, length, hash_of(key, length));
    return d->slots[at] ? (int64_t)d->slots[at] - 1 : -1;
}
