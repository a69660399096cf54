/* Headers of safetensors: whatever is accepted lies inside the file and covers it exactly once, and can be
 * exported whatever it says of itself. */
#include <stdlib.h>
#include "format/export.h"
#include "fuzz-import.h"

static void export_all(const uint8_t *data, size_t size)
{
    int fd = fuzz_file(data, size), out = memfd_create("out", MFD_CLOEXEC);
    struct export *export = NULL;

    if (export_open(fd, "fuzz", NULL, &export, NULL) == 0) {
        export_csv(export, out, NULL);
        export_libsvm(export, out, NULL);
        for (size_t i = 0; i < export_count(export); i++)
            export_npy(export, export_tensor(export, i)->name, out, NULL);
    }
    export_free(export);
    close(fd);
    close(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *file = NULL;
    uint64_t covered = 0;

    if (safetensors_parse(data, size, "fuzz", &file, NULL) < 0)
        return 0;
    for (size_t i = 0; i < file->n_tensors; i++) {
        const struct tensor *tensor = &file->tensors[i];

        if (file->data_offset + tensor->begin + tensor->size > size || tensor->begin != covered)
            abort();
        covered += tensor->size;
        if (tensor->size)
            tensor_value(tensor->dtype, data + file->data_offset + tensor->begin, 0);
    }
    safetensors_free(file);
    export_all(data, size);
    return 0;
}
