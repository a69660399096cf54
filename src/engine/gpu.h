/*
 * GPUs through NVML, the management library that comes with NVIDIA's driver. It is opened when asked for and
 * never linked; a machine without it has no GPUs, which is not an error.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/strvec.h"

struct gpus;

/* `library`: its path; NULL: the environment variable SLIPWAY_NVML, else libnvidia-ml.so.1. Never NULL. */
struct gpus *gpus_open(const char *library);
struct gpus *gpus_close(struct gpus *gpus);

int gpus_count(const struct gpus *gpus);
/* Bytes of memory of each; owned by gpus; NULL if there are none. */
uint64_t *gpus_memory(struct gpus *gpus);
/* "GPU-8932f937-…"; NULL out of range. */
const char *gpus_uuid(const struct gpus *gpus, int index);
/* Why there are none ("libnvidia-ml.so.1: cannot open…"); NULL if there are. */
const char *gpus_note(const struct gpus *gpus);

/* Device nodes that a program needs for the devices in a list "0,2": those that exist. */
void gpus_devices(const struct gpus *gpus, const char *list, struct strvec *ret_paths);
/* Files of the driver that a foreign root file system lacks: libraries and nvidia-smi. */
void gpus_libraries(struct strvec *ret_paths);
