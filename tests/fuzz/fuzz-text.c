/* Quantities, names, times and addresses that people write, and what the terminal is shown of strange text.
 */
#include <stdlib.h>
#include <string.h>
#include "cli/terminal.h"
#include "util/clock.h"
#include "util/parse.h"
#include "util/xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cleanup_free char *text = xstrndup((const char *)data, size), *printable = NULL;
    uint64_t bytes;
    int64_t value;
    double number;

    parse_bytes(text, &bytes, NULL);
    if (parse_duration_ms(text, &value, NULL) == 0 && value < 0)
        abort();
    if (parse_int(text, -10, 10, &value, NULL) == 0 && (value < -10 || value > 10))
        abort();
    if (parse_number(text, -1, 1, &number, NULL) == 0 && !(number >= -1 && number <= 1))
        abort();
    parse_name(text, "name", NULL);
    clock_parse_ms(text, &value);
    printable = text_printable(text);
    for (const unsigned char *p = (const unsigned char *)printable; *p; p++)
        if (*p < 0x20 || *p == 0x7f)
            abort();
    if (text_fit(printable, text_width(printable)) != strlen(printable))
        abort();
    return 0;
}
