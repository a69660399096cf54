/*
 * An event loop on one thread: descriptors, timers, posted work, signals.
 *
 *     struct loop *loop = loop_new();
 *     loop_add_fd(loop, fd, EPOLLIN, on_readable, object);
 *     loop_add_timer(loop, 5 * NS_PER_SEC, on_timeout, object);
 *     loop_run(loop);                       returns after loop_stop()
 *
 * Callbacks run one at a time on the thread that called loop_run(). They may add and remove any
 * source, also the one that is running. All functions belong to that thread, except loop_post() and
 * loop_stop(), which any thread (and no signal handler) may call.
 *
 * One turn: call what prepares; wait until the nearest timer; run due timers in order of their time; run posted work in
 * order of posting; dispatch ready descriptors. A descriptor is removed before it is closed.
 */
#pragma once

#include <stdint.h>
#include <sys/epoll.h>
#include "util/cleanup.h"

struct loop;
struct loop_source;

typedef void (*loop_fd_fn)(void *userdata, uint32_t events);
typedef void (*loop_fn)(void *userdata);
typedef void (*loop_signal_fn)(void *userdata, int signal);
typedef int (*loop_prepare_fn)(void *userdata);

struct loop *loop_new(void);
/* Frees the loop and all its sources; descriptors stay open. Accepts NULL; returns NULL. */
struct loop *loop_free(struct loop *loop);
DEFINE_CLEANUP(struct loop *, loop_free)
#define cleanup_loop CLEANUP(loop_free_cleanup)

/* Runs until loop_stop(). */
void loop_run(struct loop *loop);
/* One turn; waits at most timeout_ms (-1: until something happens). */
void loop_run_once(struct loop *loop, int timeout_ms);
void loop_stop(struct loop *loop);

struct loop_source *loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *userdata);
void loop_update_fd(struct loop_source *source, uint32_t events);

/* Fires once, after a delay (ns). The source frees itself after it fired. */
struct loop_source *loop_add_timer(struct loop *loop, int64_t delay_ns, loop_fn fn, void *userdata);
/* Fires every interval (ns) until removed; late turns are not made up for. */
struct loop_source *loop_add_interval(struct loop *loop, int64_t interval_ns, loop_fn fn, void *userdata);
/* Blocks the signal in the calling thread (start other threads afterwards, so that they inherit it)
 * and delivers it through the loop. */
struct loop_source *loop_add_signal(struct loop *loop, int signal, loop_signal_fn fn, void *userdata);

/* Calls fn before every wait, for libraries that have their own idea of time or work to flush. It returns the
 * most milliseconds that the loop may wait, or -1. It may add and remove sources, but not this one. */
struct loop_source *loop_add_prepare(struct loop *loop, loop_prepare_fn fn, void *userdata);

/* Accepts NULL; returns NULL. Do not remove a one-shot timer that has fired. */
struct loop_source *loop_remove(struct loop_source *source);

/* Runs fn(userdata) on the loop's thread, soon. Any thread. */
void loop_post(struct loop *loop, loop_fn fn, void *userdata);
