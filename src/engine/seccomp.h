/*
 * The system calls that a program in a container may make: an allow-list, as the OCI runtime wants it.
 *
 * What a program for computing needs is allowed. Left out is what administers the machine (mount, module,
 * reboot, clock, swap, quota), makes namespaces, reaches the kernel's newest or most attacked corners (bpf,
 * io_uring, userfaultfd, keyctl, perf_event_open), or runs programs of a foreign architecture.
 */
#pragma once

#include "util/json.h"

/* The value of linux.seccomp. NULL on an architecture that the table does not know. */
json_t *seccomp_profile(void);
