/* A safetensors file is taken as it is, after it was checked; and what such a file says of itself. */
#include <errno.h>
#include <string.h>
#include "format/import-private.h"
#include "format/safetensors.h"
#include "util/fs.h"

/* The number of rows, if all tensors (of one split) agree on the first dimension; else -1. */
static int64_t common_rows(const struct safetensors *file)
{
    int64_t rows = -1;

    for (size_t i = 0; i < file->n_tensors; i++) {
        const struct tensor *tensor = &file->tensors[i];

        if (strchr(tensor->name, '/') || tensor->rank == 0)
            return -1;
        if (rows >= 0 && (uint64_t)rows != tensor->shape[0])
            return -1;
        rows = tensor->shape[0];
    }
    return rows;
}

json_t *import_schema_of(const struct safetensors *file, struct error *error)
{
    const char *text = json_get_string(file->metadata, "schema", NULL);
    cleanup_json json_t *schema = NULL;

    if (text) {
        schema = json_parse(text, strlen(text), error);
        if (!schema) {
            error_wrap(error, "the tensors' schema");
            return NULL;
        }
    }
    if (!json_is_object(schema)) {
        int64_t rows = common_rows(file);

        json_decref(schema);
        schema = json_build("{s:i, s:s}", "format", 1, "kind", "tensors");
        if (rows >= 0)
            json_set_int(schema, "rows", rows);
    }
    json_object_set_new(schema, "tensors", safetensors_describe(file));
    return json_incref(schema);
}

int import_safetensors(struct import *import, struct error *error)
{
    cleanup_safetensors struct safetensors *file = NULL;
    cleanup_json json_t *schema = NULL;

    if (import->n_sources != 1)
        return error_set(error, ERROR_INVALID, "import one safetensors file at a time, or keep all with --files");
    if (import->split.count || import->options->label)
        return error_set(error, ERROR_UNSUPPORTED, "a safetensors file is taken as it is: no label, no split");
    if (safetensors_open(import->sources[0].fd, import->sources[0].name, &file, error) < 0)
        return -1;
    schema = import_schema_of(file, error);
    if (!schema || import_finish_sources(import, error) < 0)
        return -1;
    json_object_del(schema, "tensors");
    json_object_update_missing(schema, import->schema);
    json_decref(import->schema);
    import->schema = json_incref(schema);
    if (lseek(import->sources[0].fd, 0, SEEK_SET) < 0)
        return error_set_errno(error, errno, "cannot read %s", import->sources[0].name);
    return fs_copy_fd(import->sources[0].fd, import->fd, error);
}
