#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/client.h"
#include "cli/command.h"
#include "util/fs.h"
#include "util/map.h"
#include "util/parse.h"
#include "util/xalloc.h"

const struct option command_global_options[] = {
    {"json", 0, NULL, "print JSON for programs"},
    {"project", 0, "PROJECT", "name space to work in (SLIPWAY_PROJECT; default)"},
    {"url", 0, "URL", "daemon to talk to: http(s)://HOST:PORT or unix:PATH (SLIPWAY_URL)"},
    {"token", 0, "TOKEN", "bearer token (SLIPWAY_TOKEN; better there, where other users do not see it)"},
    {"data", 0, "DIR", "data directory of the local daemon (SLIPWAY_DATA)"},
    {"help", 'h', NULL, "show help"},
    {},
};

/* What was given: option name → struct strvec of its values (a flag has one empty value). An option of the
 * command's own rows and the global one of the same name are two things. */
struct parsed {
    struct map own, global;
};

static void free_values(void *values)
{
    strvec_release(values);
    free(values);
}

static const struct option *find_in(const struct option *options, const char *name, size_t length, char letter)
{
    for (; options && options->name; options++) {
        if (name && strlen(options->name) == length && strncmp(options->name, name, length) == 0)
            return options;
        if (!name && options->letter == letter)
            return options;
    }
    return NULL;
}

static const struct strvec *values_of(const struct invocation *invocation, const char *name)
{
    const struct parsed *parsed = invocation->implementation_;
    bool is_own = invocation->command && find_in(invocation->command->options, name, strlen(name), 0);

    return map_get(is_own ? &parsed->own : &parsed->global, name);
}

/* The value of a global option, whatever the command's own rows say. */
static const char *global_value(const struct invocation *invocation, const char *name)
{
    const struct parsed *parsed = invocation->implementation_;
    const struct strvec *values = map_get(&parsed->global, name);

    return values ? values->items[values->count - 1] : NULL;
}

const char *option_value(const struct invocation *invocation, const char *name)
{
    const struct strvec *values = values_of(invocation, name);

    return values ? values->items[values->count - 1] : NULL;
}

bool option_flag(const struct invocation *invocation, const char *name)
{
    return values_of(invocation, name) != NULL;
}

const struct strvec *option_values(const struct invocation *invocation, const char *name)
{
    static const struct strvec none = STRVEC_INIT;
    const struct strvec *values = values_of(invocation, name);

    return values ? values : &none;
}

int option_int(const struct invocation *invocation, const char *name, int64_t min, int64_t max, int64_t *ret_value,
               struct error *error)
{
    const char *text = option_value(invocation, name);

    return text && parse_int(text, min, max, ret_value, error) < 0 ? error_wrap(error, "--%s", name) : 0;
}

int option_number(const struct invocation *invocation, const char *name, double min, double max, double *ret_value,
                  struct error *error)
{
    const char *text = option_value(invocation, name);

    return text && parse_number(text, min, max, ret_value, error) < 0 ? error_wrap(error, "--%s", name) : 0;
}

int option_bytes(const struct invocation *invocation, const char *name, uint64_t *ret_value, struct error *error)
{
    const char *text = option_value(invocation, name);

    return text && parse_bytes(text, ret_value, error) < 0 ? error_wrap(error, "--%s", name) : 0;
}

int option_duration_ms(const struct invocation *invocation, const char *name, int64_t *ret_value, struct error *error)
{
    const char *text = option_value(invocation, name);

    return text && parse_duration_ms(text, ret_value, error) < 0 ? error_wrap(error, "--%s", name) : 0;
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? value : NULL;
}

char *invocation_data_directory(const struct invocation *invocation)
{
    return data_directory_or_default(global_value(invocation, "data"));
}

char *data_directory_or_default(const char *directory)
{
    if (!directory)
        directory = environment("SLIPWAY_DATA");
    if (directory)
        return xstrdup(directory);
    directory = environment("XDG_DATA_HOME");
    if (directory)
        return fs_join(directory, "slipway");
    directory = environment("HOME");
    return directory ? fs_join(directory, ".local/share/slipway") : xstrdup("/var/lib/slipway");
}

const char *invocation_project(const struct invocation *invocation)
{
    const char *project = global_value(invocation, "project");

    return project ? project : environment("SLIPWAY_PROJECT");
}

/* -- finding -- */

/* Damerau-Levenshtein distance (optimal string alignment) of short words. */
static int distance(const char *a, const char *b)
{
    int rows[3][64];
    size_t length_a = strlen(a), length_b = strlen(b);

    if (length_a > 63 || length_b > 62)
        return INT_MAX;
    for (size_t j = 0; j <= length_b; j++)
        rows[0][j] = (int)j;
    for (size_t i = 1; i <= length_a; i++) {
        int *row = rows[i % 3], *before = rows[(i + 2) % 3], *before2 = rows[(i + 1) % 3];

        row[0] = (int)i;
        for (size_t j = 1; j <= length_b; j++) {
            int least = before[j - 1] + (a[i - 1] != b[j - 1]);

            least = before[j] + 1 < least ? before[j] + 1 : least;
            least = row[j - 1] + 1 < least ? row[j - 1] + 1 : least;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before2[j - 2] + 1 < least)
                least = before2[j - 2] + 1;
            row[j] = least;
        }
    }
    return rows[length_a % 3][length_b];
}

const char *nearest_word(const char *word, const struct strvec *candidates)
{
    int least = INT_MAX, allowed = (int)strlen(word) / 3 + 1;
    const char *nearest = NULL;

    for (size_t i = 0; i < candidates->count; i++) {
        int d = distance(word, candidates->items[i]);

        if (d < least) {
            least = d;
            nearest = candidates->items[i];
        }
    }
    return least <= allowed ? nearest : NULL;
}

bool command_is_in_group(const struct command *command, const char *group)
{
    size_t length = strlen(group);

    return strncmp(command->name, group, length) == 0 && command->name[length] == ' ';
}

const struct command *command_find(command_tables tables, const char *name)
{
    command_foreach(tables, command)
    {
        if (strcmp(command->name, name) == 0)
            return command;
    }
    return NULL;
}

static bool is_group(command_tables tables, const char *name)
{
    command_foreach(tables, command)
    {
        if (command_is_in_group(command, name))
            return true;
    }
    return false;
}

void command_arity(const struct command *command, int *ret_min, int *ret_max)
{
    cleanup_strvec struct strvec words = STRVEC_INIT;
    int min = 0, max = 0;

    if (command->arguments)
        strvec_split(&words, command->arguments, ' ');
    for (size_t i = 0; i < words.count; i++) {
        min += words.items[i][0] != '[';
        if (strstr(words.items[i], "…"))
            max = INT_MAX;
        else if (max != INT_MAX)
            max++;
    }
    *ret_min = min;
    *ret_max = max;
}

/* -- parsing -- */

struct parse {
    command_tables tables;
    const struct command *command;
    struct invocation *invocation;
    struct error *error;
    bool version;     /* --version was given */
    bool before_name; /* the word at hand stands before the command's name */
};

/* Before the command's name only global options make sense; behind it, the command's own options hide the
 * global ones of the same name. */
static const struct option *find_option(const struct parse *parse, const char *name, size_t length, char letter)
{
    const struct option *option = NULL;

    if (parse->command && !parse->before_name)
        option = find_in(parse->command->options, name, length, letter);
    return option ? option : find_in(command_global_options, name, length, letter);
}

static void add_value(struct parse *parse, const struct option *option, const char *value)
{
    struct parsed *parsed = parse->invocation->implementation_;
    bool is_global = option >= command_global_options &&
                     option < command_global_options + ARRAY_SIZE(command_global_options);
    struct map *map = is_global ? &parsed->global : &parsed->own;
    struct strvec *values = map_get(map, option->name);

    if (!values) {
        values = xnew0(struct strvec);
        map_put(map, option->name, values);
    }
    strvec_push(values, value);
}

static int fail_unknown_option(const struct parse *parse, const char *text)
{
    cleanup_strvec struct strvec names = STRVEC_INIT;
    cleanup_free char *word = xstrndup(text, strcspn(text, "="));
    const char *nearest;

    if (parse->command)
        for (const struct option *o = parse->command->options; o && o->name; o++)
            strvec_pushf(&names, "--%s", o->name);
    for (const struct option *o = command_global_options; o->name; o++)
        strvec_pushf(&names, "--%s", o->name);
    nearest = nearest_word(word, &names);
    if (nearest)
        return error_set(parse->error, ERROR_INVALID, "unknown option '%.80s'; did you mean %s?", word, nearest);
    return error_set(parse->error, ERROR_INVALID, "unknown option '%.80s'; 'slipway help%s%s' lists them", word,
                     parse->command ? " " : "", parse->command ? parse->command->name : "");
}

static int take_value(const struct parse *parse, const struct option *option, char ***next, const char **ret_value)
{
    if (!**next)
        return error_set(parse->error, ERROR_INVALID, "option '--%s' needs a value: %s", option->name,
                         option->argument);
    *ret_value = *(*next)++;
    return 0;
}

/* "--name", "--name=value" or "--name value". */
static int parse_long(struct parse *parse, const char *text, char ***next)
{
    const char *equals = strchr(text, '='), *value = equals ? equals + 1 : "";
    size_t length = equals ? (size_t)(equals - text) - 2 : strlen(text) - 2;
    const struct option *option;

    if (strcmp(text, "--version") == 0) {
        parse->version = true;
        return 0;
    }
    option = find_option(parse, text + 2, length, 0);
    if (!option)
        return fail_unknown_option(parse, text);
    if (!option->argument && equals)
        return error_set(parse->error, ERROR_INVALID, "option '--%s' takes no value", option->name);
    if (option->argument && !equals && take_value(parse, option, next, &value) < 0)
        return -1;
    add_value(parse, option, value);
    return 0;
}

/* "-f", "-abc" for flags, "-lVALUE" or "-l VALUE". */
static int parse_letters(struct parse *parse, const char *text, char ***next)
{
    for (const char *p = text + 1; *p; p++) {
        const struct option *option = find_option(parse, NULL, 0, *p);
        const char *value = p + 1;

        if (!option)
            return fail_unknown_option(parse, text);
        if (!option->argument) {
            add_value(parse, option, "");
            continue;
        }
        if (!*value && take_value(parse, option, next, &value) < 0)
            return -1;
        add_value(parse, option, value);
        return 0;
    }
    return 0;
}

/* True for an option that consumes the next word, as far as can be told before the command is known: a
 * global one with a value, given without "=". */
static bool takes_next_word(const char *text)
{
    const struct option *option;

    if (strncmp(text, "--", 2) != 0 || strchr(text, '='))
        return false;
    option = find_in(command_global_options, text + 2, strlen(text) - 2, 0);
    return option && option->argument;
}

/* The command is the longest name that the leading words make; global options may stand before and
 * between them. Its words are removed from argv, so that only its own arguments are left; the first
 * *ret_before of these stood before the name. */
static const struct command *find_command(command_tables tables, char **argv, size_t *ret_before)
{
    cleanup_free char *name = NULL;
    const struct command *command = NULL;
    size_t used[16], n_used = 0, n_words = 0;

    for (size_t i = 0; argv[i] && n_words < ARRAY_SIZE(used); i++) {
        const struct command *found;
        char *longer;

        if (takes_next_word(argv[i]) && argv[i + 1])
            i++;
        else if (argv[i][0] != '-' || !argv[i][1]) {
            longer = name ? xasprintf("%s %s", name, argv[i]) : xstrdup(argv[i]);
            free(name);
            name = longer;
            used[n_words++] = i;
            found = command_find(tables, name);
            if (found) {
                command = found;
                n_used = n_words;
            }
            if (!is_group(tables, name))
                break;
        } else if (strcmp(argv[i], "--") == 0) {
            break;
        }
    }
    *ret_before = n_used ? used[0] : 0;
    for (size_t i = n_used; i-- > 0;)
        for (char **p = &argv[used[i]]; *p; p++)
            p[0] = p[1];
    return command;
}

/* The words that may follow `group` ("": that commands begin with). */
static void list_words(command_tables tables, const char *group, struct strvec *ret_words)
{
    command_foreach(tables, command)
    {
        const char *rest = *group ? command->name + strlen(group) + 1 : command->name;
        cleanup_free char *word = NULL;

        if (command->hidden || (*group && !command_is_in_group(command, group)))
            continue;
        word = xstrndup(rest, strcspn(rest, " "));
        if (!strvec_contains(ret_words, word))
            strvec_push(ret_words, word);
    }
}

static int fail_unknown_command(struct parse *parse, const struct strvec *words)
{
    cleanup_strvec struct strvec candidates = STRVEC_INIT;
    cleanup_free char *group = xstrdup("");
    const char *nearest, *blank, *wrong = NULL;

    /* As many words as make a group; the next one is what is wrong. */
    for (size_t i = 0; i < words->count && !wrong; i++) {
        char *longer = *group ? xasprintf("%s %s", group, words->items[i]) : xstrdup(words->items[i]);

        if (is_group(parse->tables, longer)) {
            free(group);
            group = longer;
        } else {
            free(longer);
            wrong = words->items[i];
        }
    }
    blank = *group ? " " : "";
    if (!wrong)
        return error_set(parse->error, ERROR_INVALID, "'slipway %s' needs an action; 'slipway help %s' lists them",
                         group, group);
    list_words(parse->tables, group, &candidates);
    nearest = nearest_word(wrong, &candidates);
    if (nearest)
        return error_set(parse->error, ERROR_INVALID, "unknown command '%s%s%.80s'; did you mean 'slipway %s%s%s'?",
                         group, blank, wrong, group, blank, nearest);
    return error_set(parse->error, ERROR_INVALID, "unknown command '%s%s%.80s'; 'slipway help%s%s' lists them", group,
                     blank, wrong, blank, group);
}

static int parse_words(struct parse *parse, char **argv, size_t before)
{
    struct invocation *invocation = parse->invocation;
    bool only_positional = false;

    for (char **next = argv; *next;) {
        char *text = *next;

        parse->before_name = next++ < argv + before;
        if (!only_positional && strcmp(text, "--") == 0)
            only_positional = true;
        else if (only_positional || text[0] != '-' || !text[1])
            invocation->arguments[invocation->n_arguments++] = text;
        else if ((text[1] == '-' ? parse_long(parse, text, &next) : parse_letters(parse, text, &next)) < 0)
            return -1;
    }
    invocation->arguments[invocation->n_arguments] = NULL;
    return 0;
}

static int check_arity(const struct parse *parse)
{
    const struct command *command = parse->command;
    const struct invocation *invocation = parse->invocation;
    int min, max;

    command_arity(command, &min, &max);
    if (invocation->n_arguments < min)
        return error_set(parse->error, ERROR_INVALID, "'slipway %s' needs %s; see 'slipway help %s'", command->name,
                         command->arguments, command->name);
    if (invocation->n_arguments > max)
        return error_set(parse->error, ERROR_INVALID, "unexpected argument '%.80s'; see 'slipway help %s'",
                         invocation->arguments[max], command->name);
    return 0;
}

static int check_repeats(const struct parse *parse)
{
    for (const struct option *o = parse->command->options; o && o->name; o++)
        if (!o->repeats && option_values(parse->invocation, o->name)->count > 1)
            return error_set(parse->error, ERROR_INVALID, "option '--%s' is given more than once", o->name);
    return 0;
}

static void connect_client(struct invocation *invocation)
{
    cleanup_free char *data = invocation_data_directory(invocation);
    struct client_options options = {
        .url = global_value(invocation, "url"),
        .token = global_value(invocation, "token"),
        .data_directory = data,
        .project = invocation_project(invocation),
    };

    if (!options.url && !global_value(invocation, "data"))
        options.url = environment("SLIPWAY_URL");
    /* The socket knows its peer: a token for some other purpose would only take rights away. */
    if (options.url && !options.token)
        options.token = environment("SLIPWAY_TOKEN");
    invocation->client = client_new(&options);
}

/* --help and "help …": the words are left in `arguments`. */
static enum command_parsed what_is_wanted(const struct parse *parse)
{
    if (parse->version)
        return COMMAND_VERSION;
    return option_flag(parse->invocation, "help") ? COMMAND_HELP : COMMAND_RUN;
}

static struct invocation *new_invocation(int argc)
{
    struct invocation *invocation = xnew0(struct invocation);
    struct parsed *parsed = xnew0(struct parsed);

    parsed->own = parsed->global = (struct map)MAP_INIT(free_values);
    invocation->implementation_ = parsed;
    invocation->arguments = xcalloc((size_t)argc + 1, sizeof(char *));
    return invocation;
}

static int parse_command(struct parse *parse, char **words, size_t before, enum command_parsed *ret_what)
{
    struct invocation *invocation = parse->invocation;

    if (parse_words(parse, words, before) < 0)
        return -1;
    *ret_what = what_is_wanted(parse);
    if (*ret_what != COMMAND_RUN)
        return 0;
    if (!parse->command && invocation->n_arguments == 0) {
        *ret_what = COMMAND_HELP;
        return 0;
    }
    if (!parse->command) {
        struct strvec given = {invocation->arguments, (size_t)invocation->n_arguments, 0};

        return fail_unknown_command(parse, &given);
    }
    if (check_arity(parse) < 0 || check_repeats(parse) < 0)
        return -1;
    invocation->json = option_flag(invocation, "json");
    if (!parse->command->offline)
        connect_client(invocation);
    return 0;
}

int command_parse(command_tables tables, int argc, char **argv, struct invocation **ret_invocation,
                  enum command_parsed *ret_what, struct error *error)
{
    cleanup_invocation struct invocation *invocation = new_invocation(argc);
    cleanup_free char **words = xcalloc((size_t)argc + 1, sizeof(char *));
    struct parse parse = {.tables = tables, .invocation = invocation, .error = error};
    size_t before;

    for (int i = 1; i < argc; i++)
        words[i - 1] = argv[i];
    parse.command = invocation->command = find_command(tables, words, &before);
    if (parse_command(&parse, words, before, ret_what) < 0)
        return -1;
    *ret_invocation = steal_ptr(invocation);
    return 0;
}

struct invocation *invocation_free(struct invocation *invocation)
{
    struct parsed *parsed;

    if (!invocation)
        return NULL;
    parsed = invocation->implementation_;
    map_release(&parsed->own);
    map_release(&parsed->global);
    free(parsed);
    client_free(invocation->client);
    free(invocation->arguments);
    free(invocation);
    return NULL;
}
