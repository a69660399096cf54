#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include "format/oci.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/map.h"
#include "util/strvec.h"
#include "util/xalloc.h"

#define MEDIA_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_CONFIG   "application/vnd.oci.image.config.v1+json"
#define MEDIA_LAYER    "application/vnd.oci.image.layer.v1.tar"
#define MOST_LAYERS    32

struct layer {
    struct digest digest;
    off_t offset, length; /* in the scratch file */
    char *created_by;
};

struct oci_image {
    int scratch; /* all layers, one after the other */
    struct layer layers[MOST_LAYERS];
    size_t n_layers;
    struct archive *tar; /* of the layer that is open, else NULL */
    struct hasher *hasher;
    struct map names; /* of the layer that is open */
    int write_errno;
};

struct oci_image *oci_new(const char *scratch, struct error *error)
{
    struct oci_image *image = xnew0(struct oci_image);

    image->names = (struct map)MAP_INIT(NULL);
    image->scratch = open(scratch, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (image->scratch < 0) {
        error_set_errno(error, errno, "cannot make a file in %s", scratch);
        free(image);
        return NULL;
    }
    return image;
}

struct oci_image *oci_free(struct oci_image *image)
{
    if (!image)
        return NULL;
    if (image->tar)
        archive_write_free(image->tar);
    hasher_free(image->hasher);
    for (size_t i = 0; i < image->n_layers; i++)
        free(image->layers[i].created_by);
    map_release(&image->names);
    close(image->scratch);
    free(image);
    return NULL;
}

/* -- tar -- */

/* Where a tar goes: a descriptor, and a hasher where its digest is wanted. */
static la_ssize_t write_layer(struct archive *tar, void *userdata, const void *data, size_t length)
{
    struct oci_image *image = userdata;
    cleanup_error struct error error = ERROR_INIT;

    hasher_add(image->hasher, data, length);
    if (fs_write_all(image->scratch, data, length, &error) < 0) {
        image->write_errno = error.sys_errno;
        archive_set_error(tar, error.sys_errno, "%s", error.message);
        return -1;
    }
    return (la_ssize_t)length;
}

static la_ssize_t write_outer(struct archive *tar, void *userdata, const void *data, size_t length)
{
    cleanup_error struct error error = ERROR_INIT;

    if (fs_write_all(*(int *)userdata, data, length, &error) < 0) {
        archive_set_error(tar, error.sys_errno, "%s", error.message);
        return -1;
    }
    return (la_ssize_t)length;
}

static struct archive *tar_new(void *userdata, archive_write_callback *write_fn)
{
    struct archive *tar = archive_write_new();

    if (!tar || archive_write_set_format_pax_restricted(tar) != ARCHIVE_OK ||
        archive_write_add_filter_none(tar) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(tar, 1) != ARCHIVE_OK ||
        archive_write_open(tar, userdata, NULL, write_fn, NULL) != ARCHIVE_OK)
        abort();
    return tar;
}

static int tar_error(struct archive *tar, const char *name, struct error *error)
{
    int errnum = archive_errno(tar);

    if (errnum > 0)
        return error_set_errno(error, errnum, "cannot write %s to the image", name);
    return error_set(error, ERROR_IO, "cannot write %s to the image: %s", name, archive_error_string(tar));
}

static int tar_header(struct archive *tar, const char *name, mode_t type, mode_t mode, int64_t size, const char *target,
                      struct error *error)
{
    struct archive_entry *entry = archive_entry_new();
    int r;

    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, mode);
    archive_entry_set_size(entry, size);
    archive_entry_set_mtime(entry, 0, 0);
    if (target)
        archive_entry_set_symlink(entry, target);
    r = archive_write_header(tar, entry);
    archive_entry_free(entry);
    return r == ARCHIVE_OK ? 0 : tar_error(tar, name, error);
}

static int tar_data(struct archive *tar, const char *name, const void *data, size_t length, struct error *error)
{
    if (length && archive_write_data(tar, data, length) != (la_ssize_t)length)
        return tar_error(tar, name, error);
    return 0;
}

/* Exactly `length` bytes of a descriptor from an offset. */
static int tar_copy(struct archive *tar, const char *name, int fd, off_t offset, off_t length, struct error *error)
{
    char buffer[65536];

    while (length) {
        size_t want = length < (off_t)sizeof(buffer) ? (size_t)length : sizeof(buffer);
        ssize_t n = pread(fd, buffer, want, offset);

        if (n < 0)
            return error_set_errno(error, errno, "cannot read %s", name);
        if (n == 0)
            return error_set(error, ERROR_CONFLICT, "%s became shorter while it was read", name);
        if (tar_data(tar, name, buffer, (size_t)n, error) < 0)
            return -1;
        offset += n;
        length -= n;
    }
    return 0;
}

/* -- layers -- */

int oci_layer_begin(struct oci_image *image, const char *created_by, struct error *error)
{
    struct layer *layer = &image->layers[image->n_layers];

    assert(!image->tar);
    if (image->n_layers == MOST_LAYERS)
        return error_set(error, ERROR_TOO_LARGE, "an image has at most %d layers", MOST_LAYERS);
    layer->offset = lseek(image->scratch, 0, SEEK_END);
    layer->created_by = xstrdup(created_by);
    image->n_layers++;
    image->hasher = hasher_new();
    image->tar = tar_new(image, write_layer);
    return 0;
}

int oci_layer_end(struct oci_image *image, struct error *error)
{
    struct layer *layer = &image->layers[image->n_layers - 1];

    assert(image->tar);
    if (archive_write_close(image->tar) != ARCHIVE_OK)
        return tar_error(image->tar, "the layer", error);
    archive_write_free(steal_ptr(image->tar));
    hasher_finish(steal_ptr(image->hasher), &layer->digest);
    layer->length = lseek(image->scratch, 0, SEEK_END) - layer->offset;
    map_release(&image->names);
    return 0;
}

bool oci_has(const struct oci_image *image, const char *name)
{
    return map_get(&image->names, name) != NULL;
}

static int add_parents(struct oci_image *image, const char *name, struct error *error)
{
    cleanup_free char *copy = xstrdup(name);

    for (char *slash = strchr(copy, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (!oci_has(image, copy) && oci_add_directory(image, copy, 0755, error) < 0)
            return -1;
        *slash = '/';
    }
    return 0;
}

/* Checks the name, adds what is above it, and notes it. */
static int begin_entry(struct oci_image *image, const char *name, struct error *error)
{
    assert(image->tar);
    if (!fs_is_safe_name(name))
        return error_set(error, ERROR_INVALID, "'%.200s' is no relative name for a file in an image", name);
    if (oci_has(image, name))
        return error_set(error, ERROR_EXISTS, "%s is in the layer already", name);
    if (add_parents(image, name, error) < 0)
        return -1;
    map_put(&image->names, name, image);
    return 0;
}

int oci_add_directory(struct oci_image *image, const char *name, mode_t mode, struct error *error)
{
    if (begin_entry(image, name, error) < 0)
        return -1;
    return tar_header(image->tar, name, AE_IFDIR, mode, 0, NULL, error);
}

int oci_add_link(struct oci_image *image, const char *name, const char *target, struct error *error)
{
    if (begin_entry(image, name, error) < 0)
        return -1;
    return tar_header(image->tar, name, AE_IFLNK, 0777, 0, target, error);
}

int oci_add_bytes(struct oci_image *image, const char *name, mode_t mode, const void *data, size_t length,
                  struct error *error)
{
    if (begin_entry(image, name, error) < 0 ||
        tar_header(image->tar, name, AE_IFREG, mode, (int64_t)length, NULL, error) < 0)
        return -1;
    return tar_data(image->tar, name, data, length, error);
}

int oci_add_file(struct oci_image *image, const char *name, mode_t mode, const char *path, struct error *error)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "cannot open %s", path);
    if (!S_ISREG(st.st_mode))
        return error_set(error, ERROR_INVALID, "%s is not a regular file", path);
    if (begin_entry(image, name, error) < 0 ||
        tar_header(image->tar, name, AE_IFREG, mode, st.st_size, NULL, error) < 0)
        return -1;
    return tar_copy(image->tar, path, fd, 0, st.st_size, error);
}

/* -- trees -- */

static int list_sorted(const char *directory, struct strvec *ret_names, struct error *error)
{
    cleanup_closedir DIR *d = opendir(directory);
    struct dirent *entry;

    if (!d)
        return error_set_errno(error, errno, "cannot open directory %s", directory);
    while ((entry = readdir(d)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            strvec_push(ret_names, entry->d_name);
    strvec_sort(ret_names);
    return 0;
}

static int add_link_of(struct oci_image *image, const char *name, const char *path, struct error *error)
{
    char target[LIMIT_PATH + 1];
    ssize_t n = readlink(path, target, sizeof(target) - 1);

    if (n < 0)
        return error_set_errno(error, errno, "cannot read the link %s", path);
    target[n] = '\0';
    return oci_add_link(image, name, target, error);
}

static int add_below(struct oci_image *image, const char *name, const char *root, const char *relative,
                     bool (*skip)(const char *relative), struct error *error)
{
    cleanup_free char *directory = *relative ? fs_join(root, relative) : xstrdup(root);
    cleanup_strvec struct strvec names = STRVEC_INIT;

    if (list_sorted(directory, &names, error) < 0)
        return -1;
    for (size_t i = 0; i < names.count; i++) {
        cleanup_free char *below = *relative ? fs_join(relative, names.items[i]) : xstrdup(names.items[i]);
        cleanup_free char *path = fs_join(root, below);
        cleanup_free char *inside = fs_join(name, below);
        struct stat st;
        int r = 0;

        if ((skip && skip(below)) || lstat(path, &st) < 0)
            continue;
        if (S_ISLNK(st.st_mode)) {
            r = add_link_of(image, inside, path, error);
        } else if (S_ISREG(st.st_mode)) {
            r = oci_add_file(image, inside, st.st_mode & 0100 ? 0755 : 0644, path, error);
        } else if (S_ISDIR(st.st_mode)) {
            r = oci_has(image, inside) ? 0 : oci_add_directory(image, inside, 0755, error);
            if (r == 0)
                r = add_below(image, name, root, below, skip, error);
        }
        if (r < 0)
            return -1;
    }
    return 0;
}

int oci_add_tree(struct oci_image *image, const char *name, const char *directory, bool (*skip)(const char *relative),
                 struct error *error)
{
    if (!oci_has(image, name) && oci_add_directory(image, name, 0755, error) < 0)
        return -1;
    return add_below(image, name, directory, "", skip, error);
}

/* -- the image -- */

static const char *this_architecture(void)
{
    static const char *const rows[][2] = {{"x86_64", "amd64"}, {"aarch64", "arm64"}, {"riscv64", "riscv64"}};
    struct utsname names;

    uname(&names);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (strcmp(names.machine, rows[i][0]) == 0)
            return rows[i][1];
    return "unknown";
}

static json_t *strings_json(const char *const *strings)
{
    json_t *array = json_array();

    for (; strings && *strings; strings++)
        json_array_append_new(array, json_string(*strings));
    return array;
}

static json_t *process_json(const struct oci_settings *settings)
{
    json_t *process = json_object();

    json_object_set_new(process, "Entrypoint", strings_json(settings->entrypoint));
    json_object_set_new(process, "Env", strings_json(settings->environment));
    json_set_string(process, "WorkingDir", settings->directory ?: "/");
    if (settings->user)
        json_set_string(process, "User", settings->user);
    if (settings->port)
        json_object_set_new(process, "ExposedPorts", json_build("{s:{}}", settings->port));
    if (settings->labels)
        json_object_set(process, "Labels", settings->labels);
    return process;
}

static json_t *config_json(const struct oci_image *image, const struct oci_settings *settings)
{
    json_t *ids = json_array(), *history = json_array();
    char text[DIGEST_TEXT_SIZE];

    for (size_t i = 0; i < image->n_layers; i++) {
        json_array_append_new(ids, json_string(digest_format(&image->layers[i].digest, text)));
        json_array_append_new(history, json_build("{s:s, s:s}", "created", "1970-01-01T00:00:00Z", "created_by",
                                                  image->layers[i].created_by));
    }
    return json_build("{s:s, s:s, s:s, s:o, s:{s:s, s:o}, s:o}", "created", "1970-01-01T00:00:00Z", "architecture",
                      settings->architecture ?: this_architecture(), "os", "linux", "config", process_json(settings),
                      "rootfs", "type", "layers", "diff_ids", ids, "history", history);
}

static json_t *descriptor(const char *media_type, const struct digest *digest, int64_t size)
{
    char text[DIGEST_TEXT_SIZE];

    return json_build("{s:s, s:s, s:I}", "mediaType", media_type, "digest", digest_format(digest, text), "size",
                      (json_int_t)size);
}

static char *blob_name(const struct digest *digest, char name[DIGEST_TEXT_SIZE + 16])
{
    char text[DIGEST_TEXT_SIZE];

    snprintf(name, DIGEST_TEXT_SIZE + 16, "blobs/sha256/%s", digest_format(digest, text) + 7);
    return name;
}

static int put_entry(struct archive *tar, const char *name, const char *text, struct error *error)
{
    if (tar_header(tar, name, AE_IFREG, 0644, (int64_t)strlen(text), NULL, error) < 0)
        return -1;
    return tar_data(tar, name, text, strlen(text), error);
}

static int put_layers(const struct oci_image *image, struct archive *tar, struct error *error)
{
    char name[DIGEST_TEXT_SIZE + 16];

    for (size_t i = 0; i < image->n_layers; i++) {
        const struct layer *layer = &image->layers[i];
        bool again = false;

        for (size_t k = 0; k < i && !again; k++)
            again = digest_equal(&image->layers[k].digest, &layer->digest);
        if (again)
            continue;
        if (tar_header(tar, blob_name(&layer->digest, name), AE_IFREG, 0644, layer->length, NULL, error) < 0 ||
            tar_copy(tar, name, image->scratch, layer->offset, layer->length, error) < 0)
            return -1;
    }
    return 0;
}

/* What Docker before 25 reads. */
static json_t *docker_manifest(const struct oci_image *image, const struct digest *config, const char *tag)
{
    json_t *layers = json_array();
    char name[DIGEST_TEXT_SIZE + 16];

    for (size_t i = 0; i < image->n_layers; i++)
        json_array_append_new(layers, json_string(blob_name(&image->layers[i].digest, name)));
    return json_build("[{s:s, s:[s], s:o}]", "Config", blob_name(config, name), "RepoTags", tag, "Layers", layers);
}

static int write_image(struct oci_image *image, const struct oci_settings *settings, struct archive *tar,
                       struct digest *ret_digest, struct error *error)
{
    cleanup_json json_t *config = config_json(image, settings);
    cleanup_free char *config_text = json_text(config);
    cleanup_json json_t *manifest = NULL, *index = NULL, *docker = NULL;
    cleanup_free char *manifest_text = NULL, *index_text = NULL, *docker_text = NULL;
    struct digest config_digest, manifest_digest;
    json_t *layers = json_array(), *pointer;
    char name[DIGEST_TEXT_SIZE + 16];

    digest_of(config_text, strlen(config_text), &config_digest);
    for (size_t i = 0; i < image->n_layers; i++)
        json_array_append_new(layers, descriptor(MEDIA_LAYER, &image->layers[i].digest, image->layers[i].length));
    manifest = json_build("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", MEDIA_MANIFEST, "config",
                          descriptor(MEDIA_CONFIG, &config_digest, (int64_t)strlen(config_text)), "layers", layers);
    manifest_text = json_text(manifest);
    digest_of(manifest_text, strlen(manifest_text), &manifest_digest);

    pointer = descriptor(MEDIA_MANIFEST, &manifest_digest, (int64_t)strlen(manifest_text));
    json_object_set_new(pointer, "annotations",
                        json_build("{s:s, s:s}", "io.containerd.image.name", settings->name,
                                   "org.opencontainers.image.ref.name", settings->name));
    index = json_build("{s:i, s:s, s:[o]}", "schemaVersion", 2, "mediaType", "application/vnd.oci.image.index.v1+json",
                       "manifests", pointer);
    index_text = json_text(index);
    docker = docker_manifest(image, &config_digest, settings->name);
    docker_text = json_text(docker);

    if (put_entry(tar, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", error) < 0 ||
        put_entry(tar, "index.json", index_text, error) < 0 ||
        put_entry(tar, "manifest.json", docker_text, error) < 0 ||
        put_entry(tar, blob_name(&manifest_digest, name), manifest_text, error) < 0 ||
        put_entry(tar, blob_name(&config_digest, name), config_text, error) < 0 || put_layers(image, tar, error) < 0)
        return -1;
    if (archive_write_close(tar) != ARCHIVE_OK)
        return tar_error(tar, "the image", error);
    *ret_digest = manifest_digest;
    return 0;
}

int oci_finish(struct oci_image *image, const struct oci_settings *settings, int fd, struct digest *ret_digest,
               struct error *error)
{
    struct archive *tar = tar_new(&fd, write_outer);
    int r;

    assert(!image->tar);
    r = write_image(image, settings, tar, ret_digest, error);
    archive_write_free(tar);
    oci_free(image);
    return r;
}
