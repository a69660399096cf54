/*
 * A NULL-terminated vector of owned strings: an argv, an environment, a list of names.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "util/cleanup.h"

struct strvec {
    char **items; /* items[count] == NULL; NULL while nothing was added */
    size_t count;
    size_t capacity;
};

#define STRVEC_INIT {NULL, 0, 0}

void strvec_release(struct strvec *sv);
void strvec_push(struct strvec *sv, const char *s);
void strvec_pushf(struct strvec *sv, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Takes ownership of s. */
void strvec_push_take(struct strvec *sv, char *s);
bool strvec_contains(const struct strvec *sv, const char *s);
/* Splits at a character; empty parts are kept. */
void strvec_split(struct strvec *sv, const char *s, char separator);
/* To be freed by the caller. */
char *strvec_join(const struct strvec *sv, const char *separator);
void strvec_sort(struct strvec *sv);

#define cleanup_strvec CLEANUP(strvec_release)
