#include <ctype.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include "util/clock.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/strbuf.h"

static atomic_int least = LOG_INFO;
static const char *const level_names[] = {"debug", "info ", "warn ", "error"};

void log_set_level(enum log_level level)
{
    atomic_store(&least, (int)level);
}

static void add_value(struct strbuf *line, const char *value)
{
    bool plain = *value != '\0';

    for (const char *p = value; *p && plain; p++)
        plain = isgraph((unsigned char)*p) && *p != '"';
    if (plain) {
        strbuf_adds(line, value);
        return;
    }

    strbuf_addc(line, '"');
    for (const char *p = value; *p; p++) {
        if (*p == '"' || *p == '\\')
            strbuf_addf(line, "\\%c", *p);
        else if (*p == '\n')
            strbuf_adds(line, "\\n");
        else if (iscntrl((unsigned char)*p))
            strbuf_addf(line, "\\x%02x", (unsigned char)*p);
        else
            strbuf_addc(line, *p);
    }
    strbuf_addc(line, '"');
}

void log_event(enum log_level level, const char *message, ...)
{
    cleanup_strbuf struct strbuf line = STRBUF_INIT(LIMIT_LOG_LINE);
    char when[CLOCK_RFC3339_SIZE];
    const char *key;
    va_list args;
    ssize_t unused;

    if ((int)level < atomic_load(&least))
        return;

    strbuf_addf(&line, "%s %s %s", clock_format_ms(clock_wall_ms(), when), level_names[level], message);
    va_start(args, message);
    while ((key = va_arg(args, const char *))) {
        const char *value = va_arg(args, const char *);

        strbuf_addf(&line, " %s=", key);
        add_value(&line, value ?: "-");
    }
    va_end(args);
    strbuf_addc(&line, '\n');

    unused = write(STDERR_FILENO, line.data, line.length);
    (void)unused;
}
