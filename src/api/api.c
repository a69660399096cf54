#include <stddef.h>
#include "api/api.h"

/* The order is that of the reference. */
const struct http_route *const api_tables[] = {
    system_routes,
    status_routes,
    NULL,
};
