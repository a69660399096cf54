/*
 * State machines as data: names and allowed transitions in one table.
 *
 *     enum run_state { RUN_QUEUED, RUN_STARTING, ..., RUN_STATE_COUNT_ };
 *     static const struct state_row rows[] = {
 *         [RUN_QUEUED]   = {"queued",   STATE_BIT(RUN_STARTING) | STATE_BIT(RUN_STOPPED)},
 *         ...
 *     };
 *     const struct state_machine run_states = {"run", rows, ARRAY_SIZE(rows)};
 *     _Static_assert(ARRAY_SIZE(rows) == RUN_STATE_COUNT_, "");
 *
 * The object's one setter calls state_check(), writes the state and its event in one transaction, and
 * notifies. Every transition carries a reason, a machine-readable snake_case word.
 */
#pragma once

#include <stdint.h>
#include "util/error.h"

#define STATE_BIT(state) (UINT32_C(1) << (state))

struct state_row {
    const char *name;
    uint32_t next; /* bits of the states that may follow; 0: final */
};

struct state_machine {
    const char *name;
    const struct state_row *rows;
    int count;
};

const char *state_name(const struct state_machine *machine, int state);
/* -1 with ERROR_INVALID that lists the names. */
int state_parse(const struct state_machine *machine, const char *name, struct error *error);
bool state_is_final(const struct state_machine *machine, int state);
/* ERROR_CONFLICT: "run cannot go from succeeded to running". */
int state_check(const struct state_machine *machine, int from, int to, struct error *error);
