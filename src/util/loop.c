#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include "util/clock.h"
#include "util/list.h"
#include "util/loop.h"
#include "util/xalloc.h"

enum source_kind { SOURCE_FD, SOURCE_TIMER, SOURCE_SIGNAL, SOURCE_PREPARE };

struct loop_source {
    struct list link; /* in loop->sources or loop->prepares, or loop->dead once removed */
    struct loop *loop;
    enum source_kind kind;
    bool removed; /* freed at the end of the turn, because epoll may still hold it */
    void *userdata;
    int fd;
    int signal;
    size_t heap_index; /* timers: position in loop->heap */
    int64_t due_ns, interval_ns;
    union {
        loop_fd_fn fd_fn;
        loop_fn timer_fn;
        loop_signal_fn signal_fn;
        loop_prepare_fn prepare_fn;
    };
};

struct post {
    struct post *next;
    loop_fn fn;
    void *userdata;
};

struct loop {
    int epoll_fd;
    int wake_fd;
    struct list sources, prepares, dead;
    struct loop_source **heap; /* binary heap of timers by due_ns */
    size_t heap_count, heap_capacity;
    bool is_coarse; /* the kernel waits in whole milliseconds only */
    pthread_mutex_t post_lock;
    struct post *posts, **posts_tail;
    atomic_bool stop;
};

struct loop *loop_new(void)
{
    struct loop *loop = xnew0(struct loop);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll_fd < 0 || loop->wake_fd < 0 || epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0)
        abort();
    list_init(&loop->sources);
    list_init(&loop->prepares);
    list_init(&loop->dead);
    pthread_mutex_init(&loop->post_lock, NULL);
    loop->posts_tail = &loop->posts;
    return loop;
}

static void bury(struct loop *loop)
{
    struct loop_source *source, *tmp;

    list_for_each_safe(source, tmp, &loop->dead, link) {
        list_unlink(&source->link);
        free(source);
    }
}

struct loop *loop_free(struct loop *loop)
{
    struct loop_source *source, *tmp;

    if (!loop)
        return NULL;
    list_for_each_safe(source, tmp, &loop->sources, link)
        loop_remove(source);
    list_for_each_safe(source, tmp, &loop->prepares, link)
        loop_remove(source);
    bury(loop);
    while (loop->posts) {
        struct post *post = loop->posts;

        loop->posts = post->next;
        free(post);
    }
    pthread_mutex_destroy(&loop->post_lock);
    close(loop->epoll_fd);
    close(loop->wake_fd);
    free(loop->heap);
    free(loop);
    return NULL;
}

static void heap_place(struct loop *loop, struct loop_source *source, size_t index)
{
    loop->heap[index] = source;
    source->heap_index = index;
}

static void heap_up(struct loop *loop, size_t index)
{
    struct loop_source *source = loop->heap[index];

    while (index > 0 && loop->heap[(index - 1) / 2]->due_ns > source->due_ns) {
        heap_place(loop, loop->heap[(index - 1) / 2], index);
        index = (index - 1) / 2;
    }
    heap_place(loop, source, index);
}

static void heap_down(struct loop *loop, size_t index)
{
    struct loop_source *source = loop->heap[index];

    for (;;) {
        size_t child = 2 * index + 1;

        if (child >= loop->heap_count)
            break;
        if (child + 1 < loop->heap_count && loop->heap[child + 1]->due_ns < loop->heap[child]->due_ns)
            child++;
        if (loop->heap[child]->due_ns >= source->due_ns)
            break;
        heap_place(loop, loop->heap[child], index);
        index = child;
    }
    heap_place(loop, source, index);
}

static void heap_push(struct loop *loop, struct loop_source *source)
{
    if (loop->heap_count == loop->heap_capacity) {
        loop->heap_capacity = loop->heap_capacity ? loop->heap_capacity * 2 : 16;
        loop->heap = xreallocarray(loop->heap, loop->heap_capacity, sizeof(*loop->heap));
    }
    heap_place(loop, source, loop->heap_count++);
    heap_up(loop, source->heap_index);
}

static void heap_remove(struct loop *loop, struct loop_source *source)
{
    size_t index = source->heap_index;
    struct loop_source *last = loop->heap[--loop->heap_count];

    if (last == source)
        return;
    heap_place(loop, last, index);
    heap_up(loop, index);
    heap_down(loop, last->heap_index);
}

static struct loop_source *source_new(struct loop *loop, enum source_kind kind, void *userdata)
{
    struct loop_source *source = xnew0(struct loop_source);

    source->loop = loop;
    source->kind = kind;
    source->userdata = userdata;
    source->fd = -1;
    list_append(&loop->sources, &source->link);
    return source;
}

static void watch(struct loop_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};

    if (epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0)
        abort();
}

struct loop_source *loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *userdata)
{
    struct loop_source *source = source_new(loop, SOURCE_FD, userdata);

    source->fd = fd;
    source->fd_fn = fn;
    watch(source, events);
    return source;
}

void loop_update_fd(struct loop_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};

    assert(source->kind == SOURCE_FD);
    if (epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0)
        abort();
}

struct loop_source *loop_add_timer(struct loop *loop, int64_t delay_ns, loop_fn fn, void *userdata)
{
    struct loop_source *source = source_new(loop, SOURCE_TIMER, userdata);

    source->timer_fn = fn;
    source->due_ns = clock_monotonic_ns() + (delay_ns > 0 ? delay_ns : 0);
    heap_push(loop, source);
    return source;
}

struct loop_source *loop_add_interval(struct loop *loop, int64_t interval_ns, loop_fn fn, void *userdata)
{
    struct loop_source *source = loop_add_timer(loop, interval_ns, fn, userdata);

    source->interval_ns = interval_ns;
    return source;
}

struct loop_source *loop_add_signal(struct loop *loop, int signal, loop_signal_fn fn, void *userdata)
{
    struct loop_source *source = source_new(loop, SOURCE_SIGNAL, userdata);
    sigset_t mask;

    sigemptyset(&mask);
    sigaddset(&mask, signal);
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
    source->signal = signal;
    source->signal_fn = fn;
    source->fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (source->fd < 0)
        abort();
    watch(source, EPOLLIN);
    return source;
}

struct loop_source *loop_add_prepare(struct loop *loop, loop_prepare_fn fn, void *userdata)
{
    struct loop_source *source = source_new(loop, SOURCE_PREPARE, userdata);

    source->prepare_fn = fn;
    list_unlink(&source->link);
    list_append(&loop->prepares, &source->link);
    return source;
}

struct loop_source *loop_remove(struct loop_source *source)
{
    struct loop *loop;

    if (!source || source->removed)
        return NULL;
    loop = source->loop;
    source->removed = true;
    if (source->kind == SOURCE_TIMER)
        heap_remove(loop, source);
    else if (source->kind != SOURCE_PREPARE)
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    if (source->kind == SOURCE_SIGNAL)
        close(source->fd);
    list_unlink(&source->link);
    list_append(&loop->dead, &source->link);
    return NULL;
}

void loop_post(struct loop *loop, loop_fn fn, void *userdata)
{
    struct post *post = xnew0(struct post);
    uint64_t one = 1;
    ssize_t unused;

    post->fn = fn;
    post->userdata = userdata;
    pthread_mutex_lock(&loop->post_lock);
    *loop->posts_tail = post;
    loop->posts_tail = &post->next;
    pthread_mutex_unlock(&loop->post_lock);
    unused = write(loop->wake_fd, &one, sizeof(one));
    (void)unused;
}

void loop_stop(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t unused;

    atomic_store(&loop->stop, true);
    unused = write(loop->wake_fd, &one, sizeof(one));
    (void)unused;
}

static void run_posts(struct loop *loop)
{
    struct post *posts;

    pthread_mutex_lock(&loop->post_lock);
    posts = loop->posts;
    loop->posts = NULL;
    loop->posts_tail = &loop->posts;
    pthread_mutex_unlock(&loop->post_lock);

    while (posts) {
        struct post *post = posts;

        posts = post->next;
        post->fn(post->userdata);
        free(post);
    }
}

static void run_timers(struct loop *loop)
{
    int64_t now = clock_monotonic_ns();

    while (loop->heap_count && loop->heap[0]->due_ns <= now) {
        struct loop_source *source = loop->heap[0];
        loop_fn fn = source->timer_fn;
        void *userdata = source->userdata;

        if (source->interval_ns) {
            source->due_ns = now + source->interval_ns;
            heap_down(loop, 0);
        } else {
            loop_remove(source);
        }
        fn(userdata);
    }
}

/* Before the posted work is taken: a post that comes later must find the descriptor unread, or nobody wakes
 * up for it. */
static void drain_wake(struct loop *loop, const struct epoll_event *events, int n)
{
    uint64_t count;
    ssize_t unused;

    for (int i = 0; i < n; i++) {
        if (!events[i].data.ptr) {
            unused = read(loop->wake_fd, &count, sizeof(count));
            (void)unused;
        }
    }
}

static void dispatch(struct loop *loop, const struct epoll_event *event)
{
    struct loop_source *source = event->data.ptr;
    struct signalfd_siginfo info;

    if (!source || source->removed) {
        return;
    } else if (source->kind == SOURCE_FD) {
        source->fd_fn(source->userdata, event->events);
    } else if (read(source->fd, &info, sizeof(info)) == sizeof(info)) {
        source->signal_fn(source->userdata, source->signal);
    }
}

static int prepare(struct loop *loop, int timeout_ms)
{
    struct loop_source *source, *tmp;

    list_for_each_safe(source, tmp, &loop->prepares, link) {
        int most = source->prepare_fn(source->userdata);

        if (most >= 0 && (timeout_ms < 0 || most < timeout_ms))
            timeout_ms = most;
    }
    return timeout_ms;
}

/* Never wakes up before the time is over; timeout_ns < 0: waits for an event. */
static int wait_for_events(struct loop *loop, struct epoll_event *events, int max, int64_t timeout_ns)
{
    struct timespec timeout = {.tv_sec = timeout_ns / NS_PER_SEC, .tv_nsec = timeout_ns % NS_PER_SEC};
    int64_t ms = timeout_ns < 0 ? -1 : (timeout_ns + NS_PER_MS - 1) / NS_PER_MS;

    if (!loop->is_coarse) {
        int n = epoll_pwait2(loop->epoll_fd, events, max, timeout_ns < 0 ? NULL : &timeout, NULL);

        if (n >= 0 || (errno != ENOSYS && errno != EPERM))
            return n;
        loop->is_coarse = true; /* older than Linux 5.11, or a sandbox that does not know it */
    }
    return epoll_wait(loop->epoll_fd, events, max, ms > INT32_MAX ? INT32_MAX : (int)ms);
}

void loop_run_once(struct loop *loop, int timeout_ms)
{
    struct epoll_event events[64];
    int64_t timeout_ns;
    int n;

    timeout_ms = prepare(loop, timeout_ms);
    timeout_ns = timeout_ms < 0 ? -1 : timeout_ms * NS_PER_MS;
    if (loop->heap_count) {
        int64_t left = loop->heap[0]->due_ns - clock_monotonic_ns();

        if (left < 0)
            left = 0;
        if (timeout_ns < 0 || left < timeout_ns)
            timeout_ns = left;
    }
    n = wait_for_events(loop, events, ARRAY_SIZE(events), timeout_ns);
    if (n < 0 && errno != EINTR)
        abort();

    drain_wake(loop, events, n);
    run_timers(loop);
    run_posts(loop);
    for (int i = 0; i < n; i++)
        dispatch(loop, &events[i]);
    bury(loop);
}

void loop_run(struct loop *loop)
{
    while (!atomic_load(&loop->stop))
        loop_run_once(loop, -1);
    atomic_store(&loop->stop, false);
}
