#include <assert.h>
#include <string.h>
#include "core/project.h"
#include "core/token.h"
#include "store/journal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/strvec.h"
#include "util/xalloc.h"

#define SECRET_BYTES      32
#define TOUCH_INTERVAL_MS 60000
#define KEEP_EXPIRED_MS   INT64_C(86400000) /* issued tokens and those of runs, after their end */

#define COLUMNS                                                                                                        \
    "id, name, scopes, project, run_id, client_id, created_at, expires_at, last_used_at, revoked_at, "                 \
    "quota_requests, quota_window_ms"

void token_release(struct token *token)
{
    free(token->name);
    free(token->scopes);
    free(token->project);
    free(token->run_id);
    free(token->client_id);
    *token = (struct token)TOKEN_INIT;
}

static void read_token(struct db_rows *rows, struct token *ret_token)
{
    *ret_token = (struct token){
        .name = xstrdup(db_text(rows, 1)),
        .scopes = xstrdup(db_text(rows, 2)),
        .project = xstrdup_null(db_text(rows, 3)),
        .run_id = xstrdup_null(db_text(rows, 4)),
        .client_id = xstrdup_null(db_text(rows, 5)),
        .created_at = db_int(rows, 6),
        .expires_at = db_int(rows, 7),
        .last_used_at = db_int(rows, 8),
        .quota_requests = db_int(rows, 10),
        .quota_window_ms = db_int(rows, 11),
    };
    snprintf(ret_token->id, sizeof(ret_token->id), "%s", db_text(rows, 0));
}

/* -- scopes -- */

static const struct {
    const char *word;
    enum token_level level;
} levels[] = {
    {"view", TOKEN_LEVEL_VIEW},
    {"develop", TOKEN_LEVEL_DEVELOP},
    {"admin", TOKEN_LEVEL_ADMIN},
};

static enum token_level level_of(const char *word)
{
    for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
        if (strcmp(word, levels[i].word) == 0)
            return levels[i].level;
    return TOKEN_LEVEL_NONE;
}

static const char *endpoint_of(const char *word)
{
    return strncmp(word, "predict:", 8) == 0 ? word + 8 : NULL;
}

/* The words, each once; blanks at the ends and between do not count. */
static void split_scopes(const char *scopes, struct strvec *ret_words)
{
    cleanup_strvec struct strvec all = STRVEC_INIT;

    strvec_split(&all, scopes, ' ');
    for (size_t i = 0; i < all.count; i++)
        if (*all.items[i] && !strvec_contains(ret_words, all.items[i]))
            strvec_push(ret_words, all.items[i]);
}

enum token_level token_level(const char *scopes)
{
    cleanup_strvec struct strvec words = STRVEC_INIT;
    enum token_level level = TOKEN_LEVEL_NONE;

    split_scopes(scopes, &words);
    for (size_t i = 0; i < words.count; i++)
        if (level_of(words.items[i]) > level)
            level = level_of(words.items[i]);
    return level;
}

static bool word_allows_predict(const char *word, const char *endpoint)
{
    const char *allowed = endpoint_of(word);

    return level_of(word) == TOKEN_LEVEL_ADMIN ||
           (allowed && (strcmp(allowed, "*") == 0 || strcmp(allowed, endpoint) == 0));
}

bool token_allows_predict(const char *scopes, const char *endpoint)
{
    cleanup_strvec struct strvec words = STRVEC_INIT;

    split_scopes(scopes, &words);
    for (size_t i = 0; i < words.count; i++)
        if (word_allows_predict(words.items[i], endpoint))
            return true;
    return false;
}

static int check_word(const char *word, const char *project, struct error *error)
{
    const char *endpoint = endpoint_of(word);

    if (endpoint && strcmp(endpoint, "*") == 0)
        return 0;
    if (endpoint)
        return parse_name(endpoint, "endpoint", error);
    if (level_of(word) == TOKEN_LEVEL_NONE)
        return error_set(error, ERROR_INVALID,
                         "'%.80s' is not a scope; scopes are admin, develop, view, predict:ENDPOINT and predict:*",
                         word);
    if (level_of(word) == TOKEN_LEVEL_ADMIN && project)
        return error_set(error, ERROR_INVALID, "a token of one project cannot have the scope admin");
    return 0;
}

/* To be freed; NULL on failure. */
static char *normalise_scopes(const char *scopes, const char *project, struct error *error)
{
    cleanup_strvec struct strvec words = STRVEC_INIT;

    if (strlen(scopes) > LIMIT_TOKEN) {
        error_set(error, ERROR_TOO_LARGE, "scopes have more than %d characters", LIMIT_TOKEN);
        return NULL;
    }
    split_scopes(scopes, &words);
    if (words.count == 0) {
        error_set(error, ERROR_INVALID, "a token needs a scope: admin, develop, view, predict:ENDPOINT or predict:*");
        return NULL;
    }
    for (size_t i = 0; i < words.count; i++)
        if (check_word(words.items[i], project, error) < 0)
            return NULL;
    return strvec_join(&words, " ");
}

/* -- use -- */

static void hash_secret(const char *secret, char hex[2 * DIGEST_SIZE + 1])
{
    struct digest digest;

    digest_of(secret, strlen(secret), &digest);
    hex_encode(digest.bytes, DIGEST_SIZE, hex);
}

int token_check(struct db_tx *tx, const char *secret, struct token *ret_token, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    char hash[2 * DIGEST_SIZE + 1];
    int64_t expires_at;
    int r;

    /* Looking a hash up by an index tells a timing attacker nothing of use: he cannot choose hashes. */
    hash_secret(secret, hash);
    if (db_query(tx, &rows, error, "SELECT " COLUMNS " FROM tokens WHERE hash = ?", "s", hash) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r < 0)
        return -1;
    if (r == 0 || db_int(&rows, 9) != 0)
        return error_set(error, ERROR_UNAUTHENTICATED, "the token is unknown or was revoked");
    expires_at = db_int(&rows, 7);
    if (expires_at && expires_at <= clock_wall_ms()) {
        char when[CLOCK_RFC3339_SIZE];

        return error_set(error, ERROR_UNAUTHENTICATED, "the token expired at %s", clock_format_ms(expires_at, when));
    }
    read_token(&rows, ret_token);
    return 0;
}

int token_touch(struct db_tx *tx, const char *id, struct error *error)
{
    int64_t now = clock_wall_ms();

    return db_exec(tx, error, "UPDATE tokens SET last_used_at = ? WHERE id = ? AND last_used_at <= ?", "isi", now, id,
                   now - TOUCH_INTERVAL_MS);
}

/* -- make -- */

static char *new_secret(void)
{
    uint8_t bytes[SECRET_BYTES];
    cleanup_free char *text = NULL;

    random_bytes(bytes, sizeof(bytes));
    text = base64url_encode(bytes, sizeof(bytes));
    return xasprintf(TOKEN_PREFIX "%s", text);
}

/* Takes over token's strings. */
static int insert(struct db_tx *tx, struct token *token, const char *actor, struct token *ret_token, char **ret_secret,
                  struct error *error)
{
    cleanup_free char *secret = new_secret();
    char hash[2 * DIGEST_SIZE + 1];

    hash_secret(secret, hash);
    token->created_at = clock_wall_ms();
    if (db_exec(tx, error,
                "INSERT INTO tokens (id, name, hash, scopes, project, run_id, client_id, created_at, created_by, "
                "expires_at, quota_requests, quota_window_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                "sssssssisiii", token->id, token->name, hash, token->scopes, token->project, token->run_id,
                token->client_id, token->created_at, actor, token->expires_at, token->quota_requests,
                token->quota_window_ms) < 0)
        return -1;
    if (ret_token) {
        *ret_token = *token;
        *token = (struct token)TOKEN_INIT;
    }
    *ret_secret = steal_ptr(secret);
    return 0;
}

static int append_event(struct db_tx *tx, const char *type, const struct token *token, const char *actor,
                        struct error *error)
{
    cleanup_free char *subject = xasprintf("token/%s", token->name);
    cleanup_json json_t *data = token_to_json(token);
    struct journal_event event = {type, subject, token->project, actor, data};

    return journal_append(tx, &event, NULL, error);
}

/* Tokens that come and go by themselves do not stay as rows for ever. */
static int purge(struct db_tx *tx, struct error *error)
{
    int64_t before = clock_wall_ms() - KEEP_EXPIRED_MS;

    return db_exec(tx, error,
                   "DELETE FROM tokens WHERE (client_id IS NOT NULL OR run_id IS NOT NULL) AND "
                   "((expires_at > 0 AND expires_at < ?1) OR (revoked_at > 0 AND revoked_at < ?1))",
                   "i", before);
}

int token_create(struct db_tx *tx, const struct token_options *options, const char *actor, struct token *ret_token,
                 char **ret_secret, struct error *error)
{
    cleanup_token struct token token = TOKEN_INIT;
    cleanup_error struct error local = ERROR_INIT;
    cleanup_free char *secret = NULL;

    if (options->name && parse_name(options->name, "token", error) < 0)
        return -1;
    if (options->project && project_check(tx, options->project, error) < 0)
        return -1;
    if (options->ttl_ms < 0)
        return error_set(error, ERROR_INVALID, "a token cannot expire in the past");
    if (!options->quota_requests != !options->quota_window_ms)
        return error_set(error, ERROR_INVALID, "a quota is a number of requests and a window of time");
    token.scopes = normalise_scopes(options->scopes, options->project, error);
    if (!token.scopes)
        return -1;
    id_new(token.id);
    token.name = xstrdup(options->name ? options->name : token.id);
    token.project = xstrdup_null(options->project);
    token.quota_requests = options->quota_requests;
    token.quota_window_ms = options->quota_window_ms;
    token.expires_at = options->ttl_ms ? clock_wall_ms() + options->ttl_ms : 0;
    if (insert(tx, &token, actor, NULL, &secret, &local) < 0) {
        if (local.code == ERROR_EXISTS)
            return error_set(error, ERROR_EXISTS, "a token named %s exists already; revoke it first", token.name);
        error_move(error, &local);
        return -1;
    }
    if (append_event(tx, "slipway.token.created", &token, actor, error) < 0)
        return -1;
    *ret_token = token;
    token = (struct token)TOKEN_INIT;
    *ret_secret = steal_ptr(secret);
    return 0;
}

int token_create_for_run(struct db_tx *tx, const char *run_id, const char *project, char **ret_secret,
                         struct error *error)
{
    cleanup_token struct token token = TOKEN_INIT;

    if (purge(tx, error) < 0 || token_revoke_run(tx, run_id, error) < 0)
        return -1;
    id_new(token.id);
    token.name = xasprintf("run:%s", run_id);
    token.scopes = xstrdup("develop");
    token.project = xstrdup(project);
    token.run_id = xstrdup(run_id);
    return insert(tx, &token, "system", NULL, ret_secret, error);
}

/* What is asked for must be what the client has; predict:* covers each endpoint, a level those below. */
static bool covers(const struct strvec *has, const char *word)
{
    const char *endpoint = endpoint_of(word);

    for (size_t i = 0; i < has->count; i++) {
        if (strcmp(has->items[i], word) == 0)
            return true;
        if (endpoint && word_allows_predict(has->items[i], endpoint))
            return true;
        if (!endpoint && level_of(has->items[i]) >= level_of(word) && level_of(word) != TOKEN_LEVEL_NONE)
            return true;
    }
    return false;
}

static char *narrow_scopes(const struct token *client, const char *scopes, struct error *error)
{
    cleanup_strvec struct strvec has = STRVEC_INIT, wanted = STRVEC_INIT;
    cleanup_free char *normal = NULL;

    if (!scopes || !*scopes)
        return xstrdup(client->scopes);
    normal = normalise_scopes(scopes, client->project, error);
    if (!normal)
        return NULL;
    split_scopes(client->scopes, &has);
    split_scopes(normal, &wanted);
    for (size_t i = 0; i < wanted.count; i++) {
        if (!covers(&has, wanted.items[i])) {
            error_set(error, ERROR_FORBIDDEN, "the client %s does not have the scope %s", client->name,
                      wanted.items[i]);
            return NULL;
        }
    }
    return steal_ptr(normal);
}

int token_issue(struct db_tx *tx, const struct token *client, const char *scopes, int64_t ttl_ms,
                struct token *ret_token, char **ret_secret, struct error *error)
{
    cleanup_token struct token token = TOKEN_INIT;

    assert(ttl_ms > 0);
    if (client->run_id || client->client_id)
        return error_set(error, ERROR_FORBIDDEN, "a token that was issued cannot issue others");
    token.scopes = narrow_scopes(client, scopes, error);
    if (!token.scopes || purge(tx, error) < 0)
        return -1;
    id_new(token.id);
    token.name = xstrdup(client->name);
    token.project = xstrdup_null(client->project);
    token.client_id = xstrdup(client->id);
    token.quota_requests = client->quota_requests;
    token.quota_window_ms = client->quota_window_ms;
    token.expires_at = clock_wall_ms() + ttl_ms;
    if (client->expires_at && client->expires_at < token.expires_at)
        token.expires_at = client->expires_at;
    return insert(tx, &token, client->name, ret_token, ret_secret, error);
}

/* -- end -- */

static int find(struct db_tx *tx, const char *name, const char *project, struct token *ret_token, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT " COLUMNS " FROM tokens WHERE (id = ?1 OR (name = ?1 AND run_id IS NULL AND "
                 "client_id IS NULL)) AND revoked_at = 0 AND (?2 IS NULL OR project = ?2)",
                 "ss", name, project) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r < 0)
        return -1;
    if (r == 0)
        return error_set(error, ERROR_NOT_FOUND, "there is no token named %.80s", name);
    read_token(&rows, ret_token);
    return 0;
}

int token_revoke(struct db_tx *tx, const char *name, const char *project, const char *actor, struct error *error)
{
    cleanup_token struct token token = TOKEN_INIT;

    if (find(tx, name, project, &token, error) < 0 ||
        db_exec(tx, error, "UPDATE tokens SET revoked_at = ?1 WHERE revoked_at = 0 AND (id = ?2 OR client_id = ?2)",
                "is", clock_wall_ms(), token.id) < 0)
        return -1;
    return append_event(tx, "slipway.token.revoked", &token, actor, error);
}

int token_revoke_run(struct db_tx *tx, const char *run_id, struct error *error)
{
    cleanup_free char *subject = xasprintf("token/run:%s", run_id);
    struct journal_event event = {"slipway.token.revoked", subject, NULL, "system", NULL};

    if (db_exec(tx, error, "UPDATE tokens SET revoked_at = ? WHERE run_id = ? AND revoked_at = 0", "is",
                clock_wall_ms(), run_id) < 0)
        return -1;
    return db_changes(tx) ? journal_append(tx, &event, NULL, error) : 0;
}

/* -- show -- */

json_t *token_quota_json(const struct token *token)
{
    return token->quota_requests ? json_build("{s:I, s:I}", "requests", (json_int_t)token->quota_requests, "window_ms",
                                              (json_int_t)token->quota_window_ms)
                                 : json_null();
}

json_t *token_to_json(const struct token *token)
{
    json_t *value = json_object();

    json_set_string(value, "id", token->id);
    json_set_string(value, "name", token->name);
    json_set_string(value, "scopes", token->scopes);
    json_set_string(value, "project", token->project);
    json_set_time_ms(value, "created_at", token->created_at);
    json_set_time_ms(value, "expires_at", token->expires_at);
    json_set_time_ms(value, "last_used_at", token->last_used_at);
    json_object_set_new(value, "quota", token_quota_json(token));
    return value;
}

json_t *token_list(struct db_tx *tx, const char *project, bool all, const char *after, int limit, char **ret_next,
                   struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *items = json_array();
    cleanup_free char *next = NULL;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT " COLUMNS ", created_by FROM tokens WHERE run_id IS NULL AND client_id IS NULL "
                 "AND (?1 IS NULL OR project = ?1) AND (?2 OR revoked_at = 0) AND (?3 IS NULL OR id < ?3) "
                 "ORDER BY id DESC LIMIT ?4",
                 "sisi", project, (int64_t)all, after, (int64_t)limit + 1) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        cleanup_token struct token token = TOKEN_INIT;
        json_t *value;

        if ((int)json_array_size(items) == limit) {
            next = xstrdup(json_get_string(json_array_get(items, (size_t)limit - 1), "id", ""));
            break;
        }
        read_token(&rows, &token);
        value = token_to_json(&token);
        json_set_time_ms(value, "revoked_at", db_int(&rows, 9));
        json_set_string(value, "created_by", db_text(&rows, 12));
        json_array_append_new(items, value);
    }
    if (r < 0)
        return NULL;
    *ret_next = steal_ptr(next);
    return steal_ptr(items);
}
