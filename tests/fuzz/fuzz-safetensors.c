/* Headers of safetensors: whatever is accepted lies inside the file and covers it exactly once. */
#include <stdlib.h>
#include "format/safetensors.h"

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
    return 0;
}
