#include "format/csv.h"

#include "util/limits.h"
#include "util/strbuf.h"
#include "util/test.h"

/* Two bytes a time, so that every row is parsed across buffer ends. */
static ssize_t drip(void *userdata, void *buffer, size_t size, struct error *error)
{
    const char **text = userdata;
    size_t n = strlen(*text) < 2 ? strlen(*text) : 2;

    n = n < size ? n : size;
    memcpy(buffer, *text, n);
    *text += n;
    return n;
}

/* All cells as "kind:text|…" lines. */
static char *render(const char *text, size_t length, char separator, bool slow, struct error *error)
{
    const char *rest = text;
    cleanup_reader struct reader *reader = slow ? reader_open_source(drip, &rest, "test.csv")
                                                : reader_open_memory(text, length, "test.csv");
    cleanup_strbuf struct strbuf out = STRBUF_INIT(MIB);
    cleanup_csv struct csv *csv = NULL;
    const struct cell *cells;
    size_t count;
    int r;

    if (csv_open(reader, separator, &csv, error) < 0)
        return NULL;
    while ((r = csv_next(csv, &cells, &count, error)) > 0) {
        for (size_t i = 0; i < count; i++) {
            const struct cell *c = &cells[i];

            if (c->kind == CELL_INTEGER)
                strbuf_addf(&out, "i%lld", (long long)c->integer);
            else if (c->kind == CELL_REAL)
                strbuf_addf(&out, "r%g", c->real);
            else if (c->kind == CELL_TEXT)
                strbuf_addf(&out, "t%.*s", (int)c->length, c->text);
            else
                strbuf_adds(&out, "-");
            strbuf_adds(&out, i + 1 < count ? "|" : "\n");
        }
    }
    return r < 0 ? NULL : strbuf_detach(&out, NULL);
}

static void test_rows(void **state)
{
    static const struct {
        const char *text, *cells;
    } rows[] = {
        {"", ""},
        {"\n\n", ""},
        {"a,b\n1,2\n", "ta|tb\ni1|i2\n"},
        {"a,b\r\n1,2", "ta|tb\ni1|i2\n"},
        {"a,b\r1,2\r", "ta|tb\ni1|i2\n"},
        {"\xef\xbb\xbf"
         "a,b\n",
         "ta|tb\n"},
        {"a;b\n1;2,5\n", "ta|tb\ni1|t2,5\n"},
        {"a\tb c\n1\t\n", "ta|tb c\ni1|-\n"},
        {"a|b\n1|2\n", "ta|tb\ni1|i2\n"},
        {"1,2,\n", "i1|i2|-\n"},
        {",\n", "-|-\n"},
        {"\"a,b\",\"c\"\"d\",\"e\nf\"\n1,2,3\n", "ta,b|tc\"d|te\nf\ni1|i2|i3\n"},
        {"\"\",\"1\",\" 2.5 \"\n", "-|i1|r2.5\n"},
        {"\"\"\"\",\"\"\"a\"\"\"\n", "t\"|t\"a\"\n"},
        {"a\"\"b,\"c\"\"d\"\n", "ta\"\"b|tc\"d\n"},
        {"NA,nan,NULL,None,?, N/A \n", "-|-|-|-|-|-\n"},
        {"Nan,NAX,nano,n\n", "tNan|tNAX|tnano|tn\n"},
        {"1 , 2,-3, +4 \n", "i1|i2|i-3|i4\n"},
        {"1e3,.5,-1.5e-2,inf\n", "r1000|r0.5|r-0.015|rinf\n"},
        {"1a,1.2.3,--1,-\n", "t1a|t1.2.3|t--1|t-\n"},
        {"ab\"c,d\n", "tab\"c|td\n"},
        {"x\n1\n\n2\n", "tx\ni1\ni2\n"},
        {"99999999999999999999,1\n", "r1e+20|i1\n"},
        {"\xc3\xa4,\xe2\x82\xac\n", "t\xc3\xa4|t\xe2\x82\xac\n"},
        {"2026-01-02,12:30\n", "t2026-01-02|t12:30\n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        for (int slow = 0; slow < 2; slow++) {
            cleanup_error struct error error = ERROR_INIT;
            cleanup_free char *got = render(rows[i].text, strlen(rows[i].text), 0, slow, &error);

            if (!got)
                fail_msg("'%s': %s", rows[i].text, error.message);
            if (strcmp(got, rows[i].cells) != 0)
                fail_msg("'%s' (slow %d): got '%s', expected '%s'", rows[i].text, slow, got, rows[i].cells);
        }
}

static void test_malformed(void **state)
{
    static const struct {
        const char *text;
        size_t length; /* 0: strlen */
        const char *message;
    } rows[] = {
        {"a,b\n1\n", 0, "line 2 has 1 fields, the first row has 2"},
        {"a,b\n\"x\ny\",1\n1,2,3\n", 0, "line 4 has 3 fields"},
        {"a,\"b\n1,2\n", 0, "never closed"},
        {"\"a\"b,c\n", 0, "follows a closing quote"},
        {"a\0b,c\n", 6, "NUL byte"},
        {"1,2\0\n", 5, "NUL byte"},
        {"\"a\"\0,c\n", 7, "closing quote"},
        {"\xff\xfe"
         "a\0",
         4, "UTF-16"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_error struct error error = ERROR_INIT;
        size_t length = rows[i].length ? rows[i].length : strlen(rows[i].text);
        cleanup_free char *got = render(rows[i].text, length, ',', false, &error);

        if (got)
            fail_msg("'%s' passes: '%s'", rows[i].text, got);
        if (!strstr(error.message, rows[i].message))
            fail_msg("'%s': got '%s', expected '%s'", rows[i].text, error.message, rows[i].message);
    }
}

static void test_limits(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    size_t length = LIMIT_LINE + 2 * MIB;
    char *big = memset(xmalloc(length), ',', length);

    big[0] = '"';
    assert_null(render(big, length, ',', false, &error));
    assert_int_equal(error.code, ERROR_TOO_LARGE);
    error_clear(&error);
    big[0] = ',';
    assert_null(render(big, length, ',', false, &error));
    assert_non_null(strstr(error.message, "more than 100000 fields"));
    error_clear(&error);
    memset(big, 'a', length);
    assert_null(render(big, LIMIT_CSV_FIELD + 1, ',', false, &error));
    assert_int_equal(error.code, ERROR_TOO_LARGE);
    free(big);
}

static void test_options(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    const char *text = "007,unknown\n";
    cleanup_reader struct reader *reader = reader_open_memory(text, strlen(text), "test.csv");
    cleanup_csv struct csv *csv = NULL;
    const struct cell *cells;
    size_t count;

    assert_ok(csv_open(reader, 0, &csv, &error), &error);
    assert_int_equal(csv_separator(csv), ',');
    csv_add_missing(csv, "unknown");
    csv_set_text(csv, 0);
    assert_int_equal(csv_next(csv, &cells, &count, &error), 1);
    assert_int_equal(cells[0].kind, CELL_TEXT);
    assert_int_equal(cells[0].length, 3);
    assert_int_equal(cells[1].kind, CELL_MISSING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
