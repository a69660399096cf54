#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include "gateway/ring.h"
#include "util/xalloc.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010 /* Linux 5.1; younger than some C libraries */
#endif

#define ROUND_PAGE(n) (((n) + RING_PAGE - 1) / RING_PAGE * RING_PAGE)

static int make_memory(const char *name, uint64_t size, int *ret_fd, void **ret_memory, struct error *error)
{
    cleanup_close int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *memory;

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        return error_set_errno(error, errno, "cannot make shared memory");
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (memory == MAP_FAILED)
        return error_set_errno(error, errno, "cannot map shared memory");
    *ret_memory = memory;
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int seal(struct ring *ring, struct error *error)
{
    if (fcntl(ring->fds[WIRE_FD_REQUESTS], F_ADD_SEALS,
              F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0 ||
        fcntl(ring->fds[WIRE_FD_ANSWERS], F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return error_set_errno(error, errno, "cannot seal shared memory");
    return 0;
}

int ring_new(uint64_t arena, uint64_t big, struct ring **ret_ring, struct error *error)
{
    cleanup_ring struct ring *ring = xnew0(struct ring);

    for (int i = 0; i < WIRE_FD_COUNT; i++)
        ring->fds[i] = -1;
    ring->arena_offset = ROUND_PAGE(sizeof(struct wire_requests));
    ring->arena_size = ROUND_PAGE(arena);
    ring->requests_size = ring->arena_offset + ring->arena_size;
    ring->answer_offset = ROUND_PAGE(sizeof(struct wire_answers));
    ring->big_offset = ring->answer_offset + (uint64_t)WIRE_SLOTS * RING_STRIDE;
    ring->big_size = ROUND_PAGE(big);
    ring->answers_size = ring->big_offset + ring->big_size;
    ring->n_pages = ring->arena_size / RING_PAGE;
    ring->pages = xcalloc((ring->n_pages + 63) / 64, sizeof(*ring->pages));
    for (size_t i = ring->n_pages; i % 64; i++)
        ring->pages[i / 64] |= UINT64_C(1) << (i % 64);

    if (make_memory("slipway-requests", ring->requests_size, &ring->fds[WIRE_FD_REQUESTS], (void **)&ring->requests,
                    error) < 0 ||
        make_memory("slipway-answers", ring->answers_size, &ring->fds[WIRE_FD_ANSWERS], (void **)&ring->answers,
                    error) < 0 ||
        seal(ring, error) < 0)
        return -1;
    ring->fds[WIRE_FD_WAKE_WORKER] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ring->fds[WIRE_FD_WAKE_GATEWAY] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ring->fds[WIRE_FD_WAKE_WORKER] < 0 || ring->fds[WIRE_FD_WAKE_GATEWAY] < 0)
        return error_set_errno(error, errno, "cannot make an eventfd");
    ring->naps = 1;
    atomic_store(&ring->requests->asleep, ring->naps);
    *ret_ring = steal_ptr(ring);
    return 0;
}

struct ring *ring_free(struct ring *ring)
{
    if (!ring)
        return NULL;
    if (ring->requests)
        munmap(ring->requests, ring->requests_size);
    if (ring->answers)
        munmap(ring->answers, ring->answers_size);
    for (int i = 0; i < WIRE_FD_COUNT; i++)
        cleanup_close_(&ring->fds[i]);
    free(ring->pages);
    free(ring);
    return NULL;
}

static bool page_used(const struct ring *ring, size_t page)
{
    return ring->pages[page / 64] >> (page % 64) & 1;
}

static void mark_pages(struct ring *ring, size_t first, size_t n, bool used)
{
    for (size_t i = first; i < first + n; i++) {
        if (used)
            ring->pages[i / 64] |= UINT64_C(1) << (i % 64);
        else
            ring->pages[i / 64] &= ~(UINT64_C(1) << (i % 64));
    }
}

/* First fit, so that the memory that was ever touched stays at the low end. */
static bool find_pages(const struct ring *ring, size_t n, size_t *ret_first)
{
    size_t run = 0;

    for (size_t page = 0; page < ring->n_pages; page++) {
        uint64_t word = ring->pages[page / 64];

        if (page % 64 == 0 && word == UINT64_MAX) {
            run = 0;
            page += 63;
            continue;
        }
        if (n == 1 && page % 64 == 0) {
            *ret_first = page + (size_t)__builtin_ctzll(~word);
            return true;
        }
        run = page_used(ring, page) ? 0 : run + 1;
        if (run == n) {
            *ret_first = page + 1 - n;
            return true;
        }
    }
    return false;
}

int ring_submit(struct ring *ring, const struct ring_call *call)
{
    size_t n = call->length ? ROUND_PAGE(call->length) / RING_PAGE : 1, first;
    struct wire_submission *entry;
    struct ring_slot *slot;
    int index = 0;

    assert(call->user);
    if (ring->n_used == WIRE_SLOTS || n > ring->n_pages || !find_pages(ring, n, &first))
        return -1;
    while (ring->slots[index].used)
        index++;
    slot = &ring->slots[index];
    slot->used = true;
    slot->generation++;
    slot->sequence = ring->tail;
    slot->first_page = (uint32_t)first;
    slot->pages = (uint32_t)n;
    slot->submitted_ns = call->now_ns;
    slot->overrun_ns = call->overrun_ns;
    slot->user = call->user;
    ring->n_used++;
    mark_pages(ring, first, n, true);
    memcpy((char *)ring->requests + ring->arena_offset + first * RING_PAGE, call->body, call->length);

    entry = &ring->requests->submissions[ring->tail % WIRE_SLOTS];
    *entry = (struct wire_submission){
        .slot = (uint32_t)index,
        .generation = slot->generation,
        .kind = call->kind,
        .batch = call->batch,
        .offset = ring->arena_offset + first * RING_PAGE,
        .length = call->length,
        .deadline_ns = call->deadline_ns,
    };
    if (call->trace)
        memcpy(entry->trace, call->trace, sizeof(entry->trace));
    ring->tail++;
    return index;
}

int ring_wake(struct ring *ring)
{
    uint64_t one = 1;
    uint32_t nap;

    atomic_store(&ring->requests->submit_tail, ring->tail);
    nap = atomic_load(&ring->answers->asleep);
    if (!nap || nap == ring->woken)
        return 0;
    ring->woken = nap;
    /* EAGAIN means that the worker wrote the counter full; EINTR that it made the descriptor blocking and the
     * gateway's watchdog timer got us out (gateway.c). */
    return write(ring->fds[WIRE_FD_WAKE_WORKER], &one, sizeof(one)) == sizeof(one) ? 0 : -1;
}

static bool complain(struct ring *ring, const char *why)
{
    ring->bad_answers++;
    ring->complaint = why;
    return false;
}

static bool check(struct ring *ring, const struct wire_completion *entry)
{
    const struct ring_slot *slot;

    if (entry->slot >= WIRE_SLOTS)
        return complain(ring, "answered for a slot that does not exist");
    slot = &ring->slots[entry->slot];
    if (!slot->used || slot->generation != entry->generation)
        return complain(ring, "answered for a slot that it does not own");
    if (entry->status >= WIRE_STATUS_COUNT_)
        return complain(ring, "answered with an unknown status");
    if (entry->place > WIRE_IN_BIG)
        return complain(ring, "answered in an unknown place");
    if (entry->length > (entry->place == WIRE_IN_BIG ? ring->big_size : RING_STRIDE))
        return complain(ring, "answered with an impossible length");
    return true;
}

static void release(struct ring *ring, struct ring_slot *slot)
{
    mark_pages(ring, slot->first_page, slot->pages, false);
    slot->used = false;
    slot->user = NULL;
    ring->n_used--;
}

/* Lets the worker reuse the places of the answers that were taken. */
static void publish_taken(struct ring *ring)
{
    if (ring->published == ring->taken)
        return;
    ring->published = ring->taken;
    atomic_store(&ring->requests->complete_head, ring->taken);
    if (ring->took_big && ring_wake(ring) < 0)
        complain(ring, "tampered with its eventfd");
    ring->took_big = false;
}

bool ring_take(struct ring *ring, struct ring_answer *ret_answer)
{
    struct wire_completion entry;
    struct ring_slot *slot;
    uint32_t waiting;

    publish_taken(ring);
    waiting = atomic_load_explicit(&ring->answers->complete_tail, memory_order_acquire) - ring->taken;
    if (!waiting || ring->complaint)
        return false;
    if (waiting > WIRE_SLOTS)
        return complain(ring, "moved its cursor beyond the ring");

    memcpy(&entry, &ring->answers->completions[ring->taken % WIRE_SLOTS], sizeof(entry));
    /* The compiler must not read the shared entry again behind the checks. */
    atomic_signal_fence(memory_order_seq_cst);
    ring->taken++;
    if (!check(ring, &entry))
        return false;

    ring->took_big |= entry.place == WIRE_IN_BIG;
    slot = &ring->slots[entry.slot];
    *ret_answer = (struct ring_answer){
        .user = slot->user,
        .status = entry.status,
        .body = (const char *)ring->answers +
                (entry.place == WIRE_IN_BIG ? ring->big_offset : ring->answer_offset + entry.slot * RING_STRIDE),
        .length = entry.length,
        .run_ns = entry.run_ns > INT64_MAX ? INT64_MAX : (int64_t)entry.run_ns,
        .submitted_ns = slot->submitted_ns,
    };
    release(ring, slot);
    return true;
}

bool ring_sleep(struct ring *ring)
{
    if (!++ring->naps)
        ring->naps = 1;
    atomic_store(&ring->requests->asleep, ring->naps);
    return atomic_load(&ring->answers->complete_tail) != ring->taken;
}

bool ring_has_news(const struct ring *ring)
{
    return atomic_load_explicit(&ring->answers->complete_tail, memory_order_relaxed) != ring->taken || ring->complaint;
}

void ring_abandon(struct ring *ring, int slot)
{
    ring->slots[slot].user = NULL;
}

bool ring_has_started(const struct ring *ring, int slot)
{
    uint32_t head = atomic_load_explicit(&ring->answers->submit_head, memory_order_acquire);

    return (int32_t)(head - ring->slots[slot].sequence) > 0;
}

int ring_oldest(const struct ring *ring)
{
    uint32_t most = 0;
    int oldest = -1;

    for (int i = 0; i < WIRE_SLOTS; i++) {
        uint32_t age = ring->tail - ring->slots[i].sequence;

        if (ring->slots[i].used && age > most) {
            most = age;
            oldest = i;
        }
    }
    return oldest;
}
