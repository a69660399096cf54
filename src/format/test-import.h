/* Imports for unit tests: text in, a file of tensors out. */
#pragma once

#include <fcntl.h>
#include "format/import.h"
#include "format/safetensors.h"
#include "util/test.h"

static inline int test_file(const void *data, size_t length)
{
    int fd = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

    if (fd < 0 || fs_write_all(fd, data, length, NULL) < 0)
        fail_msg("cannot write a temporary file");
    return fd;
}

/* The file that importing these bytes makes; -1 with the error set. */
static inline int test_import(const struct import_options *options, const void *data, size_t length,
                              json_t **ret_schema, struct error *error)
{
    cleanup_close int in = test_file(data, length), out = test_file("", 0);
    const struct import_source source = {in, "data"};

    if (import_files(options, &source, 1, out, NULL, NULL, ret_schema, error) < 0)
        return -1;
    return steal_fd(&out);
}

static inline char *test_content(int fd, size_t *ret_length)
{
    char *data;

    lseek(fd, 0, SEEK_SET);
    if (fs_read_fd(fd, "test", 64 * MIB, &data, ret_length, NULL) < 0)
        fail_msg("cannot read a temporary file");
    return data;
}

/* Fails unless both files hold the same tensors. */
static inline void assert_same_tensors(int fd_a, int fd_b)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_safetensors struct safetensors *a = NULL, *b = NULL;
    cleanup_free char *bytes_a = test_content(fd_a, NULL), *bytes_b = test_content(fd_b, NULL);

    assert_ok(safetensors_open(fd_a, "a", &a, &error), &error);
    assert_ok(safetensors_open(fd_b, "b", &b, &error), &error);
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        const struct tensor *s = &a->tensors[i], *t = &b->tensors[i];

        assert_string_equal(s->name, t->name);
        assert_string_equal(dtype_name(s->dtype), dtype_name(t->dtype));
        assert_int_equal(s->size, t->size);
        assert_memory_equal(s->shape, t->shape, s->rank * sizeof(*s->shape));
        assert_memory_equal(bytes_a + a->data_offset + s->begin, bytes_b + b->data_offset + t->begin, s->size);
    }
}
