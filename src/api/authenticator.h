/*
 * Who asks: the authenticator that the HTTP server is given.
 *
 * The Unix socket trusts root and the daemon's own user ("local", all scopes). Everybody else needs a bearer
 * token. What was found is remembered for a few seconds, until something is committed to the journal: a
 * revocation counts at once.
 */
#pragma once

#include "http/server.h"
#include "store/store.h"

struct authenticator;

struct authenticator *authenticator_new(struct store *store);
struct authenticator *authenticator_free(struct authenticator *auth);

/* An http_authenticate_fn; the context is the daemon. */
int authenticator_check(void *context, const char *token, const struct http_peer *peer, struct http_principal *ret,
                        struct error *error);
