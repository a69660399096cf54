#include <stdlib.h>
#include <string.h>
#include "config.h"
#include "schedule/worker-path.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/proc.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

static bool has_worker(const char *directory)
{
    cleanup_free char *program = fs_join(directory, WORKER_PROGRAM),
                      *library = fs_join(directory, "libslipway-worker.so");

    return fs_exists(program) && fs_exists(library);
}

static bool has_sdk(const char *directory)
{
    cleanup_free char *package = fs_join(directory, "slipway/__init__.py");

    return fs_exists(package);
}

/* The first place that is complete, of those relative to the executable's directory and the absolute ones. */
static char *find(const char *const *places, bool (*is_complete)(const char *directory), struct strbuf *tried)
{
    cleanup_free char *self = proc_self_path();

    *strrchr(self, '/') = '\0';
    for (; *places; places++) {
        cleanup_free char *place = **places == '/' ? xstrdup(*places) : fs_join(self, *places);

        strbuf_addf(tried, "%s%s", tried->length ? ", " : "", place);
        if (is_complete(place))
            return realpath(place, NULL);
    }
    return NULL;
}

char *worker_library_directory(struct error *error)
{
    static const char *const places[] = {"worker", "../lib/slipway", SLIPWAY_PREFIX "/lib/slipway",
                                         SLIPWAY_BUILD_ROOT "/src/worker", NULL};
    cleanup_strbuf struct strbuf tried = STRBUF_INIT(LIMIT_DESCRIPTION);
    char *found = find(places, has_worker, &tried);

    if (!found)
        error_set(error, ERROR_NOT_FOUND, "the model worker is not installed (looked in %s)", tried.data);
    return found;
}

char *python_sdk_directory(void)
{
    static const char *const places[] = {"../share/slipway/python", SLIPWAY_DATADIR "/python",
                                         SLIPWAY_SOURCE_ROOT "/sdk/python", NULL};
    cleanup_strbuf struct strbuf tried = STRBUF_INIT(LIMIT_DESCRIPTION);

    return find(places, has_sdk, &tried);
}
