#include <stddef.h>
#include <string.h>
#include "util/utf8.h"

/* Where the bytes that begin with these may be followed by which second byte (RFC 3629, section 4). */
static const struct {
    unsigned char first, last; /* of the first byte */
    unsigned char low, high;   /* of the second */
    int length;
} forms[] = {
    {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3},
    {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
};

/* Bytes at p that are a character or the beginning of one, and whether it is whole. */
static int measure(const unsigned char *p, bool *ret_whole)
{
    *ret_whole = *p < 0x80;
    if (*p < 0x80)
        return *p != 0;
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        int n = 1;

        if (*p < forms[i].first || *p > forms[i].last)
            continue;
        if (p[1] >= forms[i].low && p[1] <= forms[i].high)
            for (n = 2; n < forms[i].length && p[n] >= 0x80 && p[n] <= 0xbf;)
                n++;
        *ret_whole = n == forms[i].length;
        return n;
    }
    return 1;
}

int utf8_next(const char *text)
{
    bool whole;
    int n = measure((const unsigned char *)text, &whole);

    return whole ? n : -1;
}

bool utf8_is_valid(const char *text)
{
    int n;

    while ((n = utf8_next(text)) > 0)
        text += n;
    return n == 0;
}

char *utf8_repair(char *text)
{
    const char *from = text;
    char *to = text;

    while (*from) {
        bool whole;
        int n = measure((const unsigned char *)from, &whole);

        if (whole) {
            memmove(to, from, (size_t)n);
            to += n;
        } else {
            *to++ = '?';
        }
        from += n;
    }
    *to = '\0';
    return text;
}
