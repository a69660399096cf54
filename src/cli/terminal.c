#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "cli/terminal.h"
#include "util/cleanup.h"
#include "util/parse.h"
#include "util/strbuf.h"

static const char *const colours[] = {
    [COLOUR_NONE] = "",          [COLOUR_BOLD] = "\x1b[1m",    [COLOUR_DIM] = "\x1b[2m",   [COLOUR_RED] = "\x1b[31m",
    [COLOUR_GREEN] = "\x1b[32m", [COLOUR_YELLOW] = "\x1b[33m", [COLOUR_BLUE] = "\x1b[34m",
};
const char terminal_colour_off[] = "\x1b[0m";

int terminal_width(FILE *stream)
{
    const char *columns = getenv("COLUMNS");
    struct winsize size;
    int64_t width;

    if (!isatty(fileno(stream)))
        return 0;
    if (columns && parse_int(columns, 1, 10000, &width, NULL) == 0)
        return (int)width;
    if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

bool terminal_has_colours(FILE *stream)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

    return isatty(fileno(stream)) && !(no && *no) && term && *term && strcmp(term, "dumb") != 0;
}

const char *terminal_colour(enum terminal_colour colour)
{
    return colours[colour];
}

/* Ranges of code points and the cells they take (Unicode 15, East Asian Width W and F; general
 * categories Mn, Me and Cf). Sorted; all others take one. */
static const struct {
    uint32_t first, last;
    int width;
} widths[] = {
    {0x0300, 0x036f, 0},   {0x0483, 0x0489, 0},   {0x0591, 0x05bd, 0},   {0x0610, 0x061a, 0},   {0x064b, 0x065f, 0},
    {0x0900, 0x0902, 0},   {0x1100, 0x115f, 2},   {0x1ab0, 0x1aff, 0},   {0x1dc0, 0x1dff, 0},   {0x200b, 0x200f, 0},
    {0x202a, 0x202e, 0},   {0x2060, 0x2064, 0},   {0x20d0, 0x20f0, 0},   {0x231a, 0x231b, 2},   {0x2e80, 0x303e, 2},
    {0x3041, 0xa4cf, 2},   {0xa960, 0xa97c, 2},   {0xac00, 0xd7a3, 2},   {0xf900, 0xfaff, 2},   {0xfe00, 0xfe0f, 0},
    {0xfe10, 0xfe19, 2},   {0xfe20, 0xfe2f, 0},   {0xfe30, 0xfe6f, 2},   {0xfeff, 0xfeff, 0},   {0xff00, 0xff60, 2},
    {0xffe0, 0xffe6, 2},   {0x1f300, 0x1f64f, 2}, {0x1f680, 0x1f6ff, 2}, {0x1f900, 0x1f9ff, 2}, {0x20000, 0x3fffd, 2},
    {0xe0100, 0xe01ef, 0},
};

static int code_point_width(uint32_t code)
{
    for (size_t i = 0; i < ARRAY_SIZE(widths) && widths[i].first <= code; i++)
        if (code <= widths[i].last)
            return widths[i].width;
    return 1;
}

/* Decodes the character at text; returns its bytes (1 for a byte that begins none; *ret_code is then
 * that byte). */
static size_t decode(const unsigned char *text, uint32_t *ret_code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : text[0] >= 0xc0 ? 2 : 1;
    uint32_t code = text[0];

    *ret_code = code;
    if (length == 1)
        return 1;
    code &= 0xffU >> (length + 1);
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 1;
        code = code << 6 | (text[i] & 0x3f);
    }
    if (code < least[length] || code > 0x10ffff)
        return 1;
    *ret_code = code;
    return length;
}

size_t text_fit(const char *text, int width)
{
    const unsigned char *p = (const unsigned char *)text;
    uint32_t code;

    while (*p) {
        size_t length = decode(p, &code);

        width -= code_point_width(code);
        if (width < 0)
            break;
        p += length;
    }
    return (size_t)((const char *)p - text);
}

int text_width(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    uint32_t code;
    int width = 0;

    while (*p) {
        p += decode(p, &code);
        width += code_point_width(code);
    }
    return width;
}

char *text_printable(const char *text)
{
    struct strbuf sb = STRBUF_INIT(SIZE_MAX / 2);
    const unsigned char *p = (const unsigned char *)text;
    uint32_t code;

    while (*p) {
        size_t length = decode(p, &code);

        if (code == '\n')
            strbuf_adds(&sb, "\\n");
        else if (code == '\t')
            strbuf_adds(&sb, "\\t");
        else if (code < 0x20 || (code >= 0x7f && code < 0xa0) || (length == 1 && code >= 0x80))
            strbuf_addf(&sb, "\\x%02x", code);
        else
            strbuf_add(&sb, p, length);
        p += length;
    }
    return strbuf_detach(&sb, NULL);
}
