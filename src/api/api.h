/*
 * The HTTP surface: one file per resource, each with its table of rows; api.c lists the tables.
 *
 * Conventions. Addresses of things are in the path, everything else in the query or the body. Lists are
 * paged ({"items","next"}). Times are RFC 3339, sizes bytes, durations milliseconds (`_ms`). POST makes
 * (201 with the object) or does; DELETE removes (204). A name in an error message can be copied into the
 * next request.
 */
#pragma once

#include "http/router.h"

extern const struct http_route dataset_routes[];
extern const struct http_route endpoint_routes[];
extern const struct http_route environment_routes[];
extern const struct http_route gate_routes[];
extern const struct http_route job_routes[];
extern const struct http_route model_routes[];
extern const struct http_route node_routes[];
extern const struct http_route request_log_routes[];
extern const struct http_route run_routes[];
extern const struct http_route admin_routes[];
extern const struct http_route blob_routes[];
extern const struct http_route event_routes[];
extern const struct http_route oauth_routes[];
extern const struct http_route project_routes[];
extern const struct http_route status_routes[];
extern const struct http_route system_routes[];
extern const struct http_route token_routes[];
extern const struct http_route traffic_routes[];

/* What a token's quota looks like. */
extern const struct schema token_quota_schema;

/* All tables, ended by NULL. */
extern const struct http_route *const api_tables[];
