#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include "monitor/metrics.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define READ_SIZE (64 * KIB)
#define A_TURN    (2 * MIB) /* bytes between two looks at the rest of the world */
#define QUOTED    80        /* bytes of a bad line that a warning shows */

struct metrics {
    int fd;
    struct intake *intake;
    uint64_t offset;    /* of the file, behind what was read */
    struct strbuf line; /* the beginning of a line whose end was not read yet */
    bool skipping;      /* in a line that is too long */
};

struct metrics *metrics_new(int fd, struct intake *intake)
{
    struct metrics *metrics = xnew0(struct metrics);

    metrics->fd = fd;
    metrics->intake = intake;
    strbuf_init(&metrics->line, LIMIT_METRIC_LINE + READ_SIZE);
    return metrics;
}

struct metrics *metrics_free(struct metrics *metrics)
{
    if (!metrics)
        return NULL;
    strbuf_release(&metrics->line);
    close(metrics->fd);
    free(metrics);
    return NULL;
}

/* -- one line -- */

/* Python, JavaScript and others write these where JSON knows none. */
static const char *const not_numbers[] = {"-Infinity", "Infinity", "NaN", "-inf", "inf", "nan"};

/* Copies a line with null in place of them, outside of strings. True if there were any. */
static bool replace_not_numbers(const char *line, size_t length, struct strbuf *out)
{
    bool quoted = false, found = false;

    for (size_t i = 0; i < length; i++) {
        size_t skip = 0;

        for (size_t k = 0; !quoted && k < ARRAY_SIZE(not_numbers) && !skip; k++) {
            size_t n = strlen(not_numbers[k]);

            if (n <= length - i && memcmp(line + i, not_numbers[k], n) == 0)
                skip = n;
        }
        if (skip) {
            strbuf_adds(out, "null");
            i += skip - 1;
            found = true;
            continue;
        }
        if (quoted && line[i] == '\\' && i + 1 < length)
            strbuf_addc(out, line[i++]);
        else if (line[i] == '"')
            quoted = !quoted;
        strbuf_addc(out, line[i]);
    }
    return found;
}

/* Takes out what is neither number nor null; names the first such key. */
static void leave_out_others(json_t *values, char **ret_odd)
{
    const char *key;
    json_t *value;
    void *tmp;

    json_object_foreach_safe(values, tmp, key, value)
    {
        if (json_is_number(value) || json_is_null(value))
            continue;
        if (ret_odd && !*ret_odd)
            *ret_odd = xasprintf("the value of '%.63s' is not a number and was left out", key);
        json_object_del(values, key);
    }
}

json_t *metrics_parse(const char *line, size_t length, char **ret_odd, struct error *error)
{
    cleanup_error struct error first = ERROR_INIT;
    cleanup_json json_t *values = json_parse(line, length, &first);

    if (ret_odd)
        *ret_odd = NULL;
    if (!values) {
        cleanup_strbuf struct strbuf clean = STRBUF_INIT(length * 2 + 16);

        if (replace_not_numbers(line, length, &clean))
            values = json_parse(clean.data, clean.length, NULL);
        if (values && ret_odd)
            *ret_odd = xstrdup("a value is NaN or infinite and was recorded as null");
    }
    if (!values) {
        error_move(error, &first);
        return NULL;
    }
    if (!json_is_object(values)) {
        error_set(error, ERROR_INVALID, "it is not a JSON object");
        return NULL;
    }
    leave_out_others(values, ret_odd);
    return steal_ptr(values);
}

static bool is_blank(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    return true;
}

/* A piece of a line for a message: printable, short. Returns buffer. */
static const char *quote(const char *line, size_t length, char buffer[QUOTED + 1])
{
    size_t n = length < QUOTED ? length : QUOTED;

    for (size_t i = 0; i < n; i++)
        buffer[i] = line[i] >= 0x20 && line[i] < 0x7f ? line[i] : '?';
    buffer[n] = '\0';
    return buffer;
}

static void take_line(struct metrics *metrics, const char *line, size_t length)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *odd = NULL;
    char text[QUOTED + 1];
    json_t *values;

    if (is_blank(line, length))
        return;
    if (length > LIMIT_METRIC_LINE) {
        intake_warn(metrics->intake, "metric_too_long", "a line of metrics.jsonl has more than %llu bytes",
                    (unsigned long long)LIMIT_METRIC_LINE);
        return;
    }
    values = metrics_parse(line, length, &odd, &error);
    if (!values) {
        intake_warn(metrics->intake, "metric_invalid", "a line of metrics.jsonl was skipped: %s: %s", error.message,
                    quote(line, length, text));
        return;
    }
    if (odd)
        intake_warn(metrics->intake, "metric_invalid", "%s: %s", odd, quote(line, length, text));
    if (json_object_size(values) == 0) {
        json_decref(values);
        return;
    }
    intake_add(metrics->intake, "metric", json_build("{s:o}", "values", values));
}

/* -- the file -- */

/* Takes whole lines from the buffer and keeps the rest. */
static void take_lines(struct metrics *metrics)
{
    size_t done = 0;
    const char *end;

    while ((end = memchr(metrics->line.data + done, '\n', metrics->line.length - done))) {
        const char *line = metrics->line.data + done;

        if (!metrics->skipping)
            take_line(metrics, line, (size_t)(end - line));
        metrics->skipping = false;
        done = (size_t)(end - metrics->line.data) + 1;
    }
    strbuf_consume(&metrics->line, done);
    if (metrics->line.length > LIMIT_METRIC_LINE) {
        if (!metrics->skipping)
            take_line(metrics, metrics->line.data, metrics->line.length);
        metrics->skipping = true;
        strbuf_reset(&metrics->line);
    }
}

static void check_truncated(struct metrics *metrics)
{
    struct stat st;

    if (fstat(metrics->fd, &st) < 0 || (uint64_t)st.st_size >= metrics->offset)
        return;
    intake_warn(metrics->intake, "metrics_truncated",
                "metrics.jsonl was cut from %llu to %llu bytes; reading goes on at its start",
                (unsigned long long)metrics->offset, (unsigned long long)st.st_size);
    metrics->offset = 0;
    metrics->skipping = false;
    strbuf_reset(&metrics->line);
}

bool metrics_read(struct metrics *metrics, bool last)
{
    uint64_t budget = A_TURN;

    check_truncated(metrics);
    while (budget && intake_has_room(metrics->intake)) {
        char *to = strbuf_reserve(&metrics->line, READ_SIZE - 1);
        ssize_t n = pread(metrics->fd, to, READ_SIZE - 1, (off_t)metrics->offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (last && metrics->line.length && !metrics->skipping)
                take_line(metrics, metrics->line.data, metrics->line.length);
            if (last)
                strbuf_reset(&metrics->line);
            if (!metrics->line.length)
                strbuf_release(&metrics->line);
            return false;
        }
        metrics->offset += (uint64_t)n;
        strbuf_commit(&metrics->line, (size_t)n);
        take_lines(metrics);
        budget -= (uint64_t)n < budget ? (uint64_t)n : budget;
    }
    return true;
}
