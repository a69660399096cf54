#include <stdarg.h>
#include <stdio.h>
#include "cli/command.h"
#include "util/xalloc.h"

void print_json(const json_t *value)
{
    cleanup_free char *text = json_text_pretty(value);

    puts(text);
}

void print_json_line(const json_t *value)
{
    cleanup_free char *text = json_text(value);

    puts(text);
    fflush(stdout);
}

void print_items(const struct invocation *invocation, const struct table_column *columns, const json_t *items,
                 const char *empty)
{
    if (invocation->json)
        print_json(items);
    else if (json_array_size(items) == 0)
        puts(empty);
    else
        table_print(stdout, columns, items);
}

void print_object(const struct invocation *invocation, const struct table_column *columns, const json_t *object)
{
    if (invocation->json)
        print_json(object);
    else
        table_print_object(stdout, columns, object);
}

void print_done(const struct invocation *invocation, const json_t *value, const char *format, ...)
{
    cleanup_free char *text = NULL;
    va_list args;

    if (invocation->json) {
        if (value)
            print_json(value);
        return;
    }
    va_start(args, format);
    text = xvasprintf(format, args);
    va_end(args);
    puts(text);
}
