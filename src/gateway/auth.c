#include <ctype.h>
#include <string.h>
#include <strings.h>
#include "gateway/auth.h"
#include "gateway/cache.h"
#include "gateway/call.h"
#include "gateway/gateway.h"
#include "gateway/meter.h"
#include "http/client-async.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/parse.h"
#include "util/xalloc.h"

#define DEFAULT_PATH "/api/v1/oauth2/introspect"

/* A question to the introspection server, and the calls that wait for its answer. */
struct question {
    struct list link;
    struct bearer *auth;
    struct digest token;
    struct list calls;
    bool revoked; /* meanwhile: the answer holds for these calls and is not remembered */
};

struct bearer {
    struct gateway *gateway;
    struct cache *cache;
    struct meters *meters;
    struct hasher *hasher; /* of tokens */
    struct fetcher *fetcher;
    struct list questions;
    size_t n_questions;
    char *unix_path, *url;
};

int bearer_new(struct gateway *gateway, struct bearer **ret_auth, struct error *error)
{
    const char *introspect = gateway->options->introspect;
    const char *path = gateway->options->introspect_path ? gateway->options->introspect_path : DEFAULT_PATH;
    struct bearer *auth;

    if (introspect && strncmp(introspect, "unix:", 5) && strncmp(introspect, "http://", 7) &&
        strncmp(introspect, "https://", 8))
        return error_set(error, ERROR_INVALID, "'%s' is neither unix:PATH nor an http URL", introspect);
    auth = xnew0(struct bearer);
    auth->gateway = gateway;
    auth->cache = cache_new(LIMIT_TOKEN_CACHE);
    auth->meters = meters_new(LIMIT_TOKEN_CACHE);
    auth->hasher = hasher_new();
    auth->fetcher = fetcher_new(gateway->loop);
    list_init(&auth->questions);
    if (introspect && !strncmp(introspect, "unix:", 5)) {
        auth->unix_path = xstrdup(introspect + 5);
        auth->url = xasprintf("http://localhost%s", path);
    } else {
        auth->url = xstrdup_null(introspect);
    }
    *ret_auth = auth;
    return 0;
}

static void question_free(struct question *question)
{
    list_unlink(&question->link);
    question->auth->n_questions--;
    free(question);
}

struct bearer *bearer_free(struct bearer *auth)
{
    struct question *question, *next;

    if (!auth)
        return NULL;
    fetcher_free(auth->fetcher);
    list_for_each_safe(question, next, &auth->questions, link)
        question_free(question);
    cache_free(auth->cache);
    meters_free(auth->meters);
    hasher_free(auth->hasher);
    free(auth->unix_path);
    free(auth->url);
    free(auth);
    return NULL;
}

static bool has_word(const char *words, const char *word, const char *suffix)
{
    size_t n = strlen(word), m = strlen(suffix);

    while (words && *words) {
        size_t length = strcspn(words, " ");

        if (length == n + m && !strncmp(words, word, n) && !strncmp(words + n, suffix, m))
            return true;
        words += length + strspn(words + length, " ");
    }
    return false;
}

static bool allows(const struct cache_entry *entry, const struct endpoint *endpoint)
{
    if (entry->project && endpoint->project && strcmp(entry->project, endpoint->project))
        return false;
    return has_word(entry->scope, "predict:", endpoint->name) || has_word(entry->scope, "predict:", "*") ||
           has_word(entry->scope, "admin", "");
}

static bool refuse_rate(struct bearer *auth, struct call *call, const struct cache_entry *entry)
{
    const struct endpoint *endpoint = call->endpoint;
    const struct rate_limit limit = {.per_second = endpoint->rate, .burst = endpoint->burst};

    if (limit.per_second <= 0 ||
        meter_take_rate(auth->meters, entry->subject, endpoint->name, &limit, call->arrived_ns, &call->retry_after_s))
        return false;
    call->endpoint->stats.rate_limited++;
    loop_request_add_header(call->request, "Slipway-Limit", "rate");
    call_fail(call, OUTCOME_UNAVAILABLE, ERROR_RATE_LIMITED,
              "the rate is used up: endpoint %s takes %g requests a second with this token, %g at once", endpoint->name,
              limit.per_second, limit.burst);
    return true;
}

/* What the gateway answers by itself is free. */
static bool refuse_quota(struct bearer *auth, struct call *call, const struct cache_entry *entry)
{
    char window[FORMAT_SIZE], begin[CLOCK_RFC3339_SIZE];
    int64_t now_ms = clock_wall_ms();

    if (entry->quota.requests <= 0 || call->codec->local ||
        meter_take_quota(auth->meters, entry->subject, &entry->quota, now_ms, &call->retry_after_s))
        return false;
    call->endpoint->stats.quota_exceeded++;
    loop_request_add_header(call->request, "Slipway-Limit", "quota");
    call_fail(call, OUTCOME_UNAVAILABLE, ERROR_RATE_LIMITED,
              "the quota is used up: %ld requests in %s with this token; the next window begins at %s",
              (long)entry->quota.requests, format_duration_ms(entry->quota.window_ms, window),
              clock_format_ms((now_ms / entry->quota.window_ms + 1) * entry->quota.window_ms, begin));
    return true;
}

static void judge(struct bearer *auth, struct call *call, struct cache_entry *entry)
{
    struct auth_stats *stats = &auth->gateway->auth_stats;

    if (!entry->active) {
        stats->bad_token++;
        call->endpoint->stats.unauthenticated++;
        call_fail(call, OUTCOME_INVALID, ERROR_UNAUTHENTICATED, "the token is not valid");
    } else if (!allows(entry, call->endpoint)) {
        stats->forbidden++;
        call->endpoint->stats.forbidden++;
        call_fail(call, OUTCOME_INVALID, ERROR_FORBIDDEN, "the token does not allow predict:%s", call->endpoint->name);
    } else if (!refuse_rate(auth, call, entry) && !refuse_quota(auth, call, entry)) {
        call_authorised(call, entry->client);
    }
}

/* The subject, else the client; NULL: the answer names nobody. */
static const char *name_of(const json_t *answer)
{
    const char *subject = json_string_value(json_object_get(answer, "sub"));

    return subject ? subject : json_string_value(json_object_get(answer, "client_id"));
}

/* Who is counted: what the answer calls the subject or the client, else the token itself. */
static char *subject_of(const json_t *answer, const struct digest *token)
{
    const char *subject = name_of(answer);
    char hex[2 * DIGEST_SIZE + 1];

    if (subject)
        return xstrdup(subject);
    hex_encode(token->bytes, DIGEST_SIZE, hex);
    return xstrdup(hex);
}

static struct quota quota_of(const json_t *answer)
{
    const json_t *quota = json_object_get(answer, "quota");
    json_int_t window_ms = json_integer_value(json_object_get(quota, "window_ms"));

    return (struct quota){.requests = window_ms > 0 ? json_integer_value(json_object_get(quota, "requests")) : 0,
                          .window_ms = window_ms};
}

/* What the server said, as an entry; false if it makes no sense. */
static bool read_answer(struct bearer *auth, const struct digest *token, const char *body, size_t length,
                        struct cache_entry *ret_entry)
{
    cleanup_json json_t *answer = json_parse(body, length, NULL);
    json_t *active = json_object_get(answer, "active"), *exp = json_object_get(answer, "exp");
    int64_t ttl_ms = auth->gateway->options->token_ttl_ms;

    if (!json_is_boolean(active))
        return false;
    *ret_entry = (struct cache_entry){.active = json_is_true(active)};
    if (json_is_number(exp)) {
        double left = json_number_value(exp) * 1000 - (double)clock_wall_ms();

        if (left <= 0)
            ret_entry->active = false;
        else if (left < (double)ttl_ms)
            ttl_ms = (int64_t)left;
    }
    if (!ret_entry->active)
        ttl_ms = LIMIT_TOKEN_NEGATIVE_MS;
    ret_entry->until_ns = clock_monotonic_ns() + ttl_ms * NS_PER_MS;
    ret_entry->scope = xstrdup_null(json_string_value(json_object_get(answer, "scope")));
    ret_entry->project = xstrdup_null(json_string_value(json_object_get(answer, "project")));
    ret_entry->client = xstrdup_null(name_of(answer));
    ret_entry->subject = subject_of(answer, token);
    ret_entry->quota = quota_of(answer);
    return true;
}

static void on_answer(void *userdata, int status, const char *body, size_t length)
{
    struct question *question = userdata;
    struct bearer *auth = question->auth;
    struct cache_entry fresh, *entry = NULL;
    struct digest token = question->token;
    struct list calls = LIST_INIT(calls);
    struct call *call;

    if (status == 200 && read_answer(auth, &token, body, length, &fresh)) {
        if (question->revoked)
            fresh.until_ns = 0;
        entry = cache_put(auth->cache, &token, &fresh);
    } else {
        char text[16];

        snprintf(text, sizeof(text), "%d", status);
        auth->gateway->auth_stats.introspection_failures++;
        log_warning("introspection failed", "status", text, "why", status ? "not an answer of RFC 7662" : body);
    }
    /* Judging a call may end it, and ask nothing new: the list only shrinks. */
    while ((call = list_first(&question->calls, struct call, link))) {
        list_unlink(&call->link);
        if (entry)
            judge(auth, call, entry);
        else
            call_fail(call, OUTCOME_UNAVAILABLE, ERROR_UNAVAILABLE, "the token cannot be checked now");
    }
    question_free(question);
}

/* application/x-www-form-urlencoded. */
static char *form_of(const char *token)
{
    static const char hex[] = "0123456789ABCDEF";
    cleanup_strbuf struct strbuf text = STRBUF_INIT(3 * LIMIT_TOKEN + 64);

    strbuf_adds(&text, "token_type_hint=access_token&token=");
    for (; *token; token++) {
        unsigned char c = (unsigned char)*token;

        if (isalnum(c) || c == '-' || c == '_' || c == '.') {
            strbuf_addc(&text, (char)c);
        } else {
            strbuf_addc(&text, '%');
            strbuf_addc(&text, hex[c >> 4]);
            strbuf_addc(&text, hex[c & 15]);
        }
    }
    return strbuf_detach(&text, NULL);
}

static void ask(struct bearer *auth, struct call *call, const struct digest *digest, const char *token)
{
    cleanup_free char *form = form_of(token);
    struct question *question = xnew0(struct question);
    struct fetch_request request = {
        .url = auth->url,
        .unix_path = auth->unix_path,
        .content_type = "application/x-www-form-urlencoded",
        .body = form,
        .length = strlen(form),
        .token = auth->gateway->options->introspect_token,
        .reply_max = LIMIT_JSON_BODY,
        .timeout_ms = LIMIT_INTROSPECTION_MS,
    };

    question->auth = auth;
    question->token = *digest;
    list_init(&question->calls);
    list_append(&question->calls, &call->link);
    list_append(&auth->questions, &question->link);
    auth->n_questions++;
    auth->gateway->auth_stats.introspections++;
    fetcher_post(auth->fetcher, &request, on_answer, question);
}

static void unauthenticated(struct bearer *auth, struct call *call, const char *why)
{
    auth->gateway->auth_stats.no_token++;
    call->endpoint->stats.unauthenticated++;
    call_fail(call, OUTCOME_INVALID, ERROR_UNAUTHENTICATED, "%s", why);
}

void bearer_check(struct bearer *auth, struct call *call)
{
    const char *header = loop_request_authorization(call->request);
    struct cache_entry *entry;
    struct question *question;
    struct digest digest;

    auth->gateway->auth_stats.requests++;
    if (!header || strncasecmp(header, "Bearer ", 7)) {
        unauthenticated(auth, call, "a bearer token is needed: Authorization: Bearer TOKEN");
        return;
    }
    header += 7 + strspn(header + 7, " ");
    if (!*header || strlen(header) > LIMIT_TOKEN) {
        unauthenticated(auth, call, "the bearer token is empty or too long");
        return;
    }
    hasher_digest(auth->hasher, header, strlen(header), &digest);
    entry = cache_get(auth->cache, &digest, call->arrived_ns);
    if (entry) {
        auth->gateway->auth_stats.cache_hits++;
        judge(auth, call, entry);
        return;
    }
    call->state = CALL_AUTHORISING;
    list_for_each(question, &auth->questions, link) {
        if (digest_equal(&question->token, &digest)) {
            list_append(&question->calls, &call->link);
            return;
        }
    }
    if (!auth->url || auth->n_questions >= LIMIT_INTROSPECTIONS)
        call_fail(call, OUTCOME_UNAVAILABLE, ERROR_UNAVAILABLE, "the token cannot be checked now");
    else
        ask(auth, call, &digest, header);
}

size_t bearer_revoke(struct bearer *auth, const char *sha256_hex)
{
    struct question *question;
    struct digest digest;

    if (sha256_hex && !hex_decode(sha256_hex, digest.bytes, sizeof(digest.bytes)))
        return 0;
    list_for_each(question, &auth->questions, link)
        question->revoked |= !sha256_hex || digest_equal(&question->token, &digest);
    return sha256_hex ? cache_remove(auth->cache, &digest) : cache_clear(auth->cache);
}
