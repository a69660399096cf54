#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include "engine/drivers.h"
#include "engine/fake.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/map.h"
#include "util/xalloc.h"

struct fake_node {
    struct engine *engine;
    char *key, *directory;
    struct loop_source *timer;
    int64_t seq;
    int64_t started_ms;
    int number; /* counts launches, from 1 */
    bool ended;
    enum engine_event end; /* what an attach tells later */
};

struct fake {
    struct map nodes;
    double cpus;
    uint64_t memory, *gpu_memory;
    int gpus;
    int64_t start_ms, run_ms;
    int exit_code, refuse, dying, launched;
    bool manual, stubborn, lossy;
};

static void node_free(void *p)
{
    struct fake_node *node = p;

    loop_remove(node->timer);
    free(node->key);
    free(node->directory);
    free(node);
}

static int fake_open(struct engine *engine, const json_t *options, struct error *error)
{
    struct fake *fake = xnew0(struct fake);

    fake->nodes.destroy = node_free;
    fake->cpus = json_get_number(options, "cpus", 8);
    fake->memory = (uint64_t)json_get_int(options, "memory", (int64_t)(16 * GIB));
    fake->gpus = (int)json_get_int(options, "gpus", 0);
    fake->gpu_memory = xcalloc((size_t)fake->gpus + 1, sizeof(*fake->gpu_memory));
    for (int i = 0; i < fake->gpus; i++)
        fake->gpu_memory[i] = (uint64_t)json_get_int(options, "gpu_memory", (int64_t)(16 * GIB));
    fake->start_ms = json_get_int(options, "start_ms", 0);
    fake->run_ms = json_get_int(options, "run_ms", 0);
    fake->exit_code = (int)json_get_int(options, "exit_code", 0);
    fake->refuse = (int)json_get_int(options, "refuse", 0);
    fake->dying = (int)json_get_int(options, "dying", 0);
    fake->manual = json_get_bool(options, "manual", false);
    fake->stubborn = json_get_bool(options, "stubborn", false);
    fake->lossy = json_get_bool(options, "lossy", false);
    engine->state = fake;
    return 0;
}

static void fake_close(struct engine *engine)
{
    struct fake *fake = engine->state;

    map_release(&fake->nodes);
    free(fake->gpu_memory);
    free(fake);
}

static int fake_probe(struct engine *engine, struct engine_capacity *ret_capacity, struct error *error)
{
    struct fake *fake = engine->state;

    *ret_capacity = (struct engine_capacity){
        .cpus = fake->cpus,
        .memory = fake->memory,
        .gpus = fake->gpus,
        .gpu_memory = fake->gpu_memory,
        .runtime = "fake",
        .note = "nothing really runs: this engine is for tests",
    };
    return 0;
}

static struct fake_node *find(struct engine *engine, const char *key, struct error *error)
{
    struct fake *fake = engine->state;
    struct fake_node *node = map_get(&fake->nodes, key);

    if (!node || node->ended) {
        error_set(error, ERROR_NOT_FOUND, "node %s is not running", key);
        return NULL;
    }
    return node;
}

static void tell(struct fake_node *node, enum engine_event event)
{
    node->engine->on_event(node->engine->userdata, node->key, node->directory, event);
}

static int add_line(struct fake_node *node, const char *type, json_t *fields, struct error *error)
{
    cleanup_free char *path = fs_join(node->directory, "intake.jsonl"), *text = NULL, *line = NULL;
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    cleanup_json json_t *given = fields, *json = json_object();
    char time[CLOCK_RFC3339_SIZE];

    if (fd < 0)
        return error_set_errno(error, errno, "cannot open %s", path);
    json_set_int(json, "seq", ++node->seq);
    json_set_string(json, "time", clock_format_ns(clock_wall_ns(), time));
    json_set_string(json, "type", type);
    if (given)
        json_object_update(json, given);
    text = json_text(json);
    line = xasprintf("%s\n", text);
    return fs_write_all(fd, line, strlen(line), error);
}

int fake_intake(struct engine *engine, const char *key, const char *type, json_t *fields, struct error *error)
{
    struct fake *fake = engine->state;
    cleanup_json json_t *owned = fields;
    struct fake_node *node = find(engine, key, error);

    if (!node || add_line(node, type, json_incref(owned), error) < 0)
        return -1;
    if (!fake->lossy)
        tell(node, ENGINE_INTAKE);
    return 0;
}

static json_t *exit_record(const struct fake_node *node, int exit_code, int signal, const char *reason)
{
    json_t *record = json_object();

    json_object_set_new(record, "exit_code", exit_code >= 0 ? json_integer(exit_code) : json_null());
    json_object_set_new(record, "signal", signal ? json_integer(signal) : json_null());
    json_set_bool(record, "oom_killed", false);
    json_set_string(record, "reason", reason ? reason : signal ? "signaled" : "exited");
    json_set_string(record, "message", "a node of the fake engine");
    json_set_time_ms(record, "started_at", node->started_ms);
    json_set_time_ms(record, "ended_at", clock_wall_ms());
    json_set_number(record, "cpu_seconds", 0);
    json_set_int(record, "memory_peak_bytes", 0);
    json_set_int(record, "log_bytes", 0);
    json_set_int(record, "log_dropped_bytes", 0);
    json_set_int(record, "generations", 0);
    json_set_int(record, "restarts", 0);
    json_object_set_new(record, "artifacts", json_array());
    json_set_int(record, "artifacts_total", 0);
    return record;
}

int fake_end(struct engine *engine, const char *key, int exit_code, int signal, const char *reason, struct error *error)
{
    struct fake_node *node = find(engine, key, error);
    cleanup_json json_t *record = NULL;
    cleanup_free char *path = NULL, *text = NULL;

    if (!node)
        return -1;
    record = exit_record(node, exit_code, signal, reason);
    path = fs_join(node->directory, "exit.json");
    text = json_text(record);
    if (add_line(node, "exited", json_incref(record), error) < 0 ||
        fs_write_atomic(path, text, strlen(text), 0600, error) < 0)
        return -1;
    node->timer = loop_remove(node->timer);
    node->ended = true;
    tell(node, ENGINE_EXITED);
    return 0;
}

int fake_lose(struct engine *engine, const char *key, struct error *error)
{
    struct fake_node *node = find(engine, key, error);

    if (!node)
        return -1;
    node->timer = loop_remove(node->timer);
    node->ended = true;
    tell(node, ENGINE_LOST);
    return 0;
}

static void on_end(void *userdata)
{
    struct fake_node *node = userdata;
    struct fake *fake = node->engine->state;

    node->timer = NULL;
    if (fake->dying && node->number % fake->dying == 0)
        fake_lose(node->engine, node->key, NULL);
    else
        fake_end(node->engine, node->key, fake->exit_code, 0, NULL, NULL);
}

int fake_start(struct engine *engine, const char *key, struct error *error)
{
    struct fake *fake = engine->state;
    struct fake_node *node = find(engine, key, error);

    if (!node)
        return -1;
    node->started_ms = clock_wall_ms();
    if (!fake->manual)
        node->timer = loop_add_timer(engine->loop, fake->run_ms * NS_PER_MS, on_end, node);
    return fake_intake(engine, key, "started", json_build("{s:i}", "pid", 1), error);
}

static void on_start(void *userdata)
{
    struct fake_node *node = userdata;

    node->timer = NULL;
    fake_start(node->engine, node->key, NULL);
}

size_t fake_count(const struct engine *engine)
{
    const struct fake *fake = engine->state;
    struct map_iterator it = {0};
    size_t n = 0;

    while (map_next(&fake->nodes, &it))
        n += !((struct fake_node *)it.value)->ended;
    return n;
}

static struct fake_node *node_new(struct engine *engine, const char *key, const char *directory)
{
    struct fake *fake = engine->state;
    struct fake_node *node = xnew0(struct fake_node);

    node->engine = engine;
    node->key = xstrdup(key);
    node->directory = xstrdup(directory);
    map_put(&fake->nodes, key, node);
    return node;
}

static int fake_launch(struct engine *engine, const struct engine_spec *spec, struct error *error)
{
    struct fake *fake = engine->state;
    cleanup_free char *key = engine_key(spec->run_id, spec->attempt, spec->node);
    struct fake_node *node;

    if (map_get(&fake->nodes, key))
        return error_set(error, ERROR_EXISTS, "node %s is launched already", key);
    if (fake->refuse > 0) {
        fake->refuse--;
        return error_set(error, ERROR_UNAVAILABLE, "the fake engine refuses to launch node %s", key);
    }
    node = node_new(engine, key, spec->directory);
    node->number = ++fake->launched;
    if (!fake->manual)
        node->timer = loop_add_timer(engine->loop, fake->start_ms * NS_PER_MS, on_start, node);
    return 0;
}

static int fake_signal(struct engine *engine, const char *key, int signal, const char *reason, struct error *error)
{
    struct fake *fake = engine->state;
    const struct fake_node *node = map_get(&fake->nodes, key);

    if (!node || node->ended || (fake->stubborn && signal != SIGKILL))
        return 0;
    return fake_end(engine, key, -1, signal, reason ? reason : "stopped", error);
}

static void on_attached(void *userdata)
{
    struct fake_node *node = userdata;

    node->timer = NULL;
    tell(node, node->end);
}

/* Nothing outlives the fake engine, so what was left by an earlier one has ended or is lost. */
static int fake_attach(struct engine *engine, const char *key, const char *directory, struct error *error)
{
    struct fake *fake = engine->state;
    cleanup_free char *path = fs_join(directory, "exit.json");
    struct fake_node *node;

    if (map_get(&fake->nodes, key))
        return error_set(error, ERROR_EXISTS, "node %s is attached already", key);
    node = node_new(engine, key, directory);
    node->ended = true;
    node->end = fs_exists(path) ? ENGINE_EXITED : ENGINE_LOST;
    node->timer = loop_add_timer(engine->loop, 0, on_attached, node);
    return 0;
}

static int fake_forget(struct engine *engine, const char *key, struct error *error)
{
    map_remove(&((struct fake *)engine->state)->nodes, key);
    return 0;
}

static int fake_weigh(struct engine *engine, const char *key, double part, struct error *error)
{
    return find(engine, key, error) ? 0 : -1;
}

static json_t *fake_stats(struct engine *engine, const char *key, struct error *error)
{
    if (!find(engine, key, error))
        return NULL;
    return json_build("{s:f, s:i, s:i, s:i}", "cpu_seconds", 0.5, "memory_bytes", 1 << 20, "memory_peak_bytes", 2 << 20,
                      "pids", 1);
}

const struct engine_driver fake_driver = {
    .name = "fake",
    .summary = "runs nothing and pretends, for tests",
    .open = fake_open,
    .close = fake_close,
    .probe = fake_probe,
    .launch = fake_launch,
    .signal = fake_signal,
    .attach = fake_attach,
    .forget = fake_forget,
    .weigh = fake_weigh,
    .stats = fake_stats,
};
