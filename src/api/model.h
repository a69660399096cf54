/*
 * What the handlers of models, gates and endpoints share.
 */
#pragma once

#include "http/router.h"
#include "store/db.h"

/* Begins a transaction in the project that the request is about. */
int model_api_begin(struct http_request *request, bool write, struct db_tx *tx, const char **ret_project,
                    struct error *error);
/* The cursor of a list that goes from the newest number downwards; 0: from the newest. */
int model_api_before(const struct http_request *request, int64_t *ret_before, struct error *error);
/* Steals items; the cursor is `key` of the last one if the page is full. */
void model_api_reply_numbers(struct http_response *response, json_t *items, int limit, const char *key);
