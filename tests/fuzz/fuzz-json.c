/* JSON from outside: whatever is accepted can be written, and reads back as the same value. */
#include <stdlib.h>
#include <string.h>
#include "util/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cleanup_error struct error error = ERROR_INIT, error_again = ERROR_INIT;
    cleanup_json json_t *value = json_parse((const char *)data, size, &error), *again = NULL;
    cleanup_free char *text = NULL;

    if (!value)
        return 0;
    text = json_text_canonical(value);
    again = json_parse(text, strlen(text), &error_again);
    if (!again || !json_equal(value, again))
        abort();
    return 0;
}
