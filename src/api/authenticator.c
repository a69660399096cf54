#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include "api/authenticator.h"
#include "api/daemon.h"
#include "core/token.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/xalloc.h"

#define CACHE_SIZE 64
#define CACHE_MS   5000
#define TOUCH_MS   60000

/* What a token is, remembered under the digest of its text. It counts as long as nothing was committed to the
 * journal since, because that might have been its revocation. */
struct cached {
    struct digest key;
    uint64_t generation;
    int64_t until_ms; /* wall clock */
    struct http_principal principal;
};

struct authenticator {
    struct store *store;
    struct journal_listener *listener;
    _Atomic uint64_t generation;
    pthread_mutex_t lock; /* of the cache */
    struct cached cache[CACHE_SIZE];
};

static void on_commit(void *userdata, int64_t newest)
{
    struct authenticator *auth = userdata;

    atomic_fetch_add(&auth->generation, 1);
}

struct authenticator *authenticator_new(struct store *store)
{
    struct authenticator *auth = xnew0(struct authenticator);

    auth->store = store;
    auth->generation = 1;
    pthread_mutex_init(&auth->lock, NULL);
    auth->listener = journal_listen(store->journal, on_commit, auth);
    return auth;
}

static void principal_release(struct http_principal *principal)
{
    free(principal->name);
    free(principal->project);
    free(principal->run_id);
    *principal = (struct http_principal){0};
}

static void principal_copy(struct http_principal *into, const struct http_principal *from)
{
    into->name = xstrdup(from->name);
    into->scope = from->scope;
    into->project = xstrdup_null(from->project);
    into->run_id = xstrdup_null(from->run_id);
}

struct authenticator *authenticator_free(struct authenticator *auth)
{
    if (!auth)
        return NULL;
    journal_unlisten(auth->store->journal, auth->listener);
    for (size_t i = 0; i < CACHE_SIZE; i++)
        principal_release(&auth->cache[i].principal);
    pthread_mutex_destroy(&auth->lock);
    free(auth);
    return NULL;
}

/* -- cache -- */

static struct cached *slot_of(struct authenticator *auth, const struct digest *key)
{
    return &auth->cache[key->bytes[0] % CACHE_SIZE];
}

static bool recall(struct authenticator *auth, const struct digest *key, struct http_principal *ret)
{
    struct cached *slot = slot_of(auth, key);
    bool found;

    pthread_mutex_lock(&auth->lock);
    found = slot->principal.name && slot->generation == atomic_load(&auth->generation) &&
            clock_wall_ms() < slot->until_ms && memory_equal_secret(&slot->key, key, sizeof(*key));
    if (found)
        principal_copy(ret, &slot->principal);
    pthread_mutex_unlock(&auth->lock);
    return found;
}

static void remember(struct authenticator *auth, const struct digest *key, uint64_t generation, int64_t expires_at,
                     const struct http_principal *principal)
{
    struct cached *slot = slot_of(auth, key);
    int64_t until = clock_wall_ms() + CACHE_MS;

    pthread_mutex_lock(&auth->lock);
    principal_release(&slot->principal);
    principal_copy(&slot->principal, principal);
    slot->key = *key;
    slot->generation = generation;
    slot->until_ms = expires_at && expires_at < until ? expires_at : until;
    pthread_mutex_unlock(&auth->lock);
}

/* -- checking -- */

static const enum http_scope scopes[] = {
    [TOKEN_LEVEL_NONE] = SCOPE_NONE,
    [TOKEN_LEVEL_VIEW] = SCOPE_VIEW,
    [TOKEN_LEVEL_DEVELOP] = SCOPE_DEVELOP,
    [TOKEN_LEVEL_ADMIN] = SCOPE_ADMIN,
};

/* When it was used last is worth a write a minute, but never a failure. */
static void touch(struct authenticator *auth, const struct token *token)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (clock_wall_ms() - token->last_used_at > TOUCH_MS && db_begin_write(auth->store->db, &tx, NULL) == 0 &&
        token_touch(&tx, token->id, NULL) == 0)
        db_commit(&tx, NULL);
}

static int look_up(struct authenticator *auth, const char *secret, struct token *ret_token, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_read(auth->store->db, &tx, error) < 0)
        return -1;
    return token_check(&tx, secret, ret_token, error);
}

static int check_token(struct authenticator *auth, const char *secret, struct http_principal *ret, struct error *error)
{
    cleanup_token struct token token = TOKEN_INIT;
    uint64_t generation = atomic_load(&auth->generation);
    struct digest key;

    digest_of(secret, strlen(secret), &key);
    if (recall(auth, &key, ret))
        return 0;
    if (look_up(auth, secret, &token, error) < 0)
        return -1;
    ret->name = token.run_id ? xasprintf("run:%s", token.run_id) : xasprintf("token:%s", token.name);
    ret->scope = scopes[token_level(token.scopes)];
    ret->project = xstrdup_null(token.project);
    ret->run_id = xstrdup_null(token.run_id);
    remember(auth, &key, generation, token.expires_at, ret);
    touch(auth, &token);
    return 0;
}

int authenticator_check(void *context, const char *token, const struct http_peer *peer, struct http_principal *ret,
                        struct error *error)
{
    struct daemon *daemon = context;

    if (token)
        return check_token(daemon->auth, token, ret, error);
    if (peer->is_local && (peer->uid == 0 || peer->uid == geteuid())) {
        ret->name = xstrdup("local");
        ret->scope = SCOPE_ADMIN;
        return 0;
    }
    if (peer->is_local && daemon->gateway_uid && peer->uid == daemon->gateway_uid) {
        ret->name = xstrdup("gateway");
        ret->scope = SCOPE_INTROSPECT;
        return 0;
    }
    return error_set(error, ERROR_UNAUTHENTICATED,
                     "a token is needed: send 'Authorization: Bearer TOKEN'; 'slipway token create' makes one");
}
