/*
 * What keeps a blob alive: one row per kind of object that names blobs.
 *
 * Whoever adds a table with a digest in it adds a row here in the same change; what no row finds is removed
 * by the garbage collector. The query gives two columns, `digest` and `address` (how people name the object).
 */
#pragma once

#include <stddef.h>

struct vault_root {
    const char *kind;
    const char *query;
};

extern const struct vault_root vault_roots[];
extern const size_t vault_roots_count;
