/*
 * The OpenAPI 3.1 document of a list of route tables. The tests check every real answer against it.
 *
 * "{name...}" becomes "{name}": the format has no parameter that takes slashes.
 */
#pragma once

#include "http/router.h"

/* `tables` is ended by NULL; `version` is that of the program. */
json_t *openapi_describe(const struct http_route *const *tables, const char *version);
