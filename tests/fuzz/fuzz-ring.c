/*
 * The rings against a worker that writes what it likes into its memory, at any time. The input is a list of
 * moves, ours and the worker's. Whatever it does, an answer goes to a request that waits, and once; what is handed out
 * lies inside of the memory; and bodies of requests that are not answered stay as they were written.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/ring.h"
#include "util/limits.h"

#define ARENA (24 * RING_PAGE)
#define BIG   (4 * RING_PAGE)
#define CALLS 256

struct moves {
    const uint8_t *data;
    size_t length;
};

struct call {
    bool waits, abandoned;
    int slot;
    size_t length;
    uint8_t pattern;
};

struct game {
    struct ring *ring;
    struct call calls[CALLS];
    size_t n_calls;
    uint32_t answered; /* what an honest worker would have put into complete_tail */
};

static uint64_t take(struct moves *moves, size_t n)
{
    uint64_t value = 0;

    n = n < moves->length ? n : moves->length;
    memcpy(&value, moves->data, n);
    moves->data += n;
    moves->length -= n;
    return value;
}

static void submit(struct game *game, struct moves *moves)
{
    static uint8_t body[ARENA];
    struct call *call = &game->calls[game->n_calls];
    struct ring_call item = {.kind = WIRE_PREDICT, .body = body, .user = call, .now_ns = 1};

    if (game->n_calls == CALLS)
        return;
    item.length = call->length = take(moves, 2);
    call->pattern = (uint8_t)(game->n_calls + 1);
    memset(body, call->pattern, call->length < ARENA ? call->length : ARENA);
    if (item.length > ARENA) /* never has room, and is not looked at */
        item.length = ARENA + 1;
    call->slot = ring_submit(game->ring, &item);
    if (call->slot < 0)
        return;
    if (item.length > ARENA)
        abort();
    call->waits = true;
    game->n_calls++;
    ring_wake(game->ring);
}

static void check_body(const struct game *game, const struct call *call)
{
    const struct ring_slot *slot = &game->ring->slots[call->slot];
    const uint8_t *body = (const uint8_t *)game->ring->requests + game->ring->arena_offset +
                          slot->first_page * RING_PAGE;

    if (!slot->used || (slot->first_page + slot->pages) * (size_t)RING_PAGE > ARENA)
        abort();
    for (size_t i = 0; i < call->length; i++) {
        if (body[i] != call->pattern)
            abort();
    }
}

static void take_answers(struct game *game)
{
    const char *begin = (const char *)game->ring->answers, *end = begin + game->ring->answers_size;
    struct ring_answer answer;
    volatile char sum = 0;

    while (ring_take(game->ring, &answer)) {
        struct call *call = answer.user;

        if (answer.status >= WIRE_STATUS_COUNT_ || answer.run_ns < 0 || answer.body < begin ||
            answer.length > (size_t)(end - answer.body))
            abort();
        for (size_t i = 0; i < answer.length; i += 512)
            sum = (char)(sum + answer.body[i]);
        if (call && (!call->waits || call->abandoned))
            abort();
        if (call)
            call->waits = false;
    }
    /* Those whose answer nobody wanted. */
    for (size_t i = 0; i < game->n_calls; i++) {
        struct call *call = &game->calls[i];

        if (call->waits && call->abandoned && !game->ring->slots[call->slot].used)
            call->waits = false;
    }
}

/* The oldest request, answered as it should be, but for one word that may be wrong. */
static void answer(struct game *game, struct moves *moves)
{
    struct wire_answers *answers = game->ring->answers;
    struct wire_completion entry = {0};
    uint64_t where = take(moves, 1), wrong = take(moves, 4);
    int slot = ring_oldest(game->ring);

    if (slot >= 0)
        entry = (struct wire_completion){
            (uint32_t)slot, game->ring->slots[slot].generation, WIRE_STATUS_OK, where >> 7, wrong, 5};
    if (where & 8)
        memcpy((char *)&entry + (where & 7) * 4, &wrong, 4);
    memcpy(&answers->completions[game->answered % WIRE_SLOTS], &entry, sizeof(entry));
    game->answered++;
    atomic_store(&answers->complete_tail, game->answered);
}

static void scribble(struct game *game, struct moves *moves)
{
    size_t at = take(moves, 2), n = 1 + take(moves, 1) % 32;

    for (; n && moves->length; n--, at++)
        ((char *)game->ring->answers)[at % sizeof(struct wire_answers)] = (char)take(moves, 1);
}

static void abandon(struct game *game, struct moves *moves)
{
    struct call *call = &game->calls[take(moves, 1)];

    if (!call->waits || call->abandoned)
        return;
    call->abandoned = true;
    ring_abandon(game->ring, call->slot);
}

static void play(struct game *game, struct moves *moves)
{
    switch (take(moves, 1) % 8) {
    case 0:
    case 1: submit(game, moves); break;
    case 2:
    case 3: answer(game, moves); break;
    case 4: take_answers(game); break;
    case 5: scribble(game, moves); break;
    case 6: abandon(game, moves); break;
    default:
        ring_sleep(game->ring);
        game->answered = (uint32_t)(game->answered + take(moves, 1) % 4);
        atomic_store(&game->ring->answers->asleep, (uint32_t)take(moves, 1));
        break;
    }
}

static void check_end(struct game *game)
{
    uint32_t used = 0;

    for (int i = 0; i < WIRE_SLOTS; i++)
        used += game->ring->slots[i].used;
    if (used != game->ring->n_used)
        abort();
    for (size_t i = 0; i < game->n_calls; i++) {
        if (game->calls[i].waits)
            check_body(game, &game->calls[i]);
        used -= game->calls[i].waits;
    }
    if (used)
        abort();
    if (ring_oldest(game->ring) >= 0)
        ring_has_started(game->ring, ring_oldest(game->ring));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct game game;
    struct moves moves = {data, size};

    memset(&game, 0, sizeof(game));
    if (ring_new(ARENA, BIG, &game.ring, NULL) < 0)
        abort();
    while (moves.length)
        play(&game, &moves);
    take_answers(&game);
    check_end(&game);
    ring_free(game.ring);
    return 0;
}
