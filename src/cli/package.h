/*
 * A model's version as a container image (format/oci.h).
 */
#pragma once

#include "cli/command.h"
#include "util/hash.h"
#include "util/json.h"

extern const struct command package_commands[];

/* `version` as the API describes it; `scratch` holds package.zip and perhaps weights.safetensors and takes what is
 * made on the way. Same version, program and machine: same digest. */
int package_image(struct invocation *invocation, const json_t *version, const char *scratch, bool has_weights,
                  const char *output, struct digest *ret_digest, struct error *error);
