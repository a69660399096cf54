/* Verdicts of gates. */
#include "api/daemon.h"
#include "api/model.h"
#include "core/gate.h"
#include "core/run.h"

static const struct schema_field gate_fields[] = {
    {"id", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"run", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"project", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"model", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"version", SCHEMA_INTEGER, SCHEMA_NULLABLE},
    {"rule", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "as it was written"},
    {"alias", SCHEMA_STRING, SCHEMA_NULLABLE, .doc = "moves on acceptance"},
    {"state", SCHEMA_STRING, SCHEMA_REQUIRED,
     .values = (const char *const[]){"pending", "accepted", "rejected", "failed", NULL}},
    {"reason", SCHEMA_STRING, SCHEMA_NULLABLE},
    {"seen", SCHEMA_OBJECT, SCHEMA_NULLABLE, .doc = "what the rule saw, without the history of metrics"},
    {"champion", SCHEMA_INTEGER, SCHEMA_NULLABLE, .doc = "version that held the alias"},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"decided_at", SCHEMA_TIME, SCHEMA_NULLABLE},
    {},
};
static const struct schema gate_schema = {"Gate", gate_fields, "the verdict on what a run made"};

static int get_gate(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;
    const char *project;
    json_t *gate;

    if (model_api_begin(request, false, &tx, &project, error) < 0 ||
        run_find(&tx, project, http_path_param(request, "id"), &run, error) < 0)
        return -1;
    gate = gate_of_run(&tx, run->id, error);
    if (!gate)
        return -1;
    http_reply_json(response, 200, gate);
    return 0;
}

static int list_gates(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int limit = http_page_limit(request);
    const char *project;
    int64_t before;
    json_t *items;

    if (model_api_before(request, &before, error) < 0 || model_api_begin(request, false, &tx, &project, error) < 0)
        return -1;
    items = gate_list(&tx, project, http_query_param(request, "model"), before, limit, error);
    if (!items)
        return -1;
    model_api_reply_numbers(response, items, limit, "id");
    return 0;
}

static const struct http_query_row gate_query[] = {
    {"model", SCHEMA_STRING, .doc = "only of this model"},
    {},
};

const struct http_route gate_routes[] = {
    {"GET", "/api/v1/gates", SCOPE_VIEW, list_gates, "list verdicts, newest first", .query = gate_query, .paged = true,
     .response = &gate_schema, .tag = "models"},
    {"GET", "/api/v1/runs/{id}/gate", SCOPE_VIEW, get_gate, "show the verdict on a run", .response = &gate_schema,
     .tag = "runs"},
    {},
};
