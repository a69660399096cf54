/*
 * The OpenAPI 3.1 document of the serving port, from the rows of its calls (surface.h). The port gives it as
 * GET /openapi.json, the program prints it (`slipway reference serving`).
 */
#pragma once

#include "util/json.h"

json_t *gateway_describe(void);
