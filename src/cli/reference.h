/*
 * Generated documents: docs/reference/cli.md, slipway.1, limits.md, http.md and openapi.json.
 * script/check-generated compares what is printed here with what is in the repository.
 */
#pragma once

#include "cli/command.h"

/* name: "cli", "man", "limits", "http", "openapi". */
int reference_print(FILE *out, command_tables tables, const char *name, struct error *error);

/* Parts of it, one a file: the rows of util/limits.h, and those of all routes. */
void reference_limits(FILE *out);
void reference_http(FILE *out);
void reference_openapi(FILE *out);
