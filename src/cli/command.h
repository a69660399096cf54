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
 * The table is then listed in cli/main.c. A command finds its own rows checked: the number of positional
 * arguments fits `arguments` ("[X]" is optional, "X…" may repeat), options are known and have their
 * values. It prints its result with the print_* functions below, which follow --json, and returns 0, or
 * -1 with an error; the exit status comes from the table in cli/error.h. A positive return value is an
 * exit status by itself, for outcomes that are no errors (EXIT_REJECTED, the exit code of a run).
 *
 * Every command also takes --json, --project P, --url U, --token T, --data DIR, --help. A row may declare
 * the same name again with a meaning of its own (`run --data DATASET`); the global one is then given before
 * the command's name: `slipway --data DIR run --data DATASET`. Everything after "--" is positional.
 *
 * The words of `arguments` choose what the shell completes: DATASET, ENVIRONMENT, JOB, RUN, MODEL,
 * ENDPOINT and PROJECT complete names from the daemon, FILE, DIR and SCRIPT complete files.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "cli/table.h"
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
    bool json;             /* --json */
    struct client *client; /* connected lazily; commands with `offline` have none */
    void *implementation_;
};

/* The last value given, or NULL. */
const char *option_value(const struct invocation *invocation, const char *name);
bool option_flag(const struct invocation *invocation, const char *name);
/* All values of an option that repeats, in order; empty if it was not given. */
const struct strvec *option_values(const struct invocation *invocation, const char *name);
/* Typed values; *ret_value stays as it is when the option was not given. The error names the option. */
int option_int(const struct invocation *invocation, const char *name, int64_t min, int64_t max, int64_t *ret_value,
               struct error *error);
int option_number(const struct invocation *invocation, const char *name, double min, double max, double *ret_value,
                  struct error *error);
int option_bytes(const struct invocation *invocation, const char *name, uint64_t *ret_value, struct error *error);
int option_duration_ms(const struct invocation *invocation, const char *name, int64_t *ret_value, struct error *error);

/* --data, SLIPWAY_DATA, XDG_DATA_HOME/slipway, ~/.local/share/slipway, /var/lib/slipway: the first that
 * is set. To be freed. */
char *invocation_data_directory(const struct invocation *invocation);
/* The same for a value of --data that may be NULL. To be freed. */
char *data_directory_or_default(const char *directory);
/* --project or SLIPWAY_PROJECT; NULL if neither (the daemon then takes the token's or "default"). */
const char *invocation_project(const struct invocation *invocation);

/* Output of a command, for people or with --json as one document (see table.h for the columns).
 * `empty` is the sentence for people when there is nothing. */
void print_items(const struct invocation *invocation, const struct table_column *columns, const json_t *items,
                 const char *empty);
/* One object: its fields as "title  value" lines. */
void print_object(const struct invocation *invocation, const struct table_column *columns, const json_t *object);
/* A result that is one sentence; with --json the value is printed instead (NULL: nothing is). */
void print_done(const struct invocation *invocation, const json_t *value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* One line of JSON, flushed: for --json while following. */
void print_json_line(const json_t *value);
/* Indented JSON and a newline. */
void print_json(const json_t *value);

/* Returns 0, an exit status > 0, or -1 with error set. */
typedef int (*command_fn)(struct invocation *invocation, struct error *error);

struct command {
    const char *name;             /* "dataset import"; NULL ends the table */
    const char *arguments;        /* "NAME FILE…", "[RUN]"; NULL: none */
    const char *summary;          /* one line, lower case, no stop */
    const struct option *options; /* NULL: none */
    command_fn run;
    const char *details;  /* paragraphs for --help and man; NULL: none */
    const char *examples; /* one a line; NULL: none */
    bool offline;         /* needs no daemon */
    bool hidden;          /* internal programs: monitor, gateway */
};

/* All tables of a program, NULL-terminated. */
typedef const struct command *const *command_tables;

/* The options that every command takes, as rows. */
extern const struct option command_global_options[];

enum command_parsed {
    COMMAND_RUN,     /* invocation is complete */
    COMMAND_HELP,    /* --help, "help …" or no command: show help of the words in `arguments` */
    COMMAND_VERSION, /* --version */
};

/* Finds the command (the longest name that the words begin with) and parses its options and arguments.
 * argv[0] is skipped. ERROR_INVALID suggests the nearest command or option. The invocation borrows argv. */
int command_parse(command_tables tables, int argc, char **argv, struct invocation **ret_invocation,
                  enum command_parsed *ret_what, struct error *error);
struct invocation *invocation_free(struct invocation *invocation);
DEFINE_CLEANUP(struct invocation *, invocation_free)
#define cleanup_invocation CLEANUP(invocation_free_cleanup)

/* Calls fn for every command, in the order of the tables. */
#define command_foreach(tables, variable)                                                                              \
    for (const struct command *const *table_ = (tables); *table_; table_++)                                            \
        for (const struct command *variable = *table_; variable->name; variable++)

/* The commands whose name begins with these words ("dataset" or "dataset import"); NULL: none does. */
const struct command *command_find(command_tables tables, const char *name);
bool command_is_in_group(const struct command *command, const char *group);
/* Number of positional arguments that the row allows; INT_MAX: any. */
void command_arity(const struct command *command, int *ret_min, int *ret_max);
/* The candidate nearest to word, or NULL if none is near enough to be meant. */
const char *nearest_word(const char *word, const struct strvec *candidates);
