#include <limits.h>
#include <string.h>
#include "cli/client.h"
#include "cli/command.h"
#include "cli/help.h"
#include "util/limits.h"
#include "util/test.h"

static int run_nothing(struct invocation *invocation, struct error *error)
{
    return 0;
}

static const struct option import_options[] = {
    {"label", 'l', "COLUMN", "column that holds the label"},
    {"force", 'f', NULL, "do not ask"},
    {"verbose", 'v', NULL, "say more"},
    {"param", 0, "K=V", "a parameter", .repeats = true},
    {"seed", 0, "N", "seed"},
    {"share", 0, "X", "share"},
    {"memory", 0, "SIZE", "memory"},
    {"timeout", 0, "TIME", "time"},
    {},
};
static const struct command dataset_rows[] = {
    {"dataset import", "NAME FILE…", "import files", import_options, run_nothing, .offline = true},
    {"dataset ls", "[NAME]", "list", NULL, run_nothing, .offline = true},
    {"dataset", "NAME", "show one", NULL, run_nothing, .offline = true},
    {},
};
static const struct option serve_options[] = {
    {"token", 0, NULL, "a flag here"},
    {},
};
static const struct option run_options[] = {
    {"data", 'd', "DATASET", "data to see", .repeats = true},
    {},
};
static const struct command other_rows[] = {
    {"run", "SCRIPT", "run", run_options, run_nothing, .offline = true},
    {"serve", NULL, "run the daemon", serve_options, run_nothing, .offline = true},
    {"job code push", "JOB DIR", "push code", NULL, run_nothing},
    {"inner", NULL, "not for people", NULL, run_nothing, .offline = true, .hidden = true},
    {},
};
static const struct command *const tables[] = {dataset_rows, other_rows, NULL};

/* Splits at blanks, runs the parser, returns its result. */
struct line {
    struct strvec argv;
    struct invocation *invocation;
    enum command_parsed what;
    struct error error;
};

static int parse_line(struct line *line, const char *text)
{
    *line = (struct line){STRVEC_INIT, NULL, COMMAND_RUN, ERROR_INIT};
    strvec_push(&line->argv, "slipway");
    if (*text)
        strvec_split(&line->argv, text, ' ');
    return command_parse(tables, (int)line->argv.count, line->argv.items, &line->invocation, &line->what, &line->error);
}

static void release_line(struct line *line)
{
    line->invocation = invocation_free(line->invocation);
    error_clear(&line->error);
    strvec_release(&line->argv);
}

static void expect_error(const char *text, const char *message)
{
    struct line line;
    int result = parse_line(&line, text);

    if (result == 0)
        fail_msg("'%s' was accepted", text);
    assert_error(result, &line.error, ERROR_INVALID, message);
    release_line(&line);
}

static void test_finds_the_longest_name(void **state)
{
    static const struct {
        const char *text, *command;
        int arguments;
    } lines[] = {
        {"dataset import a b", "dataset import", 2},
        {"dataset ls", "dataset ls", 0},
        {"dataset digits", "dataset", 1},
        {"--json dataset ls", "dataset ls", 0},
        {"--project team dataset --data /d ls digits", "dataset ls", 1},
        {"job code push x .", "job code push", 2},
        {"dataset import a -- --json -x", "dataset import", 3},
        {"dataset import - -", "dataset import", 2},
    };

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        struct line line;

        assert_ok(parse_line(&line, lines[i].text), &line.error);
        assert_int_equal(line.what, COMMAND_RUN);
        assert_string_equal(line.invocation->command->name, lines[i].command);
        assert_int_equal(line.invocation->n_arguments, lines[i].arguments);
        assert_null(line.invocation->arguments[lines[i].arguments]);
        release_line(&line);
    }
}

static void test_options(void **state)
{
    struct line line;
    int64_t seed = 42, timeout;
    uint64_t memory;
    double share;

    assert_ok(parse_line(&line, "dataset import -vflx a b --param k=1 --param=k=2 --json --seed=7 --memory 1500M "
                                "--share 0.25 --timeout 5m"),
              &line.error);
    assert_true(line.invocation->json);
    assert_true(option_flag(line.invocation, "verbose"));
    assert_true(option_flag(line.invocation, "force"));
    assert_false(option_flag(line.invocation, "project"));
    assert_string_equal(option_value(line.invocation, "label"), "x");
    assert_int_equal(option_values(line.invocation, "param")->count, 2);
    assert_string_equal(option_values(line.invocation, "param")->items[1], "k=2");
    assert_int_equal(option_values(line.invocation, "nothing")->count, 0);
    assert_ok(option_int(line.invocation, "seed", 0, 10, &seed, &line.error), &line.error);
    assert_int_equal(seed, 7);
    assert_ok(option_bytes(line.invocation, "memory", &memory, &line.error), &line.error);
    assert_int_equal(memory, 1500 * MIB);
    assert_ok(option_number(line.invocation, "share", 0, 1, &share, &line.error), &line.error);
    assert_true(share == 0.25);
    assert_ok(option_duration_ms(line.invocation, "timeout", &timeout, &line.error), &line.error);
    assert_int_equal(timeout, 300000);
    assert_error(option_int(line.invocation, "seed", 0, 5, &seed, &line.error), &line.error, ERROR_INVALID, "--seed: ");
    release_line(&line);
}

static void test_own_option_hides_the_global_one(void **state)
{
    cleanup_free char *data = NULL;
    struct line line;

    assert_ok(parse_line(&line, "serve --token"), &line.error);
    assert_true(option_flag(line.invocation, "token"));
    release_line(&line);
    /* Before the name it is the global one, which the command does not see as its own. */
    assert_ok(parse_line(&line, "--token secret serve"), &line.error);
    assert_false(option_flag(line.invocation, "token"));
    release_line(&line);
    assert_ok(parse_line(&line, "--data /d run x --data digits --data more"), &line.error);
    data = invocation_data_directory(line.invocation);
    assert_string_equal(data, "/d");
    assert_int_equal(option_values(line.invocation, "data")->count, 2);
    assert_string_equal(option_value(line.invocation, "data"), "more");
    release_line(&line);
}

static void test_mistakes(void **state)
{
    expect_error("dataste ls", "did you mean 'slipway dataset'?");
    expect_error("srve", "did you mean 'slipway serve'?");
    expect_error("zzzzzzzz", "'slipway help' lists them");
    expect_error("dataset imprt a b", "unexpected argument");
    expect_error("job", "needs an action");
    expect_error("job code", "needs an action");
    expect_error("job cod push", "unknown command 'job cod'; did you mean 'slipway job code'?");
    expect_error("dataset import a b --lable x", "did you mean --label?");
    expect_error("dataset import a b --qqqqqqqqq", "'slipway help dataset import' lists them");
    expect_error("dataset import a b -q", "unknown option '-q'");
    expect_error("dataset import a b --label", "needs a value: COLUMN");
    expect_error("dataset import a b -l", "needs a value");
    expect_error("dataset import a b --force=yes", "takes no value");
    expect_error("dataset import a b --label x --label y", "more than once");
    expect_error("dataset import a", "needs NAME FILE…");
    expect_error("dataset ls a b", "unexpected argument 'b'");
    expect_error("serve now", "unexpected argument 'now'");
}

static void test_help(void **state)
{
    static const struct {
        const char *text;
        enum command_parsed what;
        const char *command;
    } lines[] = {
        {"", COMMAND_HELP, NULL},
        {"--help", COMMAND_HELP, NULL},
        {"-h", COMMAND_HELP, NULL},
        {"dataset import --help", COMMAND_HELP, "dataset import"},
        {"--help dataset import", COMMAND_HELP, "dataset import"},
        {"job --help", COMMAND_HELP, NULL},
        {"--version", COMMAND_VERSION, NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        struct line line;
        const char *name;

        assert_ok(parse_line(&line, lines[i].text), &line.error);
        assert_int_equal(line.what, lines[i].what);
        name = line.invocation->command ? line.invocation->command->name : NULL;
        if (lines[i].command)
            assert_string_equal(name, lines[i].command);
        else
            assert_null(name);
        release_line(&line);
    }
}

static void test_help_text(void **state)
{
    cleanup_free char *overview = NULL, *group = NULL;
    cleanup_error struct error error = ERROR_INIT;
    char *words[] = {(char *)"dataset", NULL};
    size_t size;
    FILE *out = open_memstream(&overview, &size);

    help_overview(out, tables);
    fclose(out);
    assert_non_null(strstr(overview, "dataset"));
    assert_non_null(strstr(overview, "show one; import, ls"));
    assert_null(strstr(overview, "not for people"));

    out = open_memstream(&group, &size);
    assert_ok(help_print(out, tables, words, 1, &error), &error);
    fclose(out);
    assert_non_null(strstr(group, "dataset import"));
    words[0] = (char *)"nothing";
    assert_error(help_print(stdout, tables, words, 1, &error), &error, ERROR_INVALID, "no command 'nothing'");
}

static void test_arity(void **state)
{
    static const struct {
        const char *arguments;
        int min, max;
    } rows[] = {
        {NULL, 0, 0},         {"NAME", 1, 1}, {"[NAME]", 0, 1}, {"NAME FILE…", 2, INT_MAX}, {"[FILE…]", 0, INT_MAX},
        {"A|B [C] [D]", 1, 3}};
    int min, max;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct command row = {"x", rows[i].arguments};

        command_arity(&row, &min, &max);
        assert_int_equal(min, rows[i].min);
        assert_int_equal(max, rows[i].max);
    }
}

static void test_data_directory(void **state)
{
    struct line line;
    cleanup_free char *given = NULL, *from_data = NULL, *from_xdg = NULL, *from_home = NULL, *system = NULL;

    setenv("SLIPWAY_DATA", "/env", 1);
    setenv("XDG_DATA_HOME", "/xdg", 1);
    setenv("HOME", "/home/me", 1);
    assert_ok(parse_line(&line, "serve --data /given"), &line.error);
    given = invocation_data_directory(line.invocation);
    assert_string_equal(given, "/given");
    release_line(&line);
    from_data = data_directory_or_default(NULL);
    assert_string_equal(from_data, "/env");
    unsetenv("SLIPWAY_DATA");
    from_xdg = data_directory_or_default(NULL);
    assert_string_equal(from_xdg, "/xdg/slipway");
    unsetenv("XDG_DATA_HOME");
    from_home = data_directory_or_default(NULL);
    assert_string_equal(from_home, "/home/me/.local/share/slipway");
    unsetenv("HOME");
    system = data_directory_or_default(NULL);
    assert_string_equal(system, "/var/lib/slipway");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_the_longest_name),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_own_option_hides_the_global_one),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_help_text),
        cmocka_unit_test(test_arity),
        cmocka_unit_test(test_data_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
