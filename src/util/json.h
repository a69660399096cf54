/*
 * JSON values (jansson underneath) with our error object and cleanup.
 *
 * jansson's rule holds: functions named *_new steal the references they are given, getters borrow.
 * JSON is only ever written through these values, never by printf.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/error.h"

/* Parses one complete value. Duplicate keys, trailing bytes, NaN and nesting beyond LIMIT_JSON_DEPTH
 * are ERROR_INVALID; the message has line and column. NULL on failure. */
json_t *json_parse(const char *text, size_t length, struct error *error);
/* A file of at most max bytes. */
json_t *json_parse_file(const char *path, size_t max, struct error *error);

/* Compact, keys in order of insertion; to be freed by the caller. Aborts for a value that is not valid. */
char *json_text(const json_t *value);
/* The same with keys sorted: equal values give equal text, whatever their history. */
char *json_text_canonical(const json_t *value);
/* Indented by two, for people. */
char *json_text_pretty(const json_t *value);

/* Builders over json_pack that abort on a wrong format: "{s:s, s:i}" and so on. */
json_t *json_build(const char *format, ...);

/* Getters with a default for a key that is absent or null; the type was checked by a schema before. */
const char *json_get_string(const json_t *object, const char *key, const char *otherwise);
int64_t json_get_int(const json_t *object, const char *key, int64_t otherwise);
double json_get_number(const json_t *object, const char *key, double otherwise);
bool json_get_bool(const json_t *object, const char *key, bool otherwise);

/* A string from bytes that may be anything: what is not UTF-8 becomes '?'. */
json_t *json_string_lossy(const char *text);

/* Sets a string, or null if value is NULL. */
void json_set_string(json_t *object, const char *key, const char *value);
void json_set_int(json_t *object, const char *key, int64_t value);
void json_set_number(json_t *object, const char *key, double value); /* NaN and infinities become null */
void json_set_bool(json_t *object, const char *key, bool value);
/* RFC 3339 text; 0 becomes null. */
void json_set_time_ms(json_t *object, const char *key, int64_t wall_ms);

static inline void json_cleanup_(json_t **p)
{
    json_decref(*p);
}
#define cleanup_json CLEANUP(json_cleanup_)
