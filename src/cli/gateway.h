/* `slipway gateway`: the serving program. */
#pragma once

#include "cli/command.h"

extern const struct command gateway_commands[];
