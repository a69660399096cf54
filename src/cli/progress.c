#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "cli/progress.h"
#include "cli/terminal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define REDRAW_NS (100 * NS_PER_MS)
#define LINE_NS   (5 * NS_PER_SEC)
#define SHORT_NS  (500 * NS_PER_MS)
#define BAR_CELLS 24

struct progress {
    char *label;
    enum progress_unit unit;
    uint64_t total, done;
    int64_t started, drawn; /* monotonic, ns; drawn 0: not yet */
    bool terminal;
    bool open; /* a line on the terminal without its end */
};

struct progress *progress_new(const char *label, enum progress_unit unit, uint64_t total)
{
    struct progress *progress = xnew0(struct progress);

    progress->label = text_printable(label);
    progress->unit = unit;
    progress->total = total;
    progress->started = clock_monotonic_ns();
    progress->drawn = progress->started;
    progress->terminal = terminal_width(stderr) > 0;
    return progress;
}

void progress_set_total(struct progress *progress, uint64_t total)
{
    if (progress)
        progress->total = total;
}

static void add_amount(struct strbuf *line, const struct progress *progress, uint64_t amount)
{
    char buffer[FORMAT_SIZE];

    if (progress->unit == PROGRESS_BYTES)
        strbuf_adds(line, format_bytes(amount, buffer));
    else
        strbuf_addf(line, "%" PRIu64, amount);
}

static void add_bar(struct strbuf *line, double share)
{
    int filled = (int)(share * BAR_CELLS);

    strbuf_adds(line, "  [");
    for (int i = 0; i < BAR_CELLS; i++)
        strbuf_addc(line, i < filled ? '#' : '-');
    strbuf_addc(line, ']');
}

static void describe(struct strbuf *line, const struct progress *progress, int64_t now)
{
    double seconds = (double)(now - progress->started) / 1e9;
    double rate = seconds > 0 ? (double)progress->done / seconds : 0;
    double share = 0;
    char buffer[FORMAT_SIZE];

    strbuf_adds(line, progress->label);
    if (progress->total) {
        share = (double)progress->done / (double)progress->total;
        share = share > 1 ? 1 : share;
        if (progress->terminal)
            add_bar(line, share);
        strbuf_addf(line, "  %3d %%", (int)(share * 100));
    }
    strbuf_adds(line, "  ");
    add_amount(line, progress, progress->done);
    if (progress->total && progress->done < progress->total) {
        strbuf_adds(line, " of ");
        add_amount(line, progress, progress->total);
    }
    if (rate >= 1) {
        strbuf_adds(line, "  ");
        add_amount(line, progress, (uint64_t)rate);
        strbuf_adds(line, "/s");
        if (progress->total > progress->done && seconds > 0.5)
            strbuf_addf(line, "  %s left",
                        format_duration_ms((int64_t)((double)(progress->total - progress->done) / rate * 1e3), buffer));
    }
}

static void draw(struct progress *progress, int64_t now)
{
    cleanup_strbuf struct strbuf line = STRBUF_INIT(LIMIT_LOG_LINE);
    int width = terminal_width(stderr);

    describe(&line, progress, now);
    if (progress->terminal) {
        strbuf_truncate(&line, text_fit(line.data, width > 1 ? width - 1 : 79));
        fprintf(stderr, "\r%s\x1b[K", line.data);
        progress->open = true;
    } else {
        fprintf(stderr, "%s\n", line.data);
    }
    fflush(stderr);
    progress->drawn = now;
}

void progress_update(struct progress *progress, uint64_t done)
{
    int64_t now;

    if (!progress)
        return;
    progress->done = done;
    now = clock_monotonic_ns();
    if (now - progress->drawn >= (progress->terminal ? REDRAW_NS : LINE_NS))
        draw(progress, now);
}

void progress_finish(struct progress *progress)
{
    int64_t now = clock_monotonic_ns();

    if (!progress)
        return;
    if (!progress->total)
        progress->total = progress->done;
    if (progress->terminal || now - progress->started >= SHORT_NS)
        draw(progress, now);
    if (progress->open)
        fputc('\n', stderr);
    progress->open = false;
}

struct progress *progress_free(struct progress *progress)
{
    if (!progress)
        return NULL;
    if (progress->open)
        fputc('\n', stderr);
    free(progress->label);
    free(progress);
    return NULL;
}
