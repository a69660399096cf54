/*
 * Files: whole reads with a cap, atomic writes, directories, locks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include "util/error.h"

/* The whole file, NUL-terminated (the NUL is not counted). ERROR_TOO_LARGE beyond max bytes.
 * *ret_data is to be freed by the caller. ret_length may be NULL. */
int fs_read(const char *path, size_t max, char **ret_data, size_t *ret_length, struct error *error);
int fs_read_fd(int fd, const char *name, size_t max, char **ret_data, size_t *ret_length, struct error *error);

/* Temporary file beside it, fsync, rename, fsync of the directory: afterwards the file has either the
 * old or the new content, also across a power loss. */
int fs_write_atomic(const char *path, const void *data, size_t length, mode_t mode, struct error *error);
/* All bytes or an error; retries short writes and EINTR. */
int fs_write_all(int fd, const void *data, size_t length, struct error *error);

/* Like mkdir -p; existing directories keep their mode. */
int fs_mkdir_all(const char *path, mode_t mode, struct error *error);
/* Like rm -rf, never following links, never crossing into another file system. Absent is fine. */
int fs_remove_all(const char *path, struct error *error);
int fs_sync_dir(const char *path, struct error *error);
/* Copies content (reflink or copy_file_range where possible) from an open file to another. */
int fs_copy_fd(int from, int to, struct error *error);

bool fs_exists(const char *path);
/* Bytes of all regular files below path; 0 if absent. */
uint64_t fs_tree_size(const char *path);

/* Opens `name` below the directory `dir_fd`; neither "..", nor absolute names, nor links may lead out
 * (openat2 with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS). */
int fs_open_beneath(int dir_fd, const char *name, int flags, mode_t mode, struct error *error);
/* True for a relative name without empty, "." or ".." parts, at most LIMIT_PATH long. */
bool fs_is_safe_name(const char *name);

/* Exclusive lock (flock) on a file that is created if needed; the lock lasts as long as the returned
 * descriptor. ERROR_CONFLICT if another process has it. */
int fs_lock(const char *path, int *ret_fd, struct error *error);

/* "a/b" joined; to be freed by the caller. */
char *fs_join(const char *directory, const char *name);
/* The part behind the last '/'; points into path. */
const char *fs_basename(const char *path);
