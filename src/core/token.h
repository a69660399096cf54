/*
 * Bearer tokens: opaque random secrets that carry scopes.
 *
 * A secret is shown once, when the token is made; the database keeps its SHA-256, which is enough because
 * the secret has 256 random bits. A token is for one project or, where `project` is NULL, for all. The
 * scopes are words separated by blanks:
 *
 *     admin                everything everywhere (a token of a project cannot have it)
 *     develop              change things in the project, and all that view allows
 *     view                 read everything in the project
 *     predict:<endpoint>   call that endpoint; predict:* any
 *
 * The token of a run has `run_id` set and acts on that run only; it ends with the run. A token that was
 * issued for client credentials (OAuth2) names the token it was issued for in `client_id` and ends with it.
 *
 * A quota is for inference requests. The gateway counts it, for a token and those issued for it together
 * (gateway/meter.h).
 *
 * Events: slipway.token.created, slipway.token.revoked; both hold the name and never the secret. Who caches
 * the result of token_check() forgets it on slipway.token.revoked, and at `expires_at`.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "store/db.h"
#include "util/hash.h"

#define TOKEN_PREFIX "slw_"

struct token {
    char id[ID_SIZE];
    char *name;
    char *scopes;
    char *project;   /* NULL: all */
    char *run_id;    /* NULL: not of a run */
    char *client_id; /* NULL: not issued for client credentials; else the id of the client's token */
    int64_t created_at, expires_at /* 0: never */, last_used_at; /* ms */
    int64_t quota_requests, quota_window_ms; /* requests in a window of time; 0: no quota */
};
#define TOKEN_INIT {.name = NULL}
void token_release(struct token *token);
#define cleanup_token CLEANUP(token_release)

/* -- use -- */

/* Who has this secret. ERROR_UNAUTHENTICATED: unknown, expired or revoked. */
int token_check(struct db_tx *tx, const char *secret, struct token *ret_token, struct error *error);
/* Notes the use, at most once a minute a token; a write. */
int token_touch(struct db_tx *tx, const char *id, struct error *error);

enum token_level { TOKEN_LEVEL_NONE, TOKEN_LEVEL_VIEW, TOKEN_LEVEL_DEVELOP, TOKEN_LEVEL_ADMIN };
/* The highest level among the scopes. */
enum token_level token_level(const char *scopes);
/* Whether the scopes hold predict:<endpoint> or predict:*, or admin. */
bool token_allows_predict(const char *scopes, const char *endpoint);

/* -- make and end -- */

struct token_options {
    const char *name;    /* NULL: the token's id is its name */
    const char *scopes;
    const char *project; /* NULL: all */
    int64_t ttl_ms;      /* 0: never expires */
    int64_t quota_requests, quota_window_ms; /* both 0: no quota */
};
/* ERROR_INVALID: a scope that does not exist; ERROR_EXISTS: a valid token has that name. *ret_secret is to
 * be freed; it cannot be had again. */
int token_create(struct db_tx *tx, const struct token_options *options, const char *actor, struct token *ret_token,
                 char **ret_secret, struct error *error);
/* The token that a run's program finds in SLIPWAY_TOKEN. What the run had before ends. */
int token_create_for_run(struct db_tx *tx, const char *run_id, const char *project, char **ret_secret,
                         struct error *error);
/* Client credentials (RFC 6749 §4.4): a token for at most ttl_ms with the client's scopes, or with those of
 * them that are named (NULL: all). */
int token_issue(struct db_tx *tx, const struct token *client, const char *scopes, int64_t ttl_ms,
                struct token *ret_token, char **ret_secret, struct error *error);

/* By name or id; what was issued for it ends with it. `project` NULL: of any. ERROR_NOT_FOUND. */
int token_revoke(struct db_tx *tx, const char *name, const char *project, const char *actor, struct error *error);
/* No error if the run has none. */
int token_revoke_run(struct db_tx *tx, const char *run_id, struct error *error);

/* Those made by people, newest first, behind the id `after` (NULL: from the start), without the revoked
 * unless `all`. *ret_next is the cursor of the next page, to be freed, or NULL. */
json_t *token_list(struct db_tx *tx, const char *project, bool all, const char *after, int limit, char **ret_next,
                   struct error *error);
json_t *token_to_json(const struct token *token);
/* {"requests","window_ms"}, or null. */
json_t *token_quota_json(const struct token *token);
