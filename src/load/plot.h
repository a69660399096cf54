/*
 * A line chart as SVG, for reports that open in any browser without a network.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "util/strbuf.h"

struct plot_point {
    double x, y;
    double low, high; /* error bar or edge of a band, where low < high */
};

enum plot_mark {
    PLOT_LINE,
    PLOT_DASHED, /* a line of dashes */
    PLOT_DOTS,   /* marks with error bars */
    PLOT_BAND,   /* the area between low and high */
};

struct plot_series {
    const char *name;
    const struct plot_point *points; /* in order of x; NaN leaves a gap */
    size_t count;
    enum plot_mark mark;
    int colour; /* 0 to 4; series of one colour belong together */
};

struct plot {
    const char *title, *x_label, *y_label; /* labels name the unit */
    const struct plot_series *series;      /* later ones lie above */
    size_t n_series;
    bool nines; /* x is a share of all, below 1, drawn so that each further nine takes the same width */
};

/* Appends an <svg> element of 720 x 400 units that scales to the width it is given. Its colours are for a light
 * page unless the page sets --ink, --faint and --line. */
void plot_svg(const struct plot *plot, struct strbuf *out);
/* Appends text with <, >, & and quotes escaped. */
void html_escape(struct strbuf *out, const char *text);
/* A step of 1, 2 or 5 times a power of ten that divides a range into about `count` parts. */
double plot_step(double range, int count);
/* A number for people: four digits that matter, or an integer with commas between thousands. Returns buffer. */
#define PLOT_NUMBER_SIZE 48
char *plot_number(double value, char buffer[PLOT_NUMBER_SIZE]);
