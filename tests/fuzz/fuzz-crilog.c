/* CRI logs: parsing any bytes, and splitting any output into entries that parse again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "format/crilog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct crilog_splitter splitter = CRILOG_SPLITTER_INIT(CRILOG_STDERR);
    struct strbuf out = STRBUF_INIT(64 * MIB);
    struct crilog_entry entry;
    size_t text = 0, newlines = 0;

    for (size_t at = 0; at < size;) {
        ssize_t n = crilog_parse((const char *)data + at, size - at, &entry, NULL);

        if (n <= 0)
            break;
        at += n;
    }
    crilog_split(&splitter, 1, data, size / 2, &out);
    crilog_split(&splitter, 2, data + size / 2, size - size / 2, &out);
    crilog_flush(&splitter, 3, &out);
    for (size_t at = 0; at < out.length;) {
        ssize_t n = crilog_parse(out.data + at, out.length - at, &entry, NULL);

        if (n <= 0)
            abort();
        at += n;
        text += entry.length;
    }
    for (size_t i = 0; i < size; i++)
        newlines += data[i] == '\n';
    if (text + newlines != size)
        abort();
    crilog_splitter_release(&splitter);
    strbuf_release(&out);
    return 0;
}
