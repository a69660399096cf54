/*
 * What standard output and error are connected to: width, colours, and how wide text is.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

/* Columns of the terminal behind the stream (COLUMNS wins); 0: not a terminal, do not cut. */
int terminal_width(FILE *stream);
/* Escape sequences make sense: a terminal that is not "dumb", and NO_COLOR is not set. */
bool terminal_has_colours(FILE *stream);

enum terminal_colour {
    COLOUR_NONE,
    COLOUR_BOLD,
    COLOUR_DIM,
    COLOUR_RED,
    COLOUR_GREEN,
    COLOUR_YELLOW,
    COLOUR_BLUE,
};
/* The sequence that starts the colour; "" for COLOUR_NONE. */
const char *terminal_colour(enum terminal_colour colour);
extern const char terminal_colour_off[];

/* Cells that UTF-8 text takes on a terminal: wide characters take two, combining ones none, a byte that
 * is no UTF-8 one. */
int text_width(const char *text);
/* How many bytes of text fit into `width` cells. */
size_t text_fit(const char *text, int width);
/* Text that is safe to print on one line: control characters as \n, \t, \x1b. To be freed. */
char *text_printable(const char *text);
