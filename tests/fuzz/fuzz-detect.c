/* Files of any format, told by their content. */
#include "fuzz-import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_import(&(struct import_options){.seed = 1}, data, size);

    return 0;
}
