/*
 * JSON from outside: whatever is accepted can be written, and reads back as the same value. And the same text as a
 * line of metrics.jsonl, of which numbers and nulls remain.
 */
#include <stdlib.h>
#include <string.h>
#include "monitor/metrics.h"
#include "util/json.h"

static void check_metrics(const char *line, size_t length)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *odd = NULL;
    cleanup_json json_t *values = metrics_parse(line, length, &odd, &error);
    const char *key;
    json_t *value;

    if (!values != error_is_set(&error))
        abort();
    json_object_foreach(values, key, value) {
        if (!json_is_number(value) && !json_is_null(value))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cleanup_error struct error error = ERROR_INIT, error_again = ERROR_INIT;
    cleanup_json json_t *value = json_parse((const char *)data, size, &error), *again = NULL;
    cleanup_free char *text = NULL;

    check_metrics((const char *)data, size);
    if (!value)
        return 0;
    text = json_text_canonical(value);
    again = json_parse(text, strlen(text), &error_again);
    if (!again || !json_equal(value, again))
        abort();
    return 0;
}
