/*
 * A line chart as SVG, for reports that open in any browser without a network.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "util/strbuf.h"

struct plot_point {
    double x, y;
    double low, high; /* error bar, where low < high */
};

struct plot_series {
    const char *name;
    const struct plot_point *points; /* in order of x; NaN leaves a gap */
    size_t count;
    bool dots;   /* marks with error bars; otherwise a line */
    bool dashed;
};

struct plot {
    const char *title, *x_label, *y_label; /* labels name the unit */
    const struct plot_series *series;
    size_t n_series;
    bool log_x;
};

/* Appends an <svg> element of 720 x 400 units that scales to the width it is given. */
void plot_svg(const struct plot *plot, struct strbuf *out);
/* Appends text with <, >, & and quotes escaped. */
void html_escape(struct strbuf *out, const char *text);
/* A step of 1, 2 or 5 times a power of ten that divides a range into about `count` parts. */
double plot_step(double range, int count);
