/*
 * From an engine_spec to spec.json: what local and process have in common.
 */
#pragma once

#include "engine/engine.h"

/* Fields that both have: limits, code, params, times. Cgroup and owner may be left out (NULL, negative). */
json_t *document_new(const struct engine_spec *spec, const char *key, const char *cgroup, int64_t uid);

/* The program's environment: the spec's, and what the run contract promises where the spec is silent.
 * `root` is where the program finds the tree: "/slipway" in a container. */
void document_environment(const struct engine_spec *spec, const char *root, const char *home,
                          struct strvec *ret_environment);

/* Text in which every path below /slipway/ (at its start, or behind ':', '=' or ',') is below root instead.
 * To be freed. */
char *document_translate(const char *text, const char *root);

json_t *document_strings(const struct strvec *strings);

/* Name of a node for things that have one name space: "<run>-<attempt>-<node>". To be freed. */
char *document_name(const struct engine_spec *spec);
