/*
 * Drives an engine from a test: reads one JSON document from standard input, launches its nodes, and prints
 * events as JSON lines until all nodes have ended.
 *
 *     {"engine":"local", "data":"/tmp/x", "options":{…}, "attach":false,
 *      "nodes":[{"run_id","directory","argv":[…],"environment":[…],"code","root","params","resume","gpus",
 *                "mounts":[{"source","target","writable"}],"cpus","memory","pids","network","timeout_ms","grace_ms",
 *                "restart"}]}
 *
 * Lines on standard output: {"capacity":{…}}, {"launched":key}, {"event","key","t"} with t in ns (monotonic).
 * SIGTERM asks all nodes to stop, SIGUSR1 kills them, SIGHUP ends this program and leaves them.
 */
#include <signal.h>
#include <string.h>
#include "engine/engine.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define NODES_MAX 64

struct driver {
    struct loop *loop;
    struct engine *engine;
    char *keys[NODES_MAX];
    size_t n_keys, ended;
};

static void print(json_t *line)
{
    cleanup_free char *text = json_text(line);

    printf("%s\n", text);
    fflush(stdout);
    json_decref(line);
}

static void on_event(void *userdata, const char *key, const char *directory, enum engine_event event)
{
    static const char *const names[] = {"intake", "exited", "lost"};
    struct driver *driver = userdata;

    print(json_build("{s:s, s:s, s:I}", "event", names[event], "key", key, "t", (json_int_t)clock_monotonic_ns()));
    if (event != ENGINE_INTAKE && ++driver->ended == driver->n_keys)
        loop_stop(driver->loop);
}

static void on_signal(void *userdata, int signal)
{
    struct driver *driver = userdata;

    if (signal == SIGHUP)
        loop_stop(driver->loop);
    for (size_t i = 0; i < driver->n_keys && signal != SIGHUP; i++)
        engine_signal(driver->engine, driver->keys[i], signal == SIGUSR1 ? SIGKILL : SIGTERM, "stopped", NULL);
}

static const char **string_list(const json_t *array)
{
    const char **list = xcalloc(json_array_size(array) + 1, sizeof(*list));
    size_t i;
    json_t *item;

    json_array_foreach((json_t *)array, i, item)
        list[i] = json_string_value(item);
    return list;
}

static int launch(struct driver *driver, const json_t *node, struct error *error)
{
    const json_t *mounts = json_object_get(node, "mounts");
    struct engine_mount *list = xcalloc(json_array_size(mounts) + 1, sizeof(*list));
    const char **argv = string_list(json_object_get(node, "argv")),
               **environment = string_list(json_object_get(node, "environment"));
    struct engine_spec spec = {
        .run_id = json_get_string(node, "run_id", "0"),
        .attempt = (int)json_get_int(node, "attempt", 1),
        .node = (int)json_get_int(node, "node", 0),
        .role = json_get_string(node, "role", "main"),
        .directory = json_get_string(node, "directory", NULL),
        .argv = argv,
        .environment = environment,
        .code = json_get_string(node, "code", NULL),
        .mounts = list,
        .n_mounts = json_array_size(mounts),
        .params = json_get_string(node, "params", NULL),
        .resume = json_get_string(node, "resume", NULL),
        .root = json_get_string(node, "root", NULL),
        .cpus = json_get_number(node, "cpus", 0),
        .memory = (uint64_t)json_get_int(node, "memory", 0),
        .pids = (uint64_t)json_get_int(node, "pids", 0),
        .gpus = json_get_string(node, "gpus", NULL),
        .network = json_get_bool(node, "network", false),
        .timeout_ms = json_get_int(node, "timeout_ms", 0),
        .grace_ms = json_get_int(node, "grace_ms", 5000),
        .restart = json_get_bool(node, "restart", false),
    };
    size_t i;
    json_t *item;
    int r;

    json_array_foreach((json_t *)mounts, i, item)
        list[i] = (struct engine_mount){json_get_string(item, "source", ""), json_get_string(item, "target", ""),
                                        json_get_bool(item, "writable", false)};
    r = engine_launch(driver->engine, &spec, error);
    free(argv);
    free(environment);
    free(list);
    return r;
}

static int start(struct driver *driver, const json_t *request, struct error *error)
{
    bool attach = json_get_bool(request, "attach", false);
    size_t i;
    json_t *node;

    json_array_foreach(json_object_get(request, "nodes"), i, node) {
        char *key = engine_key(json_get_string(node, "run_id", "0"), (int)json_get_int(node, "attempt", 1),
                               (int)json_get_int(node, "node", 0));
        int64_t t = clock_monotonic_ns();

        driver->keys[driver->n_keys++] = key;
        if (attach ? engine_attach(driver->engine, key, json_get_string(node, "directory", ""), error) < 0
                   : launch(driver, node, error) < 0)
            return -1;
        print(json_build("{s:s, s:I}", "launched", key, "t", (json_int_t)t));
    }
    return 0;
}

static int run(struct driver *driver, struct error *error)
{
    cleanup_free char *text = NULL;
    cleanup_json json_t *request = NULL;
    struct engine_capacity capacity;
    size_t length;

    if (fs_read_fd(0, "standard input", MIB, &text, &length, error) < 0)
        return -1;
    request = json_parse(text, length, error);
    if (!request)
        return -1;
    loop_add_signal(driver->loop, SIGTERM, on_signal, driver);
    loop_add_signal(driver->loop, SIGUSR1, on_signal, driver);
    loop_add_signal(driver->loop, SIGHUP, on_signal, driver);
    if (engine_open(json_get_string(request, "engine", "auto"), json_object_get(request, "options"), driver->loop,
                    json_get_string(request, "data", "/nonexistent"), on_event, driver, &driver->engine, error) < 0 ||
        engine_probe(driver->engine, &capacity, error) < 0)
        return -1;
    print(json_build("{s:{s:s, s:s?, s:f, s:I, s:i}}", "capacity", "runtime", capacity.runtime, "note", capacity.note,
                     "cpus", capacity.cpus, "memory", (json_int_t)capacity.memory, "gpus", capacity.gpus));
    if (start(driver, request, error) < 0)
        return -1;
    if (driver->n_keys)
        loop_run(driver->loop);
    for (size_t i = 0; i < driver->n_keys && driver->ended == driver->n_keys; i++)
        engine_forget(driver->engine, driver->keys[i], NULL);
    return 0;
}

int main(void)
{
    struct driver driver = {.loop = loop_new()};
    cleanup_error struct error error = ERROR_INIT;
    int r = run(&driver, &error);

    if (r < 0)
        print(json_build("{s:s, s:s}", "error", error_code_name(error.code), "message", error.message));
    engine_close(driver.engine);
    loop_free(driver.loop);
    for (size_t i = 0; i < driver.n_keys; i++)
        free(driver.keys[i]);
    return r < 0 ? 1 : 0;
}
