/*
 * Short turns on a processor, for a process that answers others, or that measures how they answer.
 *
 * Since Linux 6.12 a process may say how long its turns are (the request of EEVDF, the scheduler). Its share of
 * the processors stays what it is; but whoever asks for short turns and wakes up need not wait until a neighbour
 * has used a long one, which is milliseconds. Older kernels take the wish and ignore it.
 *
 * In a header, because the library of workers depends on the C library alone.
 */
#pragma once

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLICE_SHORT_NS 100000 /* the least that Linux grants */

/* struct sched_attr of linux/sched/types.h, which the C library does not have. */
struct slice_attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

/* For the calling thread and what it starts from here on. Where it cannot be, nothing happens; real-time threads
 * stay as they are. */
static inline void slice_short(void)
{
    struct slice_attributes attributes = {.size = sizeof(attributes)};

    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) < 0 || attributes.policy != 0)
        return;
    attributes.runtime = SLICE_SHORT_NS;
    syscall(SYS_sched_setattr, 0, &attributes, 0);
}
