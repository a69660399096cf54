#include <assert.h>
#include <math.h>
#include <string.h>
#include "gateway/balance.h"
#include "gateway/gateway.h"
#include "gateway/route.h"
#include "gateway/shadow.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/schema.h"
#include "util/xalloc.h"

static const struct schema_field replica_fields[] = {
    {"id", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 32, .max = 32},
    {"key", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 1, .max = 127},
    {},
};
static const struct schema replica_schema = {"GatewayReplica", replica_fields};

static const struct schema_field scale_fields[] = {
    {"queue_time_ms", SCHEMA_INTEGER, SCHEMA_REQUIRED, .min = 1, .max = 3600000},
    {"to_zero", SCHEMA_BOOLEAN},
    {},
};
static const struct schema scale_schema = {"GatewayScale", scale_fields};

static const struct schema_field batch_fields[] = {
    {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED, .min = 1, .max = LIMIT_BATCH},
    {"delay_us", SCHEMA_INTEGER, .min = 0, .max = LIMIT_BATCH_DELAY},
    {},
};
static const struct schema batch_schema = {"GatewayBatch", batch_fields};
_Static_assert(LIMIT_BATCH <= WIRE_SLOTS, "a batch fits into the ring");

static const struct schema_field route_fields[] = {
    {"version", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 1, .max = LIMIT_NAME},
    {"code_weights", SCHEMA_STRING, SCHEMA_NULLABLE, .max = LIMIT_NAME},
    {"weight", SCHEMA_NUMBER, .min = 0, .max = 1e9},
    {"shadow", SCHEMA_BOOLEAN},
    {"sample", SCHEMA_NUMBER, .min = 0, .max = 1},
    {"tolerance", SCHEMA_NUMBER, .min = 0, .max = 1e300},
    {"against", SCHEMA_STRING, SCHEMA_NULLABLE, .max = LIMIT_NAME},
    {"platform", SCHEMA_STRING, SCHEMA_NULLABLE, .max = 200},
    {"inputs", SCHEMA_ARRAY, SCHEMA_NULLABLE, .item = SCHEMA_ANY, .max = 1000},
    {"outputs", SCHEMA_ARRAY, SCHEMA_NULLABLE, .item = SCHEMA_ANY, .max = 1000},
    {"concurrency", SCHEMA_INTEGER, .min = 0, .max = WIRE_SLOTS},
    {"scale", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &scale_schema},
    {"batch", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &batch_schema},
    {"deterministic", SCHEMA_BOOLEAN},
    {"replicas", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .object = &replica_schema,
     .max = LIMIT_REPLICAS},
    {},
};
static const struct schema route_schema = {"GatewayRoute", route_fields};

static const struct schema_field rate_fields[] = {
    {"per_second", SCHEMA_NUMBER, SCHEMA_REQUIRED, .min = 0.001, .max = 1e9},
    {"burst", SCHEMA_NUMBER, .min = 1, .max = 1e9},
    {},
};
static const struct schema rate_schema = {"GatewayRate", rate_fields};

static const struct schema_field log_fields[] = {
    {"sample", SCHEMA_NUMBER, SCHEMA_REQUIRED, .min = 0, .max = 1},
    {"body", SCHEMA_INTEGER, .min = 0, .max = LIMIT_REQUEST_LOG_BODY},
    {},
};
static const struct schema log_schema = {"GatewayLog", log_fields};

static const struct schema_field endpoint_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 1, .max = LIMIT_NAME},
    {"project", SCHEMA_STRING, SCHEMA_NULLABLE, .max = LIMIT_NAME},
    {"model", SCHEMA_STRING, SCHEMA_NULLABLE, .max = 2 * LIMIT_NAME + 1},
    {"timeout_ms", SCHEMA_INTEGER, .min = 1, .max = 86400000},
    {"queue", SCHEMA_INTEGER, .min = 0, .max = 1000000},
    {"cache", SCHEMA_INTEGER, .min = 0, .max = LIMIT_ANSWER_CACHE},
    {"public", SCHEMA_BOOLEAN},
    {"body_limit", SCHEMA_INTEGER, .min = 0, .max = LIMIT_PREDICT_BODY},
    {"sticky", SCHEMA_STRING, SCHEMA_NULLABLE, .max = 100},
    {"rate", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &rate_schema},
    {"log", SCHEMA_OBJECT, SCHEMA_NULLABLE, .object = &log_schema},
    {"routes", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .object = &route_schema, .max = 100},
    {},
};
static const struct schema endpoint_schema = {"GatewayEndpoint", endpoint_fields};

static const struct schema_field configuration_fields[] = {
    {"endpoints", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .object = &endpoint_schema,
     .max = LIMIT_ENDPOINTS},
    {},
};
static const struct schema configuration_schema = {"GatewayConfiguration", configuration_fields, .open = true};

const char *replica_phase_name(enum replica_phase phase)
{
    static const char *const names[] = {
        [REPLICA_ABSENT] = "absent",     [REPLICA_WARMING] = "warming", [REPLICA_READY] = "ready",
        [REPLICA_DRAINING] = "draining", [REPLICA_DRAINED] = "drained",
    };
    _Static_assert(ARRAY_SIZE(names) == REPLICA_PHASE_COUNT_, "a name for each phase");

    return names[phase];
}

void endpoint_ref(struct endpoint *endpoint)
{
    endpoint->refs++;
}

void endpoint_unref(struct endpoint *endpoint)
{
    if (--endpoint->refs)
        return;
    free(endpoint->name);
    free(endpoint->project);
    free(endpoint->model);
    free(endpoint->sticky);
    answers_share_unref(endpoint->cache);
    free(endpoint);
}

void route_ref(struct route *route)
{
    route->refs++;
}

void route_unref(struct route *route)
{
    assert(route->refs > 0);
    if (--route->refs)
        return;
    load_release(route);
    list_unlink(&route->link);
    loop_remove(route->batch_timer);
    assert(list_is_empty(&route->answers));
    endpoint_unref(route->endpoint);
    free(route->version);
    free(route->code_weights);
    free(route->platform);
    shadow_free(route->shadow);
    json_decref(route->inputs);
    json_decref(route->outputs);
    free(route);
}

void replica_settle(struct replica *replica)
{
    struct route *route = replica->route;

    if (replica->wished || replica->worker)
        return;
    list_unlink(&replica->link);
    free(replica);
    route_unref(route);
}

/* The endpoint leaves the table; its routes follow when nothing refers to them. */
static void endpoint_remove(void *value)
{
    struct endpoint *endpoint = value;
    struct route *route, *next;

    list_for_each_safe(route, next, &endpoint->routes, link) {
        struct replica *replica, *tmp;

        list_unlink(&route->link);
        route->removed = true;
        load_release(route);
        list_for_each_safe(replica, tmp, &route->replicas, link) {
            replica->wished = false;
            replica_settle(replica);
        }
        route_unref(route);
    }
    endpoint_unref(endpoint);
}

void routes_init(struct routes *routes)
{
    routes->endpoints = (struct map)MAP_INIT(endpoint_remove);
}

void routes_release(struct routes *routes)
{
    map_release(&routes->endpoints);
}

/* Shapes are right; now what a schema cannot say: names and replicas are unique. */
int routes_check(const json_t *configuration, struct error *error)
{
    cleanup_map struct map names = MAP_INIT(NULL), ids = MAP_INIT(NULL);
    json_t *endpoint, *route, *replica;
    size_t i, j, k;

    if (schema_check(&configuration_schema, configuration, error) < 0)
        return -1;
    json_array_foreach(json_object_get(configuration, "endpoints"), i, endpoint) {
        cleanup_map struct map versions = MAP_INIT(NULL);
        const char *name = json_get_string(endpoint, "name", NULL);
        int shadows = 0;

        if (map_get(&names, name))
            return error_set(error, ERROR_INVALID, "endpoint %s is there twice", name);
        map_put(&names, name, endpoint);
        json_array_foreach(json_object_get(endpoint, "routes"), j, route) {
            const char *version = json_get_string(route, "version", NULL);

            if (map_get(&versions, version))
                return error_set(error, ERROR_INVALID, "endpoint %s has two routes to version %s", name, version);
            map_put(&versions, version, route);
            shadows += json_get_bool(route, "shadow", false);
            if (shadows > 1)
                return error_set(error, ERROR_INVALID, "endpoint %s has two shadows", name);
            json_array_foreach(json_object_get(route, "replicas"), k, replica) {
                const char *id = json_get_string(replica, "id", NULL);

                if (!id_is_valid(id))
                    return error_set(error, ERROR_INVALID, "'%s' is not the id of a replica", id);
                if (map_get(&ids, id))
                    return error_set(error, ERROR_INVALID, "replica %s is there twice", id);
                map_put(&ids, id, replica);
            }
        }
    }
    return 0;
}

static struct route *find_version(const struct endpoint *endpoint, const char *version)
{
    struct route *route;

    list_for_each(route, &endpoint->routes, link) {
        if (!strcmp(route->version, version) || (route->code_weights && !strcmp(route->code_weights, version)))
            return route;
    }
    return NULL;
}

static struct replica *find_in_route(const struct route *route, const char *id)
{
    struct replica *replica;

    list_for_each(replica, &route->replicas, link) {
        if (!strcmp(replica->id, id))
            return replica;
    }
    return NULL;
}

static void set_string(char **slot, const char *value)
{
    free(*slot);
    *slot = xstrdup_null(value);
}

static void set_json(json_t **slot, json_t *value)
{
    json_decref(*slot);
    *slot = json_is_array(value) ? json_incref(value) : NULL;
}

static void apply_replica(struct route *route, const json_t *wish)
{
    const char *id = json_get_string(wish, "id", NULL);
    struct replica *replica = find_in_route(route, id);

    if (!replica) {
        replica = xnew0(struct replica);
        replica->route = route;
        route_ref(route);
        snprintf(replica->id, sizeof(replica->id), "%s", id);
        list_append(&route->replicas, &replica->link);
    }
    snprintf(replica->key, sizeof(replica->key), "%s", json_get_string(wish, "key", ""));
    replica->wished = true;
}

static struct route *route_new(struct endpoint *endpoint, const char *version, uint64_t number)
{
    struct route *route = xnew0(struct route);

    route->refs = 1;
    route->endpoint = endpoint;
    endpoint->refs++;
    route->version = xstrdup(version);
    list_init(&route->replicas);
    call_queue_init(&route->queue);
    route->number = number;
    list_init(&route->answers);
    list_append(&endpoint->routes, &route->link);
    return route;
}

static void apply_route(struct endpoint *endpoint, struct gateway *gateway, const json_t *wish)
{
    const char *version = json_get_string(wish, "version", NULL);
    struct route *route = NULL, *each;
    struct replica *replica, *next;
    json_t *item;
    size_t i;

    list_for_each(each, &endpoint->routes, link) {
        if (!strcmp(each->version, version))
            route = each;
    }
    if (!route)
        route = route_new(endpoint, version, ++gateway->routes.numbers);
    route->removed = false;
    set_string(&route->code_weights, json_get_string(wish, "code_weights", NULL));
    set_string(&route->platform, json_get_string(wish, "platform", NULL));
    set_json(&route->inputs, json_object_get(wish, "inputs"));
    set_json(&route->outputs, json_object_get(wish, "outputs"));
    route->weight = json_get_bool(wish, "shadow", false) ? 0 : json_get_number(wish, "weight", 100);
    route->concurrency = (int)json_get_int(wish, "concurrency", 1);
    shadow_configure(gateway, route, wish);
    route->is_deterministic = json_get_bool(wish, "deterministic", false);
    if (!route->is_deterministic)
        answers_forget(gateway->answers, &route->answers);
    route->batch_size = (uint32_t)json_get_int(json_object_get(wish, "batch"), "size", 1);
    route->batch_delay_ns = json_get_int(json_object_get(wish, "batch"), "delay_us", 0) * NS_PER_US;

    list_for_each(replica, &route->replicas, link)
        replica->wished = false;
    json_array_foreach(json_object_get(wish, "replicas"), i, item)
        apply_replica(route, item);
    list_for_each_safe(replica, next, &route->replicas, link)
        balance_wish_changed(gateway, replica);
    load_configure(gateway, route, json_object_get(wish, "scale"));
}

static struct endpoint *endpoint_new(struct routes *routes, const char *name)
{
    struct endpoint *endpoint = xnew0(struct endpoint);

    endpoint->refs = 1;
    endpoint->name = xstrdup(name);
    list_init(&endpoint->routes);
    map_put(&routes->endpoints, name, endpoint);
    return endpoint;
}

static void retire_route(struct route *route, struct gateway *gateway)
{
    struct replica *replica, *next;

    list_unlink(&route->link);
    route->removed = true;
    load_release(route);
    route_ref(route);
    list_for_each_safe(replica, next, &route->replicas, link) {
        replica->wished = false;
        balance_wish_changed(gateway, replica);
    }
    shadow_end(gateway, route);
    answers_forget(gateway->answers, &route->answers);
    balance_route_removed(gateway, route);
    route_unref(route);
    route_unref(route);
}

/* With less room than before it begins anew. */
static void apply_cache(struct endpoint *endpoint, struct gateway *gateway, uint64_t max)
{
    struct route *route;

    if (endpoint->cache && max < endpoint->cache->max) {
        list_for_each(route, &endpoint->routes, link)
            answers_forget(gateway->answers, &route->answers);
        answers_share_unref(steal_ptr(endpoint->cache));
    }
    if (endpoint->cache)
        endpoint->cache->max = max;
    else if (max)
        endpoint->cache = answers_share_new(max);
    if (max && !gateway->answers)
        gateway->answers = answers_new(gateway->loop, LIMIT_ANSWER_CACHE_ALL);
}

static void apply_endpoint(struct routes *routes, struct gateway *gateway, const json_t *wish)
{
    const char *name = json_get_string(wish, "name", NULL);
    struct endpoint *endpoint = map_get(&routes->endpoints, name);
    struct route *route, *next;
    json_t *item;
    size_t i;

    if (!endpoint)
        endpoint = endpoint_new(routes, name);
    set_string(&endpoint->project, json_get_string(wish, "project", NULL));
    set_string(&endpoint->model, json_get_string(wish, "model", NULL));
    set_string(&endpoint->sticky, json_get_string(wish, "sticky", NULL));
    endpoint->timeout_ms = json_get_int(wish, "timeout_ms", LIMIT_PREDICT_TIMEOUT_MS);
    endpoint->body_limit = json_get_int(wish, "body_limit", LIMIT_PREDICT_BODY);
    endpoint->queue = (size_t)json_get_int(wish, "queue", LIMIT_PREDICT_QUEUE);
    endpoint->is_public = json_get_bool(wish, "public", false);
    endpoint->rate = json_get_number(json_object_get(wish, "rate"), "per_second", 0);
    endpoint->burst = json_get_number(json_object_get(wish, "rate"), "burst", endpoint->rate > 1 ? endpoint->rate : 1);
    apply_cache(endpoint, gateway, (uint64_t)json_get_int(wish, "cache", 0));
    request_log_configure(&endpoint->log, json_object_get(wish, "log"));

    list_for_each(route, &endpoint->routes, link)
        route->removed = true;
    json_array_foreach(json_object_get(wish, "routes"), i, item)
        apply_route(endpoint, gateway, item);
    endpoint->weight_sum = 0;
    list_for_each_safe(route, next, &endpoint->routes, link) {
        if (route->removed)
            retire_route(route, gateway);
        else
            endpoint->weight_sum += route->weight;
    }
}

static bool is_wished(const json_t *configuration, const char *name)
{
    json_t *endpoint;
    size_t i;

    json_array_foreach(json_object_get(configuration, "endpoints"), i, endpoint) {
        if (!strcmp(json_get_string(endpoint, "name", ""), name))
            return true;
    }
    return false;
}

void routes_apply(struct routes *routes, struct gateway *gateway, const json_t *configuration)
{
    struct map_iterator it = {0};
    json_t *item;
    size_t i;

    json_array_foreach(json_object_get(configuration, "endpoints"), i, item)
        apply_endpoint(routes, gateway, item);
    while (map_next(&routes->endpoints, &it)) {
        struct endpoint *endpoint = it.value;
        struct route *route, *next;

        if (is_wished(configuration, it.key))
            continue;
        list_for_each_safe(route, next, &endpoint->routes, link)
            retire_route(route, gateway);
        recorder_end(gateway->recorder, &endpoint->log);
        map_remove(&routes->endpoints, it.key);
    }
}

static bool is_model(const struct endpoint *endpoint, const char *name)
{
    const char *colon = strchr(name, ':');

    if (!endpoint->model)
        return false;
    if (colon && endpoint->project && strlen(endpoint->project) == (size_t)(colon - name) &&
        !strncmp(endpoint->project, name, (size_t)(colon - name)))
        name = colon + 1;
    return !strcmp(endpoint->model, name);
}

struct endpoint *routes_find(const struct routes *routes, const char *name)
{
    struct endpoint *endpoint = map_get(&routes->endpoints, name);
    struct map_iterator it = {0};

    if (endpoint || (!strchr(name, '/') && !strchr(name, ':')))
        return endpoint;
    while (map_next(&routes->endpoints, &it)) {
        if (is_model(it.value, name))
            return it.value;
    }
    return NULL;
}

struct replica *routes_find_replica(const struct routes *routes, const char *id)
{
    struct map_iterator it = {0};

    while (map_next(&routes->endpoints, &it)) {
        const struct endpoint *endpoint = it.value;
        struct route *route;

        list_for_each(route, &endpoint->routes, link) {
            struct replica *replica = find_in_route(route, id);

            if (replica)
                return replica;
        }
    }
    return NULL;
}

/* FNV-1a, 64 bits (G. Fowler, L. C. Noll, K.-P. Vo): spreads, needs no secrecy. */
static uint64_t hash_text(const char *text)
{
    uint64_t hash = UINT64_C(14695981039346656037);

    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
    return hash;
}

/* A number in (0, 1) from 64 bits. */
static double unit(uint64_t bits)
{
    return ((double)(bits >> 11) + 0.5) * 0x1p-53;
}

/* Fractions of the golden ratio fill [0, 1) evenly, in any stretch of turns (Weyl's sequence). */
static struct route *by_turn(struct endpoint *endpoint)
{
    double point = unit(++endpoint->turn * UINT64_C(11400714819323198485)) * endpoint->weight_sum;
    struct route *route, *last = NULL;

    list_for_each(route, &endpoint->routes, link) {
        if (route->weight <= 0)
            continue;
        last = route;
        if (point < route->weight)
            return route;
        point -= route->weight;
    }
    return last;
}

/* The finalizer of MurmurHash3 (A. Appleby): every bit of the input changes half of the output's. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
    x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ x >> 33;
}

/* Weighted rendezvous hashing (D. Thaler, C. Ravishankar; J. Resch): each route draws a number for the value, and the
 * least, divided by the weight, wins. A share that grows only takes values, one that shrinks only loses them, and
 * neither the order of the routes nor a restart changes anything. */
static struct route *by_value(const struct endpoint *endpoint, const char *value)
{
    uint64_t hash = hash_text(value);
    struct route *route, *best = NULL;
    double least = INFINITY;

    list_for_each(route, &endpoint->routes, link) {
        double draw;

        if (route->weight <= 0)
            continue;
        draw = -log(unit(mix(hash ^ mix(hash_text(route->version))))) / route->weight;
        if (draw < least) {
            least = draw;
            best = route;
        }
    }
    return best;
}

/* Where requests go while the chosen version has no replica that is ready: to another that shares the traffic. With
 * none that is ready they wait for the one that was chosen. */
static struct route *ready_or_other(struct endpoint *endpoint, struct route *chosen)
{
    struct route *route;

    if (!chosen || route_is_ready(chosen))
        return chosen;
    list_for_each(route, &endpoint->routes, link) {
        if (route->weight > 0 && route_is_ready(route))
            return route;
    }
    return chosen;
}

struct route *endpoint_route(struct endpoint *endpoint, const char *version, const char *sticky)
{
    if (version)
        return find_version(endpoint, version);
    return ready_or_other(endpoint, sticky ? by_value(endpoint, sticky) : by_turn(endpoint));
}

bool route_is_ready(const struct route *route)
{
    const struct replica *replica;

    list_for_each(replica, &route->replicas, link) {
        if (replica->phase == REPLICA_READY)
            return true;
    }
    return load_is_asleep(route);
}

bool endpoint_is_ready(const struct endpoint *endpoint)
{
    const struct route *route;

    list_for_each(route, &endpoint->routes, link) {
        if (route->weight > 0 && route_is_ready(route))
            return true;
    }
    return false;
}
