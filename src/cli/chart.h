/*
 * Metrics drawn in characters.
 */
#pragma once

#include <stddef.h>
#include <stdio.h>

/* "▁▂▄▆█": the values in at most `width` cells, each the mean of its part; NaN is a gap. To be freed. */
char *chart_sparkline(const double *values, size_t count, int width);

/* A plot of y over x with axes, in Braille dots (2 x 4 a cell), `width` x `height` cells in all. NaN in y is
 * a gap. x must not fall. */
void chart_plot(FILE *out, const char *title, const double *x, const double *y, size_t count, int width, int height);
