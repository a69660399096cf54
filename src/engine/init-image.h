/*
 * The image of slipway-init, the freestanding first process of every node (see init.c).
 */
#pragma once

#include "util/error.h"

/* Writes the executable to a path, atomically, unless the same content is there already. */
int init_image_install(const char *path, struct error *error);
