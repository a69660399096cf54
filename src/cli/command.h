/*
 * Commands as rows: from them come parsing, --help, completion, the man page and the reference.
 *
 *     static const struct option import_options[] = {
 *         {"label", 'l', "COLUMN", "column that holds the label"},
 *         {"split", 0, "NAME=SHARE,…", "split rows, e.g. train=0.8,test=0.2"},
 *         {"seed", 0, "N", "seed of the split (0)"},
 *         {"force", 'f', NULL, "do not ask"},
 *         {}
 *     };
 *     const struct command dataset_commands[] = {
 *         {"dataset import", "NAME FILE…", "import files as a new version", import_options, dataset_import,
 *          .details = "…", .examples = "slipway dataset import digits digits.csv --label target"},
 *         {}
 *     };
 *
 * Every command also takes --json, --project P, --url U, --token T, --data DIR, --help. Output for people
 * goes through table.h; with --json a command prints one JSON document (or one a line when following).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "util/error.h"
#include "util/json.h"
#include "util/strvec.h"

struct option {
    const char *name;     /* long form without dashes; NULL ends the table */
    char letter;          /* 0: none */
    const char *argument; /* NULL: a flag */
    const char *help;
    bool repeats;
};

struct client; /* cli/client.h: requests to the daemon */

/* What a command is called with. */
struct invocation {
    const struct command *command;
    char **arguments; /* positional, NULL-terminated */
    int n_arguments;
    bool json;        /* --json */
    struct client *client; /* connected lazily; commands with `offline` have none */
    void *implementation_;
};

/* The last value given, or NULL. */
const char *option_value(const struct invocation *invocation, const char *name);
bool option_flag(const struct invocation *invocation, const char *name);
/* All values of an option that repeats. */
const struct strvec *option_values(const struct invocation *invocation, const char *name);

/* Returns the exit status: 0, or -1 with error set. See cli/error.c for the table. */
typedef int (*command_fn)(struct invocation *invocation, struct error *error);

struct command {
    const char *name;      /* "dataset import"; NULL ends the table */
    const char *arguments; /* "NAME FILE…", "[RUN]"; NULL: none */
    const char *summary;   /* one line, lower case, no stop */
    const struct option *options; /* NULL: none */
    command_fn run;
    const char *details;   /* paragraphs for --help and man; NULL: none */
    const char *examples;  /* one a line; NULL: none */
    bool offline;          /* needs no daemon */
    bool hidden;           /* internal programs: monitor, gateway */
};
