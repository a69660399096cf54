#include <math.h>
#include "load/plot.h"

#define WIDTH  720.0
#define HEIGHT 400.0
#define LEFT   76.0
#define RIGHT  16.0
#define TOP    36.0
#define BOTTOM 56.0

static const char *const colours[] = {"#1f6feb", "#d1242f", "#2da44e", "#8250df", "#bf8700"};

/* What is shown: ranges in the units of the data (x as log10 where logarithmic). */
struct frame {
    double x_low, x_high, y_low, y_high;
    bool log_x;
};

void html_escape(struct strbuf *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<': strbuf_adds(out, "&lt;"); break;
        case '>': strbuf_adds(out, "&gt;"); break;
        case '&': strbuf_adds(out, "&amp;"); break;
        case '"': strbuf_adds(out, "&quot;"); break;
        default: strbuf_addc(out, *text);
        }
    }
}

double plot_step(double range, int count)
{
    double raw = range / count, power = pow(10, floor(log10(raw))), part = raw / power;

    return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}

static double x_value(const struct frame *frame, double x)
{
    return frame->log_x ? log10(x) : x;
}

static double x_place(const struct frame *frame, double x)
{
    return LEFT + (x_value(frame, x) - frame->x_low) / (frame->x_high - frame->x_low) * (WIDTH - LEFT - RIGHT);
}

static double y_place(const struct frame *frame, double y)
{
    return HEIGHT - BOTTOM - (y - frame->y_low) / (frame->y_high - frame->y_low) * (HEIGHT - TOP - BOTTOM);
}

static struct frame frame_of(const struct plot *plot)
{
    struct frame frame = {INFINITY, -INFINITY, 0, -INFINITY, plot->log_x};
    double step;

    for (size_t s = 0; s < plot->n_series; s++) {
        for (size_t i = 0; i < plot->series[s].count; i++) {
            const struct plot_point *p = &plot->series[s].points[i];

            if (isnan(p->x) || isnan(p->y))
                continue;
            frame.x_low = fmin(frame.x_low, x_value(&frame, p->x));
            frame.x_high = fmax(frame.x_high, x_value(&frame, p->x));
            frame.y_low = fmin(frame.y_low, p->y);
            frame.y_high = fmax(frame.y_high, fmax(p->y, p->high));
        }
    }
    if (!(frame.x_low < frame.x_high)) {
        double middle = isfinite(frame.x_low) ? frame.x_low : 0;

        frame.x_low = middle - 0.5;
        frame.x_high = middle + 0.5;
    }
    if (!(frame.y_low < frame.y_high))
        frame.y_high = frame.y_low + 1;
    step = plot_step(frame.y_high - frame.y_low, 5);
    frame.y_high = ceil(frame.y_high / step) * step;
    frame.y_low = floor(frame.y_low / step) * step;
    return frame;
}

static void add_y_axis(const struct frame *frame, struct strbuf *out)
{
    double step = plot_step(frame->y_high - frame->y_low, 5);

    for (double y = frame->y_low; y <= frame->y_high + step / 2; y += step) {
        double at = y_place(frame, y);

        strbuf_addf(out, "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' class='grid'/>", LEFT, at, WIDTH - RIGHT, at);
        strbuf_addf(out, "<text x='%.1f' y='%.1f' text-anchor='end'>%.6g</text>", LEFT - 8, at + 4,
                    fabs(y) < step / 1e6 ? 0 : y);
    }
}

static void add_x_tick(const struct frame *frame, double x, struct strbuf *out)
{
    double at = x_place(frame, x);

    strbuf_addf(out, "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' class='axis'/>", at, HEIGHT - BOTTOM, at,
                HEIGHT - BOTTOM + 5);
    strbuf_addf(out, "<text x='%.1f' y='%.1f' text-anchor='middle'>%.6g</text>", at, HEIGHT - BOTTOM + 20, x);
}

static void add_x_axis(const struct frame *frame, struct strbuf *out)
{
    double step = plot_step(frame->x_high - frame->x_low, 8);

    strbuf_addf(out, "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' class='axis'/>", LEFT, HEIGHT - BOTTOM,
                WIDTH - RIGHT, HEIGHT - BOTTOM);
    if (frame->log_x) {
        for (double x = ceil(frame->x_low - 1e-9); x <= frame->x_high + 1e-9; x++)
            add_x_tick(frame, pow(10, x), out);
        return;
    }
    for (double x = ceil(frame->x_low / step - 1e-9) * step; x <= frame->x_high + step / 1e6; x += step)
        add_x_tick(frame, fabs(x) < step / 1e6 ? 0 : x, out);
}

static void add_dots(const struct frame *frame, const struct plot_series *series, const char *colour,
                     struct strbuf *out)
{
    for (size_t i = 0; i < series->count; i++) {
        const struct plot_point *p = &series->points[i];
        double x = x_place(frame, p->x);

        if (isnan(p->x) || isnan(p->y))
            continue;
        if (p->low < p->high)
            strbuf_addf(out, "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' stroke='%s' stroke-width='2'/>", x,
                        y_place(frame, p->low), x, y_place(frame, p->high), colour);
        strbuf_addf(out, "<circle cx='%.1f' cy='%.1f' r='3.5' fill='%s'><title>%.6g, %.6g</title></circle>", x,
                    y_place(frame, p->y), colour, p->x, p->y);
    }
}

static void add_line(const struct frame *frame, const struct plot_series *series, const char *colour,
                     struct strbuf *out)
{
    bool pen_down = false;

    strbuf_addf(out, "<path fill='none' stroke='%s' stroke-width='2'%s d='", colour,
                series->dashed ? " stroke-dasharray='6 4'" : "");
    for (size_t i = 0; i < series->count; i++) {
        const struct plot_point *p = &series->points[i];

        if (isnan(p->x) || isnan(p->y)) {
            pen_down = false;
            continue;
        }
        strbuf_addf(out, "%c%.1f %.1f", pen_down ? 'L' : 'M', x_place(frame, p->x), y_place(frame, p->y));
        pen_down = true;
    }
    strbuf_adds(out, "'/>");
}

static void add_legend(const struct plot *plot, struct strbuf *out)
{
    double x = LEFT + 8;

    for (size_t s = 0; s < plot->n_series; s++) {
        const char *colour = colours[s % ARRAY_SIZE(colours)];

        strbuf_addf(out, "<rect x='%.1f' y='%.1f' width='12' height='4' fill='%s'/>", x, TOP - 8, colour);
        strbuf_addf(out, "<text x='%.1f' y='%.1f'>", x + 18, TOP - 2);
        html_escape(out, plot->series[s].name);
        strbuf_adds(out, "</text>");
        x += 180;
    }
}

void plot_svg(const struct plot *plot, struct strbuf *out)
{
    struct frame frame = frame_of(plot);

    strbuf_addf(out, "<svg viewBox='0 0 %.0f %.0f' role='img' xmlns='http://www.w3.org/2000/svg'>", WIDTH, HEIGHT);
    strbuf_adds(out, "<style>text{font:12px sans-serif;fill:#444}.grid{stroke:#e4e4e4}.axis{stroke:#888}</style>");
    strbuf_addf(out, "<text x='%.1f' y='16' style='font-weight:bold'>", LEFT);
    html_escape(out, plot->title);
    strbuf_adds(out, "</text>");
    add_y_axis(&frame, out);
    add_x_axis(&frame, out);
    for (size_t s = 0; s < plot->n_series; s++) {
        const char *colour = colours[s % ARRAY_SIZE(colours)];

        if (plot->series[s].dots)
            add_dots(&frame, &plot->series[s], colour, out);
        else
            add_line(&frame, &plot->series[s], colour, out);
    }
    add_legend(plot, out);
    strbuf_addf(out, "<text x='%.1f' y='%.1f' text-anchor='middle'>", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12);
    html_escape(out, plot->x_label);
    strbuf_addf(out, "</text><text transform='translate(14 %.1f) rotate(-90)' text-anchor='middle'>",
                (TOP + HEIGHT - BOTTOM) / 2);
    html_escape(out, plot->y_label);
    strbuf_adds(out, "</text></svg>\n");
}
