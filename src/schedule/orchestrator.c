#include <malloc.h>
#include <signal.h>
#include <string.h>
#include "schedule/orchestrator-private.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/xalloc.h"

/*
 * What happens to runs that go on for long, as rows: after so much running time, as a multiple of the
 * daemon's limit, their priority falls, so that what comes later (and their own retries) is not held up by
 * them, and they give way where processors are short.
 */
static const struct {
    int times;
    int priority;
    double cpu_part; /* of the right to processors that they were launched with */
    const char *reason;
} long_run_rules[] = {
    {1, -10, 0.25, "long_running"},
};

#define LONG_RUN_MS   (5 * INT64_C(3600) * 1000)
#define RULE_INTERVAL (60 * NS_PER_SEC) /* or a quarter of the limit, if that is less */
#define QUEUE_RETRY   (1 * NS_PER_SEC)

/* -- placement -- */

static void on_resume(void *userdata)
{
    struct orchestrator *o = userdata;

    o->resume = NULL;
    orchestrator_place_soon(o);
}

static void resume_paused(struct orchestrator *o)
{
    int64_t now = clock_wall_ms(), next = queue_resume(o->queue, now);

    o->resume = loop_remove(o->resume);
    if (next != POOL_NEVER)
        o->resume = loop_add_timer(o->loop, (next - now) * NS_PER_MS, on_resume, o);
}

static void place(void *userdata)
{
    struct orchestrator *o = userdata;
    struct queue_item item;

    o->placing = false;
    if (!o->has_queue)
        return; /* what was submitted just now would pass what waits for longer */
    resume_paused(o);
    while (queue_next(o->queue, &o->pool, clock_wall_ms(), &item))
        active_begin(o, item.id);
}

void orchestrator_place_soon(struct orchestrator *o)
{
    if (o->placing)
        return;
    o->placing = true;
    loop_post(o->loop, place, o);
}

static void fail_queued(struct orchestrator *o, const char *run_id, const char *message)
{
    struct run_change change = {.state = RUN_FAILED, .reason = "environment_failed", .message = message};
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;

    queue_remove(o->queue, run_id);
    if (db_begin_write(o->store->db, &tx, &error) < 0 || run_load(&tx, NULL, run_id, &run, &error) < 0 ||
        run_set_state(&tx, run, &change, &error) < 0 || db_commit(&tx, &error) < 0) {
        log_error("cannot fail a run", "run", run_id, "error", error.message);
        return;
    }
    log_info("run ended", "run", run_id, "state", "failed", "reason", "environment_failed");
    if (o->run_ended)
        o->run_ended(o->run_ended_userdata, run_id);
}

static void free_waiting(void *pointer)
{
    strvec_release(pointer);
    free(pointer);
}

static void wait_for_build(struct orchestrator *o, const char *digest, const char *run_id)
{
    struct strvec *ids = map_get(&o->waiting, digest);

    if (!ids) {
        ids = xnew0(struct strvec);
        map_put(&o->waiting, digest, ids);
    }
    strvec_push(ids, run_id);
}

/* Of one that has its environment. */
static enum queue_park park_of(const struct queue_item *item)
{
    return item->not_before > clock_wall_ms() ? QUEUE_PAUSED : QUEUE_READY;
}

static int enqueue(struct orchestrator *o, const struct queue_item *item, const char *build, struct error *error)
{
    enum build_state state = BUILD_READY;
    cleanup_free char *message = NULL, *full = NULL;

    if (build && builder_need(o->builder, build, false, &state, &message, error) < 0)
        return -1;
    if (!queue_add(o->queue, item, state == BUILD_READY ? park_of(item) : QUEUE_ENVIRONMENT))
        return 0;
    if (state == BUILD_BUILDING) {
        wait_for_build(o, build, item->id);
    } else if (state == BUILD_FAILED) {
        full = xasprintf("its environment could not be built: %s", message ? message : "see its log");
        fail_queued(o, item->id, full);
    }
    orchestrator_place_soon(o);
    return 0;
}

int orchestrator_enqueue(struct orchestrator *o, const struct run *run, struct error *error)
{
    struct queue_item item = {.priority = run->priority,
                              .lasts_ms = run_lasts_ms(run),
                              .not_before = run->not_before,
                              .need = {run->resources, run->nodes}};

    memcpy(item.id, run->id, sizeof(item.id));
    return enqueue(o, &item, json_get_string(json_object_get(run->spec, "environment"), "digest", NULL), error);
}

static void on_build(void *userdata, const char *digest, enum build_state state, const char *message)
{
    struct orchestrator *o = userdata;
    struct strvec *ids = map_take(&o->waiting, digest);
    cleanup_free char *full = xasprintf("its environment could not be built: %s", message ? message : "");

    for (size_t i = 0; ids && i < ids->count; i++) {
        const struct queue_item *item = queue_find(o->queue, ids->items[i], NULL);

        if (item && state == BUILD_READY)
            queue_set_park(o->queue, ids->items[i], park_of(item));
        else if (item)
            fail_queued(o, ids->items[i], full);
    }
    if (ids)
        free_waiting(ids);
    orchestrator_place_soon(o);
}

/* -- what others tell -- */

struct notice {
    struct orchestrator *orchestrator;
    char text[ENVIRONMENT_DIGEST_SIZE]; /* run id, or digest of a build */
};

static void post(struct orchestrator *o, loop_fn fn, const char *text)
{
    struct notice *notice = xnew0(struct notice);

    notice->orchestrator = o;
    snprintf(notice->text, sizeof(notice->text), "%s", text);
    loop_post(o->loop, fn, notice);
}

static int load(struct orchestrator *o, const char *id, struct run **ret_run, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_read(o->store->db, &tx, error) < 0)
        return -1;
    return run_load(&tx, NULL, id, ret_run, error);
}

static void on_queued(void *userdata)
{
    cleanup_free struct notice *notice = userdata;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_run struct run *run = NULL;

    if (load(notice->orchestrator, notice->text, &run, &error) < 0 ||
        (run->state == RUN_QUEUED && orchestrator_enqueue(notice->orchestrator, run, &error) < 0))
        log_error("cannot queue a run", "run", notice->text, "error", error.message);
}

static void on_changed(void *userdata)
{
    cleanup_free struct notice *notice = userdata;
    struct orchestrator *o = notice->orchestrator;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_run struct run *run = NULL;
    struct active *active = map_get(&o->active, notice->text);

    if (load(o, notice->text, &run, &error) < 0 || run->state != RUN_QUEUED)
        queue_remove(o->queue, notice->text);
    else
        queue_set_priority(o->queue, notice->text, run->priority);
    if (active && run) {
        active->run->priority = run->priority;
        if (run->stop_requested)
            active_stop(active);
    }
    orchestrator_place_soon(o);
}

static void on_build_wanted(void *userdata)
{
    cleanup_free struct notice *notice = userdata;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *message = NULL;
    enum build_state state;

    if (builder_need(notice->orchestrator->builder, notice->text, true, &state, &message, &error) < 0)
        log_error("cannot build an environment", "digest", notice->text, "error", error.message);
}

void orchestrator_run_queued(struct orchestrator *o, const char *run_id)
{
    post(o, on_queued, run_id);
}

void orchestrator_run_changed(struct orchestrator *o, const char *run_id)
{
    post(o, on_changed, run_id);
}

void orchestrator_build(struct orchestrator *o, const char *digest)
{
    post(o, on_build_wanted, digest);
}

int orchestrator_identify_python(struct orchestrator *o, char **ret_identity, struct error *error)
{
    return builder_identify(o->builder, ret_identity, error);
}

struct call {
    struct orchestrator *orchestrator;
    void (*fn)(struct orchestrator *, void *);
    void *userdata;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool done;
};

static void run_call(void *userdata)
{
    struct call *call = userdata;

    call->fn(call->orchestrator, call->userdata);
    pthread_mutex_lock(&call->lock);
    call->done = true;
    pthread_cond_signal(&call->wake);
    pthread_mutex_unlock(&call->lock);
}

int orchestrator_call(struct orchestrator *o, void (*fn)(struct orchestrator *, void *), void *userdata,
                      struct error *error)
{
    struct call call = {.orchestrator = o, .fn = fn, .userdata = userdata};

    if (!o->started || atomic_load(&o->stopping))
        return error_set(error, ERROR_UNAVAILABLE, "the daemon is stopping");
    pthread_mutex_init(&call.lock, NULL);
    pthread_cond_init(&call.wake, NULL);
    loop_post(o->loop, run_call, &call);
    pthread_mutex_lock(&call.lock);
    while (!call.done)
        pthread_cond_wait(&call.wake, &call.lock);
    pthread_mutex_unlock(&call.lock);
    pthread_mutex_destroy(&call.lock);
    pthread_cond_destroy(&call.wake);
    return 0;
}

/* -- questions -- */

struct why {
    const char *run_id;
    json_t *answer;
};

static void ask_why(struct orchestrator *o, void *userdata)
{
    struct why *why = userdata;
    const struct active *active = map_get(&o->active, why->run_id);

    why->answer = queue_why(o->queue, &o->pool, why->run_id, clock_wall_ms());
    if (!why->answer && active)
        why->answer = json_build("{s:s, s:s}", "reason", active->preparing ? "preparing" : "running", "message",
                                 active->preparing ? "it has its resources; code and data are being prepared"
                                                   : "it has its resources and was launched");
}

json_t *orchestrator_why(struct orchestrator *o, const char *run_id, struct error *error)
{
    struct why why = {.run_id = run_id};
    cleanup_run struct run *run = NULL;

    if (load(o, run_id, &run, error) < 0 || orchestrator_call(o, ask_why, &why, error) < 0)
        return NULL;
    if (!why.answer)
        why.answer = json_build("{s:s, s:s}", "reason", run->reason, "message",
                                run->message               ? run->message
                                : run_is_final(run->state) ? "it has ended"
                                                           : "it is on its way");
    json_set_string(why.answer, "state", state_name(&run_states, (int)run->state));
    return why.answer;
}

static json_t *amount_json(double total, double used)
{
    return json_build("{s:f, s:f, s:f}", "total", total, "used", used, "free", total - used);
}

static void ask_capacity(struct orchestrator *o, void *userdata)
{
    json_t **answer = userdata;
    json_t *gpus = json_array(), *holders = json_array();
    struct pool_holder *holder;

    for (int i = 0; i < o->pool.n_gpus; i++) {
        json_t *gpu = json_build("{s:i, s:I}", "index", i, "memory", (json_int_t)o->pool.gpu_memory[i]);

        json_set_string(gpu, "holder", NULL);
        list_for_each(holder, &o->pool.holders, link)
            if (holder->amount.gpus & UINT64_C(1) << i)
                json_set_string(gpu, "holder", holder->owner);
        json_array_append_new(gpus, gpu);
    }
    list_for_each(holder, &o->pool.holders, link) {
        cleanup_free char *list = pool_gpu_list(holder->amount.gpus, POOL_GPUS, 0);
        json_t *item = json_build("{s:s, s:f, s:I}", "owner", holder->owner, "cpus", holder->amount.cpus, "memory",
                                  (json_int_t)holder->amount.memory);

        json_set_string(item, "gpus", list);
        json_set_time_ms(item, "since", holder->since);
        json_set_time_ms(item, "ends_at", holder->ends_at == POOL_NEVER ? 0 : holder->ends_at);
        json_array_append_new(holders, item);
    }
    *answer = json_build(
        "{s:s, s:s, s:o, s:o, s:o, s:o, s:I, s:I}", "engine", o->engine->driver->name, "runtime",
        o->capacity.runtime ? o->capacity.runtime : "", "cpus", amount_json(o->pool.cpus, o->pool.used.cpus), "memory",
        amount_json((double)o->pool.memory, (double)o->pool.used.memory), "gpus", gpus, "holders", holders, "queued",
        (json_int_t)queue_count(o->queue), "running", (json_int_t)map_count(&o->active));
    json_set_string(*answer, "note", o->capacity.note);
}

json_t *orchestrator_capacity(struct orchestrator *o, struct error *error)
{
    json_t *answer = NULL;

    return orchestrator_call(o, ask_capacity, &answer, error) < 0 ? NULL : answer;
}

/* -- for serving -- */

struct loop *orchestrator_loop(struct orchestrator *o)
{
    return o->loop;
}

struct engine *orchestrator_engine(struct orchestrator *o)
{
    return o->engine;
}

void orchestrator_set_engine_listener(struct orchestrator *o, engine_event_fn fn, void *userdata)
{
    o->engine_listener = fn;
    o->engine_listener_userdata = userdata;
}

void orchestrator_set_run_ended(struct orchestrator *o, orchestrator_run_ended_fn fn, void *userdata)
{
    o->run_ended = fn;
    o->run_ended_userdata = userdata;
}

void orchestrator_work(struct orchestrator *o, loop_fn work, loop_fn done, void *userdata)
{
    workers_add(o->workers, work, done, userdata);
}

int orchestrator_reserve(struct orchestrator *o, const char *owner, double cpus, uint64_t memory, int gpus,
                         char **ret_gpus, struct error *error)
{
    struct pool_need need = {.each = {.cpus = cpus, .memory = memory, .gpus = gpus}, .nodes = 1};
    const struct pool_holder *holder;

    pool_give(&o->pool, owner);
    orchestrator_place_soon(o);
    if (ret_gpus)
        *ret_gpus = NULL;
    if (cpus <= 0 && memory == 0 && gpus == 0)
        return 0;
    if (!pool_fits(&o->pool, &need))
        return error_set(error, ERROR_UNAVAILABLE, "%s does not fit beside what runs now", owner);
    holder = pool_take(&o->pool, owner, &need, clock_wall_ms(), POOL_NEVER);
    if (ret_gpus)
        *ret_gpus = pool_gpu_list(holder->amount.gpus, gpus, 0);
    return 0;
}

static void on_engine_event(void *userdata, const char *key, const char *directory, enum engine_event event)
{
    struct orchestrator *o = userdata;
    bool known;

    active_engine_event(o, key, event, &known);
    if (!known && o->engine_listener)
        o->engine_listener(o->engine_listener_userdata, key, directory, event);
}

/* -- rules -- */

static void lower_priority(struct active *active, int priority, const char *reason)
{
    struct orchestrator *o = active->orchestrator;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_write(o->store->db, &tx, &error) < 0 ||
        run_set_priority(&tx, active->run, priority, reason, NULL, &error) < 0 || db_commit(&tx, &error) < 0)
        log_warning("cannot lower the priority of a run", "run", active->run->id, "error", error.message);
}

/* First the weight: if the daemon dies in between, the priority tells the next one to do both again. */
static void give_way(struct active *active, double part)
{
    struct orchestrator *o = active->orchestrator;
    char key[LAUNCH_KEY_SIZE];

    for (int i = 0; i < active->n_nodes; i++) {
        cleanup_error struct error error = ERROR_INIT;

        if (active->nodes[i].over)
            continue;
        launch_key(active->run->id, active->run->attempt, i, key);
        if (engine_weigh(o->engine, key, part, &error) < 0 && error.code != ERROR_UNSUPPORTED)
            log_warning("cannot lower the weight of a node", "key", key, "error", error.message);
    }
}

static void apply_rules(void *userdata)
{
    struct orchestrator *o = userdata;
    struct map_iterator it = {0};
    int64_t now = clock_wall_ms();

    while (map_next(&o->active, &it)) {
        struct active *active = it.value;

        for (size_t i = 0; i < ARRAY_SIZE(long_run_rules); i++) {
            if (active->run->state != RUN_RUNNING ||
                now - active->run->started_at <= long_run_rules[i].times * o->long_run_ms ||
                active->run->priority <= long_run_rules[i].priority)
                continue;
            give_way(active, long_run_rules[i].cpu_part);
            lower_priority(active, long_run_rules[i].priority, long_run_rules[i].reason);
        }
    }
}

/* -- life -- */

static int load_queued(struct orchestrator *o, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_begin_read(o->store->db, &tx, error) < 0 ||
        db_query(&tx, &rows, error,
                 "SELECT id, priority, "
                 "iif(timeout_ms, timeout_ms + ifnull(json_extract(spec, '$.grace_ms'), 0), 0), nodes, cpus, "
                 "memory, gpus, gpu_memory, json_extract(spec, '$.environment.digest'), not_before FROM runs "
                 "WHERE state "
                 "= 0 ORDER BY id",
                 NULL) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0) {
        struct queue_item item = {.priority = (int)db_int(&rows, 1),
                                  .lasts_ms = db_int(&rows, 2),
                                  .not_before = db_int(&rows, 9),
                                  .need = {.nodes = (int)db_int(&rows, 3),
                                           .each = {.cpus = db_real(&rows, 4),
                                                    .memory = (uint64_t)db_int(&rows, 5),
                                                    .gpus = (int)db_int(&rows, 6),
                                                    .gpu_memory = (uint64_t)db_int(&rows, 7)}}};

        snprintf(item.id, sizeof(item.id), "%s", db_text(&rows, 0));
        if (enqueue(o, &item, db_text(&rows, 8), error) < 0)
            return -1;
    }
    db_rows_end(&rows);
    db_forget_pages(&tx);
    return r;
}

/* The first that the thread does; until then, a moment for thousands of runs, the API answers already. */
static void take_queue(void *userdata)
{
    struct orchestrator *o = userdata;
    cleanup_error struct error error = ERROR_INIT;

    if (load_queued(o, &error) < 0) {
        log_error("cannot read the queue; it is tried again", "error", error.message);
        loop_add_timer(o->loop, QUEUE_RETRY, take_queue, o);
        return;
    }
    malloc_trim(0); /* megabytes of it were pages of the database, of which nobody needs another look */
    o->has_queue = true;
    orchestrator_place_soon(o);
}

static int load_live(struct orchestrator *o, struct error *error)
{
    cleanup_strvec struct strvec ids = STRVEC_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_begin_read(o->store->db, &tx, error) < 0 ||
        db_query(&tx, &rows, error, "SELECT id FROM runs WHERE state IN (1, 2) ORDER BY id", NULL) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0)
        strvec_push(&ids, db_text(&rows, 0));
    if (r < 0)
        return -1;
    db_rows_end(&rows);
    db_end(&tx);
    for (size_t i = 0; i < ids.count; i++)
        if (active_reattach(o, ids.items[i], error) < 0)
            return error_wrap(error, "run %s", ids.items[i]);
    return 0;
}

static int open_engine(struct orchestrator *o, const struct orchestrator_options *options, struct error *error)
{
    if (engine_open(options->engine ? options->engine : "auto", options->engine_options, o->loop, o->store->directory,
                    on_engine_event, o, &o->engine, error) < 0 ||
        engine_probe(o->engine, &o->capacity, error) < 0)
        return error_wrap(error, "engine %s", options->engine ? options->engine : "auto");
    pool_init(&o->pool, o->capacity.cpus, o->capacity.memory, o->capacity.gpus, o->capacity.gpu_memory);
    return 0;
}

int orchestrator_new(struct store *store, const struct orchestrator_options *options,
                     struct orchestrator **ret_orchestrator, struct error *error)
{
    struct orchestrator *o = xnew0(struct orchestrator);

    o->store = store;
    o->loop = loop_new();
    o->workers = workers_new(o->loop, options->workers ? options->workers : 4);
    o->queue = queue_new();
    o->waiting.destroy = free_waiting;
    o->url = xstrdup_null(options->url);
    o->long_run_ms = options->long_run_ms > 0 ? options->long_run_ms : LONG_RUN_MS;
    o->builder = builder_new(store, o->loop, o->workers, options->python, on_build, o);
    pool_init(&o->pool, 0, 0, 0, NULL);
    if (open_engine(o, options, error) < 0 || builder_resume(o->builder, error) < 0 || load_live(o, error) < 0) {
        orchestrator_free(o);
        return -1;
    }
    loop_add_interval(o->loop,
                      o->long_run_ms * NS_PER_MS / 4 < RULE_INTERVAL ? o->long_run_ms * NS_PER_MS / 4 : RULE_INTERVAL,
                      apply_rules, o);
    active_decide_gates(o);
    loop_post(o->loop, take_queue, o);
    *ret_orchestrator = o;
    return 0;
}

static void *run_thread(void *userdata)
{
    struct orchestrator *o = userdata;

    loop_run(o->loop);
    return NULL;
}

int orchestrator_start(struct orchestrator *o, struct error *error)
{
    sigset_t all, old;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    r = pthread_create(&o->thread, NULL, run_thread, o);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r != 0)
        return error_set_errno(error, r, "cannot start the orchestrator's thread");
    o->started = true;
    return 0;
}

void orchestrator_stop(struct orchestrator *o)
{
    if (atomic_exchange(&o->stopping, true))
        return;
    if (o->started) {
        loop_stop(o->loop);
        pthread_join(o->thread, NULL);
    }
    workers_stop(o->workers);
}

struct orchestrator *orchestrator_free(struct orchestrator *o)
{
    if (!o)
        return NULL;
    orchestrator_stop(o);
    workers_free(o->workers);
    if (o->engine)
        engine_close(o->engine);
    builder_free(o->builder);
    active_free_all(o);
    queue_free(o->queue);
    map_release(&o->waiting);
    pool_release(&o->pool);
    loop_free(o->loop);
    free(o->url);
    free(o);
    return NULL;
}
