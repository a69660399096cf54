/* libsvm text. */
#include "fuzz-import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_import(&(struct import_options){.format = "libsvm", .split = "a=0.5,b=0.5"}, data, size);

    return 0;
}
