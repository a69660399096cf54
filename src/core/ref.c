#include "core/ref.h"

#include <string.h>
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

/* A version is shown in messages and paths: the characters of a name, in any order, or none but those. */
static int check_version(const char *version, const char *what, struct error *error)
{
    size_t length = strlen(version);

    if (length == 0 || length > LIMIT_NAME || strspn(version, "abcdefghijklmnopqrstuvwxyz0123456789._-") != length)
        return error_set(error, ERROR_INVALID, "'%.80s' is not a version of a %s: a number or a name is", version,
                         what);
    return 0;
}

static int check_name(char *name, const char *what, struct error *error)
{
    char *slash = strchr(name, '/');
    int r;

    if (!slash)
        return parse_name(name, what, error);
    *slash = '\0';
    r = parse_name(name, what, error);
    *slash = '/';
    return r < 0 ? -1 : parse_name(slash + 1, what, error);
}

int ref_parse(const char *text, const char *what, struct ref *ret_ref, struct error *error)
{
    cleanup_ref struct ref ref = REF_INIT;
    const char *colon = strchr(text, ':'), *at;

    if (colon) {
        ref.project = xstrndup(text, colon - text);
        if (parse_name(ref.project, "project", error) < 0)
            return -1;
        text = colon + 1;
    }
    at = strchr(text, '@');
    ref.name = at ? xstrndup(text, at - text) : xstrdup(text);
    if (check_name(ref.name, what, error) < 0)
        return -1;
    if (at) {
        ref.version = xstrdup(at + 1);
        if (check_version(ref.version, what, error) < 0)
            return -1;
    }
    *ret_ref = ref;
    ref = (struct ref)REF_INIT;
    return 0;
}

void ref_release(struct ref *ref)
{
    free(ref->project);
    free(ref->name);
    free(ref->version);
    *ref = (struct ref)REF_INIT;
}
