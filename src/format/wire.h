/*
 * What the gateway and a worker share: messages on their socket, and the layout of their memory.
 *
 * Used by both programs; libc only, because the worker's side is loaded into any language.
 *
 * -- the socket (AF_UNIX, SOCK_SEQPACKET; one struct wire_message each) --
 *
 *     worker                                gateway
 *     HELLO id, key, what it can do    →
 *                                      ←    WELCOME sizes + 4 descriptors        (or REFUSED text; closed)
 *     [init(), warm-up]
 *     READY                            →                                         (or FAILED text; exits)
 *     … requests through the rings …
 *                                      ←    EXIT: finish what you took, then end
 *
 * After a reconnect (the gateway was restarted) HELLO is followed by READY at once.
 *
 * -- the memory --
 *
 * Two memfds, sealed against resizing. The gateway alone writes the first (F_SEAL_FUTURE_WRITE: the worker
 * cannot map it writable), the worker writes the second. Each side copies what it reads of the other's
 * before it checks it; nothing in them is a pointer. Cursors run freely modulo 2^32.
 *
 *     requests:  [header][submission × slots]            [arena, in pages ...................]
 *                 submit_tail, complete_head              bodies, placed by the gateway
 *     answers:   [header][completion × slots]            [stride bytes for slot 0][… slot 1] … [big]
 *                 submit_head, complete_tail, asleep      bodies, written by the worker
 *
 * An answer of up to `stride` bytes goes where its slot says; a longer one into `big`, which there is once:
 * the worker may use it again when complete_head has passed the completion that named it.
 *
 * A slot belongs to the worker from its submission until the gateway has taken its completion; the gateway
 * alone hands slots out, so neither ring can overflow. A submission is *started* once submit_head has passed
 * it: what was not started when the worker dies can run elsewhere.
 *
 * A batch is nothing but submissions of one number that submit_tail passes in one step: the worker takes them all
 * before it starts, calls predict_batch() once, and completes each of them by itself.
 *
 * -- waking up --
 *
 * Each side has an eventfd that the other writes. Before it sleeps a side stores in `asleep` a number other than
 * 0 and than the last, and looks at its ring once more; awake it stores 0. The other side writes the eventfd
 * after publishing where it sees a number that it did not wake before (both sequentially consistent): once for
 * each sleep, however much it publishes. The gateway also wakes a sleeping worker after it took a completion in `big`.
 * No side ever spins.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define WIRE_MAGIC   UINT32_C(0x53574b31) /* "SWK1" */
#define WIRE_VERSION 1
#define WIRE_TEXT    1024 /* most bytes of a message's text, with NUL */
#define WIRE_KEY     128  /* most bytes of a key, with NUL */
#define WIRE_SLOTS   64   /* requests that one worker can hold; a power of two */

enum wire_type {
    WIRE_HELLO = 1,
    WIRE_WELCOME,
    WIRE_REFUSED,
    WIRE_READY,
    WIRE_FAILED,
    WIRE_EXIT,
};

/* What a worker can do (wire_message.functions). */
enum wire_function {
    WIRE_CAN_PREDICT = 1 << 0, /* predict(text) → text */
    WIRE_CAN_TENSORS = 1 << 1, /* predict_tensors(frame) → frame */
    WIRE_CAN_BATCH = 1 << 2,   /* predict_batch(texts) → texts */
};

struct wire_message {
    uint32_t magic, version;
    uint32_t type;
    uint32_t functions;   /* HELLO, READY */
    uint32_t slots;       /* WELCOME */
    uint32_t concurrency; /* HELLO: requests it runs at once; 0 counts as 1 */
    uint64_t requests_size, answers_size; /* WELCOME: bytes of the two memfds */
    uint64_t arena_offset;                /* WELCOME: in the first */
    uint64_t answer_offset, answer_stride; /* WELCOME: in the second */
    uint64_t big_offset, big_size;         /* WELCOME: in the second */
    char id[40];          /* HELLO: 32 hex digits */
    char key[WIRE_KEY];   /* HELLO */
    char text[WIRE_TEXT]; /* HELLO: runtime ("python 3.11.2"); REFUSED, FAILED: why */
};

/* Order of the descriptors that come with WELCOME. */
enum wire_fd { WIRE_FD_REQUESTS, WIRE_FD_ANSWERS, WIRE_FD_WAKE_WORKER, WIRE_FD_WAKE_GATEWAY, WIRE_FD_COUNT };

enum wire_kind {
    WIRE_PREDICT = 1, /* body: text of a request; answer: text */
    WIRE_TENSORS,     /* body and answer: a frame (format/frame.h) */
};

struct wire_submission {
    uint32_t slot;
    uint32_t generation; /* echoed in the completion */
    uint32_t kind;
    uint32_t batch;          /* not 0: those that follow each other with the same number are one call */
    uint64_t offset, length; /* of the body in the requests' memory */
    int64_t deadline_ns;     /* CLOCK_MONOTONIC; what is over is answered WIRE_STATUS_EXPIRED without running */
    char trace[24];          /* binary trace id and parent id of W3C trace context; zero: none */
};
_Static_assert(sizeof(struct wire_submission) == 64, "one cache line");

/* What became of a request. Answers other than OK carry a message as their body. */
enum wire_status {
    WIRE_STATUS_OK = 0,
    WIRE_STATUS_FAILED = 1,      /* the model raised an error */
    WIRE_STATUS_INVALID = 2,     /* the input does not fit the model */
    WIRE_STATUS_EXPIRED = 3,
    WIRE_STATUS_TOO_LARGE = 4,   /* the answer does not fit into its slot */
    WIRE_STATUS_UNSUPPORTED = 5, /* the package lacks the function */
    WIRE_STATUS_COUNT_
};

enum wire_place { WIRE_IN_SLOT = 0, WIRE_IN_BIG = 1 };

struct wire_completion {
    uint32_t slot;
    uint32_t generation;
    uint32_t status;
    uint32_t place;      /* enum wire_place */
    uint64_t length;     /* of the body, from the start of its place */
    uint64_t run_ns;     /* how long the model took */
};
_Static_assert(sizeof(struct wire_completion) == 32, "half a cache line");

struct wire_requests {
    _Alignas(64) _Atomic uint32_t submit_tail;   /* written with each submission */
    _Alignas(64) _Atomic uint32_t complete_head; /* completions taken */
    _Alignas(64) _Atomic uint32_t asleep;        /* the gateway waits for completions */
    _Alignas(64) struct wire_submission submissions[WIRE_SLOTS];
};

struct wire_answers {
    _Alignas(64) _Atomic uint32_t submit_head;   /* submissions started */
    _Alignas(64) _Atomic uint32_t complete_tail; /* written with each completion */
    _Alignas(64) _Atomic uint32_t asleep;        /* the worker waits for submissions */
    _Alignas(64) struct wire_completion completions[WIRE_SLOTS];
};
