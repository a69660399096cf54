/*
 * What this machine has: processors and memory that we may use.
 */
#pragma once

#include <stdint.h>

/* Processors that the scheduler may put us on. */
double machine_cpus(void);
/* Bytes of memory, or the least limit of the control groups that we are in. */
uint64_t machine_memory(void);
