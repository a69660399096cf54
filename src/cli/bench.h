/*
 * The parts of slipway bench.
 */
#pragma once

#include "cli/command.h"

/* slipway bench paper ENDPOINT. */
int bench_paper(struct invocation *invocation, struct error *error);
