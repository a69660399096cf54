/* The first rows of a dataset, for people. */
#pragma once

#include "util/error.h"
#include "util/json.h"

/* Of the safetensors file behind `fd`, whose schema this is (import_schema_of): for a table
 * {"columns":[…],"rows":[[…]]} with categories by name and null for missing; for other kinds
 * {"tensors":[{"name","dtype","shape","values":[the first few]}]}. NULL on failure. */
json_t *preview_rows(int fd, const json_t *schema, int rows, struct error *error);
