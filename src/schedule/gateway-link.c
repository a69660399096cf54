#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include "schedule/gateway-link.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/list.h"
#include "util/log.h"
#include "util/net.h"
#include "util/proc.h"
#include "util/strbuf.h"
#include "util/strvec.h"
#include "util/xalloc.h"

#define CONNECT_INTERVAL (5 * NS_PER_MS)
#define OUTPUT_LIMIT     (64 * MIB) /* requests not yet taken by the gateway */
#define LOG_LIMIT        MIB        /* of its log; a longer one is put aside at the next start */
#define LAST_WORDS       512        /* of its log, told when it ends */

enum link_state { LINK_DOWN, LINK_STARTING, LINK_UP };
static const char *const state_names[] = {[LINK_DOWN] = "down", [LINK_STARTING] = "starting", [LINK_UP] = "up"};

struct call {
    struct list in_link;
    int64_t id;
    gateway_reply_fn fn;
    void *userdata;
};

struct gateway_link {
    struct loop *loop;
    struct gateway_link_options options;
    char *directory, *socket_path, *record_path, *log_path, *url;
    struct strvec argv;

    enum link_state state;
    struct proc_id process;
    int pidfd;
    struct loop_source *on_exit; /* of pidfd */
    struct loop_source *timer;   /* next try to connect, or to start; one-shot */
    int64_t started_ns;
    int64_t delay_ns; /* before the next start */
    int64_t restarts;
    int64_t log_from; /* what the present process writes begins here */
    char *problem;    /* as on_problem has told */

    /* The socket of the serving port, which every gateway inherits: who connects while one is started again
     * waits for its successor. Of a gateway that an earlier daemon started it is fetched. -1: not yet. */
    int listen_fd;
    char address[NET_TEXT_SIZE];

    int fd;
    struct loop_source *on_io;
    struct strbuf input, output;
    struct list calls; /* waiting for an answer, in order */
    int64_t last_id;
};

static void start_later(struct gateway_link *link);
static void try_connect(void *userdata);

static void set_timer(struct gateway_link *link, int64_t delay_ns, loop_fn fn)
{
    link->timer = loop_add_timer(link->loop, delay_ns, fn, link);
}

/* Tells it, and the log, once. */
static void set_problem(struct gateway_link *link, const char *message)
{
    if (message && (!link->problem || strcmp(link->problem, message) != 0))
        log_warning("the gateway is not there, tried again", "reason", message);
    if (message ? link->problem && strcmp(link->problem, message) == 0 : !link->problem)
        return;
    free(link->problem);
    link->problem = xstrdup_null(message);
    if (link->options.on_problem)
        link->options.on_problem(link->options.userdata, message);
}

/* -- the connection -- */

static void fail_calls(struct gateway_link *link)
{
    struct call *call;

    while ((call = list_first(&link->calls, struct call, in_link))) {
        list_unlink(&call->in_link);
        if (call->fn)
            call->fn(call->userdata, NULL);
        free(call);
    }
}

static void disconnect(struct gateway_link *link)
{
    link->on_io = loop_remove(link->on_io);
    if (link->fd >= 0)
        close(steal_fd(&link->fd));
    strbuf_reset(&link->input);
    strbuf_reset(&link->output);
    if (link->state == LINK_UP)
        link->state = LINK_STARTING;
    fail_calls(link);
}

/* The process lives but the connection broke: connect again. */
static void reconnect(struct gateway_link *link)
{
    disconnect(link);
    if (link->state == LINK_STARTING && !link->timer)
        set_timer(link, CONNECT_INTERVAL, try_connect);
}

static void take_reply(struct gateway_link *link, const json_t *reply)
{
    int64_t id = json_get_int(reply, "id", 0);
    struct call *call;

    list_for_each(call, &link->calls, in_link)
        if (call->id == id)
            break;
    if (&call->in_link == &link->calls)
        return;
    list_unlink(&call->in_link);
    if (call->fn)
        call->fn(call->userdata, reply);
    free(call);
}

static void take_line(struct gateway_link *link, const char *line, size_t length)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *message = json_parse(line, length, &error);
    const char *event;

    if (!message) {
        log_warning("gateway sent what is not JSON", "error", error.message);
        return;
    }
    event = json_get_string(message, "event", NULL);
    if (!event)
        take_reply(link, message);
    else if (strcmp(event, "replica") == 0)
        link->options.on_replica(link->options.userdata, json_get_string(message, "id", ""),
                                 json_get_string(message, "state", ""), json_get_string(message, "message", NULL),
                                 json_get_bool(message, "killed", true));
    else if (link->options.on_route)
        link->options.on_route(link->options.userdata, event, message);
}

static void take_lines(struct gateway_link *link)
{
    char *end;

    while (link->fd >= 0 && (end = memchr(link->input.data, '\n', link->input.length))) {
        size_t length = (size_t)(end - link->input.data);
        cleanup_free char *line = xstrndup(link->input.data, length);

        strbuf_consume(&link->input, length + 1);
        take_line(link, line, length);
    }
}

static void receive(struct gateway_link *link)
{
    for (;;) {
        char *room = strbuf_reserve(&link->input, 16384);
        int passed = -1;
        ssize_t n = room ? net_receive_fd(link->fd, room, 16384, &passed) : 0;

        if (passed >= 0) {
            cleanup_close_(&link->listen_fd);
            link->listen_fd = passed;
        }
        if (n > 0) {
            strbuf_commit(&link->input, (size_t)n);
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        take_lines(link);
        reconnect(link);
        return;
    }
    take_lines(link);
}

static void transmit(struct gateway_link *link)
{
    while (link->output.length) {
        ssize_t n = send(link->fd, link->output.data, link->output.length, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0) {
            strbuf_consume(&link->output, (size_t)n);
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        reconnect(link);
        return;
    }
    loop_update_fd(link->on_io, EPOLLIN | (link->output.length ? EPOLLOUT : 0));
}

static void on_io(void *userdata, uint32_t events)
{
    struct gateway_link *link = userdata;

    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(link);
    if (link->fd >= 0 && (events & EPOLLOUT))
        transmit(link);
}

static void try_connect(void *userdata)
{
    struct gateway_link *link = userdata;

    link->timer = NULL;
    if (link->state != LINK_STARTING)
        return;
    if (net_connect_unix(link->socket_path, &link->fd, NULL) < 0) {
        set_timer(link, CONNECT_INTERVAL, try_connect);
        return;
    }
    fcntl(link->fd, F_SETFL, O_NONBLOCK);
    link->on_io = loop_add_fd(link->loop, link->fd, EPOLLIN, on_io, link);
    link->state = LINK_UP;
    if (link->listen_fd < 0)
        gateway_link_call(link, json_build("{s:s}", "op", "listener"), NULL, NULL);
    set_problem(link, NULL);
    link->options.on_up(link->options.userdata);
}

void gateway_link_call(struct gateway_link *link, json_t *request, gateway_reply_fn fn, void *userdata)
{
    cleanup_json json_t *owned = request;
    cleanup_free char *text = NULL;
    struct call *call;

    if (link->state != LINK_UP) {
        if (fn)
            fn(userdata, NULL);
        return;
    }
    call = xnew0(struct call);
    call->id = ++link->last_id;
    call->fn = fn;
    call->userdata = userdata;
    list_append(&link->calls, &call->in_link);
    json_set_int(request, "id", call->id);
    text = json_text(request);
    strbuf_adds(&link->output, text);
    strbuf_addc(&link->output, '\n');
    if (link->output.overflowed)
        reconnect(link);
    else
        transmit(link);
}

/* -- the process -- */

/* The last line of what the process wrote; NULL if it wrote nothing. */
static char *last_words(const struct gateway_link *link)
{
    cleanup_close int fd = open(link->log_path, O_RDONLY | O_CLOEXEC);
    char text[LAST_WORDS], *line;
    struct stat st;
    off_t from;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= link->log_from)
        return NULL;
    from = st.st_size - link->log_from > LAST_WORDS ? st.st_size - LAST_WORDS : link->log_from;
    n = pread(fd, text, sizeof(text), from);
    while (n > 0 && text[n - 1] == '\n')
        n--;
    if (n <= 0)
        return NULL;
    line = memrchr(text, '\n', (size_t)n);
    line = line ? line + 1 : text;
    return xstrndup(line, (size_t)(text + n - line));
}

/* After its end; status as waitpid gives it, -1 if the process was not our child. */
static char *describe_end(const struct gateway_link *link, int status)
{
    cleanup_free char *words = last_words(link);
    const char *separator = words ? ": " : "";

    if (status != -1 && WIFSIGNALED(status))
        return xasprintf("ended by signal %d (%s)%s%s", WTERMSIG(status), strsignal(WTERMSIG(status)), separator,
                         words ? words : "");
    if (status != -1 && WIFEXITED(status))
        return xasprintf("ended with status %d%s%s", WEXITSTATUS(status), separator, words ? words : "");
    return xasprintf("ended%s%s", separator, words ? words : "");
}

static void process_ended(struct gateway_link *link)
{
    cleanup_free char *message = NULL;
    int status = -1;

    /* It may be our child, or that of an earlier daemon. */
    if (waitpid(link->process.pid, &status, WNOHANG) != link->process.pid)
        status = -1;
    message = describe_end(link, status);
    set_problem(link, message);
    link->process = (struct proc_id){0};
    link->state = LINK_DOWN;
    disconnect(link);
    link->restarts++;
    if (clock_monotonic_ns() - link->started_ns > LIMIT_GATEWAY_STEADY_MS * NS_PER_MS)
        link->delay_ns = 0;
    start_later(link);
}

static void on_process_end(void *userdata, uint32_t events)
{
    struct gateway_link *link = userdata;

    link->on_exit = loop_remove(link->on_exit);
    close(steal_fd(&link->pidfd));
    process_ended(link);
}

/* Watches the process that `process` names. */
static int watch(struct gateway_link *link, struct error *error)
{
    link->pidfd = proc_open(&link->process, error);
    if (link->pidfd < 0)
        return -1;
    link->on_exit = loop_add_fd(link->loop, link->pidfd, EPOLLIN, on_process_end, link);
    link->started_ns = clock_monotonic_ns();
    link->state = LINK_STARTING;
    if (!link->timer)
        set_timer(link, 0, try_connect);
    return 0;
}

/* What it was started with: another daemon with other wishes replaces it. */
static char *arguments_of(const struct gateway_link *link)
{
    cleanup_free char *joined = strvec_join(&link->argv, "\n");

    return xasprintf("%s\n--listen\n%s", joined, link->address);
}

static int write_record(struct gateway_link *link, struct error *error)
{
    cleanup_free char *arguments = arguments_of(link), *text = NULL;
    cleanup_json json_t *record = json_build("{s:i, s:I, s:s, s:s}", "pid", (int)link->process.pid, "start_time",
                                             (json_int_t)link->process.start_time, "url", link->url, "arguments",
                                             arguments);

    text = json_text(record);
    return fs_write_atomic(link->record_path, text, strlen(text), 0600, error);
}

/* The log to append to; its end is where the next process begins. */
static int open_log(struct gateway_link *link, struct error *error)
{
    cleanup_free char *old = xasprintf("%s.old", link->log_path);
    struct stat st;
    int fd;

    if (stat(link->log_path, &st) == 0 && st.st_size > LOG_LIMIT)
        rename(link->log_path, old);
    fd = open(link->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot open %s", link->log_path);
    link->log_from = fstat(fd, &st) == 0 ? st.st_size : 0;
    return fd;
}

static int open_listener(struct gateway_link *link, struct error *error)
{
    struct net_address address;

    if (link->listen_fd >= 0)
        return 0;
    if (net_parse(link->address, &address, error) < 0)
        return -1;
    return net_listen(&address, SOMAXCONN, &link->listen_fd, NULL, error);
}

/* Fails only if no process could be made; one that ends at once is tried again. */
static int start(struct gateway_link *link, struct error *error)
{
    cleanup_strvec struct strvec argv = STRVEC_INIT;
    cleanup_close int log_fd = open_log(link, error);
    struct proc_spawn spawn = {.directory = "/",
                               .stdin_fd = -1,
                               .stdout_fd = log_fd,
                               .stderr_fd = log_fd,
                               .pass_fds = &link->listen_fd,
                               .n_pass_fds = 1,
                               .new_session = true};
    pid_t pid;

    for (size_t i = 0; i < link->argv.count; i++)
        strvec_push(&argv, link->argv.items[i]);
    strvec_push(&argv, "--listen");
    strvec_pushf(&argv, "fd:%d", link->listen_fd);
    spawn.argv = (const char *const *)argv.items;
    if (log_fd < 0 || proc_spawn(&spawn, &pid, error) < 0)
        return -1;
    /* A child that nobody has waited for can be identified, dead or alive. */
    if (proc_identify(pid, &link->process, error) < 0 || write_record(link, error) < 0) {
        /* Without the record the next daemon would not find it. */
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        link->process = (struct proc_id){0};
        return -1;
    }
    if (watch(link, NULL) < 0)
        process_ended(link);
    return 0;
}

/* A port that is taken may be free later. */
static void start_or_retry(struct gateway_link *link)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *message = NULL;

    if (open_listener(link, &error) == 0 && start(link, &error) == 0)
        return;
    if (!link->delay_ns)
        link->delay_ns = 50 * NS_PER_MS;
    message = xasprintf("cannot start: %s", error.message);
    set_problem(link, message);
    start_later(link);
}

static void start_now(void *userdata)
{
    struct gateway_link *link = userdata;

    link->timer = NULL;
    link->delay_ns = link->delay_ns ? 2 * link->delay_ns : 50 * NS_PER_MS;
    if (link->delay_ns > LIMIT_GATEWAY_RETRY_MS * NS_PER_MS)
        link->delay_ns = LIMIT_GATEWAY_RETRY_MS * NS_PER_MS;
    start_or_retry(link);
}

static void start_later(struct gateway_link *link)
{
    /* A pending timer is one that wanted to connect to the process that ended. */
    link->timer = loop_remove(link->timer);
    set_timer(link, link->delay_ns, start_now);
}

/* Ends a gateway that was started with other arguments; its successor needs its port. */
static void replace(const struct proc_id *process)
{
    proc_signal(process, SIGTERM, NULL);
    for (int i = 0; i < 100 && proc_is_alive(process); i++) {
        struct timespec pause = {0, 10 * NS_PER_MS};

        if (i == 99)
            proc_signal(process, SIGKILL, NULL);
        nanosleep(&pause, NULL);
    }
}

/* The gateway of an earlier daemon. True if it is now ours. */
static bool attach(struct gateway_link *link)
{
    cleanup_json json_t *record = json_parse_file(link->record_path, LIMIT_CONFIG_FILE, NULL);
    cleanup_free char *arguments = arguments_of(link);
    struct proc_id process = {.pid = (pid_t)json_get_int(record, "pid", 0),
                              .start_time = (uint64_t)json_get_int(record, "start_time", 0)};

    if (!process.pid || !proc_is_alive(&process))
        return false;
    if (strcmp(json_get_string(record, "arguments", ""), arguments) != 0) {
        replace(&process);
        return false;
    }
    link->process = process;
    return watch(link, NULL) == 0;
}

static bool wants_any_port(const struct gateway_link *link)
{
    size_t length = strlen(link->options.listen);

    return length >= 2 && strcmp(link->options.listen + length - 2, ":0") == 0;
}

/* The address to listen on. For port 0 that of the gateway that ran last, where it is free or ours; else any. */
static int choose_address(struct gateway_link *link, struct error *error)
{
    cleanup_json json_t *record = json_parse_file(link->record_path, LIMIT_CONFIG_FILE, NULL);
    const char *listen = link->options.listen, *last = strstr(json_get_string(record, "url", ""), "://");
    struct net_address address;

    if (net_parse(listen, &address, error) < 0)
        return -1;
    net_format(&address, link->address);
    if (last && wants_any_port(link))
        snprintf(link->address, sizeof(link->address), "%s", last + 3);
    return 0;
}

/* The first time. A port that is taken is a problem that may pass. */
static int first_listener(struct gateway_link *link, struct error *error)
{
    cleanup_error struct error taken = ERROR_INIT;
    struct net_address address, bound;

    if (open_listener(link, &taken) < 0) {
        if (!wants_any_port(link))
            return 0;
        if (net_parse(link->options.listen, &address, error) < 0 ||
            net_listen(&address, SOMAXCONN, &link->listen_fd, NULL, error) < 0)
            return -1;
    }
    bound.length = sizeof(bound.storage);
    if (getsockname(link->listen_fd, (struct sockaddr *)&bound.storage, &bound.length) < 0)
        return error_set_errno(error, errno, "cannot tell the serving port");
    net_format(&bound, link->address);
    return 0;
}

static void build_argv(struct gateway_link *link)
{
    const struct gateway_link_options *o = &link->options;
    cleanup_free char *self = o->program ? xstrdup(o->program) : proc_self_path();

    strvec_push(&link->argv, self);
    strvec_push(&link->argv, "gateway");
    strvec_push(&link->argv, "--directory");
    strvec_push(&link->argv, link->directory);
    if (!o->introspect || *o->introspect)
        strvec_push(&link->argv, "--introspect");
    /* Without privileges it may not even pass through what lies above its directory, so that is where it stands. */
    if (o->introspect && *o->introspect)
        strvec_push(&link->argv, o->introspect);
    else if (!o->introspect && o->user)
        strvec_pushf(&link->argv, "unix:%s", fs_basename(INTROSPECT_SOCKET));
    else if (!o->introspect)
        strvec_pushf(&link->argv, "unix:%s/slipway.sock", o->data_directory);
    if (o->introspect_token) {
        strvec_push(&link->argv, "--introspect-token");
        strvec_push(&link->argv, o->introspect_token);
    }
    if (o->user) {
        strvec_push(&link->argv, "--user");
        strvec_pushf(&link->argv, "%u", (unsigned)o->user);
    }
    if (o->certificate) {
        strvec_push(&link->argv, "--certificate");
        strvec_push(&link->argv, o->certificate);
        strvec_push(&link->argv, "--key");
        strvec_push(&link->argv, o->key);
    }
}

int gateway_link_new(struct loop *loop, const struct gateway_link_options *options, struct gateway_link **ret_link,
                     struct error *error)
{
    struct gateway_link *link = xnew0(struct gateway_link);
    bool is_attached;

    link->loop = loop;
    link->options = *options;
    link->pidfd = link->fd = link->listen_fd = -1;
    list_init(&link->calls);
    strbuf_init(&link->input, LIMIT_CONTROL_LINE);
    strbuf_init(&link->output, OUTPUT_LIMIT);
    link->directory = fs_join(options->data_directory, "gateway");
    link->socket_path = fs_join(link->directory, "control.sock");
    link->log_path = fs_join(link->directory, "log");
    link->record_path = fs_join(options->data_directory, "gateway.json");

    if (fs_mkdir_all(link->directory, 0711, error) < 0 || choose_address(link, error) < 0)
        goto fail;
    build_argv(link);
    is_attached = attach(link);
    if (!is_attached && first_listener(link, error) < 0)
        goto fail;
    link->url = xasprintf("%s://%s", options->certificate ? "https" : "http", link->address);
    if (!is_attached)
        start_or_retry(link);
    *ret_link = link;
    return 0;
fail:
    gateway_link_free(link);
    return error_wrap(error, "gateway");
}

struct gateway_link *gateway_link_free(struct gateway_link *link)
{
    if (!link)
        return NULL;
    disconnect(link);
    loop_remove(link->on_exit);
    loop_remove(link->timer);
    cleanup_close_(&link->pidfd);
    cleanup_close_(&link->listen_fd);
    strvec_release(&link->argv);
    strbuf_release(&link->input);
    strbuf_release(&link->output);
    free(link->directory);
    free(link->socket_path);
    free(link->record_path);
    free(link->log_path);
    free(link->problem);
    free(link->url);
    free(link);
    return NULL;
}

bool gateway_link_is_up(const struct gateway_link *link)
{
    return link->state == LINK_UP;
}

const char *gateway_link_url(const struct gateway_link *link)
{
    return link->url;
}

json_t *gateway_link_describe(const struct gateway_link *link)
{
    json_t *object = json_build("{s:s, s:s, s:I}", "state", state_names[link->state], "url", link->url, "restarts",
                                (json_int_t)link->restarts);

    json_object_set_new(object, "pid", link->process.pid ? json_integer(link->process.pid) : json_null());
    return object;
}
