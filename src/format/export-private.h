/* Shared by the files of export.h. */
#pragma once

#include "format/export.h"
#include "util/json.h"
#include "util/strvec.h"

struct export
{
    const char *name;
    int fd;
    struct safetensors *file;
    json_t *schema;
    const char *map;
    size_t size;
    struct strvec prefixes; /* of the parts that are exported: "train/"; "" where there is no split */
    bool is_part;           /* one of several */
    export_progress_fn progress;
    void *userdata;
};

/* The tensor "prefix" + "name"; NULL: there is none. */
const struct tensor *export_find(const struct export *export, const char *prefix, const char *name);
/* Its first byte. */
const char *export_data(const struct export *export, const struct tensor *tensor);
/* ERROR_CANCELLED. */
int export_tick(struct export *export, uint64_t done, uint64_t total, struct error *error);
