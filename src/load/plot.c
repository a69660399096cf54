#include <math.h>
#include <string.h>
#include "load/plot.h"

#define WIDTH       720.0
#define HEIGHT      400.0
#define LEFT        72.0
#define RIGHT       24.0
#define TOP         64.0
#define BOTTOM      56.0
#define LETTER      6.6 /* mean width of a letter of the legend */
#define LEGEND_MARK 24.0

static const char *const colours[] = {"#2563eb", "#dc2626", "#16a34a", "#9333ea", "#ca8a04"};

/* What is shown: ranges in the units of the data (of shares: as the number of nines). */
struct frame {
    double x_low, x_high, y_low, y_high;
    bool nines;
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

char *plot_number(double value, char buffer[PLOT_NUMBER_SIZE])
{
    char digits[PLOT_NUMBER_SIZE];
    size_t length, out = 0;

    if (!(fabs(value) >= 999.95 && fabs(value) < 1e15)) {
        snprintf(buffer, PLOT_NUMBER_SIZE, "%.4g", value);
        return buffer;
    }
    snprintf(digits, sizeof(digits), "%.0f", fabs(value));
    length = strlen(digits);
    if (value < 0)
        buffer[out++] = '-';
    for (size_t i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0)
            buffer[out++] = ',';
        buffer[out++] = digits[i];
    }
    buffer[out] = '\0';
    return buffer;
}

static const char *colour_of(const struct plot_series *series)
{
    return colours[(size_t)series->colour % ARRAY_SIZE(colours)];
}

static double x_value(const struct frame *frame, double x)
{
    return frame->nines ? -log10(1 - x) : x;
}

static double x_place(const struct frame *frame, double x)
{
    return LEFT + (x_value(frame, x) - frame->x_low) / (frame->x_high - frame->x_low) * (WIDTH - LEFT - RIGHT);
}

static double y_place(const struct frame *frame, double y)
{
    return HEIGHT - BOTTOM - (y - frame->y_low) / (frame->y_high - frame->y_low) * (HEIGHT - TOP - BOTTOM);
}

static bool is_gap(const struct plot_point *p)
{
    return isnan(p->x) || isnan(p->y);
}

static struct frame frame_of(const struct plot *plot)
{
    struct frame frame = {INFINITY, -INFINITY, 0, -INFINITY, plot->nines};
    double step;

    for (size_t s = 0; s < plot->n_series; s++) {
        for (size_t i = 0; i < plot->series[s].count; i++) {
            const struct plot_point *p = &plot->series[s].points[i];

            if (is_gap(p))
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
    frame.y_high = ceil(frame.y_high / step - 1e-9) * step;
    frame.y_low = floor(frame.y_low / step + 1e-9) * step;
    return frame;
}

/* -- axes -- */

static void add_y_axis(const struct frame *frame, struct strbuf *out)
{
    double step = plot_step(frame->y_high - frame->y_low, 5);
    char number[PLOT_NUMBER_SIZE];

    for (double y = frame->y_low; y <= frame->y_high + step / 2; y += step) {
        double at = y_place(frame, y);

        strbuf_addf(out, "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' class='grid'/>", LEFT, at, WIDTH - RIGHT, at);
        strbuf_addf(out, "<text x='%.1f' y='%.1f' text-anchor='end'>%s</text>", LEFT - 10, at + 4,
                    plot_number(fabs(y) < step / 1e6 ? 0 : y, number));
    }
}

static void add_x_tick(const struct frame *frame, double x, const char *name, struct strbuf *out)
{
    double at = x_place(frame, x);

    strbuf_addf(out, "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' class='axis'/>", at, HEIGHT - BOTTOM, at,
                HEIGHT - BOTTOM + 5);
    strbuf_addf(out, "<text x='%.1f' y='%.1f' text-anchor='middle'>%s</text>", at, HEIGHT - BOTTOM + 20, name);
}

/* 0 %, 90 %, 99 %, 99.9 %, … */
static void add_nines(const struct frame *frame, struct strbuf *out)
{
    for (int nines = 0; nines <= frame->x_high + 1e-9; nines++) {
        char name[24];

        snprintf(name, sizeof(name), "%.*f %%", nines > 2 ? nines - 2 : 0, 100 * (1 - pow(10, -nines)));
        add_x_tick(frame, 1 - pow(10, -nines), name, out);
    }
}

static void add_x_axis(const struct frame *frame, struct strbuf *out)
{
    double step = plot_step(frame->x_high - frame->x_low, 8);
    char number[PLOT_NUMBER_SIZE];

    strbuf_addf(out, "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' class='axis'/>", LEFT, HEIGHT - BOTTOM,
                WIDTH - RIGHT, HEIGHT - BOTTOM);
    if (frame->nines) {
        add_nines(frame, out);
        return;
    }
    for (double x = ceil(frame->x_low / step - 1e-9) * step; x <= frame->x_high + step / 1e6; x += step)
        add_x_tick(frame, x, plot_number(fabs(x) < step / 1e6 ? 0 : x, number), out);
}

/* -- series -- */

static void add_dots(const struct frame *frame, const struct plot_series *series, struct strbuf *out)
{
    const char *colour = colour_of(series);

    for (size_t i = 0; i < series->count; i++) {
        const struct plot_point *p = &series->points[i];
        double x;

        if (is_gap(p))
            continue;
        x = x_place(frame, p->x);
        if (p->low < p->high)
            strbuf_addf(out, "<path d='M%.1f %.1fV%.1fM%.1f %.1fh8M%.1f %.1fh8' stroke='%s' stroke-width='1.5'/>", x,
                        y_place(frame, p->low), y_place(frame, p->high), x - 4, y_place(frame, p->low), x - 4,
                        y_place(frame, p->high), colour);
        strbuf_addf(out, "<circle cx='%.1f' cy='%.1f' r='4' fill='%s' class='dot'><title>%.6g, %.6g</title></circle>",
                    x, y_place(frame, p->y), colour, p->x, p->y);
    }
}

static void add_line(const struct frame *frame, const struct plot_series *series, struct strbuf *out)
{
    bool pen_down = false;

    strbuf_addf(out, "<path fill='none' stroke='%s' stroke-width='2' stroke-linejoin='round'%s d='", colour_of(series),
                series->mark == PLOT_DASHED ? " stroke-dasharray='7 5'" : "");
    for (size_t i = 0; i < series->count; i++) {
        const struct plot_point *p = &series->points[i];

        if (is_gap(p)) {
            pen_down = false;
            continue;
        }
        strbuf_addf(out, "%c%.1f %.1f", pen_down ? 'L' : 'M', x_place(frame, p->x), y_place(frame, p->y));
        pen_down = true;
    }
    strbuf_adds(out, "'/>");
}

static void add_band(const struct frame *frame, const struct plot_series *series, struct strbuf *out)
{
    char command = 'M';

    strbuf_addf(out, "<path fill='%s' fill-opacity='.16' d='", colour_of(series));
    for (size_t i = 0; i < 2 * series->count; i++) {
        bool back = i >= series->count; /* there along the upper edge, back along the lower one */
        const struct plot_point *p = &series->points[back ? 2 * series->count - 1 - i : i];

        if (is_gap(p))
            continue;
        strbuf_addf(out, "%c%.1f %.1f", command, x_place(frame, p->x), y_place(frame, back ? p->low : p->high));
        command = 'L';
    }
    strbuf_adds(out, "'/>");
}

static const struct {
    void (*draw)(const struct frame *frame, const struct plot_series *series, struct strbuf *out);
    const char *legend; /* in a box of 16 x 10; the colour comes from around */
} marks[] = {
    [PLOT_LINE] = {add_line, "<path d='M0 5H16' stroke='currentColor' stroke-width='2'/>"},
    [PLOT_DASHED] = {add_line, "<path d='M0 5H16' stroke='currentColor' stroke-width='2' stroke-dasharray='6 4'/>"},
    [PLOT_DOTS] = {add_dots, "<circle cx='8' cy='5' r='4' fill='currentColor'/>"},
    [PLOT_BAND] = {add_band, "<rect width='16' height='10' fill='currentColor' fill-opacity='.2'/>"},
};

/* At the right, in the line of the y axis' label. */
static void add_legend(const struct plot *plot, struct strbuf *out)
{
    double x = WIDTH - RIGHT;

    for (size_t s = plot->n_series; s-- > 0;) {
        const struct plot_series *series = &plot->series[s];

        x -= LEGEND_MARK + (double)strlen(series->name) * LETTER;
        strbuf_addf(out, "<g transform='translate(%.1f 35)' style='color:%s'>%s</g><text x='%.1f' y='44'>", x,
                    colour_of(series), marks[series->mark].legend, x + LEGEND_MARK - 3);
        html_escape(out, series->name);
        strbuf_adds(out, "</text>");
        x -= 14;
    }
}

static void add_text(struct strbuf *out, double x, double y, const char *attributes, const char *text)
{
    strbuf_addf(out, "<text x='%.1f' y='%.1f' %s>", x, y, attributes);
    html_escape(out, text);
    strbuf_adds(out, "</text>");
}

void plot_svg(const struct plot *plot, struct strbuf *out)
{
    struct frame frame = frame_of(plot);

    strbuf_addf(out, "<svg viewBox='0 0 %.0f %.0f' role='img' xmlns='http://www.w3.org/2000/svg'>", WIDTH, HEIGHT);
    strbuf_adds(out, "<style>text{font:12px system-ui,sans-serif;fill:var(--faint,#666)}"
                     ".title{font-size:15px;font-weight:600;fill:var(--ink,#222)}.grid{stroke:var(--line,#e4e4e4)}"
                     ".axis{stroke:var(--faint,#666)}.dot{stroke:var(--page,#fff);stroke-width:1.5}</style>");
    add_text(out, LEFT, 20, "class='title'", plot->title);
    add_text(out, LEFT, 44, "", plot->y_label);
    add_y_axis(&frame, out);
    add_x_axis(&frame, out);
    for (size_t s = 0; s < plot->n_series; s++)
        marks[plot->series[s].mark].draw(&frame, &plot->series[s], out);
    add_legend(plot, out);
    add_text(out, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "text-anchor='middle'", plot->x_label);
    strbuf_adds(out, "</svg>\n");
}
