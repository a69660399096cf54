#include "format/crilog.h"

#include <assert.h>
#include <string.h>
#include <time.h>
#include "util/clock.h"

static const char *const stream_names[] = {
    [CRILOG_STDOUT] = "stdout",
    [CRILOG_STDERR] = "stderr",
};

const char *crilog_stream_name(enum crilog_stream stream)
{
    return stream_names[stream];
}

void crilog_append(struct strbuf *out, const struct crilog_entry *entry)
{
    char time[CLOCK_RFC3339_SIZE];
    size_t time_length, name_length = strlen(stream_names[entry->stream]), total;
    char *p;

    assert(!entry->length || !memchr(entry->text, '\n', entry->length));
    clock_format_ns(entry->time_ns, time);
    time_length = strlen(time);
    total = time_length + 1 + name_length + 3 + entry->length + 1;
    p = strbuf_reserve(out, total);
    if (!p)
        return;
    p = mempcpy(p, time, time_length);
    *p++ = ' ';
    p = mempcpy(p, stream_names[entry->stream], name_length);
    *p++ = ' ';
    *p++ = entry->partial ? 'P' : 'F';
    *p++ = ' ';
    if (entry->length)
        p = mempcpy(p, entry->text, entry->length);
    *p = '\n';
    strbuf_commit(out, total);
}

/* Digits of a fixed width; -1 if there is anything else. */
static int digits(const char *p, int count)
{
    int value = 0;

    for (int i = 0; i < count; i++) {
        if (p[i] < '0' || p[i] > '9')
            return -1;
        value = value * 10 + (p[i] - '0');
    }
    return value;
}

/* "2026-01-31T12:34:56[.1-9 digits](Z|+hh:mm|-hh:mm)". Other writers of this format drop trailing zeros of
 * the fraction, or use a local offset. */
static bool parse_time(const char *p, size_t length, int64_t *ret_ns)
{
    const char *end = p + length;
    struct tm tm = {0};
    int64_t ns = 0, offset = 0;

    if (length < 20 || p[4] != '-' || p[7] != '-' || p[10] != 'T' || p[13] != ':' || p[16] != ':')
        return false;
    tm.tm_year = digits(p, 4) - 1900;
    tm.tm_mon = digits(p + 5, 2) - 1;
    tm.tm_mday = digits(p + 8, 2);
    tm.tm_hour = digits(p + 11, 2);
    tm.tm_min = digits(p + 14, 2);
    tm.tm_sec = digits(p + 17, 2);
    /* Years that fit into ns since the epoch. */
    if (tm.tm_year < 70 || tm.tm_year > 350 || tm.tm_mon < 0 || tm.tm_mon > 11 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
        tm.tm_hour < 0 || tm.tm_hour > 23 || tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60)
        return false;
    p += 19;
    if (*p == '.') {
        int64_t scale = 100000000;
        const char *first = ++p;

        for (; p < end && *p >= '0' && *p <= '9'; p++, scale /= 10)
            ns += (*p - '0') * scale;
        if (p == first || p - first > 9)
            return false;
    }
    if (p == end)
        return false;
    if (*p == 'Z') {
        p++;
    } else if ((*p == '+' || *p == '-') && end - p == 6 && p[3] == ':') {
        int hours = digits(p + 1, 2), minutes = digits(p + 4, 2);

        if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
            return false;
        offset = (*p == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
        p += 6;
    }
    if (p != end)
        return false;
    *ret_ns = (timegm(&tm) - offset) * NS_PER_SEC + ns;
    return true;
}

static int corrupt(struct error *error, const char *what)
{
    return error_set(error, ERROR_CORRUPT, "not an entry of a CRI log: %s", what);
}

ssize_t crilog_parse(const char *data, size_t length, struct crilog_entry *ret_entry, struct error *error)
{
    const char *end = memchr(data, '\n', length < CRILOG_ENTRY_MAX ? length : CRILOG_ENTRY_MAX);
    const char *space, *p = data;
    struct crilog_entry entry = {0};

    if (!end)
        return length < CRILOG_ENTRY_MAX ? 0 : corrupt(error, "no end of line where there must be one");
    space = memchr(p, ' ', end - p);
    if (!space || !parse_time(p, space - p, &entry.time_ns))
        return corrupt(error, "it does not begin with a time");
    p = space + 1;
    if (end - p < 9)
        return corrupt(error, "it is cut short");
    if (memcmp(p, "stdout ", 7) == 0)
        entry.stream = CRILOG_STDOUT;
    else if (memcmp(p, "stderr ", 7) == 0)
        entry.stream = CRILOG_STDERR;
    else
        return corrupt(error, "the stream is neither stdout nor stderr");
    p += 7;
    /* Tags may be a list, "F:x"; the first one counts. */
    if ((*p != 'F' && *p != 'P') || (p[1] != ' ' && p[1] != ':'))
        return corrupt(error, "the tag is neither F nor P");
    entry.partial = *p == 'P';
    p = memchr(p, ' ', end - p);
    if (!p)
        return corrupt(error, "it is cut short");
    entry.text = p + 1;
    entry.length = end - entry.text;
    *ret_entry = entry;
    return end - data + 1;
}

static void emit(struct crilog_splitter *splitter, int64_t time_ns, bool partial, const char *text, size_t length,
                 struct strbuf *out)
{
    crilog_append(
        out, &(struct crilog_entry){
                 .time_ns = time_ns, .stream = splitter->stream, .partial = partial, .text = text, .length = length});
}

void crilog_split(struct crilog_splitter *splitter, int64_t time_ns, const void *data, size_t length,
                  struct strbuf *out)
{
    struct strbuf *pending = &splitter->pending;
    const char *p = data, *end = p + length;

    while (p < end) {
        size_t room = LIMIT_LOG_CHUNK - pending->length;
        size_t span = (size_t)(end - p) < room ? (size_t)(end - p) : room;
        /* One byte more: a line of exactly the limit's length stays whole. */
        const char *newline = memchr(p, '\n', span < (size_t)(end - p) ? span + 1 : span);

        if (newline && !pending->length) {
            emit(splitter, time_ns, false, p, newline - p, out);
            p = newline + 1;
            continue;
        }
        strbuf_add(pending, p, newline ? (size_t)(newline - p) : span);
        p += newline ? (size_t)(newline - p) + 1 : span;
        if (newline || (pending->length == LIMIT_LOG_CHUNK && p < end)) {
            emit(splitter, time_ns, !newline, pending->data, pending->length, out);
            strbuf_reset(pending);
        }
    }
}

void crilog_flush(struct crilog_splitter *splitter, int64_t time_ns, struct strbuf *out)
{
    if (!splitter->pending.length)
        return;
    emit(splitter, time_ns, false, splitter->pending.data, splitter->pending.length, out);
    strbuf_reset(&splitter->pending);
}

void crilog_splitter_release(struct crilog_splitter *splitter)
{
    strbuf_release(&splitter->pending);
}
