/*
 * The way back: a file of tensors that was imported (import.h) as CSV, libsvm text, NPY, or a part of it.
 *
 *     csv          tables: columns under their names in their first order, categories as their words,
 *                  missing values as empty fields; importing it again with the same options gives the same
 *                  tensors
 *     libsvm       sparse rows, or a matrix of numbers x with y; features count from 1
 *     npy          one tensor
 *     safetensors  one part of a split under the names without its prefix
 *
 * Without a split the rows of all parts follow one another. The file is mapped and never held in memory; what
 * it says of itself is checked like everything that comes from outside.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "format/safetensors.h"
#include "util/error.h"

struct export;

/* `split`: the one part to export; NULL: all. ERROR_NOT_FOUND lists the parts there are. The descriptor is
 * borrowed until export_free; `name` is for messages. */
int export_open(int fd, const char *name, const char *split, struct export **ret_export, struct error *error);
struct export *export_free(struct export *export);
DEFINE_CLEANUP(struct export *, export_free)
#define cleanup_export CLEANUP(export_free_cleanup)

/* Called now and then with the bytes of `export_size` that are through; a non-zero value cancels. */
typedef int (*export_progress_fn)(void *userdata, uint64_t done, uint64_t total);
void export_set_progress(struct export *export, export_progress_fn progress, void *userdata);

/* Tensors of the parts that are exported, under their names in the file. */
size_t export_count(const struct export *export);
const struct tensor *export_tensor(const struct export *export, size_t i);

/* Each writes from the descriptor's position on. ERROR_INVALID where the data has no such form. */
int export_csv(struct export *export, int fd, struct error *error);
int export_libsvm(struct export *export, int fd, struct error *error);
/* `tensor` by its name in the file, or without the prefix of the part that is exported. */
int export_npy(struct export *export, const char *tensor, int fd, struct error *error);
/* To an empty file at its beginning. */
int export_safetensors(struct export *export, int fd, struct error *error);
