#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include "gateway/balance.h"
#include "gateway/gateway.h"
#include "gateway/worker.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/net.h"
#include "util/parse.h"
#include "util/proc.h"
#include "util/utf8.h"
#include "util/xalloc.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define MAX_STRANGERS 256               /* connections that did not say hello */

struct workers {
    struct gateway *gateway;
    struct list all;
    size_t n_strangers;
    int socket;
    char *path;
    struct loop_source *source, *prepare;
};

static int pidfd_open_(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* A pidfd for the process at the other end, which may have died and left its pid to another. */
static int peer_pidfd(int socket, pid_t *ret_pid, struct error *error)
{
    struct ucred credentials;
    socklen_t length = sizeof(credentials);
    struct proc_id before, after;
    int pidfd;

    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0)
        return error_set_errno(error, errno, "cannot tell who connected");
    *ret_pid = credentials.pid;
    length = sizeof(pidfd);
    if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) == 0)
        return pidfd;

    if (proc_identify(credentials.pid, &before, error) < 0)
        return -1;
    pidfd = pidfd_open_(credentials.pid);
    if (pidfd < 0)
        return error_set_errno(error, errno, "cannot open process %d", (int)credentials.pid);
    if (proc_identify(credentials.pid, &after, error) < 0 || before.start_time != after.start_time) {
        close(pidfd);
        return error_is_set(error) ? -1 : error_set(error, ERROR_NOT_FOUND, "process %d ended", (int)credentials.pid);
    }
    return pidfd;
}

static void worker_free(struct worker *worker)
{
    list_unlink(&worker->link);
    loop_remove(worker->on_socket);
    loop_remove(worker->on_death);
    loop_remove(worker->on_answers);
    loop_remove(worker->hang_timer);
    loop_remove(worker->hello_timer);
    cleanup_close_(&worker->socket);
    cleanup_close_(&worker->pidfd);
    ring_free(worker->ring);
    free(worker);
}

/* Drops the connection; `state` and `why` go to control. */
static void drop(struct worker *worker, const char *state, const char *why, bool killed)
{
    struct gateway *gateway = worker->gateway;
    struct replica *replica = worker->replica;
    char id[40] = "", pid[16];

    if (worker->closing)
        return;
    worker->closing = true;
    if (!replica) {
        gateway->workers->n_strangers--;
        worker_free(worker);
        return;
    }
    snprintf(id, sizeof(id), "%s", replica->id);
    snprintf(pid, sizeof(pid), "%d", (int)worker->pid);
    log_warning("replica lost", "replica", id, "pid", pid, "state", state, "why", why);
    balance_lost(worker, why);
    worker_free(worker);
    control_replica_event(gateway->control, id, state, why, killed);
}

void worker_kill(struct worker *worker, const char *why)
{
    bool killed = syscall(SYS_pidfd_send_signal, worker->pidfd, SIGKILL, NULL, 0) == 0 || errno == ESRCH;

    drop(worker, "failed", why, killed);
}

static int send_message(struct worker *worker, const struct wire_message *message, const int *fds, size_t n_fds)
{
    char control[CMSG_SPACE(sizeof(int) * WIRE_FD_COUNT)] = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof(*message)};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    if (n_fds) {
        struct cmsghdr *item;

        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        item = CMSG_FIRSTHDR(&header);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(item), fds, sizeof(int) * n_fds);
    }
    return sendmsg(worker->socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(*message) ? 0 : -1;
}

static void watch_for_hang(struct worker *worker);

void worker_exit(struct worker *worker)
{
    struct wire_message message = {.magic = WIRE_MAGIC, .version = WIRE_VERSION, .type = WIRE_EXIT};

    send_message(worker, &message, NULL, 0);
}

void worker_wake(struct worker *worker)
{
    if (!worker->hang_timer)
        watch_for_hang(worker);
    if (ring_wake(worker->ring) < 0)
        worker->ring->complaint = "tampered with its eventfd";
}

static void refuse(struct worker *worker, const char *why)
{
    struct wire_message message = {.magic = WIRE_MAGIC, .version = WIRE_VERSION, .type = WIRE_REFUSED};

    snprintf(message.text, sizeof(message.text), "%s", why);
    send_message(worker, &message, NULL, 0);
    drop(worker, "failed", why, false);
}

/* Our sleep is over, so the next one needs a new number even if the answer was seen before the event. */
static void on_answers(void *userdata, uint32_t events)
{
    struct worker *worker = userdata;

    worker->stirred = true;
}

/* Before every wait: takes the answers of all workers that have some. What comes during a turn of the loop is
 * so taken at once, whether its event was seen or not. */
static int on_prepare(void *userdata)
{
    struct workers *workers = userdata;
    struct worker *worker, *next;

    list_for_each_safe(worker, next, &workers->all, link) {
        if (worker->ring && (worker->stirred || ring_has_news(worker->ring)))
            balance_answers(worker);
    }
    return -1;
}

static void on_hang_timer(void *userdata)
{
    struct worker *worker = userdata;
    int slot = ring_oldest(worker->ring);

    worker->hang_timer = NULL;
    if (slot >= 0 && worker->ring->slots[slot].overrun_ns <= clock_monotonic_ns()) {
        worker_kill(worker, "was killed because it overran the time limit of a request");
        return;
    }
    if (worker->ring->complaint) {
        worker_kill(worker, worker->ring->complaint);
        return;
    }
    if (slot >= 0)
        watch_for_hang(worker);
}

/* While it has requests: looks when the oldest should be over, and at least every LIMIT_WORKER_CHECK_MS. */
static void watch_for_hang(struct worker *worker)
{
    int64_t delay = LIMIT_WORKER_CHECK_MS * NS_PER_MS;
    int slot = ring_oldest(worker->ring);

    if (slot >= 0) {
        int64_t left = worker->ring->slots[slot].overrun_ns - clock_monotonic_ns();

        delay = left < delay ? left : delay;
    }
    worker->hang_timer = loop_add_timer(worker->gateway->loop, delay, on_hang_timer, worker);
}

static void welcome(struct worker *worker)
{
    cleanup_error struct error error = ERROR_INIT;
    struct wire_message message = {.magic = WIRE_MAGIC, .version = WIRE_VERSION, .type = WIRE_WELCOME};
    struct ring *ring;

    if (ring_new(LIMIT_PREDICT_BODY, LIMIT_PREDICT_REPLY, &worker->ring, &error) < 0) {
        refuse(worker, error.message);
        return;
    }
    ring = worker->ring;
    message.slots = WIRE_SLOTS;
    message.requests_size = ring->requests_size;
    message.answers_size = ring->answers_size;
    message.arena_offset = ring->arena_offset;
    message.answer_offset = ring->answer_offset;
    message.answer_stride = RING_STRIDE;
    message.big_offset = ring->big_offset;
    message.big_size = ring->big_size;
    worker->on_answers = loop_add_fd(worker->gateway->loop, ring->fds[WIRE_FD_WAKE_GATEWAY], EPOLLIN | EPOLLET,
                                     on_answers, worker);
    if (send_message(worker, &message, ring->fds, WIRE_FD_COUNT) < 0) {
        drop(worker, "gone", "closed its connection", false);
        return;
    }
    worker->replica->phase = REPLICA_WARMING;
    control_replica_event(worker->gateway->control, worker->replica->id, "warming", NULL, false);
}

static bool is_text(const char *text, size_t size)
{
    return memchr(text, '\0', size);
}

static void take_hello(struct worker *worker, const struct wire_message *message)
{
    struct gateway *gateway = worker->gateway;
    struct replica *replica;

    if (worker->replica) {
        worker_kill(worker, "said hello twice");
        return;
    }
    replica = is_text(message->id, sizeof(message->id)) && is_text(message->key, sizeof(message->key))
                  ? routes_find_replica(&gateway->routes, message->id)
                  : NULL;
    if (!replica || !replica->wished || strlen(replica->key) != strlen(message->key) ||
        !memory_equal_secret(replica->key, message->key, strlen(replica->key))) {
        refuse(worker, "no replica with this id and key is expected");
        return;
    }
    if (replica->worker)
        drop(replica->worker, "gone", "was replaced by a newer connection", false);
    worker->hello_timer = loop_remove(worker->hello_timer);
    gateway->workers->n_strangers--;
    worker->replica = replica;
    replica->worker = worker;
    worker->functions = message->functions;
    snprintf(worker->runtime, sizeof(worker->runtime), "%.*s", (int)sizeof(worker->runtime) - 1,
             is_text(message->text, sizeof(message->text)) ? message->text : "");
    utf8_repair(worker->runtime);
    welcome(worker);
}

static void take_message(struct worker *worker, const struct wire_message *message)
{
    char why[WIRE_TEXT + 32];

    if (message->magic != WIRE_MAGIC || message->version != WIRE_VERSION) {
        refuse(worker, "the worker library speaks another version of the protocol");
        return;
    }
    switch (message->type) {
    case WIRE_HELLO: take_hello(worker, message); return;
    case WIRE_READY:
        if (!worker->replica || worker->replica->phase != REPLICA_WARMING)
            break;
        worker->functions = message->functions;
        balance_ready(worker);
        return;
    case WIRE_FAILED:
        if (!worker->replica || !is_text(message->text, sizeof(message->text)))
            break;
        snprintf(why, sizeof(why), "failed to start: %s", message->text);
        drop(worker, "failed", utf8_repair(why), true);
        return;
    default: break;
    }
    worker_kill(worker, "sent a message that was not expected");
}

static void on_socket(void *userdata, uint32_t events)
{
    struct worker *worker = userdata;
    struct wire_message message;
    ssize_t n = recv(worker->socket, &message, sizeof(message), MSG_DONTWAIT);

    if (n == sizeof(message))
        take_message(worker, &message);
    else if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        drop(worker, "gone", "ended", false);
    else if (n > 0)
        worker_kill(worker, "sent a message of the wrong size");
}

static void on_death(void *userdata, uint32_t events)
{
    drop(userdata, "gone", "ended", false);
}

static void on_hello_timeout(void *userdata)
{
    struct worker *worker = userdata;

    worker->hello_timer = NULL;
    drop(worker, "gone", "said no hello", false);
}

static void add_worker(struct workers *workers, int socket)
{
    cleanup_error struct error error = ERROR_INIT;
    struct gateway *gateway = workers->gateway;
    struct worker *worker;
    pid_t pid = 0;
    int pidfd = peer_pidfd(socket, &pid, &error);

    if (pidfd < 0 || workers->n_strangers >= MAX_STRANGERS) {
        log_warning("worker refused", "why", pidfd < 0 ? error.message : "too many that did not say hello");
        cleanup_close_(&pidfd);
        close(socket);
        return;
    }
    worker = xnew0(struct worker);
    worker->gateway = gateway;
    worker->socket = socket;
    worker->pidfd = pidfd;
    worker->pid = pid;
    list_append(&workers->all, &worker->link);
    workers->n_strangers++;
    worker->on_socket = loop_add_fd(gateway->loop, socket, EPOLLIN, on_socket, worker);
    worker->on_death = loop_add_fd(gateway->loop, pidfd, EPOLLIN, on_death, worker);
    worker->hello_timer = loop_add_timer(gateway->loop, LIMIT_WORKER_HELLO_MS * NS_PER_MS, on_hello_timeout, worker);
}

static void on_connect(void *userdata, uint32_t events)
{
    struct workers *workers = userdata;
    int socket = accept4(workers->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (socket >= 0)
        add_worker(workers, socket);
}

/* A socket's address has 108 bytes; a longer path is reached through its directory's descriptor. */
static int bind_path(int socket, const char *path, struct error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    cleanup_free char *directory = xstrdup(path);
    char *slash = strrchr(directory, '/');
    cleanup_close int fd = -1;

    unlink(path);
    if (strlen(path) < sizeof(address.sun_path)) {
        memcpy(address.sun_path, path, strlen(path) + 1);
    } else {
        if (slash)
            *slash = '\0';
        fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            return error_set_errno(error, errno, "cannot open %s", directory);
        snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%.80s", fd, fs_basename(path));
    }
    /* Any uid may connect: a container's user is nobody's. The key says who it is. */
    if (bind(socket, (struct sockaddr *)&address, sizeof(address)) < 0 || chmod(path, 0666) < 0 ||
        listen(socket, SOMAXCONN) < 0)
        return error_set_errno(error, errno, "cannot listen on %s", path);
    return 0;
}

int workers_open(struct gateway *gateway, const char *path, struct workers **ret_workers, struct error *error)
{
    cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct workers *workers;

    if (fd < 0)
        return error_set_errno(error, errno, "cannot make a socket");
    if (bind_path(fd, path, error) < 0)
        return -1;
    workers = xnew0(struct workers);
    workers->gateway = gateway;
    workers->socket = steal_fd(&fd);
    workers->path = xstrdup(path);
    list_init(&workers->all);
    workers->source = loop_add_fd(gateway->loop, workers->socket, EPOLLIN, on_connect, workers);
    workers->prepare = loop_add_prepare(gateway->loop, on_prepare, workers);
    *ret_workers = workers;
    return 0;
}

struct workers *workers_close(struct workers *workers)
{
    struct worker *worker, *next;

    if (!workers)
        return NULL;
    list_for_each_safe(worker, next, &workers->all, link) {
        if (worker->replica) {
            worker->replica->worker = NULL;
            worker->replica->phase = REPLICA_ABSENT;
        }
        worker_free(worker);
    }
    loop_remove(workers->source);
    loop_remove(workers->prepare);
    close(workers->socket);
    unlink(workers->path);
    free(workers->path);
    free(workers);
    return NULL;
}
