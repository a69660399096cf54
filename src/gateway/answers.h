/*
 * Answers of deterministic models, remembered by what was asked.
 *
 *     answers, one a gateway ──┬── share, one an endpoint ──┬── entries of a route
 *     (LIMIT_ANSWER_CACHE_ALL) │   (its --cache)            └── entries of another
 *                              └── share …
 *
 * The key is the SHA-256 of the route's number, the kind of the request, and its body as the worker would get it. An
 * entry costs its bytes and ANSWERS_OVERHEAD; a new one pushes out those that were unused for longest, first of its
 * own share, then of all. A route's number is never used again, so that entries of one that is gone cannot be found;
 * they are freed a few at a time, because there may be a million.
 *
 * A share lives as long as somebody refers to it: its endpoint, and each of its entries.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "util/cleanup.h"
#include "util/hash.h"
#include "util/list.h"
#include "util/loop.h"

#define ANSWERS_OVERHEAD 256 /* bytes that an entry costs beside its answer */
#define ANSWERS_SWEEP    1000 /* entries that are freed in one turn of the loop */

struct answers;

struct answers_share {
    unsigned refs;
    uint64_t max, size; /* bytes */
    size_t count;
    struct list used; /* the one unused longest first */
};

struct answers *answers_new(struct loop *loop, uint64_t max);
/* Frees all entries; shares live on. Accepts NULL; returns NULL. */
struct answers *answers_free(struct answers *answers);
DEFINE_CLEANUP(struct answers *, answers_free)
#define cleanup_answers CLEANUP(answers_free_cleanup)

struct answers_share *answers_share_new(uint64_t max);
/* Accepts NULL. */
void answers_share_unref(struct answers_share *share);

void answers_key(uint64_t route, uint32_t kind, const void *body, size_t length, struct digest *ret_key);

/* NULL if it is not known. Valid until the next call of anything here. */
const char *answers_get(struct answers *answers, const struct digest *key, size_t *ret_length);
/* Remembers it, if the share can hold it at all; `of_route` is the list of the route's entries. Takes the body. */
void answers_put_take(struct answers *answers, struct answers_share *share, struct list *of_route,
                      const struct digest *key, char *body, size_t length);
/* Forgets a route's entries; the list is empty then. `answers` may be NULL. */
void answers_forget(struct answers *answers, struct list *of_route);
