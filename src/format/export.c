#include "format/export-private.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "format/import.h"
#include "format/npy.h"
#include "format/split.h"
#include "util/fs.h"
#include "util/xalloc.h"

#define PIECE (4 * MIB) /* written between two ticks */

/* -- parts -- */

static bool has_prefix(const struct export *export, const char *prefix)
{
    for (size_t i = 0; i < export->file->n_tensors; i++)
        if (strncmp(export->file->tensors[i].name, prefix, strlen(prefix)) == 0)
            return true;
    return false;
}

/* What stands before the '/' in names of tensors, each once. */
static void list_parts(const struct export *export, struct strvec *parts)
{
    for (size_t i = 0; i < export->file->n_tensors; i++) {
        const char *name = export->file->tensors[i].name, *slash = strchr(name, '/');
        cleanup_free char *part = slash ? xstrndup(name, slash - name) : NULL;

        if (part && !strvec_contains(parts, part))
            strvec_push(parts, part);
    }
}

static int choose_parts(struct export *export, const char *split, struct error *error)
{
    const json_t *splits = json_object_get(export->schema, "splits"), *part;
    size_t i;

    if (split) {
        cleanup_free char *prefix = xasprintf("%s/", split), *known = NULL;
        cleanup_strvec struct strvec parts = STRVEC_INIT;

        export->is_part = true;
        if (has_prefix(export, prefix)) {
            strvec_push(&export->prefixes, prefix);
            return 0;
        }
        list_parts(export, &parts);
        known = strvec_join(&parts, ", ");
        return error_set(error, ERROR_NOT_FOUND, "there is no split '%s' in %s; %s%s", split, export->name,
                         parts.count ? "there are " : "it has none", known);
    }
    if (json_array_size(splits) > SPLIT_MAX)
        return error_set(error, ERROR_INVALID, "%s claims a split of more than %d parts", export->name, SPLIT_MAX);
    json_array_foreach(splits, i, part)
        strvec_pushf(&export->prefixes, "%s/", json_get_string(part, "name", ""));
    if (!export->prefixes.count)
        strvec_push(&export->prefixes, "");
    return 0;
}

/* -- open -- */

int export_open(int fd, const char *name, const char *split, struct export **ret_export, struct error *error)
{
    cleanup_export struct export *export = xnew0(struct export);
    struct stat st;
    void *map;

    export->name = name;
    export->fd = fd;
    if (safetensors_open(fd, name, &export->file, error) < 0)
        return -1;
    export->schema = import_schema_of(export->file, error);
    if (!export->schema)
        return -1;
    if (fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "cannot stat %s", name);
    map = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return error_set_errno(error, errno, "cannot map %s", name);
    export->map = map;
    export->size = st.st_size;
    madvise(map, export->size, MADV_SEQUENTIAL);
    if (choose_parts(export, split, error) < 0)
        return -1;
    *ret_export = steal_ptr(export);
    return 0;
}

struct export *export_free(struct export *export)
{
    if (!export)
        return NULL;
    if (export->map)
        munmap((void *)export->map, export->size);
    json_decref(export->schema);
    safetensors_free(export->file);
    strvec_release(&export->prefixes);
    free(export);
    return NULL;
}

void export_set_progress(struct export *export, export_progress_fn progress, void *userdata)
{
    export->progress = progress;
    export->userdata = userdata;
}

int export_tick(struct export *export, uint64_t done, uint64_t total, struct error *error)
{
    double share = total ? (double)done / (double)total : 1;

    if (export->progress && export->progress(export->userdata, (uint64_t)(share * (double)export->size), export->size))
        return error_set(error, ERROR_CANCELLED, "the export was cancelled");
    return 0;
}

/* -- tensors -- */

static bool is_exported(const struct export *export, const struct tensor *tensor)
{
    const char *prefix = export->prefixes.items[0];

    return !export->is_part || strncmp(tensor->name, prefix, strlen(prefix)) == 0;
}

size_t export_count(const struct export *export)
{
    size_t count = 0;

    for (size_t i = 0; i < export->file->n_tensors; i++)
        count += is_exported(export, &export->file->tensors[i]);
    return count;
}

const struct tensor *export_tensor(const struct export *export, size_t i)
{
    for (size_t k = 0; k < export->file->n_tensors; k++)
        if (is_exported(export, &export->file->tensors[k]) && i-- == 0)
            return &export->file->tensors[k];
    return NULL;
}

const struct tensor *export_find(const struct export *export, const char *prefix, const char *name)
{
    cleanup_free char *full = xasprintf("%s%s", prefix, name);

    return safetensors_find(export->file, full);
}

const char *export_data(const struct export *export, const struct tensor *tensor)
{
    return export->map + export->file->data_offset + tensor->begin;
}

/* -- NPY -- */

static int no_such_tensor(const struct export *export, const char *name, struct error *error)
{
    cleanup_strvec struct strvec names = STRVEC_INIT;
    cleanup_free char *known = NULL;

    for (size_t i = 0; i < export->file->n_tensors && i < 20; i++)
        strvec_push(&names, export->file->tensors[i].name);
    known = strvec_join(&names, ", ");
    return error_set(error, ERROR_NOT_FOUND, "there is no tensor '%s' in %s; there are %s", name, export->name, known);
}

int export_npy(struct export *export, const char *name, int fd, struct error *error)
{
    const struct tensor *tensor = safetensors_find(export->file, name);
    cleanup_free char *header = NULL;
    const char *data;
    size_t length;

    if (!tensor)
        tensor = export_find(export, export->prefixes.items[0], name);
    if (!tensor || !is_exported(export, tensor))
        return no_such_tensor(export, name, error);
    if (tensor->dtype == DTYPE_BF16 || tensor->dtype == DTYPE_F8_E4M3 || tensor->dtype == DTYPE_F8_E5M2)
        return error_set(error, ERROR_INVALID, "tensor '%s' is %s, which NPY does not know", name,
                         dtype_numpy_name(tensor->dtype));
    header = npy_make_header(tensor->dtype, tensor->rank, tensor->shape, &length);
    if (fs_write_all(fd, header, length, error) < 0)
        return -1;
    data = export_data(export, tensor);
    for (uint64_t at = 0; at < tensor->size;) {
        uint64_t n = tensor->size - at < PIECE ? tensor->size - at : PIECE;

        if (fs_write_all(fd, data + at, n, error) < 0)
            return -1;
        at += n;
        if (export_tick(export, at, tensor->size, error) < 0)
            return -1;
    }
    return 0;
}

/* -- safetensors -- */

/* Statistics are those of all rows and say nothing of a part. */
static void forget_statistics(json_t *column)
{
    static const char *const keys[] = {"count", "missing", "min", "max", "mean", "std", "histogram", "classes"};
    json_t *category;
    size_t i;

    for (i = 0; i < ARRAY_SIZE(keys); i++)
        json_object_del(column, keys[i]);
    json_array_foreach(json_object_get(column, "categories"), i, category)
        json_object_del(category, "count");
}

static char *part_schema(const struct export *export)
{
    cleanup_json json_t *schema = json_deep_copy(export->schema);
    json_t *part, *column;
    int64_t rows = -1;
    size_t i;

    json_array_foreach(json_object_get(schema, "splits"), i, part) {
        cleanup_free char *prefix = xasprintf("%s/", json_get_string(part, "name", ""));

        if (strcmp(prefix, export->prefixes.items[0]) == 0)
            rows = json_get_int(part, "rows", -1);
    }
    if (rows < 0)
        return NULL;
    json_array_foreach(json_object_get(schema, "columns"), i, column)
        forget_statistics(column);
    json_object_del(schema, "splits");
    json_object_del(schema, "tensors");
    json_object_del(schema, "stored");
    json_object_del(schema, "shape");
    json_set_int(schema, "rows", rows);
    return json_text(schema);
}

static int write_part(struct export *export, int fd, struct error *error)
{
    cleanup_safetensors_writer struct safetensors_writer *writer = safetensors_writer_new();
    cleanup_free char *schema = part_schema(export);
    size_t count = export_count(export), skip = strlen(export->prefixes.items[0]);

    if (schema)
        safetensors_set_metadata(writer, "schema", schema);
    for (size_t i = 0; i < count; i++) {
        const struct tensor *tensor = export_tensor(export, i);

        safetensors_add(writer, tensor->name + skip, tensor->dtype, tensor->rank, tensor->shape);
    }
    if (safetensors_begin(writer, fd, error) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        const struct tensor *tensor = export_tensor(export, i);

        if (safetensors_write(writer, i, export_data(export, tensor), tensor->size, error) < 0 ||
            export_tick(export, i + 1, count, error) < 0)
            return -1;
    }
    return safetensors_finish(writer, error);
}

int export_safetensors(struct export *export, int fd, struct error *error)
{
    if (export->is_part)
        return write_part(export, fd, error);
    if (lseek(export->fd, 0, SEEK_SET) < 0)
        return error_set_errno(error, errno, "cannot read %s", export->name);
    return fs_copy_fd(export->fd, fd, error);
}
