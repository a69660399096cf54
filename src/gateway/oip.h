/* Replies of the Open Inference Protocol that need no model. */
#pragma once

#include "gateway/codec.h"
#include "gateway/route.h"
#include "util/json.h"

/* {"error": message} */
void oip_fail(struct loop_request *request, int status, enum error_code code, const char *message);
/* Appends those of all versions of all models. */
void oip_all_statistics(const struct routes *routes, json_t *list);
/* Steals the reference. */
void oip_reply(struct loop_request *request, int status, json_t *value);
