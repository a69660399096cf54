#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "worker/private.h"

#define DEFAULT_SOCKET "/slipway/gateway/worker.sock"
#define RETRY_FIRST_MS 5
#define RETRY_MOST_MS  500

int slipway_worker_fail(struct slipway_worker *worker, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(worker->message, sizeof(worker->message), format, args);
    va_end(args);
    return -1;
}

struct slipway_worker *slipway_worker_open(const char *socket_path)
{
    struct slipway_worker *worker = calloc(1, sizeof(*worker));
    const char *from_environment = getenv("SLIPWAY_GATEWAY_SOCKET");

    if (!worker)
        abort();
    if (!socket_path)
        socket_path = from_environment ? from_environment : DEFAULT_SOCKET;
    snprintf(worker->path, sizeof(worker->path), "%s", socket_path);
    worker->socket = worker->wake_gateway = worker->wake_worker = -1;
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (worker->epoll < 0 || pipe2(worker->signals, O_CLOEXEC | O_NONBLOCK) < 0)
        abort();
    epoll_ctl(worker->epoll, EPOLL_CTL_ADD, worker->signals[0],
              &(struct epoll_event){.events = EPOLLIN, .data.u32 = WAKE_SIGNAL});
    return worker;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void disconnect(struct slipway_worker *worker)
{
    close_fd(&worker->socket);
    close_fd(&worker->wake_worker);
    close_fd(&worker->wake_gateway);
    worker->connected = false;
}

void slipway_worker_close(struct slipway_worker *worker)
{
    if (!worker)
        return;
    disconnect(worker);
    if (worker->requests)
        munmap(worker->requests, worker->requests_size);
    if (worker->answers)
        munmap(worker->answers, worker->answers_size);
    close_fd(&worker->epoll);
    close_fd(&worker->signals[0]);
    close_fd(&worker->signals[1]);
    free(worker);
}

const char *slipway_worker_error(const struct slipway_worker *worker)
{
    return worker->message;
}

void slipway_worker_stop(struct slipway_worker *worker)
{
    unsigned char number = SIGTERM;
    ssize_t unused;

    worker->stopping = 1;
    unused = write(worker->signals[1], &number, sizeof(number));
    (void)unused;
}

int slipway_worker_signal_fd(const struct slipway_worker *worker)
{
    return worker->signals[1];
}

/* Numbers of signals that came since the last time. They go through a descriptor so that each is noticed whenever it
 * comes: just before we sleep, and on another thread, too. */
static void take_signals(struct slipway_worker *worker)
{
    unsigned char numbers[64];
    ssize_t n;

    while ((n = read(worker->signals[0], numbers, sizeof(numbers))) > 0) {
        if (memchr(numbers, SIGTERM, (size_t)n))
            worker->stopping = 1;
    }
}

/* A path that is too long for a socket's address is reached through its directory's descriptor. */
static int connect_path(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), directory_fd = -1, result, saved;

    if (fd < 0)
        return -1;
    if (strlen(path) < sizeof(address.sun_path)) {
        memcpy(address.sun_path, path, strlen(path) + 1);
    } else {
        char directory[sizeof(((struct slipway_worker *)NULL)->path)];
        const char *name = strrchr(path, '/') + 1;

        snprintf(directory, sizeof(directory), "%.*s", (int)(name - path - 1), path);
        directory_fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%.60s", directory_fd, name);
    }
    result = connect(fd, (struct sockaddr *)&address, sizeof(address));
    saved = errno;
    if (directory_fd >= 0)
        close(directory_fd);
    if (result == 0)
        return fd;
    close(fd);
    errno = saved;
    return -1;
}

static int send_message(struct slipway_worker *worker, struct wire_message *message)
{
    message->magic = WIRE_MAGIC;
    message->version = WIRE_VERSION;
    if (send(worker->socket, message, sizeof(*message), MSG_NOSIGNAL) == sizeof(*message))
        return 0;
    return slipway_worker_fail(worker, "cannot talk to the gateway: %s", strerror(errno));
}

/* One message, if there is one; 1: none. */
static int receive_message(struct slipway_worker *worker, struct wire_message *message, int fds[WIRE_FD_COUNT])
{
    char control[CMSG_SPACE(sizeof(int) * WIRE_FD_COUNT)];
    struct iovec part = {.iov_base = message, .iov_len = sizeof(*message)};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    struct cmsghdr *item;
    ssize_t n;

    do {
        n = recvmsg(worker->socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return 1;
    if (n != sizeof(*message) || message->magic != WIRE_MAGIC || message->version != WIRE_VERSION)
        return slipway_worker_fail(worker, "the gateway closed the connection");
    item = CMSG_FIRSTHDR(&header);
    if (fds && item && item->cmsg_type == SCM_RIGHTS && item->cmsg_len == CMSG_LEN(sizeof(int) * WIRE_FD_COUNT))
        memcpy(fds, CMSG_DATA(item), sizeof(int) * WIRE_FD_COUNT);
    return 0;
}

/* Maps over the memory of an earlier connection: views that the model still holds stay readable. */
static void *map_memory(int fd, void *old, uint64_t old_size, uint64_t size, int protection)
{
    void *memory;

    if (old && old_size != size) {
        munmap(old, old_size);
        old = NULL;
    }
    memory = mmap(old, size, protection, MAP_SHARED | MAP_NORESERVE | (old ? MAP_FIXED : 0), fd, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static int take_welcome(struct slipway_worker *worker, const struct wire_message *message, const int fds[WIRE_FD_COUNT])
{
    worker->requests = map_memory(fds[WIRE_FD_REQUESTS], worker->requests, worker->requests_size,
                                  message->requests_size, PROT_READ);
    worker->requests_size = message->requests_size;
    worker->answers = map_memory(fds[WIRE_FD_ANSWERS], worker->answers, worker->answers_size, message->answers_size,
                                 PROT_READ | PROT_WRITE);
    worker->answers_size = message->answers_size;
    close(fds[WIRE_FD_REQUESTS]);
    close(fds[WIRE_FD_ANSWERS]);
    worker->wake_worker = fds[WIRE_FD_WAKE_WORKER];
    worker->wake_gateway = fds[WIRE_FD_WAKE_GATEWAY];
    if (!worker->requests || !worker->answers)
        return slipway_worker_fail(worker, "cannot map the gateway's memory: %s", strerror(errno));
    worker->layout = *message;
    worker->head = worker->tail = worker->woken = 0;
    worker->big_used = false;
    epoll_ctl(worker->epoll, EPOLL_CTL_ADD, worker->wake_worker,
              &(struct epoll_event){.events = EPOLLIN | EPOLLET, .data.u32 = WAKE_RING});
    epoll_ctl(worker->epoll, EPOLL_CTL_ADD, worker->socket,
              &(struct epoll_event){.events = EPOLLIN | EPOLLRDHUP, .data.u32 = WAKE_SOCKET});
    worker->connected = true;
    return 0;
}

/* The gateway's answer to our hello, unless we are told to stop first. */
static int receive_welcome(struct slipway_worker *worker, struct wire_message *message, int fds[WIRE_FD_COUNT])
{
    struct pollfd either[] = {{.fd = worker->socket, .events = POLLIN}, {.fd = worker->signals[0], .events = POLLIN}};
    int result;

    do {
        poll(either, 2, -1);
        take_signals(worker);
    } while (!either[0].revents && !worker->stopping);
    result = receive_message(worker, message, fds);
    return result == 1 ? slipway_worker_fail(worker, "was told to stop") : result;
}

static int say_hello(struct slipway_worker *worker)
{
    struct wire_message message = {
        .type = WIRE_HELLO, .functions = worker->functions, .concurrency = worker->concurrency};
    const char *id = getenv("SLIPWAY_REPLICA_ID"), *key = getenv("SLIPWAY_REPLICA_KEY");
    int fds[WIRE_FD_COUNT] = {-1, -1, -1, -1};

    snprintf(message.id, sizeof(message.id), "%s", id ? id : "");
    snprintf(message.key, sizeof(message.key), "%s", key ? key : "");
    snprintf(message.text, sizeof(message.text), "%s", worker->runtime);
    worker->socket = connect_path(worker->path);
    if (worker->socket < 0)
        return slipway_worker_fail(worker, "cannot connect to %s: %s", worker->path, strerror(errno));
    if (send_message(worker, &message) < 0 || receive_welcome(worker, &message, fds) < 0)
        return -1;
    if (message.type == WIRE_REFUSED)
        return slipway_worker_fail(worker, "the gateway refused: %.*s", WIRE_TEXT - 1, message.text);
    if (message.type != WIRE_WELCOME || fds[0] < 0)
        return slipway_worker_fail(worker, "the gateway did not welcome us");
    return take_welcome(worker, &message, fds);
}

/* Until it works or we are told to stop; the gateway may be starting, or not know us yet. */
static int connect_patiently(struct slipway_worker *worker)
{
    int delay_ms = RETRY_FIRST_MS;

    while (!worker->stopping) {
        struct pollfd signals = {.fd = worker->signals[0], .events = POLLIN};

        if (say_hello(worker) == 0)
            return 0;
        disconnect(worker);
        if (poll(&signals, 1, delay_ms) > 0)
            take_signals(worker);
        delay_ms = delay_ms * 2 > RETRY_MOST_MS ? RETRY_MOST_MS : delay_ms * 2;
    }
    return slipway_worker_fail(worker, "was told to stop");
}

int slipway_worker_hello(struct slipway_worker *worker, const char *runtime, uint32_t functions, uint32_t concurrency)
{
    snprintf(worker->runtime, sizeof(worker->runtime), "%s", runtime ? runtime : "");
    worker->functions = functions;
    worker->concurrency = concurrency;
    return connect_patiently(worker);
}

int slipway_worker_ready(struct slipway_worker *worker, uint32_t functions)
{
    struct wire_message message = {.type = WIRE_READY, .functions = functions};

    worker->functions = functions;
    worker->is_ready = true;
    /* The gateway may have died while the model was loaded: run() connects again. */
    if (worker->connected && send_message(worker, &message) < 0)
        disconnect(worker);
    return 0;
}

int slipway_worker_failed(struct slipway_worker *worker, const char *text)
{
    struct wire_message message = {.type = WIRE_FAILED};

    snprintf(message.text, sizeof(message.text), "%s", text);
    return send_message(worker, &message);
}

/* -- the rings -- */

static int64_t now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void wake_gateway(struct slipway_worker *worker)
{
    uint32_t nap = atomic_load(&worker->requests->asleep);
    uint64_t one = 1;
    ssize_t unused;

    if (!nap || nap == worker->woken)
        return;
    worker->woken = nap;
    unused = write(worker->wake_gateway, &one, sizeof(one));
    (void)unused;
}

static int take_message(struct slipway_worker *worker)
{
    struct wire_message message;
    int result = receive_message(worker, &message, NULL);

    if (result == 1)
        return 0;
    if (result < 0) {
        disconnect(worker);
        return 0;
    }
    if (message.type == WIRE_EXIT)
        worker->stopping = 1;
    return 0;
}

/* Sleeps until the gateway or somebody else has something for us. */
static void sleep_until_woken(struct slipway_worker *worker, bool for_big)
{
    struct epoll_event events[4];
    uint32_t big_index = worker->big_index;
    int n;

    if (!++worker->naps)
        worker->naps = 1;
    atomic_store(&worker->answers->asleep, worker->naps);
    if (for_big ? (int32_t)(atomic_load(&worker->requests->complete_head) - big_index) > 0
                : atomic_load(&worker->requests->submit_tail) != worker->head) {
        atomic_store(&worker->answers->asleep, 0);
        return;
    }
    if (worker->before_sleep)
        worker->sleep_state = worker->before_sleep();
    n = epoll_wait(worker->epoll, events, 4, -1);
    if (worker->after_sleep)
        worker->after_sleep(worker->sleep_state);
    if (worker->check_signals && worker->check_signals() < 0)
        worker->stopping = 1;
    atomic_store(&worker->answers->asleep, 0);
    for (int i = 0; i < n; i++) {
        if (events[i].data.u32 == WAKE_SOCKET)
            take_message(worker);
        else if (events[i].data.u32 == WAKE_SIGNAL)
            take_signals(worker);
    }
}

char *slipway_request_reserve(struct slipway_request *request, uint64_t length)
{
    struct slipway_worker *worker = request->worker;

    if (length <= request->answer_max)
        return request->answer;
    if (length > worker->layout.big_size)
        return NULL;
    while (worker->big_used && worker->connected && !worker->stopping &&
           (int32_t)(atomic_load(&worker->requests->complete_head) - worker->big_index) <= 0)
        sleep_until_woken(worker, true);
    worker->big_used = true;
    request->answer = (char *)worker->answers + worker->layout.big_offset;
    request->answer_max = worker->layout.big_size;
    return request->answer;
}

/* Copies the submission at the head of the ring; it is not started before submit_head says so. */
static void read_submission(struct slipway_worker *worker, struct slipway_request *request)
{
    const struct wire_submission *entry = &worker->requests->submissions[worker->head % WIRE_SLOTS];

    worker->head++;
    *request = (struct slipway_request){
        .kind = entry->kind,
        .body = (const char *)worker->requests + entry->offset,
        .length = entry->length,
        .answer = (char *)worker->answers + worker->layout.answer_offset + entry->slot * worker->layout.answer_stride,
        .answer_max = worker->layout.answer_stride,
        .deadline_ns = entry->deadline_ns,
        .worker = worker,
        .slot = entry->slot,
        .generation = entry->generation,
        .batch = entry->batch,
    };
    memcpy(request->trace, entry->trace, sizeof(request->trace));
}

/* Whether the submission at the head, if there is one, belongs to this batch. */
static bool goes_on(const struct slipway_worker *worker, uint32_t batch, uint32_t tail)
{
    return batch && worker->head != tail && worker->requests->submissions[worker->head % WIRE_SLOTS].batch == batch;
}

/* Answers what came too late, and closes the gaps. */
static int drop_expired(struct slipway_worker *worker, struct slipway_request *requests, int n)
{
    int64_t now = now_ns();
    int kept = 0;

    for (int i = 0; i < n; i++) {
        requests[i].begun_ns = now;
        if (!requests[i].deadline_ns || now <= requests[i].deadline_ns) {
            requests[kept++] = requests[i];
            continue;
        }
        requests[i].status = WIRE_STATUS_EXPIRED;
        slipway_worker_answer(worker, &requests[i]);
    }
    return kept;
}

/* At most `max` requests of one batch. */
static int take(struct slipway_worker *worker, struct slipway_request *requests, int max)
{
    while (!worker->stopping) {
        uint32_t tail;
        int n = 0;

        if (!worker->connected) {
            if (connect_patiently(worker) < 0)
                break;
            if (worker->is_ready)
                slipway_worker_ready(worker, worker->functions);
            continue;
        }
        tail = atomic_load_explicit(&worker->requests->submit_tail, memory_order_acquire);
        if (tail == worker->head) {
            sleep_until_woken(worker, false);
            continue;
        }
        do {
            read_submission(worker, &requests[n++]);
        } while (n < max && goes_on(worker, requests[0].batch, tail));
        atomic_store_explicit(&worker->answers->submit_head, worker->head, memory_order_release);
        n = drop_expired(worker, requests, n);
        if (n)
            return n;
    }
    return 0;
}

int slipway_worker_take(struct slipway_worker *worker, struct slipway_request *ret_request)
{
    return take(worker, ret_request, 1);
}

int slipway_worker_take_batch(struct slipway_worker *worker, struct slipway_request *requests)
{
    return take(worker, requests, WIRE_SLOTS);
}

void slipway_worker_answer(struct slipway_worker *worker, const struct slipway_request *request)
{
    struct wire_completion *completion = &worker->answers->completions[worker->tail % WIRE_SLOTS];
    bool big = request->answer == (char *)worker->answers + worker->layout.big_offset;

    if (big)
        worker->big_index = worker->tail;
    *completion = (struct wire_completion){
        .slot = request->slot,
        .generation = request->generation,
        .status = request->status,
        .place = big ? WIRE_IN_BIG : WIRE_IN_SLOT,
        .length = request->answer_length,
        .run_ns = (uint64_t)(now_ns() - request->begun_ns),
    };
    worker->tail++;
    atomic_store(&worker->answers->complete_tail, worker->tail);
    wake_gateway(worker);
}

int slipway_worker_run(struct slipway_worker *worker, slipway_answer_fn answer, void *userdata)
{
    struct slipway_request request;

    while (slipway_worker_take(worker, &request)) {
        answer(userdata, &request);
        slipway_worker_answer(worker, &request);
    }
    return 0;
}
