#include "format/split.h"
#include "util/hash.h"
#include "util/test.h"

static void test_parse(void **state)
{
    static const char *const bad[] = {
        "",      "train",        "train=1.5", "train=0.5,test=0.4", "train=0,test=1", "a=0.5,a=0.5", "a=-1,b=2", "=1",
        "a=nan", "a=0.5,b=0.5,", "../x=1",    "a=0.5;b=0.5",        "a=0.5,b=0.6"};
    cleanup_error struct error error = ERROR_INIT;
    cleanup_split_plan struct split_plan plan = {.count = 0};

    assert_ok(split_parse("train=0.8,test=0.2", &plan, &error), &error);
    assert_int_equal(plan.count, 2);
    assert_string_equal(plan.parts[1].name, "test");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct split_plan none = {.count = 0};

        assert_error(split_parse(bad[i], &none, &error), &error, ERROR_INVALID, "");
    }
}

static void draw_all(const char *text, uint64_t seed, size_t rows, uint8_t *parts, uint64_t *counts)
{
    cleanup_split_plan struct split_plan plan = {.count = 0};
    cleanup_split_draw struct split_draw *draw = NULL;

    assert_int_equal(split_parse(text, &plan, NULL), 0);
    draw = split_draw_new(&plan, seed, 1, (uint64_t[]){rows});
    memset(counts, 0, SPLIT_MAX * sizeof(*counts));
    for (size_t i = 0; i < rows; i++) {
        parts[i] = split_next(draw, 0);
        counts[parts[i]]++;
    }
    for (size_t i = 0; i < plan.count; i++)
        assert_int_equal(counts[i], split_size(draw, i));
}

static void test_exact_and_reproducible(void **state)
{
    uint8_t one[1797], two[1797], other[1797];
    uint64_t counts[SPLIT_MAX];

    draw_all("train=0.8,test=0.2", 42, 1797, one, counts);
    assert_int_equal(counts[0], 1438); /* 1437.6 */
    assert_int_equal(counts[1], 359);
    draw_all("train=0.8,test=0.2", 42, 1797, two, counts);
    assert_memory_equal(one, two, sizeof(one));
    draw_all("train=0.8,test=0.2", 43, 1797, other, counts);
    assert_memory_not_equal(one, other, sizeof(one));
    draw_all("a=0.333333333333,b=0.333333333333,c=0.333333333334", 1, 100, one, counts);
    assert_int_equal(counts[0] + counts[1] + counts[2], 100);
    assert_true(counts[0] >= 33 && counts[1] >= 33 && counts[2] >= 33);
    draw_all("a=0.5,b=0.5", 1, 0, one, counts);
    draw_all("a=0.5,b=0.5", 1, 1, one, counts);
    assert_int_equal(counts[0] + counts[1], 1);
}

/* The draw must be the same on every machine and in every version: it is part of a dataset's identity. */
static void test_known_draw(void **state)
{
    uint8_t parts[32];
    uint64_t counts[SPLIT_MAX];
    char text[33] = {0};

    draw_all("train=0.75,test=0.25", 0, 32, parts, counts);
    for (int i = 0; i < 32; i++)
        text[i] = '0' + parts[i];
    assert_string_equal(text, "01000100110000000000000110011000");
}

static void test_even(void **state)
{
    int first = 0, last = 0;

    for (int seed = 0; seed < 1000; seed++) {
        uint8_t parts[100];
        uint64_t counts[SPLIT_MAX];

        draw_all("a=0.8,b=0.2", seed, 100, parts, counts);
        first += parts[0];
        last += parts[99];
    }
    /* 200 expected, standard deviation 12.6 */
    if (first < 140 || first > 260 || last < 140 || last > 260)
        fail_msg("of 1000 draws %d chose the first and %d the last row; about 200 are right", first, last);
}

static void test_stratified(void **state)
{
    cleanup_split_plan struct split_plan plan = {.count = 0};
    cleanup_split_draw struct split_draw *draw = NULL;
    uint64_t rows[3] = {101, 7, 3}, counts[3][2] = {{0}};

    assert_int_equal(split_parse("train=0.7,test=0.3", &plan, NULL), 0);
    draw = split_draw_new(&plan, 5, 3, rows);
    for (size_t c = 0; c < 3; c++)
        for (uint64_t i = 0; i < rows[c]; i++)
            counts[c][split_next(draw, c)]++;
    for (size_t c = 0; c < 3; c++) {
        double exact = 0.7 * rows[c];

        if (counts[c][0] < exact - 1 || counts[c][0] > exact + 1)
            fail_msg("class %zu: %d of %d rows in train", c, (int)counts[c][0], (int)rows[c]);
    }
    assert_int_equal(split_size(draw, 0) + split_size(draw, 1), 111);
    assert_int_equal(split_size(draw, 0), 78); /* 77.7 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),      cmocka_unit_test(test_exact_and_reproducible),
        cmocka_unit_test(test_known_draw), cmocka_unit_test(test_even),
        cmocka_unit_test(test_stratified),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
