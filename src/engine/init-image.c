#include <string.h>
#include "engine/init-image.h"
#include "src/engine/init-path.h"
#include "util/fs.h"

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

__asm__(".pushsection .rodata, \"a\", @progbits\n"
        ".balign 16\n"
        "slipway_init_image:\n"
        ".incbin \"" TEXT(SLIPWAY_INIT_IMAGE) "\"\n"
                                              "slipway_init_image_end:\n"
                                              ".popsection\n");

extern const char slipway_init_image[] __attribute__((visibility("hidden")));
extern const char slipway_init_image_end[] __attribute__((visibility("hidden")));

int init_image_install(const char *path, struct error *error)
{
    size_t length = (size_t)(slipway_init_image_end - slipway_init_image), old_length;
    cleanup_free char *old = NULL;

    if (fs_read(path, length, &old, &old_length, NULL) == 0 && old_length == length &&
        memcmp(old, slipway_init_image, length) == 0)
        return 0;
    return fs_write_atomic(path, slipway_init_image, length, 0755, error);
}
