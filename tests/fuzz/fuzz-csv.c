/* CSV files, with and without a label and a split. */
#include "fuzz-import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_import(&(struct import_options){.format = "csv"}, data, size);
    fuzz_import(
        &(struct import_options){.format = "csv", .label = "last", .split = "a=0.5,b=0.5", .stratify = size % 2}, data,
        size);

    return 0;
}
