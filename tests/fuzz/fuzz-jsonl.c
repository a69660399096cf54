/* JSON lines. */
#include "fuzz-import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_import(&(struct import_options){.format = "jsonl"}, data, size);

    return 0;
}
