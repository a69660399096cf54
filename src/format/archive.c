#include "format/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <locale.h>
#include <string.h>
#include <sys/stat.h>
#include "util/fs.h"
#include "util/json.h"
#include "util/limits.h"
#include "util/map.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define PIECE 65536

/* One walk through an archive. */
struct walk {
    struct archive *archive;
    const char *name;
    int fd;
    off_t offset, size; /* of the file: libarchive reads and seeks through our callbacks */
    char buffer[PIECE];
    struct map seen;
    uint64_t entries;
    struct archive_summary summary;
    locale_t utf8, previous; /* libarchive converts names to the thread's locale */
};

static void walk_free(struct walk *walk)
{
    if (walk->archive)
        archive_read_free(walk->archive);
    map_release(&walk->seen);
    if (walk->utf8) {
        uselocale(walk->previous);
        freelocale(walk->utf8);
    }
    free(walk);
}
DEFINE_CLEANUP(struct walk *, walk_free)

/* pread, so that neither the position of the descriptor matters nor who else uses it. */
static la_ssize_t on_read(struct archive *archive, void *userdata, const void **ret_buffer)
{
    struct walk *walk = userdata;
    ssize_t n;

    do
        n = pread(walk->fd, walk->buffer, PIECE, walk->offset);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        archive_set_error(archive, errno, "cannot read");
        return ARCHIVE_FATAL;
    }
    walk->offset += n;
    *ret_buffer = walk->buffer;
    return n;
}

static la_int64_t on_skip(struct archive *archive, void *userdata, la_int64_t request)
{
    struct walk *walk = userdata;
    la_int64_t left = walk->size > walk->offset ? walk->size - walk->offset : 0;
    la_int64_t skipped = request < left ? request : left;

    walk->offset += skipped;
    return skipped;
}

static la_int64_t on_seek(struct archive *archive, void *userdata, la_int64_t offset, int whence)
{
    struct walk *walk = userdata;
    la_int64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? walk->offset : walk->size;

    if (offset < -from || offset > walk->size - from)
        return ARCHIVE_FATAL;
    return walk->offset = from + offset;
}

static int fail(struct walk *walk, struct error *error)
{
    const char *message = archive_error_string(walk->archive);

    return error_set(error, ERROR_INVALID, "cannot read %s: %s", walk->name, message ? message : "damaged archive");
}

static int refuse(struct walk *walk, const char *entry, const char *what, struct error *error)
{
    return error_set(error, ERROR_INVALID, "%s is refused: its entry '%.200s' %s", walk->name, entry, what);
}

static int walk_open(int fd, const char *name, struct walk **ret_walk, struct error *error)
{
    CLEANUP(walk_free_cleanup) struct walk *walk = xnew0(struct walk);
    struct stat st;

    if (fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "cannot stat %s", name);
    if (!S_ISREG(st.st_mode))
        return error_set(error, ERROR_INVALID, "%s is not a regular file", name);
    walk->name = name;
    walk->fd = fd;
    walk->size = st.st_size;
    walk->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (walk->utf8)
        walk->previous = uselocale(walk->utf8);
    walk->archive = archive_read_new();
    if (!walk->archive)
        return error_set(error, ERROR_INTERNAL, "no memory for an archive");
    archive_read_support_format_zip(walk->archive);
    archive_read_support_format_tar(walk->archive);
    archive_read_support_filter_gzip(walk->archive);
    archive_read_support_filter_bzip2(walk->archive);
    archive_read_support_filter_xz(walk->archive);
    archive_read_support_filter_zstd(walk->archive);
    archive_read_set_read_callback(walk->archive, on_read);
    archive_read_set_skip_callback(walk->archive, on_skip);
    archive_read_set_seek_callback(walk->archive, on_seek);
    archive_read_set_callback_data(walk->archive, walk);
    if (archive_read_open1(walk->archive) != ARCHIVE_OK)
        return fail(walk, error);
    *ret_walk = steal_ptr(walk);
    return 0;
}

/* Names must be text that can be shown and sent as JSON. */
static bool is_printable(const char *name)
{
    cleanup_json json_t *string = json_string(name);

    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return string != NULL;
}

/* The checked name without leading "./" and trailing '/'; *ret_name is NULL for the root itself. */
static int check_name(struct walk *walk, struct archive_entry *entry, char **ret_name, struct error *error)
{
    const char *raw = archive_entry_pathname_utf8(entry);
    cleanup_free char *name = NULL;
    size_t length;

    if (!raw)
        raw = archive_entry_pathname(entry);
    if (!raw || !*raw)
        return refuse(walk, "", "has no name", error);
    while (raw[0] == '.' && raw[1] == '/')
        raw += 2;
    name = xstrdup(raw);
    length = strlen(name);
    if (archive_entry_filetype(entry) == AE_IFDIR)
        while (length && name[length - 1] == '/')
            name[--length] = '\0';
    if ((!length || strcmp(name, ".") == 0) && raw[0] != '/' && archive_entry_filetype(entry) == AE_IFDIR) {
        *ret_name = NULL;
        return 0;
    }
    if (!fs_is_safe_name(name))
        return refuse(walk, raw, "has a name that is absolute, leads upwards or is malformed", error);
    if (!is_printable(name))
        return refuse(walk, "?", "has a name with control characters or that is not UTF-8", error);
    if (map_get(&walk->seen, name))
        return refuse(walk, name, "is there twice", error);
    map_put(&walk->seen, name, walk);
    *ret_name = steal_ptr(name);
    return 0;
}

static int check_kind(struct walk *walk, struct archive_entry *entry, const char *name, struct error *error)
{
    if (archive_entry_hardlink(entry) || archive_entry_filetype(entry) == AE_IFLNK)
        return refuse(walk, name, "is a link", error);
    if (archive_entry_is_encrypted(entry))
        return refuse(walk, name, "is encrypted", error);
    if (archive_entry_filetype(entry) != AE_IFREG && archive_entry_filetype(entry) != AE_IFDIR)
        return refuse(walk, name, "is neither a file nor a directory", error);
    return 0;
}

/* 1: an entry (*ret_name, to be freed), 0: no more, -1. */
static int next_entry(struct walk *walk, struct archive_entry **ret_entry, char **ret_name, struct error *error)
{
    for (;;) {
        cleanup_free char *name = NULL;
        int r = archive_read_next_header(walk->archive, ret_entry);

        if (r == ARCHIVE_EOF)
            return 0;
        /* A warning is about names that the locale cannot show; check_name judges them. */
        if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
            return fail(walk, error);
        if (++walk->entries > LIMIT_ARCHIVE_FILES)
            return error_set(error, ERROR_TOO_LARGE, "%s has more than %d entries", walk->name, LIMIT_ARCHIVE_FILES);
        if (check_name(walk, *ret_entry, &name, error) < 0)
            return -1;
        if (!name)
            continue;
        if (check_kind(walk, *ret_entry, name, error) < 0)
            return -1;
        *ret_name = steal_ptr(name);
        return 1;
    }
}

ssize_t archive_entry_read(void *view, void *buffer, size_t size, struct error *error)
{
    struct walk *walk = ((struct archive_entry_view *)view)->implementation_;
    la_ssize_t n = archive_read_data(walk->archive, buffer, size);

    if (n < 0)
        return fail(walk, error);
    walk->summary.bytes += n;
    if (walk->summary.bytes > LIMIT_ARCHIVE_SIZE)
        return error_set(error, ERROR_TOO_LARGE, "%s unpacks to more than %" PRIu64 " bytes", walk->name,
                         (uint64_t)LIMIT_ARCHIVE_SIZE);
    if (walk->summary.bytes > MIB && (walk->summary.bytes - MIB) / LIMIT_ARCHIVE_RATIO > (uint64_t)walk->size)
        return error_set(error, ERROR_TOO_LARGE, "%s is refused: it unpacks to more than %d times its size", walk->name,
                         LIMIT_ARCHIVE_RATIO);
    return n;
}

/* Calls fn for files, and for directories if on_directory is given. */
static int walk_all(int fd, const char *name, archive_entry_fn fn,
                    int (*on_directory)(void *userdata, const char *name, struct error *error), void *userdata,
                    struct archive_summary *ret_summary, struct error *error)
{
    CLEANUP(walk_free_cleanup) struct walk *walk = NULL;
    int r;

    if (walk_open(fd, name, &walk, error) < 0)
        return -1;
    for (;;) {
        struct archive_entry_view view = {.implementation_ = walk};
        struct archive_entry *entry;
        cleanup_free char *path = NULL;

        r = next_entry(walk, &entry, &path, error);
        if (r <= 0)
            break;
        if (archive_entry_filetype(entry) == AE_IFDIR) {
            r = on_directory ? on_directory(userdata, path, error) : 0;
        } else {
            view.name = path;
            view.executable = archive_entry_perm(entry) & 0111;
            walk->summary.files++;
            r = fn(userdata, &view, error);
        }
        if (r != 0)
            break;
    }
    if (r < 0)
        return -1;
    if (ret_summary)
        *ret_summary = walk->summary;
    return 0;
}

int archive_each(int fd, const char *name, archive_entry_fn fn, void *userdata, struct archive_summary *ret_summary,
                 struct error *error)
{
    return walk_all(fd, name, fn, NULL, userdata, ret_summary, error);
}

/* -- unpack -- */

/* Makes the directory and those above it, step by step beneath the root: mkdirat alone would follow links. */
static int make_directory(int root, const char *name, struct error *error)
{
    const char *slash = strrchr(name, '/');
    cleanup_free char *parent = slash ? xstrndup(name, slash - name) : NULL;
    cleanup_close int fd = fs_open_beneath(root, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, NULL);
    cleanup_close int parent_fd = -1;

    if (fd >= 0)
        return 0;
    if (parent && make_directory(root, parent, error) < 0)
        return -1;
    if (parent) {
        parent_fd = fs_open_beneath(root, parent, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, error);
        if (parent_fd < 0)
            return -1;
    }
    if (mkdirat(parent ? parent_fd : root, slash ? slash + 1 : name, 0755) < 0)
        return error_set_errno(error, errno, "cannot make directory %s", name);
    return 0;
}

static int unpack_directory(void *userdata, const char *name, struct error *error)
{
    return make_directory(*(int *)userdata, name, error);
}

static int unpack_file(void *userdata, struct archive_entry_view *view, struct error *error)
{
    int root = *(int *)userdata;
    const char *slash = strrchr(view->name, '/');
    cleanup_free char *parent = slash ? xstrndup(view->name, slash - view->name) : NULL;
    cleanup_free char *buffer = xmalloc(PIECE);
    cleanup_close int fd = -1;
    ssize_t n;

    if (parent && make_directory(root, parent, error) < 0)
        return -1;
    fd = fs_open_beneath(root, view->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600, error);
    if (fd < 0)
        return -1;
    while ((n = archive_entry_read(view, buffer, PIECE, error)) > 0)
        if (fs_write_all(fd, buffer, n, error) < 0)
            return error_wrap(error, "cannot write %s", view->name);
    if (n < 0)
        return -1;
    if (fchmod(fd, view->executable ? 0755 : 0644) < 0)
        return error_set_errno(error, errno, "cannot set the mode of %s", view->name);
    return 0;
}

int archive_unpack(int fd, const char *name, const char *directory, struct archive_summary *ret_summary,
                   struct error *error)
{
    cleanup_close int root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (root < 0)
        return error_set_errno(error, errno, "cannot open %s", directory);
    return walk_all(fd, name, unpack_file, unpack_directory, &root, ret_summary, error);
}

/* -- look inside -- */

static int collect_name(void *userdata, struct archive_entry_view *view, struct error *error)
{
    strvec_push(userdata, view->name);
    return 0;
}

int archive_list(int fd, const char *name, struct strvec *ret_names, struct error *error)
{
    cleanup_strvec struct strvec names = STRVEC_INIT;

    if (archive_each(fd, name, collect_name, &names, NULL, error) < 0)
        return -1;
    *ret_names = names;
    names = (struct strvec)STRVEC_INIT;
    return 0;
}

struct wanted {
    const char *entry;
    struct strbuf content;
    bool found;
};

static int read_wanted(void *userdata, struct archive_entry_view *view, struct error *error)
{
    struct wanted *wanted = userdata;
    cleanup_free char *buffer = NULL;
    ssize_t n;

    if (strcmp(view->name, wanted->entry) != 0)
        return 0;
    buffer = xmalloc(PIECE);
    while ((n = archive_entry_read(view, buffer, PIECE, error)) > 0) {
        strbuf_add(&wanted->content, buffer, n);
        if (wanted->content.overflowed)
            return error_set(error, ERROR_TOO_LARGE, "%s has more than %zu bytes", view->name, wanted->content.max);
    }
    wanted->found = true;
    return n < 0 ? -1 : 1;
}

int archive_read_file(int fd, const char *name, const char *entry, size_t max, char **ret_data, size_t *ret_length,
                      struct error *error)
{
    struct wanted wanted = {.entry = entry, .content = STRBUF_INIT(max)};

    if (archive_each(fd, name, read_wanted, &wanted, NULL, error) < 0) {
        strbuf_release(&wanted.content);
        return -1;
    }
    if (!wanted.found)
        return error_set(error, ERROR_NOT_FOUND, "%s holds no file %s", name, entry);
    *ret_data = strbuf_detach(&wanted.content, ret_length);
    return 0;
}
