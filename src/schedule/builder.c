#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>
#include "schedule/builder.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/map.h"
#include "util/proc.h"
#include "util/strbuf.h"
#include "util/strvec.h"
#include "util/xalloc.h"

/* $1 interpreter, $2 the environment, beside which everything lies. */
static const char script[] =
    "umask 022\n"
    "exec 9>\"$2.lock\"\n"
    "flock 9\n"
    "[ \"$(cat \"$2.status\" 2>/dev/null)\" = 0 ] && [ -x \"$2/bin/python\" ] && exit 0\n"
    "rm -f \"$2.status\"\n"
    "exec >\"$2.log\" 2>&1\n"
    "rm -rf \"$2\"\n"
    "status=0\n"
    "echo \"$1 -m venv\"\n"
    "\"$1\" -m venv \"$2\" || status=$?\n"
    "if [ $status = 0 ] && grep -q '[^[:space:]]' \"$2.txt\"; then\n"
    "    echo 'pip install -r requirements'\n"
    "    \"$2/bin/python\" -m pip install --disable-pip-version-check --no-input --progress-bar off \\\n"
    "        --cache-dir \"${2%/*}/pip-cache\" -r \"$2.txt\" || status=$?\n"
    "fi\n"
    "[ $status = 0 ] && chmod -R a+rX,go-w \"$2\"\n"
    "echo \"exit status $status\"\n"
    "sync -f \"$2.log\"\n"
    "echo $status >\"$2.status.new\" && mv \"$2.status.new\" \"$2.status\"\n"
    "exit $status\n";

struct builder {
    struct store *store;
    struct loop *loop;
    struct workers *workers;
    char *python;
    builder_fn fn;
    void *userdata;
    struct map jobs; /* digest → struct build_job, those that are going on */
    pthread_mutex_t lock;
    char *identity;
};

struct build_job {
    struct builder *builder;
    char digest[ENVIRONMENT_DIGEST_SIZE];
    pid_t pid;
    int pidfd;
    struct loop_source *source;
    /* result */
    enum build_state state;
    char *message;
};

static void free_job(void *pointer)
{
    struct build_job *job = pointer;

    loop_remove(job->source);
    if (job->pidfd >= 0)
        close(job->pidfd);
    free(job->message);
    free(job);
}

struct builder *builder_new(struct store *store, struct loop *loop, struct workers *workers, const char *python,
                            builder_fn fn, void *userdata)
{
    struct builder *builder = xnew0(struct builder);

    builder->store = store;
    builder->loop = loop;
    builder->workers = workers;
    builder->python = xstrdup(python ? python : access("/usr/bin/python3", X_OK) == 0 ? "/usr/bin/python3" : "python3");
    builder->fn = fn;
    builder->userdata = userdata;
    builder->jobs.destroy = free_job;
    pthread_mutex_init(&builder->lock, NULL);
    return builder;
}

struct builder *builder_free(struct builder *builder)
{
    if (!builder)
        return NULL;
    map_release(&builder->jobs);
    pthread_mutex_destroy(&builder->lock);
    free(builder->identity);
    free(builder->python);
    free(builder);
    return NULL;
}

char *builder_directory(const struct store *store, const char *digest)
{
    return store_path(store, "environments/%s", digest);
}

char *builder_log(const struct store *store, const char *digest)
{
    return store_path(store, "environments/%s.log", digest);
}

static int identify(struct builder *builder, struct error *error)
{
    const char *argv[] = {builder->python, "-c", "import platform as p; print(p.python_version(), p.machine())", NULL};
    cleanup_free char *output = NULL;
    int r = proc_run(argv, 256, 20000, &output, error);

    if (r < 0)
        return -1;
    if (r != 0)
        return error_set(error, ERROR_UNSUPPORTED, "%s does not run: %s", builder->python, output);
    output[strcspn(output, "\n")] = '\0';
    builder->identity = xasprintf("%s %s", builder->python, output);
    return 0;
}

int builder_identify(struct builder *builder, char **ret_identity, struct error *error)
{
    int r = 0;

    pthread_mutex_lock(&builder->lock);
    if (!builder->identity)
        r = identify(builder, error);
    if (r == 0)
        *ret_identity = xstrdup(builder->identity);
    pthread_mutex_unlock(&builder->lock);
    return r;
}

/* -- the end of a build, on a worker -- */

/* The last lines of the log that say something, as a message. */
static char *last_words(const char *log)
{
    cleanup_free char *text = NULL;
    size_t length, start;

    if (fs_read(log, LIMIT_BUILD_LOG, &text, &length, NULL) < 0)
        return xstrdup("it left no log");
    for (int lines = 0; length > 0 && (text[length - 1] == '\n' || lines == 0); lines++) {
        while (length > 0 && text[length - 1] == '\n')
            text[--length] = '\0';
        for (start = length; start > 0 && text[start - 1] != '\n'; start--)
            ;
        if (strncmp(text + start, "exit status", 11) != 0)
            return xstrndup(text + start, length - start > 500 ? 500 : length - start);
        length = start;
        lines = -1;
    }
    return xstrdup("see its log");
}

static void finish_work(void *userdata)
{
    struct build_job *job = userdata;
    struct builder *builder = job->builder;
    cleanup_free char *directory = builder_directory(builder->store, job->digest);
    cleanup_free char *status_path = xasprintf("%s.status", directory);
    cleanup_free char *log = builder_log(builder->store, job->digest);
    cleanup_free char *status = NULL;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    bool ready = fs_read(status_path, 64, &status, NULL, NULL) == 0 && strcmp(status, "0\n") == 0;

    job->state = ready ? BUILD_READY : BUILD_FAILED;
    job->message = ready ? NULL : status ? last_words(log) : xstrdup("the build was killed");
    if (db_begin_write(builder->store->db, &tx, &error) < 0 ||
        build_set_state(&tx, job->digest, NULL, job->state,
                        ready    ? "built"
                        : status ? "build_failed"
                                 : "build_killed",
                        job->message, ready ? fs_tree_size(directory) : 0, &error) < 0 ||
        db_commit(&tx, &error) < 0)
        log_error("cannot record the end of an environment build", "digest", job->digest, "error", error.message);
}

static void finish_done(void *userdata)
{
    struct build_job *job = userdata;
    struct builder *builder = job->builder;

    log_info("environment build ended", "digest", job->digest, "state", state_name(&build_states, (int)job->state),
             "message", job->message);
    map_take(&builder->jobs, job->digest);
    builder->fn(builder->userdata, job->digest, job->state, job->message);
    free_job(job);
}

static void on_exit_of_build(void *userdata, uint32_t events)
{
    struct build_job *job = userdata;
    int status;

    waitpid(job->pid, &status, WNOHANG);
    job->source = loop_remove(job->source);
    workers_add(job->builder->workers, finish_work, finish_done, job);
}

/* -- start -- */

static int start(struct builder *builder, const char *digest, const char *requirements, struct error *error)
{
    cleanup_free char *directory = builder_directory(builder->store, digest);
    cleanup_free char *parent = store_path(builder->store, "environments");
    cleanup_free char *text_path = xasprintf("%s.txt", directory);
    const char *argv[] = {"/bin/sh", "-c", script, "slipway-environment", builder->python, directory, NULL};
    struct proc_spawn spawn = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .new_session = true};
    struct build_job *job;
    struct proc_id id;
    pid_t pid;

    if (fs_mkdir_all(parent, 0711, error) < 0 ||
        fs_write_atomic(text_path, requirements, strlen(requirements), 0644, error) < 0 ||
        proc_spawn(&spawn, &pid, error) < 0 || proc_identify(pid, &id, error) < 0)
        return -1;
    job = xnew0(struct build_job);
    job->builder = builder;
    snprintf(job->digest, sizeof(job->digest), "%s", digest);
    job->pid = pid;
    job->pidfd = proc_open(&id, NULL);
    map_put(&builder->jobs, digest, job);
    if (job->pidfd < 0)
        workers_add(builder->workers, finish_work, finish_done, job);
    else
        job->source = loop_add_fd(builder->loop, job->pidfd, EPOLLIN, on_exit_of_build, job);
    log_info("environment build started", "digest", digest);
    return 0;
}

int builder_resume(struct builder *builder, struct error *error)
{
    cleanup_strvec struct strvec digests = STRVEC_INIT, requirements = STRVEC_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_begin_read(builder->store->db, &tx, error) < 0 ||
        db_query(&tx, &rows, error, "SELECT digest, requirements FROM environment_builds WHERE state = ?", "i",
                 (int64_t)BUILD_BUILDING) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0) {
        strvec_push(&digests, db_text(&rows, 0));
        strvec_push(&requirements, db_text(&rows, 1));
    }
    if (r < 0)
        return -1;
    for (size_t i = 0; i < digests.count; i++)
        if (start(builder, digests.items[i], requirements.items[i], error) < 0)
            return -1;
    return 0;
}

/* The text of an environment version with that digest. */
static int find_requirements(struct db_tx *tx, const char *digest, char **ret_text, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT CASE WHEN digest_cpu = ?1 THEN requirements_cpu ELSE requirements_gpu END FROM "
                 "environments "
                 "WHERE digest_cpu = ?1 OR digest_gpu = ?1 LIMIT 1",
                 "s", digest) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r < 0 ? -1 : error_set(error, ERROR_NOT_FOUND, "no environment has the digest %s", digest);
    *ret_text = xstrdup(db_text(&rows, 0));
    return 0;
}

static int begin(struct builder *builder, const char *digest, struct error *error)
{
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_free char *requirements = NULL;

    if (db_begin_write(builder->store->db, &tx, error) < 0 ||
        find_requirements(&tx, digest, &requirements, error) < 0 ||
        build_set_state(&tx, digest, requirements, BUILD_BUILDING, "requested", NULL, 0, error) < 0 ||
        db_commit(&tx, error) < 0)
        return -1;
    return start(builder, digest, requirements, error);
}

int builder_need(struct builder *builder, const char *digest, bool again, enum build_state *ret_state,
                 char **ret_message, struct error *error)
{
    cleanup_free char *directory = builder_directory(builder->store, digest);
    cleanup_free char *interpreter = fs_join(directory, "bin/python");
    cleanup_build struct build build = {0};
    cleanup_error struct error missing = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    bool known;

    if (db_begin_read(builder->store->db, &tx, error) < 0)
        return -1;
    known = build_load(&tx, digest, &build, &missing) == 0;
    db_end(&tx);
    if (!known && missing.code != ERROR_NOT_FOUND) {
        error_move(error, &missing);
        return -1;
    }
    if (map_get(&builder->jobs, digest)) {
        *ret_state = BUILD_BUILDING;
    } else if (known && build.state == BUILD_BUILDING) {
        /* It could not be started the last time. */
        if (start(builder, digest, build.requirements, error) < 0)
            return -1;
        *ret_state = BUILD_BUILDING;
    } else if (!known || (build.state == BUILD_READY && !fs_exists(interpreter)) ||
               (build.state == BUILD_FAILED && again)) {
        if (begin(builder, digest, error) < 0)
            return -1;
        *ret_state = BUILD_BUILDING;
    } else {
        *ret_state = build.state;
        if (build.state == BUILD_FAILED)
            *ret_message = steal_ptr(build.message);
    }
    return 0;
}
