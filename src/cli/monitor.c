#include "cli/command.h"
#include "monitor/monitor.h"
#include "util/xalloc.h"

static const struct option monitor_options[] = {
    {"wait", 0, NULL, "be told the directory of the node on standard input; DIRECTORY is the data directory"},
    {0},
};

static int run_monitor(struct invocation *invocation, struct error *error)
{
    cleanup_free char *told = NULL;

    if (!option_flag(invocation, "wait"))
        return monitor_run(invocation->arguments[0], error);
    if (monitor_wait(&told, error) < 0)
        return -1;
    return told ? monitor_run(told, error) : 0;
}

const struct command monitor_commands[] = {
    {"monitor", "DIRECTORY", "watch one node of a run; started by the daemon", monitor_options, run_monitor,
     .offline = true, .hidden = true,
     .details = "Runs what DIRECTORY/spec.json says and leaves log, intake and exit record there, as the run "
                "contract describes. It outlives the daemon."},
    {},
};
