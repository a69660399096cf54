/* What the files of `slipway dataset …` share. */
#pragma once

#include "cli/command.h"

int dataset_show(struct invocation *invocation, struct error *error);
int dataset_export(struct invocation *invocation, struct error *error);
/* An unlinked file in $TMPDIR. */
int dataset_temporary_file(struct error *error);
