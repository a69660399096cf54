/* The definition that jobs and submitted runs share (internal to core/job.c and core/run-create.c). */
#pragma once

#include "util/schema.h"

extern const struct schema job_definition_schema;

/* Sets what `changes` has; null removes; resources, parameters and labels are merged by key. */
void job_definition_merge(json_t *definition, const json_t *changes);
