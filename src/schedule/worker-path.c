#include <string.h>
#include "config.h"
#include "schedule/worker-path.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/proc.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

static bool is_complete(const char *directory)
{
    cleanup_free char *program = fs_join(directory, WORKER_PROGRAM), *library = fs_join(directory, "libslipway-worker.so");

    return fs_exists(program) && fs_exists(library);
}

char *worker_library_directory(struct error *error)
{
    cleanup_free char *self = proc_self_path();
    cleanup_strbuf struct strbuf tried = STRBUF_INIT(LIMIT_DESCRIPTION);
    char *slash = strrchr(self, '/');

    if (slash)
        *slash = 0;
    char *const candidates[] = {
        xasprintf("%s/worker", self),
        xasprintf("%s/../lib/slipway", self),
        xstrdup(SLIPWAY_PREFIX "/lib/slipway"),
        xstrdup(SLIPWAY_BUILD_ROOT "/src/worker"),
    };
    char *found = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(candidates); i++) {
        strbuf_addf(&tried, "%s%s", i ? ", " : "", candidates[i]);
        if (!found && is_complete(candidates[i]))
            found = candidates[i];
        else
            free(candidates[i]);
    }
    if (!found)
        error_set(error, ERROR_NOT_FOUND, "the model worker is not installed (looked in %s)", tried.data);
    return found;
}
