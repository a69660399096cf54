/* The cache of unpacked code: DATA/code/<hex of the digest>/, complete or absent. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "format/archive.h"
#include "schedule/launch.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/xalloc.h"

/* The program runs as a user of its own and sees the tree read-only; in its private copy it may change all.
 */
static int open_to_all(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    if (S_ISDIR(st->st_mode))
        return chmod(path, 0777);
    return chmod(path, st->st_mode & 0111 ? 0777 : 0666);
}

static int unpack(struct store *store, const char *text, const char *directory, struct error *error)
{
    cleanup_close int fd = -1;
    struct digest digest;

    if (digest_parse(text, &digest, error) < 0 || fs_mkdir_all(directory, 0700, error) < 0 ||
        vault_get(store->vault, &digest, &fd, error) < 0 || archive_unpack(fd, "code", directory, NULL, error) < 0)
        return -1;
    if (nftw(directory, open_to_all, 32, FTW_PHYS) != 0)
        return error_set_errno(error, errno, "cannot open %s to programs", directory);
    return 0;
}

int code_unpack(struct store *store, const char *digest, char **ret_directory, struct error *error)
{
    cleanup_free char *directory = NULL, *incoming = NULL;
    char id[ID_SIZE];

    if (strncmp(digest, "sha256:", 7) != 0)
        return error_set(error, ERROR_INVALID, "'%.80s' is not a digest", digest);
    directory = store_path(store, "code/%s", digest + 7);
    if (!fs_exists(directory)) {
        id_new(id);
        incoming = store_path(store, "code/incoming-%s", id);
        if (unpack(store, digest, incoming, error) < 0) {
            fs_remove_all(incoming, NULL);
            return error_wrap(error, "cannot unpack code %s", digest);
        }
        /* Two at once unpack the same: the second finds the first's. */
        if (rename(incoming, directory) < 0) {
            int saved = errno;

            fs_remove_all(incoming, NULL);
            if (saved != EEXIST && saved != ENOTEMPTY)
                return error_set_errno(error, saved, "cannot keep unpacked code in %s", directory);
        }
    }
    *ret_directory = steal_ptr(directory);
    return 0;
}
