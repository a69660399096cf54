/* The machine: what it has and who holds it. */
#include "api/api.h"
#include "api/daemon.h"
#include "schedule/orchestrator.h"

static int get_nodes(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    json_t *node = orchestrator_capacity(daemon->orchestrator, error), *items;

    if (!node)
        return -1;
    json_set_string(node, "name", "local");
    items = json_array();
    json_array_append_new(items, node);
    http_reply_page(response, items, NULL);
    return 0;
}

static const struct schema_field amount_fields[] = {
    {"total", SCHEMA_NUMBER, SCHEMA_REQUIRED},
    {"used", SCHEMA_NUMBER, SCHEMA_REQUIRED},
    {"free", SCHEMA_NUMBER, SCHEMA_REQUIRED},
    {},
};
static const struct schema amount_schema = {"Amount", amount_fields, "of a resource"};

static const struct schema_field node_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"engine", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"runtime", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"note", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "why this runtime was chosen and what is missing"},
    {"cpus", SCHEMA_OBJECT, SCHEMA_REQUIRED, .object = &amount_schema, .doc = "cores"},
    {"memory", SCHEMA_OBJECT, SCHEMA_REQUIRED, .object = &amount_schema, .doc = "bytes"},
    {"gpus", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .doc = "index, memory, holder"},
    {"holders", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .doc = "runs and endpoints, and what each has"},
    {"queued", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "runs that wait"},
    {"running", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "runs that hold resources"},
    {},
};
static const struct schema node_schema = {"Node", node_fields, "a machine that runs things"};

const struct http_route node_routes[] = {
    {"GET", "/api/v1/nodes", SCOPE_VIEW, get_nodes, "list machines with capacity and use", .paged = true,
     .response = &node_schema, .tag = "nodes"},
    {},
};
