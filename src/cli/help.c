#include <stdlib.h>
#include <string.h>
#include "cli/error.h"
#include "cli/help.h"
#include "cli/terminal.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define PROSE_WIDTH 96 /* cells of a line of prose, where the terminal has them */

char *help_synopsis(const struct command *command)
{
    return xasprintf("slipway %s%s%s%s", command->name, command->options && command->options->name ? " [OPTION]…" : "",
                     command->arguments ? " " : "", command->arguments ? command->arguments : "");
}

char *help_option(const struct option *option)
{
    char letter[] = {'-', option->letter, ',', ' ', 0};

    return xasprintf("%s--%s%s%s", option->letter ? letter : "", option->name, option->argument ? " " : "",
                     option->argument ? option->argument : "");
}

static void put_title(FILE *out, const char *title)
{
    bool colours = terminal_has_colours(out);

    fprintf(out, "%s%s%s\n", colours ? terminal_colour(COLOUR_BOLD) : "", title, colours ? terminal_colour_off : "");
}

/* Words up to `length` bytes, wrapped at `width` cells. The cursor stands in column `indent` already, and
 * that is where further lines begin. */
static void put_words(FILE *out, const char *text, size_t length, int indent, int width)
{
    const char *end = text + length;
    int column = indent;

    while (text < end) {
        size_t bytes = strcspn(text, " \n");
        cleanup_free char *word = xstrndup(text, bytes);
        int cells = text_width(word);

        if (column > indent && column + 1 + cells > width) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        }
        fprintf(out, "%s%s", column > indent ? " " : "", word);
        column += cells + (column > indent);
        text += bytes + (text + bytes < end);
    }
    fputc('\n', out);
}

static int prose_width(FILE *out)
{
    int width = terminal_width(out);

    return width && width < PROSE_WIDTH ? width : PROSE_WIDTH;
}

/* "  left        right, wrapped under itself". */
static void put_pair(FILE *out, const char *left, int left_width, const char *right)
{
    int used = text_width(left), indent = left_width + 4, width = prose_width(out);

    fprintf(out, "  %s", left);
    if (used > left_width)
        fprintf(out, "\n%*s", indent, "");
    else
        fprintf(out, "%*s", left_width - used + 2, "");
    if (width - indent < 20)
        width = indent + 20;
    put_words(out, right, strlen(right), indent, width);
}

static bool is_declared(const struct option *options, const char *name)
{
    for (; options && options->name; options++)
        if (strcmp(options->name, name) == 0)
            return true;
    return false;
}

/* Those that `hiding` declares too (NULL: nothing) have their place before the command's name. */
static void put_options(FILE *out, const char *title, const struct option *options, const struct option *hiding)
{
    int width = 0;

    if (!options || !options->name)
        return;
    fputc('\n', out);
    put_title(out, title);
    for (const struct option *o = options; o->name; o++) {
        cleanup_free char *left = help_option(o);
        int w = text_width(left);

        if (w > width && w <= 28)
            width = w;
    }
    for (const struct option *o = options; o->name; o++) {
        cleanup_free char *left = help_option(o);
        cleanup_free char *right = xasprintf("%s%s%s", o->help, o->repeats ? " (may be repeated)" : "",
                                             is_declared(hiding, o->name) ? "; before the command's name" : "");

        put_pair(out, left, width, right);
    }
}

void help_command(FILE *out, const struct command *command)
{
    cleanup_free char *synopsis = help_synopsis(command);

    fprintf(out, "%s\n\n", synopsis);
    fprintf(out, "  %s\n", command->summary);
    if (command->details) {
        fputc('\n', out);
        for (const char *text = command->details; *text;) {
            size_t length = strcspn(text, "\n");

            put_words(out, text, length, 0, prose_width(out));
            text += length + (text[length] == '\n');
        }
    }
    put_options(out, "Options", command->options, NULL);
    put_options(out, "Options of every command", command_global_options, command->options);
    if (command->examples) {
        fputc('\n', out);
        put_title(out, "Examples");
        for (const char *text = command->examples; *text;) {
            size_t length = strcspn(text, "\n");

            fprintf(out, "  %.*s\n", (int)length, text);
            text += length + (text[length] == '\n');
        }
    }
}

static void put_commands(FILE *out, command_tables tables, const char *group)
{
    int width = 0;

    command_foreach(tables, command)
    {
        if (command_is_in_group(command, group) && !command->hidden) {
            int w = text_width(command->name);

            width = w > width ? w : width;
        }
    }
    command_foreach(tables, command)
    {
        if (command_is_in_group(command, group) && !command->hidden)
            put_pair(out, command->name, width, command->summary);
    }
}

/* What the overview says of a first word: the summary of the command, or the actions of the group. */
static char *describe_word(command_tables tables, const char *word)
{
    struct strbuf sb = STRBUF_INIT(LIMIT_DESCRIPTION);
    const struct command *itself = command_find(tables, word);

    if (itself)
        strbuf_adds(&sb, itself->summary);
    command_foreach(tables, command)
    {
        if (command_is_in_group(command, word) && !command->hidden)
            strbuf_addf(&sb, "%s%s",
                        !sb.length                        ? ""
                        : strchr(sb.data, ';') || !itself ? ", "
                                                          : "; ",
                        command->name + strlen(word) + 1);
    }
    return strbuf_detach(&sb, NULL);
}

void help_overview(FILE *out, command_tables tables)
{
    cleanup_strvec struct strvec words = STRVEC_INIT;
    int width = 0;

    command_foreach(tables, command)
    {
        cleanup_free char *word = xstrndup(command->name, strcspn(command->name, " "));

        if (!command->hidden && !strvec_contains(&words, word)) {
            strvec_push(&words, word);
            width = text_width(word) > width ? text_width(word) : width;
        }
    }
    fputs("slipway COMMAND [OPTION]… [ARGUMENT]…\n\n"
          "  from raw data to a served, versioned model, on one machine or many\n\n",
          out);
    put_title(out, "Commands");
    for (size_t i = 0; i < words.count; i++) {
        cleanup_free char *text = describe_word(tables, words.items[i]);

        put_pair(out, words.items[i], width, text);
    }
    put_options(out, "Options of every command", command_global_options, NULL);
    fputc('\n', out);
    put_title(out, "Exit status");
    for (const struct exit_row *row = exit_rows; row->meaning; row++)
        fprintf(out, "  %3d  %s\n", row->status, row->meaning);
    fputs("\n'slipway help COMMAND' says more about one of them.\n", out);
}

int help_print(FILE *out, command_tables tables, char *const *words, int n_words, struct error *error)
{
    struct strvec vector = {(char **)words, (size_t)n_words, 0};
    cleanup_free char *name = NULL;
    const struct command *command;
    bool is_group = false;

    if (n_words == 0) {
        help_overview(out, tables);
        return 0;
    }
    name = strvec_join(&vector, " ");
    command = command_find(tables, name);
    command_foreach(tables, other)
    {
        is_group = is_group || (command_is_in_group(other, name) && !other->hidden);
    }
    if (!command && !is_group)
        return error_set(error, ERROR_INVALID, "there is no command '%.80s'; 'slipway help' lists them", name);
    if (command)
        help_command(out, command);
    if (is_group) {
        if (command)
            fputc('\n', out);
        put_title(out, command ? "More commands" : "Commands");
        put_commands(out, tables, name);
    }
    return 0;
}
