#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "cli/table.h"
#include "cli/terminal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define GAP          2 /* blanks between columns */
#define SHRINK_LEAST 8 /* cells that a column keeps */

/* What state names mean to people; any other stays uncoloured. */
static const struct {
    const char *state;
    enum terminal_colour colour;
} state_colours[] = {
    {"ready", COLOUR_GREEN},    {"running", COLOUR_GREEN},   {"succeeded", COLOUR_GREEN},
    {"accepted", COLOUR_GREEN}, {"queued", COLOUR_YELLOW},   {"starting", COLOUR_YELLOW},
    {"warming", COLOUR_YELLOW}, {"building", COLOUR_YELLOW}, {"draining", COLOUR_YELLOW},
    {"stopped", COLOUR_DIM},    {"failed", COLOUR_RED},      {"lost", COLOUR_RED},
    {"rejected", COLOUR_RED},   {"bad", COLOUR_RED},         {"ready (idle)", COLOUR_GREEN},
};

static const json_t *look_up(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    const char *dot;

    if (value)
        return value;
    for (dot = strchr(key, '.'); dot; dot = strchr(dot + 1, '.')) {
        cleanup_free char *head = xstrndup(key, (size_t)(dot - key));
        const json_t *inner = json_object_get(object, head);

        if (inner)
            return look_up(inner, dot + 1);
    }
    return NULL;
}

static char *text_of(const json_t *value)
{
    struct strbuf sb = STRBUF_INIT(LIMIT_HTTP_REPLY);
    const json_t *element;
    size_t i;

    switch (json_typeof(value)) {
    case JSON_STRING: return text_printable(json_string_value(value));
    case JSON_TRUE: return xstrdup("yes");
    case JSON_FALSE: return xstrdup("no");
    case JSON_INTEGER: return xasprintf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    case JSON_REAL: return xasprintf("%.6g", json_real_value(value));
    case JSON_ARRAY:
        json_array_foreach((json_t *)value, i, element) {
            cleanup_free char *text = json_is_null(element) ? xstrdup("null") : text_of(element);

            strbuf_addf(&sb, "%s%s", i ? ", " : "", text);
        }
        return strbuf_detach(&sb, NULL);
    default: return json_text(value);
    }
}

static char *text_of_duration(int64_t ms)
{
    char buffer[FORMAT_SIZE];

    return xstrdup(format_duration_ms(ms < 0 ? 0 : ms, buffer));
}

static char *text_of_age(int64_t ms)
{
    return ms < 1000 ? xstrdup("now") : text_of_duration(ms < 60000 ? ms / 1000 * 1000 : ms);
}

static char *text_of_time(int64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    char buffer[64];
    struct tm tm;

    localtime_r(&seconds, &tm);
    strftime(buffer, sizeof(buffer), "%Y-%m-%d %H:%M:%S", &tm);
    return xstrdup(buffer);
}

/* NULL where the value is not of the type that the format is for: it is then shown as it is. */
static char *text_of_string(enum table_format format, const char *string)
{
    int64_t wall_ms;

    switch (format) {
    case TABLE_AGE: return clock_parse_ms(string, &wall_ms) < 0 ? NULL : text_of_age(clock_wall_ms() - wall_ms);
    case TABLE_TIME: return clock_parse_ms(string, &wall_ms) < 0 ? NULL : text_of_time(wall_ms);
    case TABLE_DIGEST: return strncmp(string, "sha256:", 7) == 0 ? xstrndup(string + 7, 12) : NULL;
    default: return NULL;
    }
}

static char *text_of_number(enum table_format format, double number)
{
    char buffer[FORMAT_SIZE];

    switch (format) {
    case TABLE_BYTES: return number < 0 ? NULL : xstrdup(format_bytes((uint64_t)number, buffer));
    case TABLE_DURATION: return text_of_duration(llround(number));
    case TABLE_PERCENT: return xasprintf("%.1f %%", number * 100);
    default: return NULL;
    }
}

char *table_cell(const struct table_column *column, const json_t *item)
{
    const json_t *value;
    char *text = NULL;

    if (column->text)
        return column->text(item);
    value = look_up(item, column->key);
    if (!value || json_is_null(value))
        return NULL;
    if (json_is_string(value))
        text = text_of_string(column->format, json_string_value(value));
    else if (json_is_number(value))
        text = text_of_number(column->format, json_number_value(value));
    return text ? text : text_of(value);
}

static bool is_right_aligned(const struct table_column *column)
{
    return column->format == TABLE_NUMBER || column->format == TABLE_BYTES || column->format == TABLE_PERCENT;
}

static enum terminal_colour colour_of(const struct table_column *column, const char *text)
{
    if (column->format == TABLE_STATE)
        for (size_t i = 0; i < ARRAY_SIZE(state_colours); i++)
            if (strcmp(state_colours[i].state, text) == 0)
                return state_colours[i].colour;
    return COLOUR_NONE;
}

static void put_blanks(FILE *out, int count)
{
    fprintf(out, "%*s", count > 0 ? count : 0, "");
}

/* Writes text in exactly `width` cells (less at the end of a line). */
static void put_cell(FILE *out, const char *text, int width, bool right, bool last, enum terminal_colour colour)
{
    int blanks = width - text_width(text);
    size_t length = strlen(text);
    bool cut = blanks < 0;

    if (cut) {
        length = text_fit(text, width - 1);
        blanks = 0;
    }
    if (right)
        put_blanks(out, blanks);
    if (colour != COLOUR_NONE)
        fputs(terminal_colour(colour), out);
    fwrite(text, 1, length, out);
    if (cut)
        fputs("…", out);
    if (colour != COLOUR_NONE)
        fputs(terminal_colour_off, out);
    if (!right && !last)
        put_blanks(out, blanks);
}

/* Takes cells from the widest column that may give some, until `over` is gone; returns what is left. */
static int shrink(const struct table_column *columns, int *widths, size_t count, int over, bool any_text)
{
    while (over > 0) {
        size_t widest = count;

        for (size_t i = 0; i < count; i++) {
            bool may = columns[i].shrink || (any_text && !is_right_aligned(&columns[i]));

            if (may && widths[i] > SHRINK_LEAST && (widest == count || widths[i] > widths[widest]))
                widest = i;
        }
        if (widest == count)
            break;
        widths[widest]--;
        over--;
    }
    return over;
}

/* Columns that are marked give first, then all that hold text; numbers are never cut. */
static void fit(const struct table_column *columns, int *widths, size_t count, int terminal)
{
    int over = GAP * (int)(count - 1) - terminal;

    for (size_t i = 0; i < count; i++)
        over += widths[i];
    over = shrink(columns, widths, count, over, false);
    shrink(columns, widths, count, over, true);
}

void table_print(FILE *out, const struct table_column *columns, const json_t *items)
{
    bool colours = terminal_has_colours(out);
    int terminal = terminal_width(out);
    size_t rows = json_array_size(items), count = 0;
    cleanup_free char **cells = NULL;
    cleanup_free int *widths = NULL;

    while (columns[count].title)
        count++;
    cells = xcalloc(rows * count + 1, sizeof(*cells));
    widths = xcalloc(count + 1, sizeof(*widths));
    for (size_t c = 0; c < count; c++)
        widths[c] = text_width(columns[c].title);
    for (size_t i = 0; i < rows * count; i++) {
        char *text = table_cell(&columns[i % count], json_array_get(items, i / count));
        int width;

        cells[i] = text ? text : xstrdup("-");
        width = text_width(cells[i]);
        if (width > widths[i % count])
            widths[i % count] = width;
    }
    if (terminal)
        fit(columns, widths, count, terminal);

    for (size_t c = 0; c < count; c++) {
        put_cell(out, columns[c].title, widths[c], is_right_aligned(&columns[c]), c + 1 == count,
                 colours ? COLOUR_BOLD : COLOUR_NONE);
        put_blanks(out, c + 1 < count ? GAP : 0);
    }
    fputc('\n', out);
    for (size_t i = 0; i < rows * count; i++) {
        const struct table_column *column = &columns[i % count];
        bool last = i % count + 1 == count;

        put_cell(out, cells[i], widths[i % count], is_right_aligned(column), last,
                 colours ? colour_of(column, cells[i]) : COLOUR_NONE);
        put_blanks(out, last ? 0 : GAP);
        if (last)
            fputc('\n', out);
        free(cells[i]);
    }
}

void table_print_object(FILE *out, const struct table_column *columns, const json_t *object)
{
    bool colours = terminal_has_colours(out);
    int width = 0;

    for (const struct table_column *column = columns; column->title; column++)
        if (text_width(column->title) > width)
            width = text_width(column->title);
    for (const struct table_column *column = columns; column->title; column++) {
        cleanup_free char *text = table_cell(column, object);
        enum terminal_colour colour;

        if (!text || !*text)
            continue;
        colour = colours ? colour_of(column, text) : COLOUR_NONE;
        put_cell(out, column->title, width, false, false, colours ? COLOUR_BOLD : COLOUR_NONE);
        fprintf(out, "  %s%s%s\n", terminal_colour(colour), text, colour == COLOUR_NONE ? "" : terminal_colour_off);
    }
}
