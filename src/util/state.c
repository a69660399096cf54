#include <assert.h>
#include <string.h>
#include "util/limits.h"
#include "util/state.h"
#include "util/strbuf.h"

const char *state_name(const struct state_machine *machine, int state)
{
    assert(state >= 0 && state < machine->count);
    return machine->rows[state].name;
}

int state_parse(const struct state_machine *machine, const char *name, struct error *error)
{
    cleanup_strbuf struct strbuf known = STRBUF_INIT(LIMIT_DESCRIPTION);

    for (int i = 0; i < machine->count; i++) {
        if (strcmp(machine->rows[i].name, name) == 0)
            return i;
        strbuf_addf(&known, "%s%s", i ? ", " : "", machine->rows[i].name);
    }
    return error_set(error, ERROR_INVALID, "'%.80s' is not a state of a %s; it must be one of: %s", name, machine->name,
                     known.data);
}

bool state_is_final(const struct state_machine *machine, int state)
{
    assert(state >= 0 && state < machine->count);
    return machine->rows[state].next == 0;
}

int state_check(const struct state_machine *machine, int from, int to, struct error *error)
{
    assert(from >= 0 && from < machine->count && to >= 0 && to < machine->count);

    if (machine->rows[from].next & STATE_BIT(to))
        return 0;
    return error_set(error, ERROR_CONFLICT, "%s cannot go from %s to %s", machine->name, machine->rows[from].name,
                     machine->rows[to].name);
}
