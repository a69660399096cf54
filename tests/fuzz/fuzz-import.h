/* Shared by the fuzzers of formats: the input as an open file, and an import of it that must not crash. */
#pragma once

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "format/import.h"
#include "format/safetensors.h"

static inline int fuzz_file(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    return fd;
}

/* What an import writes must be a sound file of tensors. */
static inline void fuzz_import(const struct import_options *options, const uint8_t *data, size_t size)
{
    struct import_source source = {fuzz_file(data, size), "fuzz"};
    int out = memfd_create("out", MFD_CLOEXEC);
    struct safetensors *file = NULL;

    if (import_files(options, &source, 1, out, NULL, NULL, NULL, NULL) == 0 &&
        safetensors_open(out, "out", &file, NULL) < 0)
        abort();
    safetensors_free(file);
    close(source.fd);
    close(out);
}
