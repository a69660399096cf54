#include "api/auth.h"
#include "util/xalloc.h"

struct auth {
    struct store *store;
};

struct auth *auth_new(struct store *store)
{
    struct auth *auth = xnew0(struct auth);

    auth->store = store;
    return auth;
}

struct auth *auth_free(struct auth *auth)
{
    free(auth);
    return NULL;
}

int auth_check(void *context, const char *token, const struct http_peer *peer, struct http_principal *ret,
               struct error *error)
{
    if (token || !peer->is_local || (peer->uid != 0 && peer->uid != geteuid()))
        return error_set(error, ERROR_UNAUTHENTICATED, "a token is needed: send 'Authorization: Bearer TOKEN'");
    ret->name = xstrdup("local");
    ret->scope = SCOPE_ADMIN;
    return 0;
}
