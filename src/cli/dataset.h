/* What the files of `slipway dataset …` share. */
#pragma once

#include "cli/command.h"

int dataset_show(struct invocation *invocation, struct error *error);
