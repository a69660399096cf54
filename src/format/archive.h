/*
 * Archives from strangers (zip, tar, tar.gz, tar.zst, …; libarchive underneath), and zips of our own.
 *
 * Reading trusts nothing: an entry must be a regular file or a directory with a relative name without
 * "..", at most LIMIT_PATH long, and unique. Links, devices, fifos, absolute names and encrypted entries
 * are refused (ERROR_INVALID, with the entry's name), and so are archives with more than
 * LIMIT_ARCHIVE_FILES entries, that unpack to more than LIMIT_ARCHIVE_SIZE, or that unpack to more than
 * LIMIT_ARCHIVE_RATIO times their packed size beyond the first MiB (ERROR_TOO_LARGE). Sizes are counted
 * as bytes arrive; what an archive claims is not believed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "util/error.h"
#include "util/hash.h"
#include "util/strvec.h"

struct archive_summary {
    uint64_t files;
    uint64_t bytes; /* unpacked */
};

/* One entry that is a regular file. Read its content with archive_entry_read while the callback runs. */
struct archive_entry_view {
    const char *name;
    bool executable;
    void *implementation_;
};

/* Returns the bytes read, 0 at the end, -1 with the error set. Fits reader_fill_fn with the view as its
 * userdata. */
ssize_t archive_entry_read(void *view, void *buffer, size_t size, struct error *error);

/* Return 0 to go on, 1 to stop early, -1 with the error set. */
typedef int (*archive_entry_fn)(void *userdata, struct archive_entry_view *view, struct error *error);

/* Walks the archive from the descriptor's start. `name` is for messages. ret_summary may be NULL. */
int archive_each(int fd, const char *name, archive_entry_fn fn, void *userdata, struct archive_summary *ret_summary,
                 struct error *error);

/* Unpacks below an existing directory; never writes outside of it, whatever is in the archive or the
 * directory. Files are mode 0644, or 0755 where the archive marks them executable. After a failure the
 * directory holds a part; the caller removes it. */
int archive_unpack(int fd, const char *name, const char *directory, struct archive_summary *ret_summary,
                   struct error *error);

/* Names of all regular files, in the archive's order. */
int archive_list(int fd, const char *name, struct strvec *ret_names, struct error *error);

/* One file's content, NUL-terminated, to be freed. ERROR_NOT_FOUND, or ERROR_TOO_LARGE beyond max. */
int archive_read_file(int fd, const char *name, const char *entry, size_t max, char **ret_data, size_t *ret_length,
                      struct error *error);

/* -- writing: the same files give the same bytes, on every machine -- */

/* Writes a zip of the regular files below `directory` to the descriptor's current position: names sorted,
 * times and owners fixed, stored without compression (the vault compresses), executable bits kept.
 * Skipped are what .slipwayignore in the root names (lines of glob patterns; '#' comments; "name/" is a
 * directory; "*" stops at '/', "**" does not; '!' takes back; a pattern with an inner '/' is relative to
 * the root), and always .git, .hg, .svn, __pycache__, *.pyc, .venv, .ipynb_checkpoints, .mypy_cache,
 * .pytest_cache and .DS_Store. Links that lead to files below the directory are followed, others are
 * refused. More than LIMIT_ARCHIVE_FILES files or LIMIT_CODE bytes is ERROR_TOO_LARGE. */
int zip_from_directory(const char *directory, int fd, struct archive_summary *ret_summary, struct error *error);
/* A zip with one file in its root. */
int zip_from_file(const char *path, int fd, struct archive_summary *ret_summary, struct error *error);

/* A zip made entry by entry; names must come in sorted order for the bytes to be reproducible. */
struct zip;
struct zip *zip_new(int fd);
int zip_add(struct zip *zip, const char *name, const void *data, size_t length, bool executable, struct error *error);
int zip_add_fd(struct zip *zip, const char *name, int file, bool executable, struct error *error);
/* Writes the central directory. Frees in any case. */
int zip_finish(struct zip *zip, struct error *error);
struct zip *zip_free(struct zip *zip);
DEFINE_CLEANUP(struct zip *, zip_free)
#define cleanup_zip CLEANUP(zip_free_cleanup)
