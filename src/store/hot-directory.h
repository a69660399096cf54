/*
 * The hot tier's own directory below /dev/shm: found again by its owner, removed when the owner is gone.
 *
 * Its name is made of a digest of the owner, a path, so that the next daemon on the same data directory finds
 * what a killed one has left. ".owner" in it holds that path; who uses the directory has a lock on it, which the
 * kernel drops when the process ends. So what is left behind can be told from what is in use:
 *
 *     locked                            in use
 *     not locked, the owner exists      left for the next daemon there: runs that go on may have files of it mounted
 *     not locked, the owner is gone     garbage: removed by the next daemon that starts, whatever its data directory
 *
 * What is mounted or open stays readable when it is removed: only the memory comes back later.
 */
#pragma once

#include "util/error.h"

struct hot_directory;

/* In `parent`, for a path that exists. ERROR_FORBIDDEN if another user has made that name first. */
int hot_directory_claim(const char *parent, const char *owner, struct hot_directory **ret_directory,
                        struct error *error);
const char *hot_directory_path(const struct hot_directory *directory);
/* Removes it unless files are left in it. Accepts NULL; returns NULL. */
struct hot_directory *hot_directory_release(struct hot_directory *directory);

/* Removes those of this user in `parent` that nobody uses and whose owner is gone. */
void hot_directory_sweep(const char *parent);
