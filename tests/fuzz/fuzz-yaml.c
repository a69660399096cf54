/*
 * YAML: what is accepted is a JSON value that can be written and reads back the same. And a package whose
 * manifest and source it is.
 */
#include <stdlib.h>
#include <string.h>
#include "core/package.h"
#include "format/archive.h"
#include "format/yaml.h"
#include "fuzz-import.h"

static void inspect(const uint8_t *data, size_t size)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_close int fd = memfd_create("package", MFD_CLOEXEC);
    cleanup_json json_t *package = NULL;
    struct zip *zip = zip_new(fd);

    if (zip_add(zip, "model.py", data, size, false, NULL) < 0 ||
        zip_add(zip, "slipway.yaml", data, size, false, NULL) < 0 || zip_finish(zip, NULL) < 0)
        abort();
    lseek(fd, 0, SEEK_SET);
    package = package_inspect_fd(fd, &error);
    if (!package != error_is_set(&error))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cleanup_error struct error error = ERROR_INIT, error_again = ERROR_INIT;
    cleanup_json json_t *value = yaml_parse((const char *)data, size, "fuzz", &error), *again = NULL;
    cleanup_free char *text = NULL;

    if (!value != error_is_set(&error))
        abort();
    inspect(data, size);
    if (!value)
        return 0;
    text = json_text_canonical(value);
    again = json_parse(text, strlen(text), &error_again);
    if (!again || !json_equal(value, again))
        abort();
    return 0;
}
