#include <stdlib.h>
#include <string.h>
#include "cli/completion.h"
#include "util/test.h"

static const struct option import_options[] = {
    {"label", 'l', "COLUMN", "column that holds the label"},
    {"format", 0, "csv|npy", "format of the files"},
    {"file", 'f', "FILE", "a file"},
    {},
};
static const struct command rows[] = {
    {"dataset import", "NAME FILE…", "import files", import_options},
    {"dataset ls", NULL, "list datasets"},
    {"run", "SCRIPT|DIR", "run a program"},
    {"runs why", "[RUN]", "why a run waits"},
    {"monitor", NULL, "internal", .hidden = true},
    {"color", "red|green", "choose"},
    {},
};
static const struct command *const tables[] = {rows, NULL};

static void expect(const char *line, const char *candidates)
{
    struct strvec words = STRVEC_INIT;
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    strvec_split(&words, line, ' ');
    completion_candidates(out, tables, words.items, (int)words.count);
    fclose(out);
    if (strcmp(text, candidates) != 0)
        fail_msg("for '%s': '%s', not '%s'", line, text, candidates);
    free(text);
    strvec_release(&words);
}

static void test_candidates(void **state)
{
    expect("", "dataset\nrun\trun a program\nruns\ncolor\tchoose\n");
    expect("da", "dataset\n");
    expect("mon", "");
    expect("dataset ", "import\timport files\nls\tlist datasets\n");
    expect("dataset i", "import\timport files\n");
    expect("--project x dataset l", "ls\tlist datasets\n");
    expect("dataset import --l", "--label\tcolumn that holds the label\n");
    expect("dataset import --format ", "csv\nnpy\n");
    expect("dataset import --format n", "npy\n");
    expect("dataset import -f ", ":files\n");
    expect("dataset import --format csv x ", ":files\n");
    expect("dataset import name ", ":files\n");
    expect("dataset import name file ", ":files\n");
    expect("dataset ls ", "");
    expect("run ", ":files\n");
    expect("run x ", "");
    expect("color gr", "green\n");
}

static void test_scripts(void **state)
{
    static const char *const shells[] = {"bash", "zsh", "fish"};
    cleanup_error struct error error = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(shells); i++) {
        cleanup_free char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);

        assert_ok(completion_script(out, shells[i], &error), &error);
        fclose(out);
        assert_non_null(strstr(text, " complete -- "));
    }
    assert_error(completion_script(stdout, "csh", &error), &error, ERROR_INVALID, "bash, zsh and fish");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_candidates),
        cmocka_unit_test(test_scripts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
