/* Shared by import.c and its readers, one for each kind of format. */
#pragma once

#include "format/import.h"
#include "format/reader.h"
#include "format/split.h"

struct import {
    const struct import_options *options;
    const struct import_source *sources;
    size_t n_sources;
    int fd;
    struct split_plan split;
    json_t *schema;
    import_progress_fn progress;
    void *userdata;
    struct hashing *hashing;
    uint64_t done, total; /* bytes of sources that are through, and of all */
};

void import_note(struct import *import, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Call now and then; ERROR_CANCELLED. `reader` is the source being read. */
int import_tick(struct import *import, const struct reader *reader, struct error *error);
int import_open(struct import *import, size_t source, struct reader **ret_reader, struct error *error);
/* Completes the schema with the sources' digests, which are computed on a thread of their own meanwhile: to
 * be called after parsing and before the schema is written. */
int import_finish_sources(struct import *import, struct error *error);

int import_csv(struct import *import, struct error *error);
int import_jsonl(struct import *import, struct error *error);
int import_libsvm(struct import *import, struct error *error);
int import_idx(struct import *import, struct error *error);
int import_numpy(struct import *import, struct error *error);
int import_safetensors(struct import *import, struct error *error);
