#include <stddef.h>
#include "api/api.h"

/* The order is that of the reference. */
const struct http_route *const api_tables[] = {
    system_routes,      status_routes,      dataset_routes, job_routes,   run_routes,
    environment_routes, node_routes,        model_routes,   gate_routes,  endpoint_routes,
    traffic_routes,     request_log_routes, project_routes, token_routes, oauth_routes,
    blob_routes,        event_routes,       admin_routes,   NULL,
};
