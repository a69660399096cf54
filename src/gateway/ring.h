/*
 * The gateway's end of the memory that it shares with one worker (format/wire.h has the layout).
 *
 *     ring_new(arena, &ring, error)
 *     ring_submit(ring, &(struct ring_call){…})   → a slot; one or, of one batch, several
 *     ring_wake(ring)                             the worker sees them, all at once
 *     while (ring_take(ring, &answer)) …          after the worker's eventfd became readable
 *     ring_free(ring)
 *
 * The worker is hostile: whatever it writes is copied once and checked, and what does not fit is counted in
 * ring->bad_answers with the reason in ring->complaint; the caller then gets rid of the worker. Nothing that a
 * worker does changes which slots are in use, or makes a function here fail or loop.
 *
 * One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "format/wire.h"
#include "util/cleanup.h"
#include "util/error.h"

#define RING_PAGE   4096
#define RING_STRIDE (64 * 1024) /* bytes of an answer that fit beside each other, per slot */

struct ring_slot {
    bool used;
    uint32_t generation; /* of the present use, or the next */
    uint32_t sequence;   /* position in the order of submissions */
    uint32_t first_page, pages;
    int64_t submitted_ns, overrun_ns;
    void *user;          /* NULL: nobody waits for the answer any more */
};

struct ring {
    int fds[WIRE_FD_COUNT];
    uint64_t requests_size, answers_size, arena_offset, arena_size, answer_offset, big_offset, big_size;
    struct wire_requests *requests; /* ours to write */
    struct wire_answers *answers;   /* the worker's */
    uint32_t tail, taken;           /* submissions made, completions taken */
    uint32_t published;             /* value of complete_head: taken, less the answer that is being read */
    bool took_big;
    uint32_t naps;                  /* ours: the number of the last sleep */
    uint32_t woken;                 /* the worker's: the number of the last sleep that we ended */
    struct ring_slot slots[WIRE_SLOTS];
    uint32_t n_used;
    uint64_t *pages;                /* bitmap of the arena */
    size_t n_pages;
    uint64_t bad_answers;
    const char *complaint;
};

struct ring_call {
    uint32_t kind;  /* enum wire_kind */
    uint32_t batch; /* not 0: one call with its neighbours of the same number */
    const void *body;
    size_t length;
    int64_t deadline_ns; /* the worker skips it afterwards */
    int64_t overrun_ns;  /* a worker that still has it then hangs */
    int64_t now_ns;
    const void *trace;   /* 24 bytes, or NULL */
    void *user;          /* not NULL */
};

struct ring_answer {
    void *user; /* NULL: nobody waits */
    uint32_t status;
    const char *body; /* in shared memory: copy it before looking at it; valid until the next ring_take() */
    size_t length;
    int64_t run_ns, submitted_ns;
};

/* `arena` bytes for bodies, `big` bytes for a long answer; sparse: only what is used costs memory. */
int ring_new(uint64_t arena, uint64_t big, struct ring **ret_ring, struct error *error);
struct ring *ring_free(struct ring *ring);
DEFINE_CLEANUP(struct ring *, ring_free)
#define cleanup_ring CLEANUP(ring_free_cleanup)

/* The slot, or -1 while there is no room for it. A body larger than the arena never has room. */
int ring_submit(struct ring *ring, const struct ring_call *call);
/* Shows the worker what was submitted, and wakes it if it sleeps. -1 if its eventfd does not take it: it tampers. */
int ring_wake(struct ring *ring);
/* The next answer, or false if there is none now (call it until then). */
bool ring_take(struct ring *ring, struct ring_answer *ret_answer);
/* Tells the worker that we are about to sleep. True if there are answers after all. */
bool ring_sleep(struct ring *ring);
/* Whether ring_take() may find something. */
bool ring_has_news(const struct ring *ring);
/* Nobody waits for this slot's answer any more. */
void ring_abandon(struct ring *ring, int slot);
/* Whether the worker has begun with it (or says so). */
bool ring_has_started(const struct ring *ring, int slot);
/* The longest submitted slot that is not answered, or -1. */
int ring_oldest(const struct ring *ring);
