#include <ctype.h>
#include <math.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include "core/token.h"
#include "schedule/builder.h"
#include "schedule/launch.h"
#include "schedule/placement.h"
#include "schedule/worker-path.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define SDK_TARGET "/slipway/sdk" /* of `import slipway`, on PYTHONPATH */

struct launch *launch_free(struct launch *launch)
{
    if (!launch)
        return NULL;
    free(launch->code);
    free(launch->params);
    free(launch->resume);
    free(launch->token);
    free(launch->environment);
    strvec_release(&launch->mounts);
    free(launch);
    return NULL;
}

char *launch_directory(const struct store *store, const char *run_id, int attempt, int node)
{
    char name[RUN_NODE_DIRECTORY_SIZE];

    return store_path(store, "runs/%s/%s", run_id, run_node_directory(attempt, node, name));
}

char *launch_key(const char *run_id, int attempt, int node, char buffer[LAUNCH_KEY_SIZE])
{
    snprintf(buffer, LAUNCH_KEY_SIZE, "%s/%d/%d", run_id, attempt, node);
    return buffer;
}

bool launch_parse_key(const char *key, char ret_id[ID_SIZE], int *ret_attempt, int *ret_node)
{
    int end = 0;

    return sscanf(key, "%32[0-9a-f]/%d/%d%n", ret_id, ret_attempt, ret_node, &end) == 3 && key[end] == '\0' &&
           strlen(ret_id) == ID_SIZE - 1;
}

/* -- prepare -- */

static int pin_datasets(struct launch *launch, struct store *store, const char *owner, struct error *error)
{
    const json_t *datasets = json_object_get(launch->run->spec, "datasets");
    json_t *dataset, *file;
    size_t i, k;

    json_array_foreach(datasets, i, dataset) {
        json_array_foreach(json_object_get(dataset, "files"), k, file) {
            const char *name = json_get_string(file, "name", "");
            cleanup_free char *path = NULL;
            struct digest digest;

            if (digest_parse(json_get_string(file, "digest", ""), &digest, error) < 0 ||
                vault_pin(store->vault, &digest, owner, &path, error) < 0)
                return error_wrap(error, "dataset %s, file %s", json_get_string(dataset, "address", ""), name);
            strvec_push(&launch->mounts, path);
            strvec_pushf(&launch->mounts, "/slipway/data/%s/%s", json_get_string(dataset, "name", ""), name);
        }
    }
    return 0;
}

/* The newest generation, so that the next attempt goes on where the last one kept something. */
static int find_resume(struct launch *launch, struct store *store, const char *owner, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_error struct error missing = ERROR_INIT;
    struct digest digest;
    int generation;

    if (launch->run->attempt <= 1)
        return 0;
    if (db_begin_read(store->db, &tx, error) < 0)
        return -1;
    if (run_newest_weights(&tx, launch->run->id, &digest, &generation, &missing) < 0) {
        if (missing.code == ERROR_NOT_FOUND)
            return 0;
        error_move(error, &missing);
        return -1;
    }
    db_end(&tx);
    return vault_pin(store->vault, &digest, owner, &launch->resume, error);
}

/* A port that is free now. The nodes bind it a moment later; if somebody takes it meanwhile the run fails and
 * is retried like any other. */
static int free_port(struct error *error)
{
    cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return error_set(error, ERROR_UNAVAILABLE, "no free port for the nodes to meet");
    return ntohs(address.sin_port);
}

/* Only a run that can reach us has a use for it. */
static int make_token(struct launch *launch, struct store *store, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (!launch->url || !json_get_bool(launch->run->spec, "network", false))
        return 0;
    if (db_begin_write(store->db, &tx, error) < 0 ||
        token_create_for_run(&tx, launch->run->id, launch->run->project, &launch->token, error) < 0)
        return -1;
    return db_commit(&tx, error);
}

int launch_prepare(struct launch *launch, struct store *store, struct error *error)
{
    cleanup_free char *owner = xasprintf("run:%s", launch->run->id);
    const json_t *environment = json_object_get(launch->run->spec, "environment");
    const char *digest = json_get_string(environment, "digest", NULL);

    if (launch->run->code && code_unpack(store, launch->run->code, &launch->code, error) < 0)
        return -1;
    if (pin_datasets(launch, store, owner, error) < 0 || find_resume(launch, store, owner, error) < 0 ||
        make_token(launch, store, error) < 0)
        return -1;
    if (digest)
        launch->environment = builder_directory(store, digest);
    launch->params = json_text(json_object_get(launch->run->spec, "parameters"));
    if (launch->run->nodes > 1) {
        launch->master_port = free_port(error);
        if (launch->master_port < 0)
            return -1;
    }
    for (int i = 0; i < launch->run->nodes; i++) {
        cleanup_free char *directory = launch_directory(store, launch->run->id, launch->run->attempt, i);

        if (fs_mkdir_all(directory, 0700, error) < 0)
            return -1;
    }
    return 0;
}

/* -- environment variables -- */

static void push_parameters(struct strvec *env, const json_t *parameters)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)parameters, key, value) {
        cleanup_free char *name = xstrdup(key);
        cleanup_free char *text = json_is_string(value) ? xstrdup(json_string_value(value)) : json_text(value);

        for (char *p = name; *p; p++)
            *p = isalnum((unsigned char)*p) ? (char)toupper((unsigned char)*p) : '_';
        strvec_pushf(env, "SLIPWAY_PARAM_%s=%s", name, text);
    }
}

/* As torchrun sets them for one process a node, and what the launcher's own defaults are called. */
static void push_torch(struct strvec *env, const struct launch *launch, int node)
{
    strvec_push(env, "MASTER_ADDR=127.0.0.1");
    strvec_pushf(env, "MASTER_PORT=%d", launch->master_port);
    strvec_pushf(env, "RANK=%d", node);
    strvec_pushf(env, "GROUP_RANK=%d", node);
    strvec_pushf(env, "WORLD_SIZE=%d", launch->run->nodes);
    strvec_push(env, "LOCAL_RANK=0");
    strvec_push(env, "LOCAL_WORLD_SIZE=1");
    strvec_pushf(env, "TORCHELASTIC_RUN_ID=%s", launch->run->id);
    strvec_pushf(env, "TORCHELASTIC_RESTART_COUNT=%d", launch->run->attempt - 1);
    strvec_pushf(env, "TORCHELASTIC_MAX_RESTARTS=%d", launch->run->retries);
    strvec_pushf(env, "PET_NNODES=%d", launch->run->nodes);
    strvec_push(env, "PET_NPROC_PER_NODE=1");
    strvec_pushf(env, "PET_NODE_RANK=%d", node);
    strvec_push(env, "PET_MASTER_ADDR=127.0.0.1");
    strvec_pushf(env, "PET_MASTER_PORT=%d", launch->master_port);
}

/* {"cluster":{"worker":["127.0.0.1:p",…]},"task":{"type":"worker","index":0}}; node i listens on port p + 1 +
 * i. */
static void push_tensorflow(struct strvec *env, const struct launch *launch, int node)
{
    cleanup_json json_t *cluster = json_object();
    cleanup_json json_t *config = NULL;
    cleanup_free char *text = NULL;
    const char *role;
    int index;

    for (int i = 0; i < launch->run->nodes; i++) {
        json_t *list;

        role = run_node_role(launch->run, i, &index);
        if (strcmp(role, "main") == 0)
            role = "worker";
        list = json_object_get(cluster, role);
        if (!list) {
            list = json_array();
            json_object_set_new(cluster, role, list);
        }
        json_array_append_new(list, json_sprintf("127.0.0.1:%d", launch->master_port + 1 + i));
    }
    role = run_node_role(launch->run, node, &index);
    config = json_build("{s:O, s:{s:s, s:i}}", "cluster", cluster, "task", "type",
                        strcmp(role, "main") == 0 ? "worker" : role, "index", index);
    text = json_text(config);
    strvec_pushf(env, "TF_CONFIG=%s", text);
}

static void fill_environment(const struct launch *launch, int node, const char *gpus, const char *sdk,
                             struct strvec *env)
{
    const struct run *run = launch->run;
    const json_t *parameters = json_object_get(run->spec, "parameters");
    int index;

    if (launch->environment) {
        strvec_pushf(env, "PATH=%s/bin:" ENGINE_PATH, launch->environment);
        strvec_pushf(env, "VIRTUAL_ENV=%s", launch->environment);
    } else {
        strvec_push(env, "PATH=" ENGINE_PATH);
    }
    strvec_push(env, "HOME=/tmp");
    strvec_push(env, "LANG=C.UTF-8");
    strvec_push(env, "PYTHONUNBUFFERED=1");
    if (sdk)
        strvec_push(env, "PYTHONPATH=" SDK_TARGET);
    strvec_pushf(env, "SLIPWAY_RUN_ID=%s", run->id);
    strvec_pushf(env, "SLIPWAY_ATTEMPT=%d", run->attempt);
    strvec_pushf(env, "SLIPWAY_NODE_ROLE=%s", run_node_role(run, node, &index));
    strvec_pushf(env, "SLIPWAY_NODE_INDEX=%d", node);
    strvec_pushf(env, "SLIPWAY_DEVICE=%s", gpus ? "gpu" : "cpu");
    strvec_pushf(env, "CUDA_VISIBLE_DEVICES=%s", gpus ? gpus : "");
    if (run->resources.cpus > 0)
        strvec_pushf(env, "OMP_NUM_THREADS=%d", (int)ceil(run->resources.cpus));
    if (json_get_bool(run->spec, "network", false) && launch->url && launch->token) {
        strvec_pushf(env, "SLIPWAY_URL=%s", launch->url);
        strvec_pushf(env, "SLIPWAY_TOKEN=%s", launch->token);
    }
    push_parameters(env, parameters);
    if (run->nodes > 1) {
        push_torch(env, launch, node);
        push_tensorflow(env, launch, node);
    }
}

/* -- launch -- */

int launch_node(const struct launch *launch, struct engine *engine, struct store *store, int node, struct error *error)
{
    const struct run *run = launch->run;
    cleanup_free char *directory = launch_directory(store, run->id, run->attempt, node);
    cleanup_free char *gpus = pool_gpu_list(launch->gpus, run->resources.gpus, node);
    cleanup_free struct engine_mount *mounts = xcalloc(launch->mounts.count / 2 + 2, sizeof(*mounts));
    cleanup_free char *sdk = python_sdk_directory();
    cleanup_strvec struct strvec argv = STRVEC_INIT, env = STRVEC_INIT;
    cleanup_free char *group = run->nodes > 1 ? xasprintf("%s-%d", run->id, run->attempt) : NULL;
    struct engine_spec spec = {0};
    size_t i, n = 0;
    json_t *word;
    int index;

    json_array_foreach(json_object_get(run->spec, "entry"), i, word)
        strvec_push(&argv, json_string_value(word));
    fill_environment(launch, node, gpus, sdk, &env);
    for (; n < launch->mounts.count / 2; n++)
        mounts[n] = (struct engine_mount){launch->mounts.items[2 * n], launch->mounts.items[2 * n + 1], false};
    if (launch->environment)
        mounts[n++] = (struct engine_mount){launch->environment, launch->environment, false};
    if (sdk)
        mounts[n++] = (struct engine_mount){sdk, SDK_TARGET, false};

    spec = (struct engine_spec){
        .run_id = run->id,
        .attempt = run->attempt,
        .node = node,
        .role = run_node_role(run, node, &index),
        .directory = directory,
        .argv = (const char *const *)argv.items,
        .environment = (const char *const *)env.items,
        .code = launch->code,
        .mounts = mounts,
        .n_mounts = n,
        .params = launch->params,
        .resume = launch->resume,
        .cpus = run->resources.cpus,
        .memory = run->resources.memory,
        .gpus = gpus,
        .network = json_get_bool(run->spec, "network", false),
        .group = group,
        .timeout_ms = run->timeout_ms,
        .grace_ms = json_get_int(run->spec, "grace_ms", 0),
    };
    return engine_launch(engine, &spec, error);
}
