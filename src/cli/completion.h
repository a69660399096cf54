/*
 * Completion in the shell. The scripts for bash, zsh and fish are thin: at every TAB they ask
 * `slipway complete WORD…`, which knows the rows of this very binary, and the daemon for names.
 */
#pragma once

#include "cli/command.h"

/* Prints candidates for the last of the words ("value" or "value<TAB>description", one a line).
 * ":files" and ":directories" as a candidate ask the shell to complete those. */
void completion_candidates(FILE *out, command_tables tables, char *const *words, int n_words);
/* The script for "bash", "zsh" or "fish"; ERROR_INVALID for another. */
int completion_script(FILE *out, const char *shell, struct error *error);
