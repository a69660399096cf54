#include <errno.h>
#include <signal.h>
#include <string.h>
#include "core/environment.h"
#include "core/model.h"
#include "core/package.h"
#include "schedule/serving-internal.h"
#include "schedule/worker-path.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/proc.h"
#include "util/strvec.h"
#include "util/xalloc.h"

#define PROGRAM_INSIDE "/slipway/slipway" /* our own program, as a replica sees it */
#define PACKAGES_KEPT  256  /* versions whose package was inspected by this process */
#define STARTING_PART  0.1 /* of its right to processors, while it starts beside replicas that serve */
#define INIT_ATTEMPTS  2    /* failures of init() before a new version counts as bad */

struct replica *replica_new(struct serving *serving, const char *id)
{
    struct replica *r = xnew0(struct replica);

    r->serving = serving;
    snprintf(r->id, sizeof(r->id), "%s", id);
    map_put(&serving->replicas, id, r);
    return r;
}

static void preparation_free(struct preparation *p);

void replica_free(void *replica)
{
    struct replica *r = replica;

    loop_remove(r->retry);
    preparation_free(r->preparation); /* the workers have ended */
    free(r);
}

char *replica_key(const struct replica *r, char buffer[REPLICA_KEY_SIZE])
{
    snprintf(buffer, REPLICA_KEY_SIZE, "%s/1/0", r->id);
    return buffer;
}

struct backoff *serving_backoff(struct serving *serving, int64_t endpoint, int64_t version)
{
    char key[48];
    struct backoff *backoff;

    snprintf(key, sizeof(key), "%lld/%lld", (long long)endpoint, (long long)version);
    backoff = map_get(&serving->backoffs, key);
    if (!backoff) {
        backoff = xnew0(struct backoff);
        map_put(&serving->backoffs, key, backoff);
    }
    return backoff;
}

/* -- states -- */

void replica_enter(struct replica *r, enum replica_state state, const char *reason, const char *message)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (r->state == state)
        return;
    if (db_begin_write(r->serving->store->db, &tx, &error) < 0 ||
        replica_set_state(&tx, r->id, state, reason, message, &error) < 0 || db_commit(&tx, &error) < 0) {
        log_error("cannot store the state of a replica", "replica", r->id, "state", state_name(&replica_states, state),
                  "error", error.message);
        return;
    }
    r->state = state;
    log_info("replica", "replica", r->id, "state", state_name(&replica_states, state), "reason", reason, "message",
             message);
}

/* Delays before the next replica of a version: 0, 1, 5, 15 s, then a minute. */
static void note_failure(struct replica *r)
{
    static const int64_t delays[] = LIMIT_REPLICA_RETRY_MS;
    struct backoff *backoff = serving_backoff(r->serving, r->endpoint, r->version);
    size_t i = (size_t)backoff->failures < ARRAY_SIZE(delays) ? (size_t)backoff->failures : ARRAY_SIZE(delays) - 1;

    backoff->failures++;
    backoff->not_before_ns = clock_monotonic_ns() + delays[i] * NS_PER_MS;
    serving_wake_in(r->serving, delays[i] * NS_PER_MS);
}

void replica_failed(struct replica *r, const char *reason, const char *message)
{
    if (r->state == REPLICA_FAILED || r->state == REPLICA_STOPPED)
        return;
    if (r->state == REPLICA_DRAINING) {
        replica_enter(r, REPLICA_STOPPED, reason, message);
    } else {
        note_failure(r);
        replica_enter(r, REPLICA_FAILED, reason, message);
        serving_fail_deployment(r->serving, r->endpoint, r->version, message ? message : reason);
    }
    if (r->is_running)
        replica_stop(r, SIGKILL, "failed");
    serving_reconcile(r->serving);
}

void replica_stop(struct replica *r, int signal, const char *reason)
{
    cleanup_error struct error error = ERROR_INIT;
    char key[REPLICA_KEY_SIZE];

    if (!r->is_running || (r->stop_sent && signal != SIGKILL))
        return;
    r->stop_sent = true;
    if (engine_signal(r->serving->engine, replica_key(r, key), signal, reason, &error) < 0)
        log_warning("cannot end a replica", "replica", r->id, "error", error.message);
}

void replica_drain(struct replica *r, int64_t patience_ns)
{
    replica_enter(r, REPLICA_DRAINING, "not_routed", NULL);
    r->drain_until_ns = clock_monotonic_ns() + patience_ns;
    if (!r->is_connected)
        replica_stop(r, SIGTERM, "drained");
    serving_wake_in(r->serving, patience_ns);
}

void replica_forget(struct replica *r)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_free char *owner = xasprintf("replica:%s", r->id),
                      *directory = store_path(r->serving->store, "runs/%s", r->id);

    if (r->preparation || r->is_running)
        return;
    if (db_begin_write(r->serving->store->db, &tx, &error) < 0 || replica_delete(&tx, r->id, &error) < 0 ||
        db_commit(&tx, &error) < 0 || vault_unpin(r->serving->store->vault, owner, &error) < 0 ||
        fs_remove_all(directory, &error) < 0)
        log_warning("cannot clear up after a replica", "replica", r->id, "error", error.message);
    map_remove(&r->serving->replicas, r->id);
}

/* -- launch: prepared on a worker thread, started on the loop -- */

struct preparation {
    struct replica *replica;
    struct model_version version;
    struct endpoint_options options;
    json_t *package; /* core/package.h */
    char *code, *weights, *environment, *directory;
    struct error error;
};

static void preparation_free(struct preparation *p)
{
    if (!p)
        return;
    model_version_clear(&p->version);
    json_decref(p->package);
    free(p->code);
    free(p->weights);
    free(p->environment);
    free(p->directory);
    error_clear(&p->error);
    free(p);
}

static int check_package(struct store *store, const struct model_version *version, json_t **ret_package,
                         struct error *error)
{
    cleanup_json json_t *package = package_inspect(store, version->code_digest, error);
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (!package)
        return -1;
    if (db_begin_write(store->db, &tx, error) < 0 || model_set_package(&tx, version, package, error) < 0 ||
        db_commit(&tx, error) < 0)
        return -1;
    if (!json_get_bool(package, "servable", false))
        return error_set(error, ERROR_INVALID, "%s@%s cannot be served: %s", version->model, version->code_weights,
                         json_get_string(package, "reason", "it is not a package"));
    *ret_package = steal_ptr(package);
    return 0;
}

/* The directory of the package's environment; NULL for the host's. */
static int find_environment(struct serving *serving, const char *project, const char *address, char **ret_path,
                            struct error *error)
{
    cleanup_environment struct environment environment = {0};
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_free char *path = NULL, *status_path = NULL, *status = NULL;

    if (!address || strcmp(address, "host") == 0)
        return 0;
    if (db_begin_read(serving->store->db, &tx, error) < 0 ||
        environment_load(&tx, project, address, &environment, error) < 0)
        return -1;
    db_end(&tx);
    path = store_path(serving->store, "environments/%s", environment.digest[0]);
    status_path = store_path(serving->store, "environments/%s.status", environment.digest[0]);
    if (fs_read(status_path, 64, &status, NULL, NULL) < 0) {
        orchestrator_build(serving->orchestrator, environment.digest[0]);
        return error_set(error, ERROR_UNAVAILABLE, "environment %s is being built", address);
    }
    if ((int)strtol(status, NULL, 10) != 0)
        return error_set(error, ERROR_CONFLICT, "environment %s could not be built", address);
    *ret_path = steal_ptr(path);
    return 0;
}

/* Worker thread. */
static void prepare(void *userdata)
{
    struct preparation *p = userdata;
    struct serving *serving = p->replica->serving;
    cleanup_free char *owner = xasprintf("replica:%s", p->replica->id);
    struct digest digest;

    if ((!p->package && check_package(serving->store, &p->version, &p->package, &p->error) < 0) ||
        find_environment(serving, p->version.project, json_get_string(p->package, "environment", NULL), &p->environment,
                         &p->error) < 0 ||
        code_unpack(serving->store, p->version.code_digest, &p->code, &p->error) < 0 ||
        fs_mkdir_all(p->directory, 0700, &p->error) < 0)
        return;
    if (p->version.weights_digest && (digest_parse(p->version.weights_digest, &digest, &p->error) < 0 ||
                                      vault_pin(serving->store->vault, &digest, owner, &p->weights, &p->error) < 0))
        return;
}

static void fill_environment(const struct preparation *p, struct strvec *env)
{
    if (p->environment) {
        strvec_pushf(env, "PATH=%s/bin:" ENGINE_PATH, p->environment);
        strvec_pushf(env, "VIRTUAL_ENV=%s", p->environment);
    } else {
        strvec_push(env, "PATH=" ENGINE_PATH);
    }
    strvec_push(env, "HOME=/tmp");
    strvec_push(env, "LANG=C.UTF-8");
    strvec_push(env, "PYTHONUNBUFFERED=1");
    strvec_push(env, "SLIPWAY_DIR=/slipway");
    strvec_push(env, "SLIPWAY_NODE_ROLE=replica");
    strvec_push(env, "SLIPWAY_DEVICE=cpu");
    strvec_push(env, "CUDA_VISIBLE_DEVICES=");
    strvec_pushf(env, "SLIPWAY_REPLICA_ID=%s", p->replica->id);
    strvec_pushf(env, "SLIPWAY_REPLICA_KEY=%s", p->replica->secret);
    strvec_push(env, "SLIPWAY_GATEWAY_SOCKET=/slipway/gateway/worker.sock");
    strvec_pushf(env, "SLIPWAY_MODEL=%s", p->version.model);
    strvec_pushf(env, "SLIPWAY_MODEL_VERSION=%lld", (long long)p->version.number);
    if (p->weights)
        strvec_push(env, "SLIPWAY_WEIGHTS=/slipway/weights.safetensors");
    if (p->options.cpus > 0)
        strvec_pushf(env, "OMP_NUM_THREADS=%d", (int)(p->options.cpus + 0.999));
}

/* The process of each runtime. Models without code are run by our own program. */
static void fill_command(const struct preparation *p, struct strvec *argv)
{
    const char *runtime = json_get_string(p->package, "runtime", "");

    if (strcmp(runtime, "python") == 0) {
        strvec_push(argv, "python3");
        strvec_push(argv, "/slipway/lib/" WORKER_PROGRAM);
    } else if (strcmp(runtime, "r") == 0) {
        strvec_push(argv, "Rscript");
        strvec_push(argv, "/slipway/lib/slipway_worker.R");
    } else {
        strvec_push(argv, PROGRAM_INSIDE);
        strvec_push(argv, "worker");
        if (p->environment) {
            strvec_push(argv, "--environment");
            strvec_push(argv, p->environment);
        }
        strvec_push(argv, runtime);
        strvec_push(argv, json_get_string(p->package, "file", ""));
    }
}

/* Others serve the endpoint: nobody waits for this one. */
static bool is_served(const struct replica *r)
{
    struct map_iterator it = {0};

    while (map_next(&r->serving->replicas, &it)) {
        const struct replica *other = it.value;

        if (other->endpoint == r->endpoint && other->state == REPLICA_READY)
            return true;
    }
    return false;
}

static int launch(struct preparation *p, struct error *error)
{
    cleanup_strvec struct strvec argv = STRVEC_INIT;
    cleanup_free char *program = proc_self_path();
    struct serving *serving = p->replica->serving;
    cleanup_strvec struct strvec env = STRVEC_INIT;
    cleanup_free char *gateway = store_path(serving->store, "gateway"), *library = NULL;
    cleanup_free char *owner = xasprintf("replica:%s", p->replica->id);
    struct engine_mount mounts[5];
    size_t n = 0;

    library = worker_library_directory(error);
    if (!library)
        return -1;
    if (orchestrator_reserve(serving->orchestrator, owner, p->options.cpus, p->options.memory, 0, NULL, error) < 0)
        return -1;
    fill_environment(p, &env);
    fill_command(p, &argv);
    mounts[n++] = (struct engine_mount){gateway, "/slipway/gateway", true};
    mounts[n++] = (struct engine_mount){library, "/slipway/lib", false};
    mounts[n++] = (struct engine_mount){program, PROGRAM_INSIDE, false};
    if (p->weights)
        mounts[n++] = (struct engine_mount){p->weights, "/slipway/weights.safetensors", false};
    if (p->environment)
        mounts[n++] = (struct engine_mount){p->environment, p->environment, false};
    const struct engine_spec spec = {
        .run_id = p->replica->id,
        .attempt = 1,
        .role = "replica",
        .directory = p->directory,
        .argv = (const char *const *)argv.items,
        .environment = (const char *const *)env.items,
        .code = p->code,
        .mounts = mounts,
        .n_mounts = n,
        .params = "{}",
        .cpus = p->options.cpus,
        .part = is_served(p->replica) ? STARTING_PART : 0,
        .memory = p->options.memory,
        .grace_ms = LIMIT_REPLICA_GRACE_MS,
        .restart = true,
    };
    return engine_launch(serving->engine, &spec, error);
}

static void prepare_later(struct replica *r);

/* What was found good need not be looked at again: a request may be waiting for the next replica of it. */
static void remember_package(struct serving *serving, const struct preparation *p)
{
    if (map_get(&serving->packages, p->version.code_digest))
        return;
    if (map_count(&serving->packages) >= PACKAGES_KEPT)
        map_release(&serving->packages);
    map_put(&serving->packages, p->version.code_digest, json_incref(p->package));
}

/* On the loop. */
static void prepared(void *userdata)
{
    struct preparation *p = userdata;
    struct replica *r = p->replica;

    r->preparation = NULL;
    if (p->error.code == ERROR_NONE)
        remember_package(r->serving, p);
    if (atomic_load(&r->serving->is_closing)) {
        preparation_free(p);
        return;
    }
    if (p->error.code == ERROR_NONE && r->state == REPLICA_STARTING && launch(p, &p->error) == 0)
        r->is_running = true;
    if (p->error.code == ERROR_UNAVAILABLE && r->state == REPLICA_STARTING)
        prepare_later(r);
    else if (p->error.code != ERROR_NONE)
        replica_failed(r, "start_failed", p->error.message);
    preparation_free(p);
    serving_reconcile(r->serving);
}

static int load_preparation(struct preparation *p, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *options = NULL;
    int r;

    if (db_begin_read(p->replica->serving->store->db, &tx, error) < 0 ||
        model_resolve_id(&tx, p->replica->version, &p->version, error) < 0 ||
        db_query(&tx, &rows, error, "SELECT options FROM endpoints WHERE id = ?", "i", p->replica->endpoint) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r < 0 ? -1 : error_set(error, ERROR_NOT_FOUND, "the endpoint is gone");
    options = db_json(&rows, 0, error);
    if (!options)
        return -1;
    endpoint_options_read(options, &p->options);
    p->package = json_incref(map_get(&p->replica->serving->packages, p->version.code_digest));
    return 0;
}

static int prepare_now(struct replica *r, struct error *error)
{
    struct preparation *p = xnew0(struct preparation);

    p->replica = r;
    p->directory = store_path(r->serving->store, "runs/%s/0", r->id);
    if (load_preparation(p, error) < 0) {
        preparation_free(p);
        return -1;
    }
    r->cpus = p->options.cpus;
    r->memory = p->options.memory;
    r->preparation = p;
    orchestrator_work(r->serving->orchestrator, prepare, prepared, p);
    return 0;
}

static void retry(void *userdata)
{
    struct replica *r = userdata;
    cleanup_error struct error error = ERROR_INIT;

    r->retry = NULL;
    if (r->state == REPLICA_STARTING && !r->is_running && !r->preparation && prepare_now(r, &error) < 0)
        replica_failed(r, "start_failed", error.message);
}

/* What it needs is not there yet (an environment, memory): tried again in a second. */
static void prepare_later(struct replica *r)
{
    if (!r->retry)
        r->retry = loop_add_timer(r->serving->loop, NS_PER_SEC, retry, r);
}

int replica_start(struct serving *serving, int64_t endpoint, int64_t version, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    char id[ID_SIZE], secret[REPLICA_SECRET_SIZE];
    uint8_t bytes[(REPLICA_SECRET_SIZE - 1) / 2];
    struct replica *r;

    id_new(id);
    random_bytes(bytes, sizeof(bytes));
    hex_encode(bytes, sizeof(bytes), secret);
    if (db_begin_write(serving->store->db, &tx, error) < 0 ||
        replica_create(&tx, endpoint, version, id, secret, error) < 0 || db_commit(&tx, error) < 0)
        return -1;
    r = replica_new(serving, id);
    memcpy(r->secret, secret, sizeof(secret));
    r->endpoint = endpoint;
    r->version = version;
    return prepare_now(r, error);
}

/* -- events -- */

static void on_failed(struct replica *r, const char *message, bool killed)
{
    r->is_connected = false;
    if (r->state == REPLICA_DRAINING)
        return;
    if (!r->was_ready && ++r->init_failures >= INIT_ATTEMPTS) {
        replica_failed(r, "init_failed", message);
        return;
    }
    replica_enter(r, REPLICA_STARTING, r->was_ready ? "failed" : "init_failed", message);
    if (!killed)
        replica_failed(r, "unresponsive", message);
}

/* From now on requests wait for it. */
static void weigh_fully(struct replica *r)
{
    cleanup_error struct error error = ERROR_INIT;
    char key[REPLICA_KEY_SIZE];

    if (engine_weigh(r->serving->engine, replica_key(r, key), 1, &error) < 0 && error.code != ERROR_UNSUPPORTED)
        log_warning("cannot raise the weight of a replica", "replica", r->id, "error", error.message);
}

void replica_on_gateway(struct replica *r, const char *state, const char *message, bool killed)
{
    struct backoff *backoff;

    if (strcmp(state, "drained") == 0) {
        if (r->state == REPLICA_DRAINING)
            replica_stop(r, SIGTERM, "drained");
        return;
    }
    if (r->state == REPLICA_FAILED || r->state == REPLICA_STOPPED)
        return;
    if (strcmp(state, "warming") == 0) {
        r->is_connected = true;
        if (r->state == REPLICA_STARTING)
            replica_enter(r, REPLICA_WARMING, "connected", NULL);
    } else if (strcmp(state, "ready") == 0) {
        r->is_connected = r->was_ready = true;
        backoff = serving_backoff(r->serving, r->endpoint, r->version);
        backoff->failures = 0;
        if (r->state != REPLICA_DRAINING) {
            weigh_fully(r);
            replica_enter(r, REPLICA_READY, "initialised", NULL);
        }
    } else if (strcmp(state, "failed") == 0) {
        on_failed(r, message, killed);
    } else if (strcmp(state, "gone") == 0) {
        r->is_connected = false;
        if (r->state == REPLICA_DRAINING)
            replica_stop(r, SIGTERM, "drained");
        else
            replica_enter(r, REPLICA_STARTING, "process_ended", message);
    }
    serving_reconcile(r->serving);
}

void replica_on_engine(struct replica *r, const char *directory, enum engine_event event)
{
    cleanup_free char *path = NULL, *owner = xasprintf("replica:%s", r->id);
    cleanup_json json_t *record = NULL;
    char key[REPLICA_KEY_SIZE];

    if (event == ENGINE_INTAKE)
        return;
    r->is_running = r->is_connected = false;
    path = fs_join(directory, "exit.json");
    record = event == ENGINE_EXITED ? json_parse_file(path, LIMIT_CONFIG_FILE, NULL) : NULL;
    engine_forget(r->serving->engine, replica_key(r, key), NULL);
    orchestrator_reserve(r->serving->orchestrator, owner, 0, 0, 0, NULL, NULL);
    replica_failed(r, json_get_string(record, "reason", "lost"),
                   json_get_string(record, "message", "the replica's process and its monitor are gone"));
    serving_reconcile(r->serving);
}

/* -- after a restart of the daemon -- */

static int load_rows(struct serving *serving, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int result;

    if (db_begin_read(serving->store->db, &tx, error) < 0 ||
        db_query(&tx, &rows, error, "SELECT id, endpoint, version, secret, state FROM replicas", "") < 0)
        return -1;
    while ((result = db_next(&rows, error)) > 0) {
        struct replica *r = replica_new(serving, db_text(&rows, 0));
        int state = state_parse(&replica_states, db_text(&rows, 4), error);

        if (state < 0)
            return -1;
        r->endpoint = db_int(&rows, 1);
        r->version = db_int(&rows, 2);
        snprintf(r->secret, sizeof(r->secret), "%s", db_text(&rows, 3));
        r->state = state;
        r->was_ready = r->state == REPLICA_READY;
    }
    return result;
}

/* What it was launched with. */
static void load_limits(struct replica *r, const char *directory)
{
    cleanup_free char *path = fs_join(directory, "spec.json");
    cleanup_json json_t *spec = json_parse_file(path, LIMIT_CONFIG_FILE, NULL);
    const json_t *limits = json_object_get(spec, "limits");

    r->cpus = json_get_number(limits, "cpus", 0);
    r->memory = (uint64_t)json_get_int(limits, "memory", 0);
}

int replicas_load(struct serving *serving, struct error *error)
{
    struct map_iterator it = {0};

    if (load_rows(serving, error) < 0)
        return -1;
    while (map_next(&serving->replicas, &it)) {
        struct replica *r = it.value;
        cleanup_error struct error why = ERROR_INIT;
        cleanup_free char *directory = store_path(serving->store, "runs/%s/0", r->id);
        char key[REPLICA_KEY_SIZE];

        if (state_is_final(&replica_states, r->state))
            continue;
        if (r->state == REPLICA_DRAINING)
            r->drain_until_ns = clock_monotonic_ns() + LIMIT_REPLICA_GRACE_MS * NS_PER_MS;
        if (engine_attach(serving->engine, replica_key(r, key), directory, &why) == 0) {
            r->is_running = true;
            load_limits(r, directory);
            continue;
        }
        log_warning("replica is gone", "replica", r->id, "error", why.message);
        replica_enter(r, r->state == REPLICA_DRAINING ? REPLICA_STOPPED : REPLICA_FAILED, "lost", why.message);
    }
    return 0;
}
