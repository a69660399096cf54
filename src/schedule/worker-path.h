/*
 * Where the model worker's files are: libslipway-worker.so and the program that runs a Python package.
 */
#pragma once

#include "util/error.h"

#define WORKER_PROGRAM "slipway_worker.py"

/* A directory with both, to be freed: beside the executable of a build, or where it was installed.
 * ERROR_NOT_FOUND names the places that were tried. */
char *worker_library_directory(struct error *error);
