/*
 * The command line. main.c lists the tables of all commands.
 */
#pragma once

#include "cli/command.h"

extern const struct command *const cli_tables[];

/* Runs one command line; returns the exit status. */
int cli_main(int argc, char **argv);
