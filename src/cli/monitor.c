#include "cli/command.h"
#include "monitor/monitor.h"

static int run_monitor(struct invocation *invocation, struct error *error)
{
    return monitor_run(invocation->arguments[0], error);
}

const struct command monitor_commands[] = {
    {"monitor", "DIRECTORY", "watch one node of a run; started by the daemon", NULL, run_monitor,
     .offline = true, .hidden = true,
     .details = "Runs what DIRECTORY/spec.json says and leaves log, intake and exit record there, as the run "
                "contract describes. It outlives the daemon."},
    {},
};
