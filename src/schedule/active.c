/*
 * The life of a run that holds resources.
 *
 *     active_begin ── queued → starting (tx) ── launch_prepare (worker) ── launch_node for each (engine)
 *     engine event ── intake_take (worker: starting → running, metrics, weights, node's end) ── again if more
 * came all nodes over ── active_end: final state, or back to the queue (tx) ── resources free, place again
 */
#include <assert.h>
#include <signal.h>
#include <string.h>
#include "core/gate.h"
#include "core/model.h"
#include "core/token.h"
#include "schedule/intake.h"
#include "schedule/orchestrator-private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/parse.h"
#include "util/xalloc.h"

#define INTAKE_RETRIES 8 /* with growing pauses, before a node's intake is given up until the next event */

static void active_end(struct active *active);

static void free_node(struct active_node *node)
{
    free(node->directory);
    free(node->corrupt);
    json_decref(node->exit);
}

static void free_active(struct active *active)
{
    for (int i = 0; i < active->n_nodes; i++)
        free_node(&active->nodes[i]);
    free(active->nodes);
    launch_free(active->launch);
    run_free(active->run);
    free(active->prepare_error);
    free(active);
}

static struct active *new_active(struct orchestrator *o, struct run *run)
{
    struct active *active = xnew0(struct active);

    active->orchestrator = o;
    active->run = run;
    active->n_nodes = run->nodes;
    active->culprit = -1;
    active->nodes = xcalloc((size_t)run->nodes, sizeof(*active->nodes));
    for (int i = 0; i < run->nodes; i++) {
        struct active_node *node = &active->nodes[i];

        node->active = active;
        node->orchestrator = o;
        node->index = i;
        node->attempt = run->attempt;
        node->directory = launch_directory(o->store, run->id, run->attempt, i);
        memcpy(node->run_id, run->id, sizeof(node->run_id));
    }
    map_put(&o->active, run->id, active);
    return active;
}

void active_free_all(struct orchestrator *o)
{
    struct map_iterator it = {0};

    while (map_next(&o->active, &it))
        free_active(it.value);
    map_release(&o->active);
}

/* -- begin -- */

static uint64_t held_gpus(const struct orchestrator *o, const char *run_id)
{
    const struct pool_holder *holder = pool_holder(&o->pool, run_id);

    return holder ? holder->amount.gpus : 0;
}

static int write_begin(struct orchestrator *o, const char *run_id, struct run **ret_run, struct error *error)
{
    struct run_change change = {.state = RUN_STARTING, .reason = "placed"};
    cleanup_run struct run *run = NULL;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int index;

    if (db_begin_write(o->store->db, &tx, error) < 0 || run_load(&tx, NULL, run_id, &run, error) < 0 ||
        run_set_state(&tx, run, &change, error) < 0)
        return -1;
    for (int i = 0; i < run->nodes; i++) {
        cleanup_free char *gpus = pool_gpu_list(held_gpus(o, run_id), run->resources.gpus, i);

        if (run_add_node(&tx, run, i, run_node_role(run, i, &index), gpus, error) < 0)
            return -1;
    }
    if (db_commit(&tx, error) < 0)
        return -1;
    *ret_run = steal_ptr(run);
    return 0;
}

static void prepare_work(void *userdata)
{
    struct active *active = userdata;
    cleanup_error struct error error = ERROR_INIT;

    if (launch_prepare(active->launch, active->orchestrator->store, &error) < 0) {
        active->prepare_code = error.code;
        active->prepare_error = steal_ptr(error.message);
    }
}

static void fail_prepare(struct active *active, const struct error *error)
{
    free(active->prepare_error);
    active->prepare_code = error->code;
    active->prepare_error = xstrdup(error->message);
    for (int i = 0; i < active->n_nodes; i++)
        if (!active->nodes[i].launched)
            active->nodes[i].over = true;
}

static void signal_nodes(struct active *active, int signal, const char *reason)
{
    struct orchestrator *o = active->orchestrator;
    char key[LAUNCH_KEY_SIZE];

    for (int i = 0; i < active->n_nodes; i++) {
        cleanup_error struct error error = ERROR_INIT;

        if (!active->nodes[i].launched || active->nodes[i].over)
            continue;
        launch_key(active->run->id, active->run->attempt, i, key);
        if (engine_signal(o->engine, key, signal, reason, &error) < 0)
            log_warning("cannot signal node", "key", key, "error", error.message);
    }
}

static bool all_over(const struct active *active)
{
    for (int i = 0; i < active->n_nodes; i++)
        if (!active->nodes[i].over)
            return false;
    return true;
}

static void prepare_done(void *userdata)
{
    struct active *active = userdata;
    struct orchestrator *o = active->orchestrator;
    cleanup_error struct error error = ERROR_INIT;

    active->preparing = false;
    if (active->prepare_error || active->run->stop_requested) {
        for (int i = 0; i < active->n_nodes; i++)
            active->nodes[i].over = true;
        active_end(active);
        return;
    }
    for (int i = 0; i < active->n_nodes && !active->prepare_error; i++) {
        if (launch_node(active->launch, o->engine, o->store, i, &error) < 0)
            fail_prepare(active, &error);
        else
            active->nodes[i].launched = true;
    }
    active->launch = launch_free(active->launch);
    if (active->prepare_error)
        signal_nodes(active, SIGKILL, "start_failed");
    if (all_over(active))
        active_end(active);
}

void active_begin(struct orchestrator *o, const char *run_id)
{
    cleanup_error struct error error = ERROR_INIT;
    struct active *active;
    struct run *run;

    if (write_begin(o, run_id, &run, &error) < 0) {
        /* Stopped or removed a moment ago; anything else is a full disk or worse, and the run stays queued.
         */
        pool_give(&o->pool, run_id);
        if (error.code != ERROR_CONFLICT && error.code != ERROR_NOT_FOUND)
            log_error("cannot start run", "run", run_id, "error", error.message);
        return;
    }
    log_info("run starting", "run", run_id);
    active = new_active(o, run);
    active->preparing = true;
    active->launch = xnew0(struct launch);
    active->launch->run = run;
    active->launch->gpus = held_gpus(o, run_id);
    active->launch->url = o->url;
    workers_add(o->workers, prepare_work, prepare_done, active);
}

void active_stop(struct active *active)
{
    active->run->stop_requested = true;
    if (active->preparing || active->stop_sent)
        return;
    active->stop_sent = true;
    signal_nodes(active, SIGTERM, "stopped");
}

/* -- intake -- */

static void intake_more(void *userdata);

static int load_exit(struct active_node *node, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_read(node->orchestrator->store->db, &tx, error) < 0)
        return -1;
    node->exit = run_node_exit(&tx, node->run_id, node->attempt, node->index, error);
    return node->exit ? 0 : -1;
}

static void intake_work(void *userdata)
{
    struct active_node *node = userdata;
    struct intake_node from = {.attempt = node->attempt, .node = node->index, .directory = node->directory};
    cleanup_error struct error error = ERROR_INIT;
    struct intake_result result = {0};

    memcpy(from.run_id, node->run_id, sizeof(from.run_id));
    node->failed = intake_take(node->orchestrator->store, &from, node->final, &result, &error) < 0;
    node->ended = result.ended;
    node->more = result.more;
    node->started = result.started;
    if (result.corrupt) {
        free(node->corrupt);
        node->corrupt = result.corrupt;
    }
    if (!node->failed && node->ended && !node->exit)
        node->failed = load_exit(node, &error) < 0;
    if (node->failed)
        log_error("cannot take in what a node wrote", "run", node->run_id, "error", error.message);
}

static void write_lost(struct active_node *node)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_write(node->orchestrator->store->db, &tx, &error) < 0 ||
        run_set_node_state(&tx, node->run_id, node->attempt, node->index, NODE_LOST, NULL, &error) < 0 ||
        db_commit(&tx, &error) < 0)
        log_error("cannot record a lost node", "run", node->run_id, "error", error.message);
    node->is_lost = true;
}

static void kill_node(struct active_node *node, const char *reason)
{
    cleanup_error struct error error = ERROR_INIT;
    char key[LAUNCH_KEY_SIZE];

    launch_key(node->run_id, node->attempt, node->index, key);
    if (engine_signal(node->orchestrator->engine, key, SIGKILL, reason, &error) < 0)
        log_warning("cannot signal node", "key", key, "error", error.message);
}

/* Chief or main decide; parameter servers only serve the others. */
static bool is_server(const struct active *active, int node)
{
    int index;

    return strcmp(run_node_role(active->run, node, &index), "ps") == 0;
}

/* 128 + signal for a killed program, 127 for one that could not be started, as a shell says it. */
static int node_exit_code(const struct active_node *node)
{
    if (json_is_integer(json_object_get(node->exit, "exit_code")))
        return (int)json_get_int(node->exit, "exit_code", 1);
    if (json_is_integer(json_object_get(node->exit, "signal")))
        return 128 + (int)json_get_int(node->exit, "signal", 0);
    return 127;
}

static const char *node_exit_reason(const struct active_node *node)
{
    return json_get_string(node->exit, "reason", "exited");
}

static bool is_ended_by_peers(const struct active_node *node)
{
    return !node->is_lost && strncmp(node_exit_reason(node), "peer", 4) == 0;
}

/* A node is over: others may have nothing to wait for any more. */
static void node_over(struct active_node *node)
{
    struct active *active = node->active;
    char key[LAUNCH_KEY_SIZE];
    bool trainers_over = true, failed = node->is_lost || node_exit_code(node) != 0;

    node->over = true;
    if (failed && active->culprit < 0 && !active->run->stop_requested && !is_ended_by_peers(node))
        active->culprit = node->index;
    engine_forget(active->orchestrator->engine, launch_key(node->run_id, node->attempt, node->index, key), NULL);
    if (all_over(active)) {
        active_end(active);
        return;
    }
    for (int i = 0; i < active->n_nodes; i++)
        trainers_over &= active->nodes[i].over || is_server(active, i);
    if (failed)
        signal_nodes(active, SIGTERM, "peer_failed");
    else if (trainers_over)
        signal_nodes(active, SIGTERM, "peers_done");
}

static void intake_done(void *userdata)
{
    struct active_node *node = userdata;
    struct orchestrator *o = node->orchestrator;

    node->busy = false;
    if (node->failed) {
        /* Nothing is lost: the lines stay in the file. Tried again later, soon at first. */
        int64_t pause = NS_PER_MS * 100 << (node->failures < INTAKE_RETRIES ? node->failures++ : INTAKE_RETRIES);

        node->busy = true;
        loop_add_timer(o->loop, pause, intake_more, node);
        return;
    }
    node->failures = 0;
    if (node->started)
        node->active->run->state = RUN_RUNNING; /* as the intake has written */
    if (node->corrupt && !node->gone) {
        /* What it still writes nobody could take. Its file stays as it is, to be looked at. */
        kill_node(node, "intake_corrupt");
    } else if (node->corrupt) {
        write_lost(node);
        node_over(node);
    } else if (node->ended && node->gone) {
        node_over(node);
    } else if (node->more || node->again || (node->gone && !node->final)) {
        node->again = false;
        node->busy = true;
        node->final = node->gone;
        workers_add(o->workers, intake_work, intake_done, node);
    } else if (node->gone && node->final) {
        write_lost(node);
        node_over(node);
    }
}

static void intake_more(void *userdata)
{
    struct active_node *node = userdata;

    workers_add(node->orchestrator->workers, intake_work, intake_done, node);
}

static void take_intake(struct active_node *node)
{
    if (node->over)
        return;
    if (node->busy) {
        node->again = true;
        return;
    }
    node->busy = true;
    node->final = node->gone;
    intake_more(node);
}

void active_engine_event(struct orchestrator *o, const char *key, enum engine_event event, bool *ret_known)
{
    char id[ID_SIZE];
    struct active *active;
    int attempt, index;

    *ret_known = false;
    if (!launch_parse_key(key, id, &attempt, &index))
        return;
    active = map_get(&o->active, id);
    if (!active || active->run->attempt != attempt || index < 0 || index >= active->n_nodes)
        return;
    *ret_known = true;
    if (event == ENGINE_EXITED || event == ENGINE_LOST)
        active->nodes[index].gone = true;
    take_intake(&active->nodes[index]);
}

/* -- end -- */

/* What became of a run, from what became of its nodes. */
struct verdict {
    enum run_state state;
    const char *reason;
    char *message;
    bool has_exit_code;
    int exit_code;
    bool may_retry;
};

/* Words of the monitor's exit record → end of the run. */
static const struct {
    const char *exit_reason;
    enum run_state state;
    const char *reason, *message;
    bool may_retry;
} endings[] = {
    {"timeout", RUN_FAILED, "timeout", "the run was longer than its time-out", false},
    {"oom", RUN_FAILED, "out_of_memory", "the program needed more memory than the run was given", true},
    {"start_failed", RUN_FAILED, "start_failed", "the program could not be started", false},
    {"signaled", RUN_FAILED, "signaled", "the program was killed by a signal", true},
    {"stopped", RUN_STOPPED, "stopped_by_user", "stopped", false},
    {"exited", RUN_FAILED, "exit_code", "the program ended with a non-zero exit status", true},
};

static void judge_node(const struct active_node *node, struct verdict *verdict)
{
    const char *message = json_get_string(node->exit, "message", NULL), *reason = node_exit_reason(node);
    int code = node_exit_code(node);

    verdict->has_exit_code = true;
    verdict->exit_code = code;
    if (code == 0 && strcmp(reason, "exited") == 0) {
        verdict->state = RUN_SUCCEEDED;
        verdict->reason = "completed";
        return;
    }
    verdict->state = RUN_FAILED;
    verdict->reason = "failed";
    verdict->may_retry = true;
    for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
        if (strcmp(reason, endings[i].exit_reason) != 0)
            continue;
        verdict->state = endings[i].state;
        verdict->reason = endings[i].reason;
        verdict->may_retry = endings[i].may_retry;
        message = message && *message ? message : endings[i].message;
    }
    verdict->message = xstrdup_null(message);
}

/* The node whose end is the run's: the first that did not end because of another one. */
static const struct active_node *deciding_node(struct active *active)
{
    const struct active_node *first = NULL;

    if (active->culprit >= 0)
        return &active->nodes[active->culprit];
    for (int i = 0; i < active->n_nodes; i++) {
        if (is_server(active, i) && active->n_nodes > 1)
            continue;
        if (active->nodes[i].is_lost)
            return &active->nodes[i];
        if (is_ended_by_peers(&active->nodes[i]))
            continue;
        if (!first)
            first = &active->nodes[i];
        if (node_exit_code(&active->nodes[i]) != 0)
            return &active->nodes[i];
    }
    return first ? first : &active->nodes[0];
}

/* Of several nodes the message says which. */
static void name_node(const struct active *active, const struct active_node *node, struct verdict *verdict)
{
    cleanup_free char *message = verdict->message;
    const char *role;
    int index;

    if (active->n_nodes < 2 || verdict->state == RUN_SUCCEEDED || !message) {
        message = NULL;
        return;
    }
    role = run_node_role(active->run, node->index, &index);
    verdict->message = xasprintf("%s %d (node %d): %s", role, index, node->index, message);
}

static void judge(struct active *active, struct verdict *verdict)
{
    const struct active_node *node;

    if (active->prepare_error) {
        *verdict = (struct verdict){.state = RUN_FAILED,
                                    .reason = "start_failed",
                                    .message = xstrdup(active->prepare_error),
                                    .may_retry = active->prepare_code == ERROR_UNAVAILABLE};
        return;
    }
    if (active->run->stop_requested && !active->nodes[0].launched) {
        *verdict = (struct verdict){
            .state = RUN_STOPPED, .reason = "stopped_by_user", .message = xstrdup("stopped before it started")};
        return;
    }
    node = deciding_node(active);
    /* An earlier process died while it launched: the monitor never came to life, the run is not to blame. */
    if (node->is_lost && active->reattached && active->run->state == RUN_STARTING)
        active->requeue = true;
    if (node->is_lost && node->corrupt)
        *verdict = (struct verdict){.state = RUN_LOST,
                                    .reason = "intake_corrupt",
                                    .message = xasprintf("node %d: %s", node->index, node->corrupt),
                                    .may_retry = true};
    else if (node->is_lost)
        *verdict = (struct verdict){.state = RUN_LOST,
                                    .reason = "node_lost",
                                    .message = xasprintf("node %d vanished without an exit record", node->index),
                                    .may_retry = true};
    else
        judge_node(node, verdict);
    name_node(active, node, verdict);
    if (active->run->stop_requested && verdict->state != RUN_SUCCEEDED) {
        verdict->state = RUN_STOPPED;
        verdict->reason = "stopped_by_user";
        verdict->may_retry = false;
    }
}

/* In the transaction of the end, so that a gate that is due cannot be forgotten. A run that kept no weights
 * has nothing to judge. */
static int ask_gate(struct db_tx *tx, const struct run *run, struct error *error)
{
    const json_t *gate = json_object_get(run->spec, "gate");
    cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
    cleanup_error struct error missing = ERROR_INIT;

    if (!json_is_object(gate) || !run->model)
        return 0;
    if (model_resolve_run(tx, run->id, &version, &missing) < 0) {
        if (missing.code == ERROR_NOT_FOUND)
            return 0;
        error_move(error, &missing);
        return -1;
    }
    return gate_request(tx, run->id, run->project, run->model, json_get_string(gate, "rule", ""),
                        json_get_string(gate, "alias", "production"), error);
}

/* Before the next attempt, by the number of those that failed; the last row is for all further ones. What
 * fails at once must not fill the machine, what failed by chance should go on soon. */
static const int64_t retry_pauses_ms[] = {0, 1000, 5000, 15000, 60000};

static int64_t next_attempt_at(int failures)
{
    size_t i = failures < (int)ARRAY_SIZE(retry_pauses_ms) ? (size_t)failures : ARRAY_SIZE(retry_pauses_ms) - 1;

    return retry_pauses_ms[i] ? clock_wall_ms() + retry_pauses_ms[i] : 0;
}

static int write_end(struct active *active, const struct verdict *verdict, struct error *error)
{
    struct run *run = active->run;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct run_change change = {.state = verdict->state,
                                .reason = verdict->reason,
                                .message = verdict->message,
                                .exit_code = verdict->has_exit_code ? &verdict->exit_code : NULL};
    bool retry = verdict->may_retry && run->failures < run->retries;

    if (db_begin_write(active->orchestrator->store->db, &tx, error) < 0)
        return -1;
    if (active->requeue && !run->stop_requested)
        change = (struct run_change){.state = RUN_QUEUED, .reason = "daemon_restarted", .new_attempt = true};
    else if (retry)
        change = (struct run_change){.state = RUN_QUEUED,
                                     .reason = "retry",
                                     .message = verdict->message,
                                     .new_attempt = true,
                                     .failure = true,
                                     .not_before = next_attempt_at(run->failures)};
    if (run_set_state(&tx, run, &change, error) < 0)
        return -1;
    if (run->state == RUN_SUCCEEDED && ask_gate(&tx, run, error) < 0)
        return -1;
    if (run_is_final(run->state) && json_get_bool(run->spec, "network", false) &&
        token_revoke_run(&tx, run->id, error) < 0)
        return -1;
    return db_commit(&tx, error);
}

struct unpin {
    struct orchestrator *orchestrator;
    char owner[64];
};

static void unpin_work(void *userdata)
{
    struct unpin *unpin = userdata;
    cleanup_error struct error error = ERROR_INIT;

    if (vault_unpin(unpin->orchestrator->store->vault, unpin->owner, &error) < 0)
        log_warning("cannot release what a run used", "owner", unpin->owner, "error", error.message);
    free(unpin);
}

static void release_pins(struct orchestrator *o, const char *run_id)
{
    struct unpin *unpin = xnew0(struct unpin);

    unpin->orchestrator = o;
    snprintf(unpin->owner, sizeof(unpin->owner), "run:%s", run_id);
    workers_add(o->workers, unpin_work, NULL, unpin);
}

static void end_again(void *userdata)
{
    active_end(userdata);
}

static void active_end(struct active *active)
{
    struct orchestrator *o = active->orchestrator;
    cleanup_error struct error error = ERROR_INIT;
    struct verdict verdict = {.state = RUN_FAILED};
    char id[ID_SIZE];

    active->launch = launch_free(active->launch);
    judge(active, &verdict);
    if (write_end(active, &verdict, &error) < 0) {
        /* A full disk passes; the resources stay taken until the end is written. */
        log_error("cannot record the end of a run", "run", active->run->id, "error", error.message);
        free(verdict.message);
        loop_add_timer(o->loop, NS_PER_SEC, end_again, active);
        return;
    }
    free(verdict.message);
    memcpy(id, active->run->id, sizeof(id));
    log_info("run ended", "run", id, "state", state_name(&run_states, (int)active->run->state), "reason",
             active->run->reason);
    pool_give(&o->pool, id);
    map_take(&o->active, id);
    if (active->run->state == RUN_QUEUED) {
        if (orchestrator_enqueue(o, active->run, &error) < 0)
            log_error("cannot queue a run again", "run", id, "error", error.message);
    } else {
        release_pins(o, id);
        if (o->run_ended)
            o->run_ended(o->run_ended_userdata, id);
        active_decide_gates(o);
    }
    free_active(active);
    orchestrator_place_soon(o);
}

/* -- gates -- */

static void gates_work(void *userdata)
{
    struct orchestrator *o = userdata;
    cleanup_error struct error error = ERROR_INIT;
    int r;

    while ((r = gate_decide(o->store, &error)) > 0)
        ;
    if (r < 0)
        log_error("cannot decide a gate", "error", error.message);
}

static void gates_done(void *userdata)
{
    struct orchestrator *o = userdata;

    o->gates_busy = false;
    if (o->gates_again)
        active_decide_gates(o);
}

void active_decide_gates(struct orchestrator *o)
{
    o->gates_again = o->gates_busy;
    if (o->gates_busy)
        return;
    o->gates_busy = true;
    workers_add(o->workers, gates_work, gates_done, o);
}

/* -- after a restart -- */

static uint64_t parse_gpus(const char *text)
{
    uint64_t gpus = 0;
    char *end;

    for (const char *p = text; p && *p; p = *end == ',' ? end + 1 : end) {
        long index = strtol(p, &end, 10);

        if (end == p)
            break;
        if (index >= 0 && index < POOL_GPUS)
            gpus |= UINT64_C(1) << index;
    }
    return gpus;
}

/* States of the nodes as stored; their devices together. */
static int load_nodes(struct orchestrator *o, struct active *active, uint64_t *ret_gpus, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_begin_read(o->store->db, &tx, error) < 0 ||
        db_query(&tx, &rows, error, "SELECT node, state, gpus, exit FROM run_nodes WHERE run_id = ? AND attempt = ?",
                 "si", active->run->id, (int64_t)active->run->attempt) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0) {
        int64_t index = db_int(&rows, 0), state = db_int(&rows, 1);

        if (index < 0 || index >= active->n_nodes)
            continue;
        active->nodes[index].over = state >= NODE_EXITED;
        active->nodes[index].is_lost = state == NODE_LOST;
        active->nodes[index].exit = db_is_null(&rows, 3) ? NULL : db_json(&rows, 3, NULL);
        *ret_gpus |= parse_gpus(db_text(&rows, 2));
    }
    return r < 0 ? -1 : 0;
}

/* spec.json is written before the monitor starts: where it is missing nothing was launched. */
static void find_launched(struct active *active)
{
    int launched = 0;

    for (int i = 0; i < active->n_nodes; i++) {
        cleanup_free char *spec = fs_join(active->nodes[i].directory, "spec.json");

        active->nodes[i].launched = fs_exists(spec) || active->nodes[i].over;
        launched += active->nodes[i].launched;
    }
    active->requeue = launched < active->n_nodes;
    for (int i = 0; i < active->n_nodes; i++)
        if (!active->nodes[i].launched)
            active->nodes[i].over = true;
}

static void end_posted(void *userdata)
{
    active_end(userdata);
}

int active_reattach(struct orchestrator *o, const char *run_id, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct run *run;
    struct active *active;
    uint64_t gpus = 0;
    char key[LAUNCH_KEY_SIZE];

    if (db_begin_read(o->store->db, &tx, error) < 0 || run_load(&tx, NULL, run_id, &run, error) < 0)
        return -1;
    db_end(&tx);
    active = new_active(o, run);
    active->reattached = true;
    if (load_nodes(o, active, &gpus, error) < 0)
        return -1;
    find_launched(active);
    pool_take_again(&o->pool, run_id, &(struct pool_need){run->resources, run->nodes}, gpus, run->started_at,
                    run_lasts_ms(run) ? run->started_at + run_lasts_ms(run) : POOL_NEVER);
    for (int i = 0; i < active->n_nodes; i++) {
        cleanup_error struct error cause = ERROR_INIT;

        if (active->nodes[i].over)
            continue;
        if (engine_attach(o->engine, launch_key(run_id, run->attempt, i, key), active->nodes[i].directory, &cause) <
            0) {
            log_warning("cannot reattach to a node", "key", key, "error", cause.message);
            active->nodes[i].gone = true;
        }
        take_intake(&active->nodes[i]);
    }
    if (all_over(active))
        loop_post(o->loop, end_posted, active);
    else if (active->requeue)
        signal_nodes(active, SIGKILL, "daemon_restarted");
    else if (run->stop_requested)
        active_stop(active);
    return 0;
}
