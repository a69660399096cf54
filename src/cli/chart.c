#include <math.h>
#include <stdbool.h>
#include <string.h>
#include "cli/chart.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

static void range_of(const double *values, size_t count, double *ret_low, double *ret_high)
{
    double low = INFINITY, high = -INFINITY;

    for (size_t i = 0; i < count; i++) {
        if (isnan(values[i]))
            continue;
        low = fmin(low, values[i]);
        high = fmax(high, values[i]);
    }
    if (low > high)
        low = high = 0;
    *ret_low = low;
    *ret_high = high;
}

char *chart_sparkline(const double *values, size_t count, int width)
{
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    struct strbuf line = STRBUF_INIT(LIMIT_LOG_LINE);
    size_t cells = count < (size_t)width ? count : (size_t)width;
    double low, high;

    range_of(values, count, &low, &high);
    for (size_t c = 0; c < cells; c++) {
        double sum = 0;
        int n = 0, level;

        for (size_t i = c * count / cells; i < (c + 1) * count / cells; i++) {
            if (isnan(values[i]))
                continue;
            sum += values[i];
            n++;
        }
        if (n == 0) {
            strbuf_addc(&line, ' ');
            continue;
        }
        level = high > low ? (int)((sum / n - low) / (high - low) * 7.999) : 3;
        strbuf_adds(&line, bars[level < 0 ? 0 : level > 7 ? 7 : level]);
    }
    return strbuf_detach(&line, NULL);
}

/* -- plot -- */

struct canvas {
    int width, height; /* cells */
    unsigned char *cells;
};

/* Bit of a dot in its Braille cell, by row and column (Unicode block U+2800). */
static const unsigned char dots[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};

static void set_dot(struct canvas *canvas, int x, int y)
{
    if (x >= 0 && y >= 0 && x < canvas->width * 2 && y < canvas->height * 4)
        canvas->cells[y / 4 * canvas->width + x / 2] |= dots[y % 4][x % 2];
}

static void draw_line(struct canvas *canvas, double x0, double y0, double x1, double y1)
{
    int steps = (int)fmax(fabs(x1 - x0), fabs(y1 - y0)) + 1;

    for (int i = 0; i <= steps; i++)
        set_dot(canvas, (int)lround(x0 + (x1 - x0) * i / steps), (int)lround(y0 + (y1 - y0) * i / steps));
}

static void print_braille(FILE *out, unsigned char cell)
{
    const unsigned int code = 0x2800 + cell;

    if (cell == 0)
        fputc(' ', out);
    else
        fprintf(out, "%c%c%c", (int)(0xe0 | code >> 12), (int)(0x80 | (code >> 6 & 0x3f)), (int)(0x80 | (code & 0x3f)));
}

void chart_plot(FILE *out, const char *title, const double *x, const double *y, size_t count, int width, int height)
{
    enum { LABEL = 10 };
    struct canvas canvas = {.width = width > LABEL + 12 ? width - LABEL - 2 : 10,
                            .height = height > 3 ? height - 2 : 2};
    double low, high, left = count ? x[0] : 0, right = count ? x[count - 1] : 0;
    bool pen = false;
    double px = 0, py = 0;

    canvas.cells = xcalloc((size_t)canvas.width * (size_t)canvas.height, 1);
    range_of(y, count, &low, &high);
    for (size_t i = 0; i < count; i++) {
        double cx, cy;

        if (isnan(y[i])) {
            pen = false;
            continue;
        }
        cx = right > left ? (x[i] - left) / (right - left) * (canvas.width * 2 - 1) : 0;
        cy = high > low ? (high - y[i]) / (high - low) * (canvas.height * 4 - 1) : canvas.height * 2;
        if (pen)
            draw_line(&canvas, px, py, cx, cy);
        else
            set_dot(&canvas, (int)lround(cx), (int)lround(cy));
        pen = true;
        px = cx;
        py = cy;
    }
    fprintf(out, "%s\n", title);
    for (int row = 0; row < canvas.height; row++) {
        if (row == 0)
            fprintf(out, "%*.4g ┤", LABEL - 2, high);
        else if (row == canvas.height - 1)
            fprintf(out, "%*.4g ┤", LABEL - 2, low);
        else
            fprintf(out, "%*s │", LABEL - 2, "");
        for (int c = 0; c < canvas.width; c++)
            print_braille(out, canvas.cells[row * canvas.width + c]);
        fputc('\n', out);
    }
    fprintf(out, "%*s └ %g%*g\n", LABEL - 2, "", left, canvas.width - 4, right);
    free(canvas.cells);
}
