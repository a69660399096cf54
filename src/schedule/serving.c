#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "core/gate.h"
#include "core/package.h"
#include "schedule/serving-internal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/strvec.h"
#include "util/xalloc.h"

static void reconcile(struct serving *s);

/* -- when -- */

static void on_posted(void *userdata)
{
    struct serving *s = userdata;

    atomic_store(&s->is_posted, false);
    reconcile(s);
}

void serving_reconcile(struct serving *s)
{
    if (!atomic_load(&s->is_closing) && !atomic_exchange(&s->is_posted, true))
        loop_post(s->loop, on_posted, s);
}

static void on_wake(void *userdata)
{
    struct serving *s = userdata;

    s->wake = NULL;
    serving_reconcile(s);
}

void serving_wake_in(struct serving *s, int64_t delay_ns)
{
    int64_t at = clock_monotonic_ns() + delay_ns;

    if (s->wake && s->wake_ns <= at)
        return;
    s->wake = loop_remove(s->wake);
    s->wake_ns = at;
    s->wake = loop_add_timer(s->loop, delay_ns, on_wake, s);
}

/* -- ends of deployments -- */

void serving_finished(struct serving *s, int64_t deployment, int64_t switch_us)
{
    pthread_mutex_lock(&s->mutex);
    s->finished[s->n_finished % FINISHED_COUNT].deployment = deployment;
    s->finished[s->n_finished % FINISHED_COUNT].switch_us = switch_us;
    s->n_finished++;
    pthread_cond_broadcast(&s->ended);
    pthread_mutex_unlock(&s->mutex);
}

static bool find_finished(struct serving *s, int64_t deployment, int64_t *ret_switch_us)
{
    for (size_t i = 0; i < FINISHED_COUNT && i < s->n_finished; i++) {
        if (s->finished[i].deployment == deployment) {
            *ret_switch_us = s->finished[i].switch_us;
            return true;
        }
    }
    return false;
}

int serving_wait(struct serving *s, int64_t deployment, int timeout_ms, int64_t *ret_switch_us)
{
    struct timespec until;
    bool over;
    int r = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * NS_PER_MS;
    if (until.tv_nsec >= NS_PER_SEC) {
        until.tv_sec++;
        until.tv_nsec -= NS_PER_SEC;
    }
    pthread_mutex_lock(&s->mutex);
    while (!(over = find_finished(s, deployment, ret_switch_us)) && r == 0)
        r = pthread_cond_timedwait(&s->ended, &s->mutex, &until);
    pthread_mutex_unlock(&s->mutex);
    return over;
}

/* The pending deployment that waits for a replica of the version; 0: none. */
static int64_t pending_deployment(struct db_tx *tx, int64_t endpoint, int64_t version, struct error *error)
{
    int64_t id = 0;

    if (db_query_int(tx, &id, error,
                     "SELECT ifnull((SELECT max(d.id) FROM deployments d JOIN endpoint_routes r "
                     "ON r.endpoint = d.endpoint AND r.role IN ('next', 'canary', 'shadow') "
                     "JOIN model_versions v ON v.id = r.version AND v.number = d.version "
                     "WHERE d.endpoint = ? AND r.version = ? AND d.state = 'pending'), 0)",
                     "ii", endpoint, version) < 0)
        return -1;
    return id;
}

void serving_fail_deployment(struct serving *s, int64_t endpoint, int64_t version, const char *message)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int64_t id;

    if (db_begin_write(s->store->db, &tx, &error) < 0 ||
        (id = pending_deployment(&tx, endpoint, version, &error)) < 0) {
        log_error("cannot read deployments", "error", error.message);
        return;
    }
    if (id == 0) {
        db_end(&tx);
        serving_trial_failed(s, endpoint, version, message);
        return;
    }
    if (endpoint_deployment_failed(&tx, id, message, &error) < 0 || db_commit(&tx, &error) < 0) {
        log_error("cannot store the end of a deployment", "error", error.message);
        return;
    }
    serving_finished(s, id, -1);
}

/* -- desired state, read afresh -- */

struct desired {
    struct route *routes;
    size_t count, capacity;
};

static void desired_release(struct desired *d)
{
    free(d->routes);
}
#define cleanup_desired CLEANUP(desired_release)

static int load_desired(struct serving *s, struct desired *d, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_begin_read(s->store->db, &tx, error) < 0 ||
        db_query(&tx, &rows, error,
                 "SELECT r.endpoint, r.version, r.role, e.options, e.name, e.project, v.number, ifnull(c.wished, -1), "
                 "(SELECT ifnull(max(l.wished), -1) FROM endpoint_scaling l JOIN endpoint_routes o "
                 "ON o.endpoint = l.endpoint AND o.version = l.version AND o.role = 'live' WHERE l.endpoint = e.id), "
                 "r.role IN ('next', 'canary', 'shadow') AND EXISTS (SELECT 1 FROM deployments d "
                 "WHERE d.endpoint = r.endpoint AND d.version = v.number AND d.state = 'pending' "
                 "AND d.ready_at IS NULL) "
                 "FROM endpoint_routes r JOIN endpoints e ON e.id = r.endpoint "
                 "JOIN model_versions v ON v.id = r.version "
                 "LEFT JOIN endpoint_scaling c ON c.endpoint = r.endpoint AND c.version = r.version "
                 "WHERE e.desired = 'serving' ORDER BY r.endpoint, r.version",
                 "") < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0) {
        cleanup_json json_t *json = db_json(&rows, 3, error);
        struct endpoint_options options;
        const char *role = db_text(&rows, 2);
        struct route *route;

        if (!json)
            return -1;
        endpoint_options_read(json, &options);
        if (d->count == d->capacity) {
            d->capacity = d->capacity ? 2 * d->capacity : 16;
            d->routes = xreallocarray(d->routes, d->capacity, sizeof(*d->routes));
        }
        route = &d->routes[d->count++];
        *route = (struct route){.endpoint = db_int(&rows, 0),
                                .version = db_int(&rows, 1),
                                .waits = db_int(&rows, 9),
                                .cpus = options.cpus,
                                .memory = options.memory,
                                .timeout_ms = options.timeout_ms};
        if (strcmp(role, "shadow") == 0) {
            route->replicas = 1;
            continue;
        }
        route->replicas = scaling_wished(s,
                                         &(struct scaling_route){.endpoint = route->endpoint,
                                                                 .version = route->version,
                                                                 .name = db_text(&rows, 4),
                                                                 .project = db_text(&rows, 5),
                                                                 .waits = route->waits || strcmp(role, "next") == 0,
                                                                 .is_trial = strcmp(role, "canary") == 0,
                                                                 .is_standby = strcmp(role, "standby") == 0,
                                                                 .number = db_int(&rows, 6),
                                                                 .stored = db_int(&rows, 7),
                                                                 .live = db_int(&rows, 8)},
                                         &options);
    }
    return r;
}

static const struct route *find_route(const struct desired *d, const struct replica *r)
{
    for (size_t i = 0; i < d->count; i++)
        if (d->routes[i].endpoint == r->endpoint && d->routes[i].version == r->version)
            return &d->routes[i];
    return NULL;
}

/* -- the steps of a reconciliation -- */

/* 1. Endpoints whose alias has moved. A version whose last deployment failed is not tried again. */
struct move {
    int64_t version;
    char *endpoint;
    bool is_standby;
};

static int find_move(struct db_tx *tx, struct move *ret, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT e.name, a.version, r.role FROM endpoints e "
                 "JOIN model_aliases a ON a.model = e.model AND a.alias = e.follow "
                 "JOIN model_versions v ON v.id = a.version "
                 "LEFT JOIN endpoint_routes r ON r.endpoint = e.id AND r.version = a.version "
                 "WHERE e.desired = 'serving' AND (r.role IS NULL OR r.role NOT IN ('live', 'next')) "
                 "AND NOT EXISTS (SELECT 1 FROM deployments d WHERE d.endpoint = e.id AND d.version = v.number "
                 "AND d.state = 'failed' AND d.id = (SELECT max(id) FROM deployments WHERE endpoint = e.id "
                 "AND kind NOT IN ('canary', 'shadow', 'traffic', 'abort'))) LIMIT 1",
                 "") < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r;
    ret->endpoint = xstrdup(db_text(&rows, 0));
    ret->version = db_int(&rows, 1);
    ret->is_standby = !db_is_null(&rows, 2) && strcmp(db_text(&rows, 2), "standby") == 0;
    return 1;
}

/* 1: one was followed; 0: none is left. */
static int follow_one(struct serving *s, struct error *error)
{
    cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct move move = {0};
    cleanup_free char *name = NULL;
    int64_t deployment;
    int r;

    if (db_begin_read(s->store->db, &tx, error) < 0)
        return -1;
    r = find_move(&tx, &move, error);
    db_end(&tx);
    if (r <= 0)
        return r;
    name = move.endpoint;
    if (db_begin_write(s->store->db, &tx, error) < 0)
        return -1;
    if (move.is_standby)
        r = endpoint_rollback(&tx, NULL, name, NULL, &deployment, error);
    else
        r = model_resolve_id(&tx, move.version, &version, error) < 0
                ? -1
                : endpoint_deploy(&tx, NULL, name, &version, "follow", NULL, &deployment, error);
    if (r < 0 || db_commit(&tx, error) < 0)
        return -1;
    return 1;
}

static int follow_aliases(struct serving *s, struct error *error)
{
    int r;

    do {
        r = follow_one(s, error);
    } while (r > 0);
    return r;
}

/* 2. Versions that are ready become live, or get their share or their copies. */
static int switch_ready(struct serving *s, const struct desired *d, struct error *error)
{
    for (size_t i = 0; i < d->count; i++) {
        cleanup_tx struct db_tx tx = DB_TX_INIT;
        const struct route *route = &d->routes[i];
        int64_t id;

        if (!route->waits || route_count_ready(s, route) == 0)
            continue;
        if (db_begin_write(s->store->db, &tx, error) < 0 ||
            (id = pending_deployment(&tx, route->endpoint, route->version, error)) < 0)
            return -1;
        if (id && (endpoint_switch(&tx, id, error) < 0 || db_commit(&tx, error) < 0))
            return -1;
    }
    return 0;
}

/* 3. Replicas that are missing. */
static int start_missing(struct serving *s, const struct desired *d, struct error *error)
{
    for (size_t i = 0; i < d->count; i++)
        if (route_start_missing(s, &d->routes[i], error) < 0)
            return -1;
    return 0;
}

/* 4. Replicas that are not wished any more, and those that are over. */
static bool is_replaced(struct serving *s, const struct replica *failed)
{
    struct map_iterator it = {0};

    /* One failed replica of an endpoint is kept, so that its log can be read: the newest. */
    while (map_next(&s->replicas, &it)) {
        const struct replica *r = it.value;

        if (r->endpoint == failed->endpoint && strcmp(r->id, failed->id) > 0 &&
            (r->state == REPLICA_FAILED || (r->version == failed->version && r->state == REPLICA_READY)))
            return true;
    }
    return false;
}

static bool endpoint_exists(struct serving *s, int64_t endpoint)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int64_t count = 1;

    if (db_begin_read(s->store->db, &tx, NULL) == 0)
        db_query_int(&tx, &count, NULL, "SELECT count(*) FROM endpoints WHERE id = ? AND desired = 'serving'", "i",
                     endpoint);
    return count > 0;
}

static void end_unwanted(struct serving *s, const struct desired *d)
{
    struct map_iterator it = {0};
    int64_t now = clock_monotonic_ns();

    for (size_t i = 0; i < d->count; i++)
        route_drain_surplus(s, &d->routes[i]);
    while (map_next(&s->replicas, &it)) {
        struct replica *r = it.value;

        if (replica_is_active(r) && !find_route(d, r))
            replica_drain(r, (LIMIT_PREDICT_TIMEOUT_MS + LIMIT_REPLICA_DRAIN_MS) * NS_PER_MS);
        if (r->state == REPLICA_DRAINING && !r->is_running && !r->preparation)
            replica_enter(r, REPLICA_STOPPED, "drained", NULL);
        if (r->state == REPLICA_DRAINING && now >= r->drain_until_ns)
            replica_stop(r, r->stop_sent ? SIGKILL : SIGTERM, "drain_timeout");
        if (r->state == REPLICA_STOPPED ||
            (r->state == REPLICA_FAILED && (is_replaced(s, r) || !endpoint_exists(s, r->endpoint))))
            replica_forget(r);
    }
}

/* 5. Endpoints whose last replica is gone. */
static int delete_removed(struct serving *s, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int64_t count;

    if (db_begin_read(s->store->db, &tx, error) < 0 ||
        db_query_int(&tx, &count, error, "SELECT count(*) FROM endpoints WHERE desired = 'removed'", "") < 0)
        return -1;
    db_end(&tx);
    if (count == 0)
        return 0;
    if (db_begin_write(s->store->db, &tx, error) < 0 ||
        db_exec(&tx, error,
                "DELETE FROM endpoints WHERE desired = 'removed' "
                "AND NOT EXISTS (SELECT 1 FROM replicas WHERE endpoint = endpoints.id)",
                "") < 0)
        return -1;
    return db_commit(&tx, error);
}

/* -- gates: decided on a worker thread -- */

static void decide_gates(void *userdata)
{
    struct serving *s = userdata;
    cleanup_error struct error error = ERROR_INIT;
    int r;

    do {
        r = gate_decide(s->store, &error);
    } while (r > 0);
    while (r == 0 && (r = gate_record_result(s->store, &error)) > 0)
        r = 0;
    if (r < 0)
        log_error("cannot decide gates", "error", error.message);
}

static void start_deciding(struct serving *s);

static void decided(void *userdata)
{
    struct serving *s = userdata;

    s->is_deciding = false;
    if (s->decide_again)
        start_deciding(s);
    serving_reconcile(s);
}

static void start_deciding(struct serving *s)
{
    s->decide_again = s->is_deciding;
    if (s->is_deciding || atomic_load(&s->is_closing))
        return;
    s->is_deciding = true;
    orchestrator_work(s->orchestrator, decide_gates, decided, s);
}

static void on_run_ended(void *userdata, const char *run_id)
{
    start_deciding(userdata);
}

/* -- all steps -- */

static int reconcile_steps(struct serving *s, struct error *error)
{
    cleanup_desired struct desired before = {0}, after = {0};

    scaling_begin(s);
    if (follow_aliases(s, error) < 0 || load_desired(s, &before, error) < 0 || switch_ready(s, &before, error) < 0 ||
        scaling_decide(s, error) < 0 || load_desired(s, &after, error) < 0 || start_missing(s, &after, error) < 0 ||
        serving_push_table(s, error) < 0)
        return -1;
    end_unwanted(s, &after);
    if (serving_push_table(s, error) < 0)
        return -1;
    return delete_removed(s, error);
}

static void reconcile(struct serving *s)
{
    cleanup_error struct error error = ERROR_INIT;

    if (atomic_load(&s->is_closing) || !s->link)
        return;
    if (reconcile_steps(s, &error) < 0) {
        log_error("cannot bring endpoints to what they should be, will try again", "error", error.message);
        serving_wake_in(s, NS_PER_SEC);
    }
    serving_trials_watch(s);
}

/* -- events -- */

static void on_gateway_up(void *userdata)
{
    struct serving *s = userdata;
    struct map_iterator it = {0};

    free(s->sent);
    s->sent = NULL;
    scaling_forget_seen(s);
    serving_requests_take(s);
    /* Whoever is still connected is announced next. */
    while (map_next(&s->replicas, &it))
        ((struct replica *)it.value)->is_connected = false;
    reconcile(s);
}

static void on_gateway_problem(void *userdata, const char *message)
{
    struct serving *s = userdata;

    pthread_mutex_lock(&s->mutex);
    free(s->problem);
    s->problem = message ? xasprintf("the gateway %s", message) : NULL;
    pthread_mutex_unlock(&s->mutex);
}

static void on_gateway_replica(void *userdata, const char *id, const char *state, const char *message, bool killed)
{
    struct serving *s = userdata;
    struct replica *r = map_get(&s->replicas, id);

    if (r)
        replica_on_gateway(r, state, message, killed);
}

static void on_gateway_route(void *userdata, const char *event, const json_t *message)
{
    if (strcmp(event, "requests") == 0)
        serving_requests_take(userdata);
    else
        scaling_on_route(userdata, event, message);
}

static void on_engine(void *userdata, const char *key, const char *directory, enum engine_event event)
{
    struct serving *s = userdata;
    char id[ID_SIZE];
    struct replica *r;

    snprintf(id, sizeof(id), "%.32s", key);
    r = map_get(&s->replicas, id);
    if (r)
        replica_on_engine(r, directory, event);
}

/* -- any thread -- */

static void on_changed(void *userdata)
{
    struct serving *s = userdata;

    start_deciding(s);
}

void serving_changed(struct serving *s)
{
    if (atomic_load(&s->is_closing))
        return;
    serving_reconcile(s);
    loop_post(s->loop, on_changed, s);
}

const char *serving_url(const struct serving *s)
{
    return s->link ? gateway_link_url(s->link) : NULL;
}

char *serving_problem(struct serving *s)
{
    char *problem;

    pthread_mutex_lock(&s->mutex);
    problem = xstrdup_null(s->problem);
    pthread_mutex_unlock(&s->mutex);
    return problem;
}

/* A call from another thread that waits for the gateway's answer. Two own it: the caller, who may give up,
 * and the loop. */
struct query {
    struct serving *serving;
    json_t *request, *reply;
    pthread_mutex_t mutex;
    pthread_cond_t answered;
    bool is_done;
    int owners;
};

static void query_unref(struct query *q)
{
    bool last;

    pthread_mutex_lock(&q->mutex);
    last = --q->owners == 0;
    pthread_mutex_unlock(&q->mutex);
    if (!last)
        return;
    json_decref(q->request);
    json_decref(q->reply);
    pthread_cond_destroy(&q->answered);
    pthread_mutex_destroy(&q->mutex);
    free(q);
}

static void on_query_reply(void *userdata, const json_t *reply)
{
    struct query *q = userdata;

    pthread_mutex_lock(&q->mutex);
    q->reply = reply ? json_deep_copy(reply) : json_object();
    if (q->serving->link)
        json_object_set_new(q->reply, "gateway", gateway_link_describe(q->serving->link));
    q->is_done = true;
    pthread_cond_signal(&q->answered);
    pthread_mutex_unlock(&q->mutex);
    query_unref(q);
}

static void ask(void *userdata)
{
    struct query *q = userdata;

    if (q->serving->link)
        gateway_link_call(q->serving->link, steal_ptr(q->request), on_query_reply, q);
    else
        on_query_reply(q, NULL);
}

/* The gateway's answer with "gateway" in it; NULL after timeout_ms. */
static json_t *ask_gateway(struct serving *s, json_t *request, int timeout_ms)
{
    struct query *q = xnew0(struct query);
    pthread_condattr_t attributes;
    struct timespec until;
    json_t *reply = NULL;

    q->serving = s;
    q->request = request;
    q->owners = 2;
    pthread_mutex_init(&q->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&q->answered, &attributes);
    pthread_condattr_destroy(&attributes);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    loop_post(s->loop, ask, q);

    pthread_mutex_lock(&q->mutex);
    while (!q->is_done && pthread_cond_timedwait(&q->answered, &q->mutex, &until) == 0)
        ;
    if (q->is_done)
        reply = steal_ptr(q->reply);
    pthread_mutex_unlock(&q->mutex);
    query_unref(q);
    return reply;
}

json_t *serving_ask(struct serving *s, json_t *request, struct error *error)
{
    json_t *reply = ask_gateway(s, request, 2000), *failure = json_object_get(reply, "error");

    if (failure) {
        error_set(error, error_code_parse(json_get_string(failure, "code", "")), "%s",
                  json_get_string(failure, "message", "the gateway refuses"));
        json_decref(reply);
        return NULL;
    }
    if (!json_object_get(reply, "ok")) {
        json_decref(reply);
        error_set(error, ERROR_UNAVAILABLE, "the gateway does not answer");
        return NULL;
    }
    json_object_del(reply, "id");
    json_object_del(reply, "ok");
    return reply;
}

json_t *serving_counters(struct serving *s, struct error *error)
{
    return serving_ask(s, json_build("{s:s, s:b}", "op", "status", "detail", 1), error);
}

json_t *serving_compare(struct serving *s, const char *endpoint, struct error *error)
{
    return serving_ask(s, json_build("{s:s, s:s}", "op", "compare", "endpoint", endpoint), error);
}

json_t *serving_status(struct serving *s, struct error *error)
{
    json_t *reply = ask_gateway(s, json_build("{s:s}", "op", "status"), 2000);

    if (!reply) {
        error_set(error, ERROR_UNAVAILABLE, "the gateway does not answer");
        return NULL;
    }
    json_object_del(reply, "id");
    json_object_del(reply, "ok");
    return reply;
}

void serving_revoke(struct serving *s, const char *sha256)
{
    json_t *request = json_build("{s:s}", "op", "revoke");
    json_t *reply;

    if (sha256)
        json_set_string(request, "sha256", sha256);
    reply = ask_gateway(s, request, 2000);
    json_decref(reply);
}

void serving_apply(struct serving *s)
{
    serving_changed(s);
    /* The table is sent first, and the gateway does one thing after the other. */
    json_decref(ask_gateway(s, json_build("{s:s}", "op", "status"), 2000));
}

/* -- life -- */

#define GATEWAY_USER "slipway-gateway"
#define GATEWAY_UID  199999 /* below those of containers (engine/local.c) */

uid_t serving_gateway_uid(void)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];

    if (geteuid() != 0)
        return 0;
    return getpwnam_r(GATEWAY_USER, &entry, buffer, sizeof(buffer), &found) == 0 && found ? found->pw_uid : GATEWAY_UID;
}

static void json_release(void *value)
{
    json_decref(value);
}

static int open_link(struct serving *s, const struct serving_options *options, struct error *error)
{
    const struct gateway_link_options link_options = {
        .data_directory = s->store->directory,
        .listen = options->serve,
        .certificate = options->certificate,
        .key = options->key,
        .program = options->program,
        .user = options->gateway_uid,
        .on_up = on_gateway_up,
        .on_replica = on_gateway_replica,
        .on_route = on_gateway_route,
        .on_problem = on_gateway_problem,
        .userdata = s,
    };

    return gateway_link_new(s->loop, &link_options, &s->link, error);
}

int serving_new(struct store *store, struct orchestrator *orchestrator, const struct serving_options *options,
                struct serving **ret_serving, struct error *error)
{
    struct serving *s = xnew0(struct serving);
    pthread_condattr_t attributes;

    s->store = store;
    s->orchestrator = orchestrator;
    s->loop = orchestrator_loop(orchestrator);
    s->engine = orchestrator_engine(orchestrator);
    s->replicas = (struct map)MAP_INIT(replica_free);
    s->backoffs = (struct map)MAP_INIT(free);
    s->scalers = scaling_map();
    s->packages = (struct map)MAP_INIT(json_release);
    pthread_mutex_init(&s->mutex, NULL);
    pthread_mutex_init(&s->requests_mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&s->ended, &attributes);
    pthread_condattr_destroy(&attributes);

    orchestrator_set_engine_listener(orchestrator, on_engine, s);
    orchestrator_set_run_ended(orchestrator, on_run_ended, s);
    if (options->serve && (replicas_load(s, error) < 0 || open_link(s, options, error) < 0)) {
        serving_free(s);
        return -1;
    }
    loop_post(s->loop, on_changed, s);
    serving_reconcile(s);
    *ret_serving = s;
    return 0;
}

struct serving *serving_free(struct serving *s)
{
    if (!s)
        return NULL;
    atomic_store(&s->is_closing, true);
    orchestrator_set_engine_listener(s->orchestrator, NULL, NULL);
    orchestrator_set_run_ended(s->orchestrator, NULL, NULL);
    gateway_link_free(s->link);
    loop_remove(s->wake);
    loop_remove(s->trial_timer);
    serving_trials_release(s);
    map_release(&s->replicas);
    map_release(&s->backoffs);
    map_release(&s->scalers);
    map_release(&s->packages);
    pthread_cond_destroy(&s->ended);
    pthread_mutex_destroy(&s->mutex);
    pthread_mutex_destroy(&s->requests_mutex);
    free(s->sent);
    free(s->problem);
    free(s);
    return NULL;
}
