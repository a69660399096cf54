#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "load/generator.h"
#include "load/statistics.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/list.h"
#include "util/slice.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define RECONNECT_NS    (20 * NS_PER_MS) /* pause before a connection that failed is tried again */
#define CONNECT_NS      (2 * NS_PER_SEC)  /* time for the connections to be made before the load starts */
#define MOST_WAITING    1000000          /* arrivals in the generator's own queue */
#define DEFAULT_TIMEOUT (30 * NS_PER_SEC)

enum connection_state { CLOSED, CONNECTING, IDLE, BUSY };

struct connection {
    struct list link; /* in load->idle while IDLE */
    int fd;
    enum connection_state state;
    int64_t retry_at;          /* CLOSED: when to connect again, ns */
    struct load_request request;
    size_t sent;               /* bytes of the request that are out */
    int64_t intended, deadline; /* ns */
    struct strbuf in;
    size_t head_length;        /* 0: head not complete yet */
    size_t body_length;
    bool chunked, close_after;
    int status;
    uint32_t watched;          /* epoll events asked for */
};

/* An arrival that waits for a connection. */
struct waiting {
    struct load_request request;
    int64_t intended;
};

struct load {
    const struct load_options *options;
    struct load_result *result;
    struct sockaddr_storage address;
    socklen_t address_length;
    int epoll_fd;
    struct connection *connections;
    struct list idle;
    struct waiting *queue; /* ring */
    size_t queue_capacity, queue_head, queue_count;
    struct random_source random;
    int64_t start, next_arrival, next_tick;
    int64_t timeout;
    bool arrivals_over;
    unsigned connected_once, busy;
};

/* -- connections -- */

static void watch(struct load *load, struct connection *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};

    if (c->watched == events)
        return;
    epoll_ctl(load->epoll_fd, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event);
    c->watched = events;
}

static void disconnect(struct load *load, struct connection *c, int64_t now)
{
    if (c->state == BUSY)
        load->busy--;
    list_unlink(&c->link);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->watched = 0;
    c->state = CLOSED;
    c->retry_at = now + RECONNECT_NS;
}

static void connect_now(struct load *load, struct connection *c, int64_t now)
{
    int one = 1;

    c->fd = socket(load->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        goto failed;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c->state = CONNECTING;
    c->deadline = now + load->timeout;
    if (connect(c->fd, (struct sockaddr *)&load->address, load->address_length) < 0 && errno != EINPROGRESS &&
        errno != EAGAIN)
        goto failed;
    watch(load, c, EPOLLOUT);
    return;

failed:
    load->result->errors_connect++;
    disconnect(load, c, now);
}

/* -- requests -- */

static void fail_request(struct load *load, struct connection *c, uint64_t *counter, int64_t now)
{
    (*counter)++;
    disconnect(load, c, now);
}

static void send_more(struct load *load, struct connection *c, int64_t now)
{
    while (c->sent < c->request.length) {
        ssize_t n = send(c->fd, c->request.text + c->sent, c->request.length - c->sent, MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            watch(load, c, EPOLLIN | EPOLLOUT);
            return;
        }
        if (n < 0) {
            fail_request(load, c, &load->result->errors_closed, now);
            return;
        }
        c->sent += (size_t)n;
    }
    watch(load, c, EPOLLIN);
}

static void begin_request(struct load *load, struct connection *c, struct load_request request, int64_t intended,
                          int64_t now)
{
    assert(c->state == IDLE);
    list_unlink(&c->link);
    c->state = BUSY;
    load->busy++;
    c->request = request;
    c->sent = 0;
    c->intended = intended;
    c->deadline = now + load->timeout;
    c->head_length = 0;
    strbuf_reset(&c->in);
    send_more(load, c, now);
}

static bool queue_push(struct load *load, struct load_request request, int64_t intended)
{
    if (load->queue_count == load->queue_capacity) {
        size_t capacity = load->queue_capacity ? load->queue_capacity * 2 : 1024;
        struct waiting *bigger;

        if (capacity > MOST_WAITING)
            return false;
        bigger = xreallocarray(NULL, capacity, sizeof(*bigger));
        for (size_t i = 0; i < load->queue_count; i++)
            bigger[i] = load->queue[(load->queue_head + i) % load->queue_capacity];
        free(load->queue);
        load->queue = bigger;
        load->queue_capacity = capacity;
        load->queue_head = 0;
    }
    load->queue[(load->queue_head + load->queue_count++) % load->queue_capacity] = (struct waiting){request, intended};
    if (load->queue_count > load->result->most_waiting)
        load->result->most_waiting = load->queue_count;
    return true;
}

static bool closed_loop_goes_on(const struct load *load)
{
    return load->options->arrivals == LOAD_CLOSED && !load->arrivals_over &&
           (!load->options->count || load->result->arrivals < load->options->count);
}

static void becomes_idle(struct load *load, struct connection *c, int64_t now)
{
    c->state = IDLE;
    list_append(&load->idle, &c->link);
    if (load->queue_count) {
        struct waiting w = load->queue[load->queue_head];

        load->queue_head = (load->queue_head + 1) % load->queue_capacity;
        load->queue_count--;
        begin_request(load, c, w.request, w.intended, now);
    } else if (closed_loop_goes_on(load)) {
        load->result->arrivals++;
        begin_request(load, c, load->options->next(load->options->userdata, now - load->start), now, now);
    } else {
        watch(load, c, EPOLLIN); /* to see that the server closes it */
    }
}

/* -- answers -- */

/* Length of the chunked body that starts at p, or 0 if it is not complete yet. -1: not a chunked body. */
static ssize_t chunked_length(const char *p, size_t length)
{
    size_t at = 0;

    for (;;) {
        const char *end = memmem(p + at, length - at, "\r\n", 2);
        unsigned long size;
        char *stop;

        if (!end)
            return length - at > 20 ? -1 : 0;
        size = strtoul(p + at, &stop, 16);
        if (stop == p + at || (*stop != '\r' && *stop != ';') || size > LIMIT_HTTP_REPLY)
            return -1;
        at = (size_t)(end - p) + 2 + size + 2;
        if (at > length)
            return 0;
        if (size == 0)
            return (ssize_t)at;
    }
}

static bool parse_head(struct connection *c)
{
    char *end = memmem(c->in.data, c->in.length, "\r\n\r\n", 4);

    if (!end)
        return true;
    c->head_length = (size_t)(end - c->in.data) + 4;
    if (strncmp(c->in.data, "HTTP/1.", 7) != 0 || c->in.length < 12)
        return false;
    c->status = (int)strtol(c->in.data + 9, NULL, 10);
    c->body_length = 0;
    c->chunked = c->close_after = false;
    for (char *line = strstr(c->in.data, "\r\n"); line && line < end; line = strstr(line + 2, "\r\n")) {
        const char *header = line + 2;

        if (strncasecmp(header, "content-length:", 15) == 0)
            c->body_length = strtoul(header + 15, NULL, 10);
        else if (strncasecmp(header, "transfer-encoding: chunked", 26) == 0)
            c->chunked = true;
        else if (strncasecmp(header, "connection: close", 17) == 0)
            c->close_after = true;
    }
    return c->status >= 100 && c->status < 600 && c->body_length <= LIMIT_HTTP_REPLY;
}

static void finish_request(struct load *load, struct connection *c, int64_t now)
{
    struct load_reply reply = {c->status, c->in.data + c->head_length, c->body_length, now - c->intended};

    load->result->answered++;
    load->result->statuses[c->status]++;
    histogram_record(c->status < 400 ? load->result->latency : load->result->refused, reply.latency_ns);
    if (load->options->reply)
        load->options->reply(load->options->userdata, &reply);
    load->busy--;
    if (c->close_after) {
        c->state = IDLE; /* no request is lost with it */
        disconnect(load, c, now);
        c->retry_at = now;
    } else {
        becomes_idle(load, c, now);
    }
}

/* Handles what is in the buffer; true if the answer is complete. */
static int answer_is_complete(struct connection *c)
{
    ssize_t chunked;

    if (!c->head_length && !parse_head(c))
        return -1;
    if (!c->head_length)
        return 0;
    if (!c->chunked)
        return c->in.length >= c->head_length + c->body_length;
    chunked = chunked_length(c->in.data + c->head_length, c->in.length - c->head_length);
    if (chunked <= 0)
        return (int)chunked;
    c->body_length = (size_t)chunked;
    return 1;
}

static void receive(struct load *load, struct connection *c, int64_t now)
{
    char *to = strbuf_reserve(&c->in, 16384);
    ssize_t n = to ? recv(c->fd, to, 16384, 0) : -1;
    int complete;

    if (n < 0 && to && errno == EAGAIN)
        return;
    if (n <= 0) {
        if (c->state == BUSY)
            fail_request(load, c, to ? &load->result->errors_closed : &load->result->errors_protocol, now);
        else
            disconnect(load, c, now); /* closed while idle: allowed, nothing was lost */
        return;
    }
    strbuf_commit(&c->in, (size_t)n);
    complete = c->state == BUSY ? answer_is_complete(c) : -1;
    if (complete < 0)
        fail_request(load, c, &load->result->errors_protocol, now);
    else if (complete)
        finish_request(load, c, now);
}

static void on_event(struct load *load, struct connection *c, uint32_t events, int64_t now)
{
    if (c->state == CONNECTING) {
        int failure = 0;
        socklen_t length = sizeof(failure);

        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &failure, &length);
        if (failure || (events & (EPOLLERR | EPOLLHUP))) {
            load->result->errors_connect++;
            disconnect(load, c, now);
            return;
        }
        load->connected_once++;
        becomes_idle(load, c, now);
        return;
    }
    if ((events & EPOLLOUT) && c->state == BUSY)
        send_more(load, c, now);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && c->fd >= 0)
        receive(load, c, now);
}

/* -- arrivals and time -- */

static double gap_ns(struct load *load)
{
    double mean = (double)NS_PER_SEC / load->options->rate;

    return load->options->arrivals == LOAD_POISSON ? random_exponential(&load->random, mean) : mean;
}

static void arrive(struct load *load, int64_t now)
{
    const struct load_options *options = load->options;

    while (!load->arrivals_over && load->next_arrival <= now) {
        struct connection *c = list_first(&load->idle, struct connection, link);
        struct load_request request;

        /* By the intended time: one that this thread is late for still belongs to the flow. */
        if (options->duration_ns && load->next_arrival - load->start >= options->duration_ns) {
            load->arrivals_over = true;
            return;
        }
        request = options->next(options->userdata, load->next_arrival - load->start);
        histogram_record(load->result->late, now - load->next_arrival);
        load->result->arrivals++;
        if (c)
            begin_request(load, c, request, load->next_arrival, now);
        else if (!queue_push(load, request, load->next_arrival))
            load->result->errors_timeout++;
        load->next_arrival += (int64_t)gap_ns(load);
        if (options->count && load->result->arrivals >= options->count)
            load->arrivals_over = true;
    }
}

/* Time-outs and reconnects: a scan, twenty times a second. */
static void sweep(struct load *load, int64_t now)
{
    for (int i = 0; i < load->options->connections; i++) {
        struct connection *c = &load->connections[i];

        if (c->state == CLOSED && c->retry_at <= now)
            connect_now(load, c, now);
        else if (c->state == BUSY && c->deadline <= now)
            fail_request(load, c, &load->result->errors_timeout, now);
        else if (c->state == CONNECTING && c->deadline <= now)
            fail_request(load, c, &load->result->errors_connect, now);
    }
    while (load->queue_count && load->queue[load->queue_head].intended + load->timeout <= now) {
        load->queue_head = (load->queue_head + 1) % load->queue_capacity;
        load->queue_count--;
        load->result->errors_timeout++;
    }
}

static void on_time(struct load *load, int64_t now)
{
    const struct load_options *options = load->options;

    if (options->arrivals != LOAD_CLOSED)
        arrive(load, now);
    else if ((options->count && load->result->arrivals >= options->count) ||
             (options->duration_ns && now - load->start >= options->duration_ns))
        load->arrivals_over = true;
    if (options->tick_ns && now >= load->next_tick) {
        if (options->tick(options->userdata, now - load->start))
            load->arrivals_over = true;
        load->next_tick += options->tick_ns;
        if (load->next_tick < now)
            load->next_tick = now + options->tick_ns;
    }
}

static void wait_for_events(struct load *load, int64_t until)
{
    struct epoll_event events[256];
    int64_t now = clock_monotonic_ns(), wait = until > now ? until - now : 0;
    struct timespec timeout = {wait / NS_PER_SEC, wait % NS_PER_SEC};
    int n = epoll_pwait2(load->epoll_fd, events, ARRAY_SIZE(events), &timeout, NULL);

    now = clock_monotonic_ns();
    for (int i = 0; i < n; i++) {
        struct connection *c = events[i].data.ptr;

        if (c->fd >= 0)
            on_event(load, c, events[i].events, now);
    }
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void start_closed_loop(struct load *load, int64_t now)
{
    struct connection *c, *tmp;

    list_for_each_safe(c, tmp, &load->idle, link) {
        if (!closed_loop_goes_on(load))
            return;
        load->result->arrivals++;
        begin_request(load, c, load->options->next(load->options->userdata, 0), now, now);
    }
}

/* All connections are made before the clock starts: setting them up is not what is measured. */
static int connect_all(struct load *load, struct error *error)
{
    int64_t begin = clock_monotonic_ns(), now = begin;

    while (load->connected_once < (unsigned)load->options->connections && now - begin < CONNECT_NS) {
        sweep(load, now);
        wait_for_events(load, now + RECONNECT_NS);
        now = clock_monotonic_ns();
    }
    if (!load->connected_once)
        return error_set(error, ERROR_UNAVAILABLE, "no connection to %s could be made",
                         load->options->unix_path ?: load->options->host);
    return 0;
}

static int generate(struct load *load, struct error *error)
{
    int64_t now, next_sweep, last_answer;

    load->arrivals_over = true; /* keeps a closed loop from starting while the others still connect */
    if (connect_all(load, error) < 0)
        return -1;
    load->arrivals_over = false;
    now = next_sweep = clock_monotonic_ns();
    load->result->errors_connect = 0;

    load->start = load->next_arrival = now;
    load->next_tick = now + load->options->tick_ns;
    last_answer = now;
    if (load->options->arrivals == LOAD_CLOSED)
        start_closed_loop(load, now);
    while (!load->arrivals_over || load->busy || load->queue_count) {
        uint64_t answered = load->result->answered;
        int64_t until;

        now = clock_monotonic_ns();
        on_time(load, now);
        if (now >= next_sweep) {
            sweep(load, now);
            next_sweep = now + 50 * NS_PER_MS;
        }
        until = next_sweep;
        if (!load->arrivals_over && load->options->arrivals != LOAD_CLOSED)
            until = earlier(until, load->next_arrival);
        if (load->options->tick_ns && !load->arrivals_over)
            until = earlier(until, load->next_tick);
        wait_for_events(load, until);
        if (load->result->answered != answered)
            last_answer = clock_monotonic_ns();
    }
    load->result->elapsed_ns = last_answer - load->start;
    return 0;
}

static int resolve(struct load *load, struct error *error)
{
    const struct load_options *options = load->options;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    struct sockaddr_un *local = (struct sockaddr_un *)(void *)&load->address;
    int r;

    if (options->unix_path) {
        if (strlen(options->unix_path) >= sizeof(local->sun_path))
            return error_set(error, ERROR_INVALID, "socket path %s is too long", options->unix_path);
        local->sun_family = AF_UNIX;
        memcpy(local->sun_path, options->unix_path, strlen(options->unix_path) + 1);
        load->address_length = sizeof(*local);
        return 0;
    }
    r = getaddrinfo(options->host, options->port, &hints, &found);
    if (r != 0)
        return error_set(error, ERROR_INVALID, "cannot resolve %s: %s", options->host, gai_strerror(r));
    memcpy(&load->address, found->ai_addr, found->ai_addrlen);
    load->address_length = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

/* What this thread is late with would be taken for slowness of the server. */
static void be_punctual(void)
{
    slice_short();
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* ns; by default the kernel wakes up to 50,000 later */
}

int load_run(const struct load_options *options, struct load_result *ret_result, struct error *error)
{
    struct load load = {.options = options, .result = ret_result, .epoll_fd = -1};
    int r;

    assert(options->connections > 0 && (options->arrivals == LOAD_CLOSED || options->rate > 0));
    assert(options->duration_ns || options->count || options->tick_ns);

    *ret_result = (struct load_result){.latency = histogram_new(), .refused = histogram_new(), .late = histogram_new()};
    if (resolve(&load, error) < 0)
        return -1;
    load.timeout = options->timeout_ns ? options->timeout_ns : DEFAULT_TIMEOUT;
    load.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (load.epoll_fd < 0)
        return error_set_errno(error, errno, "cannot make an epoll instance");
    be_punctual();
    list_init(&load.idle);
    random_source_init(&load.random, options->seed);
    load.connections = xcalloc((size_t)options->connections, sizeof(*load.connections));
    for (int i = 0; i < options->connections; i++) {
        load.connections[i].fd = -1;
        list_init(&load.connections[i].link);
        strbuf_init(&load.connections[i].in, LIMIT_HTTP_REPLY + LIMIT_HTTP_HEADER);
    }

    r = generate(&load, error);

    for (int i = 0; i < options->connections; i++) {
        if (load.connections[i].fd >= 0)
            close(load.connections[i].fd);
        strbuf_release(&load.connections[i].in);
    }
    free(load.connections);
    free(load.queue);
    close(load.epoll_fd);
    return r;
}

void load_result_release(struct load_result *result)
{
    result->latency = histogram_free(result->latency);
    result->late = histogram_free(result->late);
    result->refused = histogram_free(result->refused);
}

uint64_t load_result_errors(const struct load_result *result)
{
    return result->errors_connect + result->errors_closed + result->errors_timeout + result->errors_protocol;
}
