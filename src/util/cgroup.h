/*
 * Control groups, whatever the machine has: version 1 (a tree for each controller), version 2 (one tree for
 * all), a mixture of both, or none.
 *
 * A group is named by one path, "/slipway/<id>", that is the same in every tree; the functions do in each
 * tree what it is good for. A machine without usable groups is not an error: cgroups_usable() says so, and
 * limits must come from elsewhere. What is not known is CGROUP_UNKNOWN.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "util/error.h"

enum cgroup_controller {
    CGROUP_CPU,
    CGROUP_CPUACCT, /* version 2: part of cpu */
    CGROUP_MEMORY,
    CGROUP_PIDS,
    CGROUP_CONTROLLER_COUNT_
};

#define CGROUP_UNKNOWN UINT64_MAX

struct cgroups;

/* Reads where the trees are mounted; `mountinfo` is NULL for /proc/self/mountinfo. Never fails. */
struct cgroups *cgroups_open(const char *mountinfo);
struct cgroups *cgroups_close(struct cgroups *cgroups);
DEFINE_CLEANUP(struct cgroups *, cgroups_close)
#define cleanup_cgroups CLEANUP(cgroups_close_cleanup)

/* "v1", "v2", "v1 and v2", "none". */
const char *cgroups_version(const struct cgroups *cgroups);
/* Whether this process may limit with the controller: it is mounted and writable. */
bool cgroups_usable(const struct cgroups *cgroups, enum cgroup_controller controller);

struct cgroup_limits {
    double cpus;     /* cores; 0: none */
    uint64_t memory; /* bytes, swap included; 0: none */
    uint64_t pids;   /* 0: none */
};

/* Creates the group in all trees and sets the limits. Existing groups are taken over. On failure nothing is
 * left. ERROR_UNSUPPORTED if a limit is asked for that no usable controller can hold. */
int cgroup_create(const struct cgroups *cgroups, const char *path, const struct cgroup_limits *limits,
                  struct error *error);
/* Changes how much the group gets when processors are short: 1024 for each core is what it is entitled to; at
 * least 2. ERROR_UNSUPPORTED without a usable controller. */
int cgroup_set_shares(const struct cgroups *cgroups, const char *path, uint64_t shares, struct error *error);
/* Moves a process into the group; 0: the calling thread, which is the only one of its process. Linux waits for an RCU
 * grace period, 8 to 30 ms, before it moves a process, unless another was moved a moment ago; but in version 1 a thread
 * that moves itself waits for nothing. */
int cgroup_enter(const struct cgroups *cgroups, const char *path, pid_t pid, struct error *error);
/* That wait, for a child process that does nothing else, of somebody who will have a process moved soon: the caller is
 * moved to where it does no harm. */
void cgroup_await_moves(const struct cgroups *cgroups);
/* Sends SIGKILL to every process in the group and below; returns how many there were. Repeat until 0. */
int cgroup_kill(const struct cgroups *cgroups, const char *path);
/* Removes the group from all trees; groups that still hold processes stay. Absent is fine. */
void cgroup_remove(const struct cgroups *cgroups, const char *path);

struct cgroup_stats {
    uint64_t cpu_ns;      /* used so far */
    uint64_t memory;      /* bytes now */
    uint64_t memory_peak; /* bytes */
    uint64_t pids;        /* processes and threads */
    uint64_t oom_kills;   /* processes killed for passing the memory limit */
};
void cgroup_read(const struct cgroups *cgroups, const char *path, struct cgroup_stats *ret_stats);
