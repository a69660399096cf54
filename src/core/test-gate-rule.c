#include "core/gate.h"
#include "core/rule.h"
#include "util/test.h"

/* The verdict of a rule; -1: it failed or gave something else. */
static int verdict(const char *rule, const char *document_text, char **ret_reason)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *document = json_parse(document_text, strlen(document_text), &error), *values = NULL;
    cleanup_free char *program = gate_translate(rule);
    const json_t *value;

    values = rule_run(program, document, &error);
    if (!values)
        fail_msg("'%s' → '%s': %s", rule, program, error.message);
    value = json_array_get(values, 0);
    if (json_is_object(value)) {
        if (ret_reason)
            *ret_reason = xstrdup(json_get_string(value, "reason", ""));
        value = json_object_get(value, "verdict");
    }
    return json_is_boolean(value) ? json_is_true(value) : -1;
}

#define FIRST  "{\"metrics\":{\"accuracy\":0.75,\"loss\":null,\"eval/top-5\":0.5},\"champion\":null}"
#define SECOND "{\"metrics\":{\"accuracy\":0.75},\"champion\":{\"version\":1,\"metrics\":{\"accuracy\":0.875}}}"

static void test_short_form(void **state)
{
    static const struct {
        const char *rule, *document;
        int expected;
    } rows[] = {
        {"accuracy >= 0.75", FIRST, 1},
        {"accuracy > 0.75", FIRST, 0},
        {"  0.5<accuracy ", FIRST, 1},
        {"eval/top-5 == 0.5", FIRST, 1},
        {"loss < 100", FIRST, 0},       /* null, not small */
        {"nosuch < 100", FIRST, 0},     /* missing, not small */
        {"nosuch != 1", FIRST, 0},
        {"not nosuch < 100", FIRST, 1},
        {"accuracy > champion.accuracy", FIRST, 1}, /* nothing to beat */
        {"accuracy > champion.accuracy", SECOND, 0},
        {"accuracy >= champion.accuracy - 0.125", SECOND, 1},
        {"accuracy >= champion.accuracy - 0.1", SECOND, 0},
        {"accuracy > champion.loss", SECOND, 0},
        {"accuracy >= 0.5 and accuracy < 0.6", FIRST, 0},
        {"accuracy >= 0.8 or accuracy >= 0.7", FIRST, 1},
        {"accuracy >= 0.5 and (champion == null or accuracy >= champion.accuracy)", FIRST, 1},
        {"accuracy >= 0.5 and (champion == null or accuracy >= champion.accuracy)", SECOND, 0},
        {"champion != null", SECOND, 1},
        {"accuracy > -1e3", FIRST, 1},
        /* jq */
        {".metrics.accuracy > 0.5", FIRST, 1},
        {".metrics | has(\"accuracy\") and .accuracy > 0.9", FIRST, 0},
        {"{verdict: true, reason: \"because\"}", FIRST, 1},
        {"3", FIRST, -1},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        int got = verdict(rows[i].rule, rows[i].document, NULL);

        if (got != rows[i].expected)
            fail_msg("'%s' on %s gives %d", rows[i].rule, rows[i].document, got);
    }
}

static void test_reason_shows_what_was_seen(void **state)
{
    cleanup_free char *reason = NULL;

    verdict("accuracy > champion.accuracy and accuracy > 0.5 and loss < 1", SECOND, &reason);
    assert_string_equal(reason, "accuracy = 0.75, champion.accuracy = 0.875, loss = missing");
}

static void test_check(void **state)
{
    cleanup_error struct error error = ERROR_INIT;

    assert_ok(gate_check("accuracy > 0.9", "production", &error), &error);
    assert_ok(gate_check(".metrics.accuracy > 0.9", NULL, &error), &error);
    assert_error(gate_check("accuracy >", NULL, &error), &error, ERROR_INVALID, "does not compile");
    assert_error(gate_check("(accuracy > 1", NULL, &error), &error, ERROR_INVALID, "does not compile");
    assert_error(gate_check("accuracy > 0.9", "9lives", &error), &error, ERROR_INVALID, "digit");
    assert_error(gate_check(NULL, NULL, &error), &error, ERROR_INVALID, "rule");
}

static void test_missing(void **state)
{
    static const struct {
        const char *program, *document, *expected;
    } rows[] = {
        {".metrics.accuracy > 0.5", FIRST, NULL},
        {".metrics.nosuch < 0.5", FIRST, "nosuch"},
        {".metrics.loss < 0.5", FIRST, "loss"}, /* null: not finite */
        {".metrics[\"eval/top-5\"] < .metrics[\"eval/none\"]", FIRST, "eval/none"},
        {".metrics.nosuch < 1 or .metrics.nosuch > 2 or .metrics.loss > 1", FIRST, "nosuch, loss"},
        {".metrics.accuracy > .champion.metrics.accuracy", FIRST, NULL}, /* there is no champion */
        {".metrics.accuracy > .champion.metrics.loss", SECOND, "champion.loss"},
        {".metrics | .accuracy", FIRST, NULL},
        {".metrics[\"broken", FIRST, NULL},
        {".metrics", FIRST, NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_json json_t *document = json_parse(rows[i].document, strlen(rows[i].document), NULL);
        cleanup_free char *missing = gate_missing(rows[i].program, document);

        if (rows[i].expected ? !missing || strcmp(missing, rows[i].expected) != 0 : missing != NULL)
            fail_msg("'%s' → %s, not %s", rows[i].program, missing ?: "none", rows[i].expected ?: "none");
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_form),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_reason_shows_what_was_seen),
        cmocka_unit_test(test_check),
    };

    if (argc == 2 && strcmp(argv[1], "rule") == 0)
        return rule_child();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
