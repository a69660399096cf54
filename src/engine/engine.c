#include <string.h>
#include "engine/drivers.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define REASONS_MAX 4096 /* bytes of the list of reasons why no driver works */

/* "auto" tries those that are marked, in this order. */
static const struct {
    const struct engine_driver *driver;
    bool automatic;
} drivers[] = {
    {&local_driver, true},
    {&process_driver, true},
    {&fake_driver, false},
    {&disabled_driver, false},
};

const struct engine_driver *engine_driver_at(size_t index)
{
    return index < ARRAY_SIZE(drivers) ? drivers[index].driver : NULL;
}

char *engine_key(const char *run_id, int attempt, int node)
{
    return xasprintf("%s/%d/%d", run_id, attempt, node);
}

static int unknown_driver(const char *name, struct error *error)
{
    cleanup_strbuf struct strbuf names = STRBUF_INIT(REASONS_MAX);

    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
        strbuf_addf(&names, "%s, ", drivers[i].driver->name);
    return error_set(error, ERROR_INVALID, "'%s' is no engine; there are: %sauto", name, names.data);
}

static int open_automatic(struct engine *engine, const json_t *options, struct error *error)
{
    cleanup_strbuf struct strbuf reasons = STRBUF_INIT(REASONS_MAX);

    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        cleanup_error struct error why = ERROR_INIT;

        if (!drivers[i].automatic)
            continue;
        engine->driver = drivers[i].driver;
        if (engine->driver->open(engine, options, &why) == 0) {
            if (reasons.length)
                engine->fallback = strbuf_detach(&reasons, NULL);
            return 0;
        }
        strbuf_addf(&reasons, "%s%s: %s", reasons.length ? "; " : "", engine->driver->name, why.message);
    }
    return error_set(error, ERROR_UNSUPPORTED, "no engine works on this machine: %s", reasons.data);
}

static int open_named(struct engine *engine, const char *name, const json_t *options, struct error *error)
{
    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        if (strcmp(drivers[i].driver->name, name) == 0) {
            engine->driver = drivers[i].driver;
            return engine->driver->open(engine, options, error);
        }
    }
    return unknown_driver(name, error);
}

int engine_open(const char *name, const json_t *options, struct loop *loop, const char *data_directory,
                engine_event_fn on_event, void *userdata, struct engine **ret_engine, struct error *error)
{
    struct engine *engine = xnew0(struct engine);
    int r;

    engine->loop = loop;
    engine->data_directory = xstrdup(data_directory);
    engine->on_event = on_event;
    engine->userdata = userdata;
    r = strcmp(name, "auto") == 0 ? open_automatic(engine, options, error) : open_named(engine, name, options, error);
    if (r < 0) {
        free((char *)engine->data_directory);
        free(engine);
        return -1;
    }
    *ret_engine = engine;
    return 0;
}

struct engine *engine_close(struct engine *engine)
{
    if (!engine)
        return NULL;
    engine->driver->close(engine);
    free((char *)engine->data_directory);
    free(engine->fallback);
    free(engine->note);
    free(engine);
    return NULL;
}

int engine_probe(struct engine *engine, struct engine_capacity *ret_capacity, struct error *error)
{
    struct engine_capacity capacity;

    if (engine->driver->probe(engine, &capacity, error) < 0)
        return -1;
    if (engine->fallback) {
        free(engine->note);
        engine->note = xasprintf("%s%s%s", engine->fallback, capacity.note ? "; " : "",
                                 capacity.note ? capacity.note : "");
        capacity.note = engine->note;
    }
    *ret_capacity = capacity;
    return 0;
}

int engine_launch(struct engine *engine, const struct engine_spec *spec, struct error *error)
{
    return engine->driver->launch(engine, spec, error);
}

int engine_signal(struct engine *engine, const char *key, int signal, const char *reason, struct error *error)
{
    return engine->driver->signal(engine, key, signal, reason, error);
}

int engine_attach(struct engine *engine, const char *key, const char *directory, struct error *error)
{
    return engine->driver->attach(engine, key, directory, error);
}

int engine_forget(struct engine *engine, const char *key, struct error *error)
{
    return engine->driver->forget(engine, key, error);
}

int engine_weigh(struct engine *engine, const char *key, double part, struct error *error)
{
    return engine->driver->weigh(engine, key, part, error);
}

json_t *engine_stats(struct engine *engine, const char *key, struct error *error)
{
    return engine->driver->stats(engine, key, error);
}
