/* IDX files. */
#include "fuzz-import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_import(&(struct import_options){.format = "idx", .split = size % 2 ? "a=0.5,b=0.5" : NULL}, data, size);

    return 0;
}
