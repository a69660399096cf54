/*
 * Where files are that come with the program: beside the executable of a build, or where it was installed.
 */
#pragma once

#include "util/error.h"

#define WORKER_PROGRAM "slipway_worker.py"

/* The directory with libslipway-worker.so and the program that runs a Python package, to be freed.
 * ERROR_NOT_FOUND names the places that were tried. */
char *worker_library_directory(struct error *error);
/* The directory that goes on PYTHONPATH for `import slipway`, to be freed; NULL if it is not there. */
char *python_sdk_directory(void);
