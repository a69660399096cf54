/*
 * Help, from the rows.
 */
#pragma once

#include <stdio.h>
#include "cli/command.h"

/* One line of a row: "slipway dataset import [OPTION]… NAME FILE…". To be freed. */
char *help_synopsis(const struct command *command);
/* "-l, --label COLUMN"; to be freed. */
char *help_option(const struct option *option);

/* All groups and commands, briefly. */
void help_overview(FILE *out, command_tables tables);
void help_command(FILE *out, const struct command *command);
/* Help for the words: a command, a group, or (no words) the overview. ERROR_INVALID if nothing has that name.
 */
int help_print(FILE *out, command_tables tables, char *const *words, int n_words, struct error *error);
