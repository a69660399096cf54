/*
 * The vault's files in memory: raw, read-only, under a byte budget.
 *
 * A file is absent, loading or present. Loading happens outside of the lock, once, while others who want
 * the same file wait for it. Room is made by removing the files that were used longest ago and have no pin;
 * who has one open or mapped keeps it. Files that an earlier process left are adopted.
 *
 * Names are 64 hex digits: the digest without its prefix.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "util/error.h"

struct hot;

/* directory NULL: a private one under /dev/shm that belongs to `owner`, a path; budget 0: half of what
 * the file system has free. */
int hot_open(const char *directory, const char *owner, uint64_t budget, struct hot **ret_hot, struct error *error);
/* Of a directory of its own, removes all that is not pinned. Accepts NULL; returns NULL. */
struct hot *hot_close(struct hot *hot);

/* Writes the content of the named file to fd. */
typedef int (*hot_load_fn)(void *userdata, int fd, struct error *error);

/* Opens the file, after loading it if need be. 1: *ret_fd is a read-only descriptor; 0: there is no room
 * for it; -1: the load failed. */
int hot_get(struct hot *hot, const char *name, uint64_t size, hot_load_fn load, void *userdata, int *ret_fd,
            struct error *error);
/* To be freed. */
char *hot_path(struct hot *hot, const char *name);

/* Pins are counted; the file need not be present. */
void hot_pin(struct hot *hot, const char *name);
/* Returns how many are left. */
unsigned hot_unpin(struct hot *hot, const char *name);
/* Removes the file unless it is pinned. */
void hot_drop(struct hot *hot, const char *name);

struct hot_usage {
    uint64_t used, pinned, budget;
};
void hot_usage(struct hot *hot, struct hot_usage *ret_usage);
const char *hot_directory(const struct hot *hot);
