/*
 * YAML from strangers into JSON values (libyaml underneath).
 *
 * One document. Plain scalars become null, booleans, integers and numbers as the YAML 1.2 core schema says;
 * anything quoted is a string. Refused (ERROR_INVALID, with the line): anchors and aliases (their expansion
 * has no bound), explicit tags, keys that are not scalars, duplicate keys, more than one document, nesting
 * beyond LIMIT_JSON_DEPTH.
 */
#pragma once

#include "util/json.h"

/* A new reference; `name` is for messages. An empty document is null. */
json_t *yaml_parse(const char *text, size_t length, const char *name, struct error *error);
