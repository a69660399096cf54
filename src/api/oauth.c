#include <string.h>
#include "api/api.h"
#include "api/daemon.h"
#include "core/token.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

#define TTL_DEFAULT_S 3600
#define TTL_MAX_S     86400

/* -- introspection, RFC 7662 -- */

static const struct schema_field introspect_fields[] = {
    {"token", SCHEMA_STRING, SCHEMA_REQUIRED, .max = LIMIT_TOKEN},
    {"token_type_hint", SCHEMA_STRING, .doc = "not needed"},
    {},
};
static const struct schema introspect_schema = {"IntrospectionRequest", introspect_fields};

static const struct schema_field introspection_fields[] = {
    {"active", SCHEMA_BOOLEAN, SCHEMA_REQUIRED},
    {"scope", SCHEMA_STRING, .doc = "separated by blanks"},
    {"client_id", SCHEMA_STRING, .doc = "name of the token"},
    {"token_type", SCHEMA_STRING, .doc = "Bearer"},
    {"iat", SCHEMA_INTEGER, .doc = "seconds since 1970"},
    {"exp", SCHEMA_INTEGER, .doc = "seconds since 1970; absent: never"},
    {"jti", SCHEMA_STRING, .doc = "id of the token"},
    {"project", SCHEMA_STRING, .doc = "absent: all"},
    {"run_id", SCHEMA_STRING, .doc = "the token of this run"},
    {"quota", SCHEMA_OBJECT, .object = &token_quota_schema, .doc = "absent: none"},
    {},
};
static const struct schema introspection_schema = {"Introspection", introspection_fields,
                                                   "what a token is worth (RFC 7662)"};

static json_t *describe(const struct token *token)
{
    json_t *value = json_object();

    json_set_bool(value, "active", true);
    json_set_string(value, "scope", token->scopes);
    json_set_string(value, "client_id", token->name);
    json_set_string(value, "token_type", "Bearer");
    json_set_int(value, "iat", token->created_at / 1000);
    if (token->expires_at)
        json_set_int(value, "exp", token->expires_at / 1000);
    json_set_string(value, "jti", token->id);
    if (token->project)
        json_set_string(value, "project", token->project);
    if (token->run_id)
        json_set_string(value, "run_id", token->run_id);
    if (token->quota_requests)
        json_object_set_new(value, "quota", token_quota_json(token));
    return value;
}

static int introspect(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    const char *secret = json_get_string(request->json, "token", "");
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_token struct token token = TOKEN_INIT;
    cleanup_error struct error local = ERROR_INIT;

    if (db_begin_read(daemon->store->db, &tx, error) < 0)
        return -1;
    if (token_check(&tx, secret, &token, &local) < 0 && local.code != ERROR_UNAUTHENTICATED) {
        error_move(error, &local);
        return -1;
    }
    http_reply_json(response, 200, token.name ? describe(&token) : json_build("{s:b}", "active", 0));
    http_reply_header(response, "Cache-Control", "no-store");
    return 0;
}

/* -- client credentials, RFC 6749 §4.4 -- */

static const struct schema_field grant_fields[] = {
    {"grant_type", SCHEMA_STRING, .doc = "client_credentials"},
    {"client_id", SCHEMA_STRING, .max = LIMIT_NAME, .doc = "name of a token; or by HTTP Basic"},
    {"client_secret", SCHEMA_STRING, .max = LIMIT_TOKEN, .doc = "the token itself; or by HTTP Basic"},
    {"scope", SCHEMA_STRING, .max = LIMIT_TOKEN, .doc = "absent: all that the client has"},
    {"expires_in", SCHEMA_STRING, .doc = "seconds, at most 86400; absent: 3600"},
    {},
};
static const struct schema grant_schema = {"TokenGrant", grant_fields, .open = true};

static const struct schema_field access_fields[] = {
    {"access_token", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"token_type", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "Bearer"},
    {"expires_in", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "seconds"},
    {"scope", SCHEMA_STRING, SCHEMA_REQUIRED},
    {},
};
static const struct schema access_schema = {"AccessToken", access_fields};

static const struct schema_field refusal_fields[] = {
    {"error", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "invalid_client, invalid_scope, invalid_request, …"},
    {"error_description", SCHEMA_STRING, SCHEMA_REQUIRED},
    {},
};
static const struct schema refusal_schema = {"GrantRefused", refusal_fields,
                                             "failure as OAuth2 has it (RFC 6749 §5.2)"};

/* Errors of this route have the form that OAuth2 clients read (§5.2). */
static int refuse(struct http_response *response, int status, const char *code, const char *description)
{
    http_reply_json(response, status, json_build("{s:s, s:s}", "error", code, "error_description", description));
    http_reply_header(response, "Cache-Control", "no-store");
    if (status == 401)
        http_reply_header(response, "WWW-Authenticate", "Basic realm=\"slipway\"");
    return 0;
}

struct credentials {
    char *id, *secret;
};

static void credentials_release(struct credentials *credentials)
{
    free(credentials->id);
    free(credentials->secret);
}

/* From the header "Basic base64(id:secret)", else from the form. */
static bool read_credentials(const struct http_request *request, struct credentials *ret)
{
    const char *header = http_header(request, "Authorization");
    cleanup_free char *plain = NULL;
    size_t length;
    char *colon;

    if (!header) {
        ret->id = xstrdup_null(json_get_string(request->json, "client_id", NULL));
        ret->secret = xstrdup_null(json_get_string(request->json, "client_secret", NULL));
        return ret->id && ret->secret;
    }
    if (strncasecmp(header, "Basic ", 6) != 0 || strlen(header) > 2 * LIMIT_TOKEN)
        return false;
    plain = base64_decode(header + 6, &length);
    colon = plain && strlen(plain) == length ? strchr(plain, ':') : NULL;
    if (!colon)
        return false;
    ret->id = xstrndup(plain, (size_t)(colon - plain));
    ret->secret = xstrdup(colon + 1);
    return true;
}

static int issue(struct http_request *request, struct http_response *response, const struct credentials *credentials,
                 int64_t ttl_s, struct error *error)
{
    struct daemon *daemon = request->context;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_token struct token client = TOKEN_INIT, token = TOKEN_INIT;
    cleanup_error struct error local = ERROR_INIT;
    cleanup_free char *secret = NULL;

    if (db_begin_write(daemon->store->db, &tx, error) < 0)
        return -1;
    if (token_check(&tx, credentials->secret, &client, &local) < 0 || strcmp(client.name, credentials->id) != 0)
        return refuse(response, 401, "invalid_client", "the client's name or secret is wrong, or its token has ended");
    if (token_issue(&tx, &client, json_get_string(request->json, "scope", NULL), ttl_s * 1000, &token, &secret,
                    &local) < 0)
        return refuse(response, 400,
                      local.code == ERROR_FORBIDDEN || local.code == ERROR_INVALID ? "invalid_scope"
                                                                                   : "invalid_request",
                      local.message);
    if (db_commit(&tx, error) < 0)
        return -1;
    http_reply_json(response, 200,
                    json_build("{s:s, s:s, s:I, s:s}", "access_token", secret, "token_type", "Bearer", "expires_in",
                               (json_int_t)((token.expires_at - clock_wall_ms() + 999) / 1000), "scope", token.scopes));
    http_reply_header(response, "Cache-Control", "no-store");
    return 0;
}

static int grant(struct http_request *request, struct http_response *response, struct error *error)
{
    const char *type = json_get_string(request->json, "grant_type", "");
    const char *expires_in = json_get_string(request->json, "expires_in", NULL);
    CLEANUP(credentials_release) struct credentials credentials = {NULL, NULL};
    int64_t ttl_s = TTL_DEFAULT_S;

    if (strcmp(type, "client_credentials") != 0)
        return refuse(response, 400, "unsupported_grant_type", "grant_type must be client_credentials");
    if (expires_in && parse_int(expires_in, 1, TTL_MAX_S, &ttl_s, NULL) < 0)
        return refuse(response, 400, "invalid_request", "expires_in must be 1 to 86400 seconds");
    if (!read_credentials(request, &credentials))
        return refuse(response, 401, "invalid_client",
                      "send client_id and client_secret: the name of a token and the token itself");
    return issue(request, response, &credentials, ttl_s, error);
}

const struct http_route oauth_routes[] = {
    {"POST", "/api/v1/oauth2/introspect", SCOPE_INTROSPECT, introspect, "say what a token is worth (RFC 7662)",
     .request = &introspect_schema, .response = &introspection_schema, .body = HTTP_BODY_FORM,
     .body_limit = 4 * LIMIT_TOKEN, .tag = "tokens"},
    {"POST", "/api/v1/oauth2/token", SCOPE_NONE, grant, "issue a short-lived token for client credentials (RFC 6749)",
     .request = &grant_schema, .response = &access_schema, .failure = &refusal_schema, .body = HTTP_BODY_FORM,
     .body_limit = 8 * LIMIT_TOKEN, .tag = "tokens"},
    {},
};
