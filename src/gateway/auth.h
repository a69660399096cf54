/*
 * Who may call: bearer tokens, checked by introspection (RFC 7662) and remembered (cache.h).
 *
 * A token is remembered by its SHA-256, never as text, until its `exp` and at most the configured time; a bad
 * one for LIMIT_TOKEN_NEGATIVE_MS. While the introspection server is away, remembered tokens work and others get 503,
 * never 401. Calls that wait for the same token share one introspection.
 *
 * The answer may hold "quota": {"requests": n, "window_ms": n}, an extension of ours; rates and quotas are counted
 * by its `sub`, else `client_id`, else by the token (meter.h).
 */
#pragma once

#include <stdint.h>
#include "util/error.h"

struct bearer;
struct call;
struct endpoint;
struct gateway;

int bearer_new(struct gateway *gateway, struct bearer **ret_auth, struct error *error);
struct bearer *bearer_free(struct bearer *auth);

/* Checks the call's token, now or later: call_authorised(), or call_fail() with 401, 403 or 503. */
void bearer_check(struct bearer *auth, struct call *call);
/* Forgets a token (64 hex digits) or, with NULL, all. Returns how many. */
size_t bearer_revoke(struct bearer *auth, const char *sha256_hex);
