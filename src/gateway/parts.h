/*
 * A request that is several texts, for a model that takes one at a time: each part runs as a call of its own, in any
 * order and on any replica, and the whole is answered when all parts are.
 *
 *     whole ──┬──▶ call of part 0 ──▶ answer
 *             ├──▶ call of part 1 …                  at most LIMIT_PREDICT_PARTS are queued or running
 *             └──▶ …
 *
 * A codec's decode makes call->parts; call.c starts them. The first part that fails fails the whole, and the others
 * are cancelled. The whole counts as one request wherever requests are counted.
 */
#pragma once

#include <stdint.h>
#include "gateway/call.h"
#include "util/json.h"

struct parts;

/* Of a call that is being decoded; also sets call->parts. */
struct parts *parts_new(struct call *whole);
/* Cancels what runs. Accepts NULL. */
struct parts *parts_free(struct parts *parts);
/* Takes the text. ERROR_TOO_LARGE beyond LIMIT_PREDICT_INSTANCES. */
int parts_add_take(struct parts *parts, char *text, size_t length, struct error *error);

/* Runs them; the whole may end in here. */
void parts_start(struct parts *parts);
/* From call.c, for a part's call, which is freed. The whole may end in here. */
void parts_answered(struct parts *parts, size_t index, const char *body, size_t length);
void parts_failed(struct parts *parts, size_t index, enum outcome outcome, enum error_code code, const char *message);

/* The answers in order: what is JSON as its value, other text as a string. */
json_t *parts_answers(const struct parts *parts);
