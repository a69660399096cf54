/*
 * A daemon that runs nothing: everything else works (datasets, registry, API), launches are refused.
 */
#include "engine/drivers.h"

static int disabled_open(struct engine *engine, const json_t *options, struct error *error)
{
    return 0;
}

static void disabled_close(struct engine *engine)
{
}

static int disabled_probe(struct engine *engine, struct engine_capacity *ret_capacity, struct error *error)
{
    *ret_capacity = (struct engine_capacity){
        .runtime = "disabled",
        .note = "this daemon was told to run nothing (engine 'disabled')",
    };
    return 0;
}

static int disabled_launch(struct engine *engine, const struct engine_spec *spec, struct error *error)
{
    return error_set(error, ERROR_UNAVAILABLE, "this daemon runs nothing: its engine is 'disabled'");
}

static int disabled_signal(struct engine *engine, const char *key, int signal, const char *reason, struct error *error)
{
    return 0;
}

static int disabled_attach(struct engine *engine, const char *key, const char *directory, struct error *error)
{
    return error_set(error, ERROR_UNAVAILABLE, "node %s cannot be watched: this daemon's engine is 'disabled'", key);
}

static int disabled_forget(struct engine *engine, const char *key, struct error *error)
{
    return 0;
}

static int disabled_weigh(struct engine *engine, const char *key, double part, struct error *error)
{
    return error_set(error, ERROR_NOT_FOUND, "node %s is not known", key);
}

static json_t *disabled_stats(struct engine *engine, const char *key, struct error *error)
{
    error_set(error, ERROR_NOT_FOUND, "node %s is not known", key);
    return NULL;
}

const struct engine_driver disabled_driver = {
    .name = "disabled",
    .summary = "runs nothing",
    .open = disabled_open,
    .close = disabled_close,
    .probe = disabled_probe,
    .launch = disabled_launch,
    .signal = disabled_signal,
    .attach = disabled_attach,
    .forget = disabled_forget,
    .weigh = disabled_weigh,
    .stats = disabled_stats,
};
