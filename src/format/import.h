/*
 * Data as people have it becomes one safetensors file whose metadata says what it is.
 *
 *     format       becomes                                                   told by
 *     csv          x, y, x.NAME (table.h)                                    text that is nothing else
 *     jsonl        the same; objects of one shape, a line each               '{' at the beginning
 *     libsvm       x.indptr, x.indices, x.values (CSR), y, qid               "label index:value …"
 *     idx          MNIST's own: x and y by the rank, or by its file names    its magic number
 *     npy, npz     tensors under their own names                             their magic number
 *     safetensors  checked and taken as it is                                its header
 *
 * Files may be gzipped. They are read in one pass (two, if a guess about a column was wrong) and never held
 * in memory; temporary data goes to $TMPDIR.
 *
 * Metadata key "schema" holds JSON:
 *     {"format":1,"kind":"table"|"sparse"|"tensors","rows":n,"splits":[{"name":"train","rows":n}…]?,
 *      "columns":[{"name","role":"feature"|"label"|"dropped","kind":"integer"|"real"|"category","tensor","index"?,
 *                  "count","missing","min","max","mean","std","histogram":[16 counts over min…max],
 *                  "categories"|"classes":[{"value","count"}…]}],
 *      "sources":[{"name","digest","size"}],"options":{…},"notes":[what the import decided and why]}
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "util/error.h"
#include "util/json.h"
#include "util/strvec.h"

struct import_options {
    const char *format; /* NULL: by the content */
    const char *label;  /* column; see table.h */
    const char *split;  /* see split.h; NULL: none */
    uint64_t seed;
    bool stratify;
    const char *header;           /* "yes", "no", "auto" or NULL: a first row without numbers */
    const char *separator;        /* one character, "tab", or NULL: by the content */
    const char *dtype;            /* of x */
    const struct strvec *missing; /* words; NULL: none but the usual */
    const struct strvec *drop;    /* columns */
    const char *directory;        /* for temporary data; NULL: $TMPDIR */
};

struct import_source {
    int fd;           /* a regular file */
    const char *name; /* as its owner knows it */
};

/* done and total in bytes of the sources; may be called often. A non-zero value cancels. */
typedef int (*import_progress_fn)(void *userdata, uint64_t done, uint64_t total);

/* Writes the file to `fd` (empty, read-write, regular). *ret_schema (may be NULL) is the schema as in its
 * metadata. Errors name file, line and column. */
int import_files(const struct import_options *options, const struct import_source *sources, size_t n_sources, int fd,
                 import_progress_fn progress, void *userdata, json_t **ret_schema, struct error *error);

/* What a safetensors file says about itself: its "schema" if it has a sound one, else one made from the
 * tensors. NULL on failure. */
struct safetensors;
json_t *import_schema_of(const struct safetensors *file, struct error *error);
