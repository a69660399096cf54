/* UTF-8 (RFC 3629): shortest forms, no surrogates, nothing beyond U+10FFFF. */
#pragma once

#include <stdbool.h>

/* Bytes of the character at text, 0 at its end, -1 if there is none: bytes that are not UTF-8. */
int utf8_next(const char *text);

bool utf8_is_valid(const char *text);

/* Puts '?' in place of what is not UTF-8, one for each piece of a character that was cut. In place; returns text.
 * What quotes bytes of a stranger, or cuts them ("%.80s"), goes through here before it goes into JSON. */
char *utf8_repair(char *text);
