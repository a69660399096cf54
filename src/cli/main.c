#include <stdio.h>
#include "cli/client.h"
#include "cli/completion.h"
#include "cli/error.h"
#include "cli/gateway.h"
#include "cli/help.h"
#include "cli/main.h"
#include "cli/reference.h"
#include "config.h"

extern const struct command admin_commands[];
extern const struct command bench_commands[];
extern const struct command doctor_commands[];
extern const struct command events_commands[];
extern const struct command project_commands[];
extern const struct command token_commands[];
extern const struct command environment_commands[];
extern const struct command job_commands[];
extern const struct command run_commands[];
extern const struct command serve_commands[];
extern const struct command endpoint_commands[];
extern const struct command model_commands[];
extern const struct command dataset_commands[];
extern const struct command status_commands[];
extern const struct command monitor_commands[];
extern const struct command package_commands[];
extern const struct command worker_commands[];

static int run_version(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *value = json_build("{s:s}", "version", SLIPWAY_VERSION);

    print_done(invocation, value, "slipway %s", SLIPWAY_VERSION);
    return 0;
}

static int run_help(struct invocation *invocation, struct error *error)
{
    return help_print(stdout, cli_tables, invocation->arguments, invocation->n_arguments, error);
}

static int run_completion(struct invocation *invocation, struct error *error)
{
    return completion_script(stdout, invocation->arguments[0], error);
}

static int run_complete(struct invocation *invocation, struct error *error)
{
    completion_candidates(stdout, cli_tables, invocation->arguments, invocation->n_arguments);
    return 0;
}

static int run_reference(struct invocation *invocation, struct error *error)
{
    return reference_print(stdout, cli_tables, invocation->arguments[0], error);
}

static const struct command main_commands[] = {
    {"version", NULL, "show the version of this program", NULL, run_version, .offline = true},
    {"help", "[COMMAND…]", "show help of a command or of all", NULL, run_help, .offline = true},
    {"completion", "bash|zsh|fish", "print the completion script for a shell", NULL, run_completion, .offline = true,
     .details = "Commands, options and the names that the daemon knows are completed.",
     .examples = "source <(slipway completion bash)\nslipway completion fish | source"},
    {"complete", "[WORD…]", "candidates for the last word; called by the completion scripts", NULL, run_complete,
     .offline = true, .hidden = true},
    {"reference", "cli|man|limits|http|openapi", "print a generated document", NULL, run_reference, .offline = true,
     .hidden = true},
    {},
};

/* The order is that of the help. */
const struct command *const cli_tables[] = {
    serve_commands,   status_commands,   run_commands,     job_commands,     environment_commands,
    model_commands,   endpoint_commands, dataset_commands, project_commands, token_commands,
    events_commands,  admin_commands,    doctor_commands,  main_commands,    bench_commands,
    monitor_commands, package_commands,  worker_commands,  gateway_commands, NULL,
};

static int finish(int status)
{
    /* What was printed may not have reached its file: a full disk is a failure, a closed pipe is not. */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("slipway: cannot write to standard output");
        return status ? status : EXIT_FAILED;
    }
    return status;
}

/* --help with words that name no command shows the error of an unknown command. */
static int run_parsed(struct invocation *invocation, enum command_parsed what, struct error *error)
{
    if (what == COMMAND_VERSION)
        return run_version(invocation, error);
    if (what == COMMAND_HELP && invocation->command) {
        help_command(stdout, invocation->command);
        return 0;
    }
    if (what == COMMAND_HELP)
        return help_print(stdout, cli_tables, invocation->arguments, invocation->n_arguments, error);
    return invocation->command->run(invocation, error);
}

int cli_main(int argc, char **argv)
{
    cleanup_invocation struct invocation *invocation = NULL;
    cleanup_error struct error error = ERROR_INIT;
    enum command_parsed what;
    int result;

    if (command_parse(cli_tables, argc, argv, &invocation, &what, &error) < 0) {
        report_error(&error, NULL, false);
        return EXIT_USAGE;
    }
    result = run_parsed(invocation, what, &error);
    if (result >= 0)
        return finish(result);
    report_error(&error, invocation->client ? client_hint(invocation->client) : NULL, invocation->json);
    return finish(exit_status_of(error.code));
}
