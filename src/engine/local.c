#include "engine/drivers.h"

static int local_open(struct engine *engine, const json_t *options, struct error *error)
{
    return error_set(error, ERROR_UNSUPPORTED, "containers are not available");
}

const struct engine_driver local_driver = {
    .name = "local",
    .summary = "containers on this machine",
    .open = local_open,
};
