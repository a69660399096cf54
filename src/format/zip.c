/*
 * Zips of our own: stored, sorted, without times and owners, so that equal files give equal bytes.
 *
 *     local header, name, content    an entry; the header is completed once the content is through
 *     …
 *     central directory              the same headers again with offsets
 *     end of central directory
 *
 * Offsets are 32 bits wide: 4 GiB and 65,534 entries at most, far above LIMIT_CODE.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include "format/archive.h"
#include "format/ignore.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define LOCAL_SIZE   30
#define CENTRAL_SIZE 46
#define END_SIZE     22
#define MAX_ENTRIES  65534
#define MAX_BYTES    UINT32_MAX
#define DATE_1980    0x0021 /* 1 January 1980, the earliest that zip knows */
#define FLAG_UTF8    0x0800
#define PIECE        65536

struct zip {
    int fd;
    off_t base; /* of the zip in the file */
    uint64_t length;
    unsigned entries;
    struct strbuf central;
    uint32_t crc_table[256];
    struct archive_summary summary;
};

struct zip *zip_new(int fd)
{
    struct zip *zip = xnew0(struct zip);

    zip->fd = fd;
    zip->base = lseek(fd, 0, SEEK_CUR);
    if (zip->base < 0)
        zip->base = 0;
    strbuf_init(&zip->central, 64 * MIB);
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;

        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
        zip->crc_table[i] = c;
    }
    return zip;
}

struct zip *zip_free(struct zip *zip)
{
    if (!zip)
        return NULL;
    strbuf_release(&zip->central);
    free(zip);
    return NULL;
}

static char *put16(char *p, unsigned v)
{
    p[0] = v & 0xff;
    p[1] = v >> 8 & 0xff;
    return p + 2;
}

static char *put32(char *p, uint32_t v)
{
    return put16(put16(p, v & 0xffff), v >> 16);
}

/* What both headers share, from "version needed" to "extra length". */
static char *put_common(char *p, uint32_t crc, uint32_t size, size_t name_length)
{
    p = put16(p, 20); /* version needed: 2.0 */
    p = put16(p, FLAG_UTF8);
    p = put16(p, 0); /* stored */
    p = put16(p, 0); /* time */
    p = put16(p, DATE_1980);
    p = put32(p, crc);
    p = put32(p, size);
    p = put32(p, size);
    p = put16(p, name_length);
    return put16(p, 0);
}

static int write_at(struct zip *zip, const void *data, size_t length, uint64_t at, struct error *error)
{
    const char *p = data;
    off_t offset = zip->base + at;

    while (length) {
        ssize_t n = pwrite(zip->fd, p, length, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, errno, "cannot write a zip");
        p += n;
        offset += n;
        length -= n;
    }
    return 0;
}

static uint32_t crc_add(const struct zip *zip, uint32_t crc, const uint8_t *data, size_t length)
{
    crc = ~crc;
    for (size_t i = 0; i < length; i++)
        crc = zip->crc_table[(crc ^ data[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

struct entry {
    uint64_t start;
    uint32_t crc;
    uint64_t size;
};

static int entry_begin(struct zip *zip, struct entry *entry, const char *name, struct error *error)
{
    if (!fs_is_safe_name(name))
        return error_set(error, ERROR_INVALID, "'%s' is not a name for a file in a zip", name);
    if (zip->entries >= MAX_ENTRIES)
        return error_set(error, ERROR_TOO_LARGE, "more than %d files for a zip", MAX_ENTRIES);
    *entry = (struct entry){.start = zip->length};
    if (write_at(zip, name, strlen(name), zip->length + LOCAL_SIZE, error) < 0)
        return -1;
    zip->length += LOCAL_SIZE + strlen(name);
    return 0;
}

static int entry_write(struct zip *zip, struct entry *entry, const void *data, size_t length, struct error *error)
{
    if (zip->summary.bytes + length > LIMIT_CODE)
        return error_set(error, ERROR_TOO_LARGE,
                         "the files have more than %" PRIu64 " bytes; leave out what is not code (.slipwayignore)",
                         (uint64_t)LIMIT_CODE);
    if (write_at(zip, data, length, zip->length, error) < 0)
        return -1;
    entry->crc = crc_add(zip, entry->crc, data, length);
    entry->size += length;
    zip->length += length;
    zip->summary.bytes += length;
    return 0;
}

static int entry_end(struct zip *zip, const struct entry *entry, const char *name, bool executable, struct error *error)
{
    size_t name_length = strlen(name);
    char header[CENTRAL_SIZE], *p;

    p = put32(header, 0x04034b50);
    put_common(p, entry->crc, entry->size, name_length);
    if (write_at(zip, header, LOCAL_SIZE, entry->start, error) < 0)
        return -1;
    p = put32(header, 0x02014b50);
    p = put16(p, 3 << 8 | 20); /* made by: Unix */
    p = put_common(p, entry->crc, entry->size, name_length);
    p = put16(p, 0); /* comment */
    p = put16(p, 0); /* disk */
    p = put16(p, 0); /* internal attributes */
    p = put32(p, (uint32_t)(S_IFREG | (executable ? 0755 : 0644)) << 16);
    put32(p, entry->start);
    strbuf_add(&zip->central, header, CENTRAL_SIZE);
    strbuf_add(&zip->central, name, name_length);
    zip->entries++;
    zip->summary.files++;
    return 0;
}

int zip_add(struct zip *zip, const char *name, const void *data, size_t length, bool executable, struct error *error)
{
    struct entry entry;

    if (entry_begin(zip, &entry, name, error) < 0 || entry_write(zip, &entry, data, length, error) < 0)
        return -1;
    return entry_end(zip, &entry, name, executable, error);
}

int zip_add_fd(struct zip *zip, const char *name, int file, bool executable, struct error *error)
{
    cleanup_free char *buffer = xmalloc(PIECE);
    struct entry entry;

    if (entry_begin(zip, &entry, name, error) < 0)
        return -1;
    for (;;) {
        ssize_t n = read(file, buffer, PIECE);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, errno, "cannot read %s", name);
        if (n == 0)
            return entry_end(zip, &entry, name, executable, error);
        if (entry_write(zip, &entry, buffer, n, error) < 0)
            return error_wrap(error, "%s", name);
    }
}

static int write_end(struct zip *zip, struct error *error)
{
    char end[END_SIZE], *p;

    if (zip->central.overflowed || zip->length + zip->central.length + END_SIZE > MAX_BYTES)
        return error_set(error, ERROR_TOO_LARGE, "too large for a zip");
    if (write_at(zip, zip->central.data, zip->central.length, zip->length, error) < 0)
        return -1;
    p = put32(end, 0x06054b50);
    p = put32(p, 0); /* disks */
    p = put16(p, zip->entries);
    p = put16(p, zip->entries);
    p = put32(p, zip->central.length);
    p = put32(p, zip->length);
    put16(p, 0);
    return write_at(zip, end, END_SIZE, zip->length + zip->central.length, error);
}

int zip_finish(struct zip *zip, struct error *error)
{
    int r = write_end(zip, error);

    if (r == 0)
        lseek(zip->fd, zip->base + zip->length + zip->central.length + END_SIZE, SEEK_SET);
    zip_free(zip);
    return r;
}

/* -- a directory -- */

struct walk {
    int root_fd;
    char *root; /* resolved */
    struct ignore ignore;
    struct strvec names; /* regular files, relative */
};

static void walk_release(struct walk *walk)
{
    if (walk->root_fd >= 0)
        close(walk->root_fd);
    free(walk->root);
    ignore_release(&walk->ignore);
    strvec_release(&walk->names);
}

static const char *const always_ignored[] = {
    ".git",        ".hg",           ".svn",      "__pycache__", "*.pyc", ".venv", ".ipynb_checkpoints",
    ".mypy_cache", ".pytest_cache", ".DS_Store",
};

/* A link is followed when it leads to a regular file below the root. */
static int check_link(const struct walk *walk, const char *name, struct error *error)
{
    cleanup_free char *path = fs_join(walk->root, name);
    cleanup_free char *target = realpath(path, NULL);
    size_t length = strlen(walk->root);
    struct stat st;

    if (!target)
        return error_set_errno(error, errno, "link %s leads nowhere", name);
    if (strncmp(target, walk->root, length) != 0 || target[length] != '/')
        return error_set(error, ERROR_INVALID, "link %s leads out of the directory, to %s", name, target);
    if (stat(target, &st) < 0 || !S_ISREG(st.st_mode))
        return error_set(error, ERROR_INVALID, "link %s does not lead to a regular file", name);
    return 0;
}

static int walk_directory(struct walk *walk, const char *directory, struct error *error);

static int walk_entry(struct walk *walk, const char *name, struct error *error)
{
    struct stat st;

    if (fstatat(walk->root_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_set_errno(error, errno, "cannot stat %s", name);
    if (ignore_matches(&walk->ignore, name, S_ISDIR(st.st_mode)))
        return 0;
    if (!fs_is_safe_name(name))
        return error_set(error, ERROR_INVALID, "the name %s is too long", name);
    if (S_ISDIR(st.st_mode))
        return walk_directory(walk, name, error);
    if (S_ISLNK(st.st_mode) && check_link(walk, name, error) < 0)
        return -1;
    if (!S_ISLNK(st.st_mode) && !S_ISREG(st.st_mode))
        return error_set(error, ERROR_INVALID, "%s is neither a file nor a directory; name it in .slipwayignore", name);
    if (walk->names.count >= MAX_ENTRIES)
        return error_set(error, ERROR_TOO_LARGE, "more than %d files in the directory", MAX_ENTRIES);
    strvec_push(&walk->names, name);
    return 0;
}

static int walk_directory(struct walk *walk, const char *directory, struct error *error)
{
    int fd = openat(walk->root_fd, *directory ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_closedir DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (!dir)
        return error_set_errno(error, errno, "cannot open directory %s", directory);
    while ((errno = 0, entry = readdir(dir))) {
        cleanup_free char *name = NULL;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        name = *directory ? fs_join(directory, entry->d_name) : xstrdup(entry->d_name);
        if (walk_entry(walk, name, error) < 0)
            return -1;
    }
    return errno ? error_set_errno(error, errno, "cannot read directory %s", directory) : 0;
}

static int load_ignore(struct walk *walk, struct error *error)
{
    cleanup_free char *path = fs_join(walk->root, ".slipwayignore"), *text = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(always_ignored); i++)
        ignore_add(&walk->ignore, always_ignored[i], strlen(always_ignored[i]));
    if (!fs_exists(path))
        return 0;
    if (fs_read(path, LIMIT_CONFIG_FILE, &text, NULL, error) < 0)
        return -1;
    ignore_add_lines(&walk->ignore, text);
    return 0;
}

static int add_file(struct zip *zip, int directory_fd, const char *path, const char *name, struct error *error)
{
    cleanup_close int fd = openat(directory_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "cannot open %s", path);
    if (!S_ISREG(st.st_mode))
        return error_set(error, ERROR_INVALID, "%s is not a regular file", path);
    return zip_add_fd(zip, name, fd, st.st_mode & S_IXUSR, error);
}

int zip_from_directory(const char *directory, int fd, struct archive_summary *ret_summary, struct error *error)
{
    CLEANUP(walk_release) struct walk walk = {.root_fd = -1, .ignore = IGNORE_INIT, .names = STRVEC_INIT};
    cleanup_zip struct zip *zip = zip_new(fd);
    struct archive_summary summary;

    walk.root = realpath(directory, NULL);
    if (!walk.root)
        return error_set_errno(error, errno, "cannot open %s", directory);
    walk.root_fd = open(walk.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (walk.root_fd < 0)
        return error_set_errno(error, errno, "cannot open %s", directory);
    if (load_ignore(&walk, error) < 0 || walk_directory(&walk, "", error) < 0)
        return error_wrap(error, "cannot pack %s", directory);
    strvec_sort(&walk.names);
    for (size_t i = 0; i < walk.names.count; i++)
        if (add_file(zip, walk.root_fd, walk.names.items[i], walk.names.items[i], error) < 0)
            return error_wrap(error, "cannot pack %s", directory);
    summary = zip->summary;
    if (zip_finish(steal_ptr(zip), error) < 0)
        return -1;
    if (ret_summary)
        *ret_summary = summary;
    return 0;
}

int zip_from_file(const char *path, int fd, struct archive_summary *ret_summary, struct error *error)
{
    cleanup_zip struct zip *zip = zip_new(fd);
    struct archive_summary summary;

    if (add_file(zip, AT_FDCWD, path, fs_basename(path), error) < 0)
        return -1;
    summary = zip->summary;
    if (zip_finish(steal_ptr(zip), error) < 0)
        return -1;
    if (ret_summary)
        *ret_summary = summary;
    return 0;
}
