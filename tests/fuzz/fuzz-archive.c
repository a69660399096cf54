/* Archives: every name that comes out is safe, and all content can be read to its end or an error. */
#include "fuzz-import.h"

#include "format/archive.h"
#include "util/fs.h"

static int on_entry(void *userdata, struct archive_entry_view *view, struct error *error)
{
    char buffer[4096];
    ssize_t n;

    if (!fs_is_safe_name(view->name))
        abort();
    while ((n = archive_entry_read(view, buffer, sizeof(buffer), error)) > 0)
        ;
    return n < 0 ? -1 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = fuzz_file(data, size);

    archive_each(fd, "fuzz", on_entry, NULL, NULL, NULL);
    close(fd);
    return 0;
}
