#include <stdlib.h>
#include <string.h>
#include "cli/client.h"
#include "cli/completion.h"
#include "util/xalloc.h"

/* Names that the daemon knows, by the word that stands for them in a row's arguments. */
static const struct {
    const char *word, *path, *key, *note;
} sources[] = {
    {"DATASET", "/api/v1/datasets", "name", "description"},
    {"ENVIRONMENT", "/api/v1/environments", "name", "kind"},
    {"JOB", "/api/v1/jobs", "name", NULL},
    {"RUN", "/api/v1/runs", "id", "state"},
    {"MODEL", "/api/v1/models", "name", NULL},
    {"ENDPOINT", "/api/v1/endpoints", "name", "state"},
    {"PROJECT", "/api/v1/projects", "name", NULL},
};

#define NAMES_MAX 100 /* a shell that lists more helps nobody */

static void put_candidate(FILE *out, const char *value, const char *note, const char *prefix)
{
    if (strncmp(value, prefix, strlen(prefix)) == 0)
        fprintf(out, "%s%s%s\n", value, note && *note ? "\t" : "", note ? note : "");
}

/* Failing to reach the daemon is no error here: there is nothing to propose then. */
static void put_names(FILE *out, size_t source, const char *prefix)
{
    struct client_options options = {.url = getenv("SLIPWAY_URL"), .token = getenv("SLIPWAY_TOKEN")};
    cleanup_client struct client *client = NULL;
    cleanup_json json_t *items = NULL;
    cleanup_free char *data = data_directory_or_default(NULL);
    const json_t *item;
    size_t i;

    options.data_directory = data;
    client = client_new(&options);
    if (client_list(client, sources[source].path, NULL, NAMES_MAX, &items, NULL) < 0)
        return;
    json_array_foreach(items, i, item) {
        const char *note = sources[source].note ? json_get_string(item, sources[source].note, NULL) : NULL;

        put_candidate(out, json_get_string(item, sources[source].key, ""), note, prefix);
    }
}

/* Candidates for a value described by a placeholder: "DATASET", "FILE…", "[SCRIPT|DIR|ZIP]", "a|b|c". */
static void put_values(FILE *out, const char *placeholder, size_t length, const char *prefix)
{
    cleanup_free char *word = xstrndup(placeholder, length);

    for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
        const char *found = strstr(word, sources[i].word);

        if (found && (found == word || found[-1] == '[' || found[-1] == '|'))
            put_names(out, i, prefix);
    }
    if (strstr(word, "FILE") || strstr(word, "SCRIPT") || strstr(word, "ZIP"))
        fputs(":files\n", out);
    else if (strstr(word, "DIR"))
        fputs(":directories\n", out);
    else if (strchr(word, '|') && word[strcspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")] == 0) {
        cleanup_strvec struct strvec choices = STRVEC_INIT;

        word[strcspn(word, "]…")] = 0;
        strvec_split(&choices, word[0] == '[' ? word + 1 : word, '|');
        for (size_t i = 0; i < choices.count; i++)
            put_candidate(out, choices.items[i], NULL, prefix);
    }
}

static void put_options(FILE *out, const struct option *options, const char *prefix)
{
    for (; options && options->name; options++) {
        cleanup_free char *name = xasprintf("--%s", options->name);

        put_candidate(out, name, options->help, prefix);
    }
}

static const struct option *find_option(const struct command *command, const char *text)
{
    const struct option *tables[] = {command ? command->options : NULL, command_global_options};

    for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
        for (const struct option *o = tables[i]; o && o->name; o++)
            if ((strncmp(text, "--", 2) == 0 && strcmp(text + 2, o->name) == 0) ||
                (text[0] == '-' && text[1] && text[1] == o->letter && !text[2]))
                return o;
    return NULL;
}

/* The next word of the names that begin with `group` (all names if it is empty). */
static void put_command_words(FILE *out, command_tables tables, const char *group, const char *prefix)
{
    cleanup_strvec struct strvec seen = STRVEC_INIT;
    size_t skip = *group ? strlen(group) + 1 : 0;

    command_foreach(tables, command)
    {
        cleanup_free char *word = NULL;
        const char *rest = command->name + skip;
        bool whole;

        if (command->hidden || (*group && !command_is_in_group(command, group)))
            continue;
        word = xstrndup(rest, strcspn(rest, " "));
        whole = strcmp(word, rest) == 0;
        if (strvec_contains(&seen, word))
            continue;
        strvec_push(&seen, word);
        put_candidate(out, word, whole ? command->summary : NULL, prefix);
    }
}

/* Reads the words before the last one: which command they name, how many arguments they give. */
struct position {
    const struct command *command;
    char *name; /* the words that were taken as a name; owned */
    bool name_ended;
    int arguments;             /* positional ones that are complete */
    const struct option *open; /* the last word is this option's value */
};

static void read_words(struct position *position, command_tables tables, char *const *words, int n_words)
{
    for (int i = 0; i < n_words; i++) {
        cleanup_free char *longer = NULL;
        bool continues = false;

        if (words[i][0] == '-' && words[i][1]) {
            const struct option *option = find_option(position->command, words[i]);

            if (option && option->argument && !strchr(words[i], '=')) {
                if (i + 1 == n_words)
                    position->open = option;
                i++;
            }
            continue;
        }
        longer = *position->name ? xasprintf("%s %s", position->name, words[i]) : xstrdup(words[i]);
        command_foreach(tables, command)
        {
            if (strcmp(command->name, longer) == 0)
                position->command = command;
            continues = continues || strcmp(command->name, longer) == 0 || command_is_in_group(command, longer);
        }
        if (continues && !position->name_ended && position->arguments == 0) {
            free(position->name);
            position->name = steal_ptr(longer);
        } else {
            position->name_ended = true;
            position->arguments++;
        }
    }
}

static void put_argument(FILE *out, const struct command *command, int index, const char *prefix)
{
    cleanup_strvec struct strvec words = STRVEC_INIT;
    const char *word;

    if (!command->arguments)
        return;
    strvec_split(&words, command->arguments, ' ');
    if ((size_t)index >= words.count) {
        word = words.items[words.count - 1];
        if (!strstr(word, "…"))
            return;
    } else {
        word = words.items[index];
    }
    put_values(out, word, strlen(word), prefix);
}

void completion_candidates(FILE *out, command_tables tables, char *const *words, int n_words)
{
    const char *last = n_words ? words[n_words - 1] : "";
    struct position position = {.name = xstrdup("")};

    read_words(&position, tables, words, n_words ? n_words - 1 : 0);
    if (strcmp(position.name, "help") == 0 && position.command) {
        put_command_words(out, tables, "", last);
    } else if (position.open) {
        put_values(out, position.open->argument, strlen(position.open->argument), last);
    } else if (last[0] == '-') {
        put_options(out, position.command ? position.command->options : NULL, last);
        put_options(out, command_global_options, last);
    } else {
        if (!position.name_ended)
            put_command_words(out, tables, position.name, last);
        if (position.command)
            put_argument(out, position.command, position.arguments, last);
    }
    free(position.name);
}

/* -- scripts -- */

static const char bash_script[] =
    "# Completion of slipway for bash: source <(slipway completion bash)\n"
    "_slipway()\n"
    "{\n"
    "    local line candidate current=\"${COMP_WORDS[COMP_CWORD]}\"\n"
    "    local words=(\"${COMP_WORDS[@]:1:COMP_CWORD}\")\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r line; do\n"
    "        candidate=\"${line%%$'\\t'*}\"\n"
    "        case \"$candidate\" in\n"
    "        :files) compopt -o filenames; mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY < <(compgen -f -- "
    "\"$current\") ;;\n"
    "        :directories) compopt -o filenames; mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY < <(compgen -d "
    "-- \"$current\") ;;\n"
    "        *) COMPREPLY+=(\"$(printf '%q' \"$candidate\")\") ;;\n"
    "        esac\n"
    "    done < <(\"${COMP_WORDS[0]}\" complete -- \"${words[@]}\" 2>/dev/null)\n"
    "}\n"
    "complete -F _slipway slipway\n";

static const char zsh_script[] =
    "#compdef slipway\n"
    "# Completion of slipway for zsh: source <(slipway completion zsh)\n"
    "_slipway()\n"
    "{\n"
    "    local line value note\n"
    "    local -a candidates\n"
    "    for line in ${(f)\"$(\"${words[1]}\" complete -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)\"}; do\n"
    "        value=\"${line%%$'\\t'*}\"\n"
    "        note=\"\"\n"
    "        [[ \"$line\" == *$'\\t'* ]] && note=\"${line#*$'\\t'}\"\n"
    "        case \"$value\" in\n"
    "        :files) _files ;;\n"
    "        :directories) _files -/ ;;\n"
    "        *) candidates+=(\"${value//:/\\\\:}${note:+:$note}\") ;;\n"
    "        esac\n"
    "    done\n"
    "    (( ${#candidates} )) && _describe 'slipway' candidates\n"
    "}\n"
    "if [[ \"${funcstack[1]}\" == _slipway ]]; then\n"
    "    _slipway \"$@\"\n"
    "else\n"
    "    compdef _slipway slipway\n"
    "fi\n";

static const char fish_script[] = "# Completion of slipway for fish: slipway completion fish | source\n"
                                  "function __slipway_complete\n"
                                  "    set -l words (commandline -opc) (commandline -ct)\n"
                                  "    for line in ($words[1] complete -- $words[2..-1] 2>/dev/null)\n"
                                  "        switch $line\n"
                                  "            case ':files'\n"
                                  "                __fish_complete_path (commandline -ct)\n"
                                  "            case ':directories'\n"
                                  "                __fish_complete_directories (commandline -ct)\n"
                                  "            case '*'\n"
                                  "                printf '%s\\n' $line\n"
                                  "        end\n"
                                  "    end\n"
                                  "end\n"
                                  "complete -c slipway -f -a '(__slipway_complete)'\n";

static const struct {
    const char *shell, *script;
} scripts[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};

int completion_script(FILE *out, const char *shell, struct error *error)
{
    for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
        if (strcmp(scripts[i].shell, shell) == 0) {
            fputs(scripts[i].script, out);
            return 0;
        }
    }
    return error_set(error, ERROR_INVALID, "completion is there for bash, zsh and fish, not for '%.40s'", shell);
}
