#include <fcntl.h>
#include <sys/stat.h>
#include "monitor/intake.h"
#include "monitor/metrics.h"
#include "monitor/spec.h"
#include "monitor/weights.h"
#include "util/loop.h"
#include "util/test.h"

#define READ_MAX (8 << 20)

struct fixture {
    char *directory, *intake_path;
    struct loop *loop;
    struct intake *intake;
    struct error error;
};

static int set_up(void **state)
{
    struct fixture *f = xnew0(struct fixture);

    f->directory = test_directory_new();
    f->intake_path = fs_join(f->directory, "intake.jsonl");
    f->loop = loop_new();
    assert_ok(intake_open(f->intake_path, f->loop, &f->intake, &f->error), &f->error);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    intake_close(f->intake);
    loop_free(f->loop);
    test_directory_remove(f->directory);
    free(f->intake_path);
    error_clear(&f->error);
    free(f);
    return 0;
}

static char *lines(struct fixture *f)
{
    char *text;

    assert_ok(intake_flush(f->intake, &f->error), &f->error);
    assert_ok(fs_read(f->intake_path, READ_MAX, &text, NULL, &f->error), &f->error);
    return text;
}

static int count(const char *text, const char *part)
{
    int n = 0;

    for (const char *p = text; (p = strstr(p, part)); p++)
        n++;
    return n;
}

/* -- metrics, line by line -- */

static void test_parse(void **state)
{
    static const struct {
        const char *line, *expected; /* NULL: an error */
        bool odd;
    } rows[] = {
        {"{\"step\": 1, \"loss\": 0.5}", "{\"step\":1,\"loss\":0.5}", false},
        {"{}", "{}", false},
        {"{\"loss\": NaN}", "{\"loss\":null}", true},
        {"{\"a\": -Infinity, \"b\": Infinity, \"c\": 1}", "{\"a\":null,\"b\":null,\"c\":1}", true},
        {"{\"NaN\": 1}", "{\"NaN\":1}", false},
        {"{\"a\\\"NaN\": NaN}", "{\"a\\\"NaN\":null}", true},
        {"{\"a\": null}", "{\"a\":null}", false},
        {"{\"a\": \"text\", \"b\": 2}", "{\"b\":2}", true},
        {"{\"a\": [1], \"b\": {}, \"c\": true}", "{}", true},
        {"", NULL, false},
        {"[1]", NULL, false},
        {"1", NULL, false},
        {"{\"a\": 1} x", NULL, false},
        {"{\"a\": 1, \"a\": 2}", NULL, false},
        {"{\"a\": 1e999}", NULL, false},
        {"{\"a\": 123456789012345678901234567890}", NULL, false},
        {"{\"a\": nanx}", NULL, false},
        {"{\"\xff\": 1}", NULL, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_error struct error error = ERROR_INIT;
        cleanup_free char *odd = NULL, *text = NULL;
        cleanup_json json_t *values = metrics_parse(rows[i].line, strlen(rows[i].line), &odd, &error);

        if (!rows[i].expected) {
            if (values)
                fail_msg("'%s' was taken", rows[i].line);
            assert_true(error_is_set(&error));
            continue;
        }
        if (!values)
            fail_msg("'%s': %s", rows[i].line, error.message);
        text = json_text(values);
        assert_string_equal(text, rows[i].expected);
        if (!!odd != rows[i].odd)
            fail_msg("'%s': odd is '%s'", rows[i].line, odd ? odd : "(none)");
    }
}

static void test_lines_arrive_in_pieces(void **state)
{
    struct fixture *f = *state;
    cleanup_free char *path = fs_join(f->directory, "metrics.jsonl"), *text = NULL;
    static const char content[] = "{\"step\":1}\n{\"step\":2}\n\n{\"step\":3}";
    cleanup_close int to = open(path, O_WRONLY | O_CREAT, 0600);
    struct metrics *metrics = metrics_new(open(path, O_RDONLY), f->intake);

    for (size_t i = 0; content[i]; i++) {
        assert_int_equal(write(to, content + i, 1), 1);
        metrics_read(metrics, false);
    }
    text = lines(f);
    assert_int_equal(count(text, "\"metric\""), 2);
    free(steal_ptr(text));
    assert_false(metrics_read(metrics, true));
    text = lines(f);
    assert_int_equal(count(text, "\"metric\""), 3);
    assert_non_null(strstr(text, "{\"seq\":3,"));
    assert_non_null(strstr(text, "\"values\":{\"step\":3}}\n"));
    metrics_free(metrics);
}

static void test_long_line_is_skipped_once(void **state)
{
    struct fixture *f = *state;
    cleanup_free char *path = fs_join(f->directory, "metrics.jsonl"), *text = NULL, *x = xmalloc(1 << 20);
    cleanup_close int to = open(path, O_WRONLY | O_CREAT, 0600);
    struct metrics *metrics = metrics_new(open(path, O_RDONLY), f->intake);

    memset(x, 'x', 1 << 20);
    for (int i = 0; i < 3; i++)
        assert_ok(fs_write_all(to, x, 1 << 20, &f->error), &f->error);
    assert_ok(fs_write_all(to, "\n{\"step\":1}\n", 12, &f->error), &f->error);
    while (metrics_read(metrics, false))
        ;
    text = lines(f);
    assert_int_equal(count(text, "metric_too_long"), 1);
    assert_int_equal(count(text, "\"values\":{\"step\":1}"), 1);
    metrics_free(metrics);
}

/* -- intake -- */

static void test_warnings_are_capped(void **state)
{
    struct fixture *f = *state;
    cleanup_free char *text = NULL;

    for (int i = 0; i < 1500; i++)
        intake_warn(f->intake, "metric_invalid", "number %d \xff", i);
    intake_add_dropped(f->intake);
    text = lines(f);
    assert_int_equal(count(text, "\"metric_invalid\""), 1000);
    assert_non_null(strstr(text, "500 more warnings of the kind metric_invalid"));
    assert_non_null(strstr(text, "{\"seq\":1001,"));
    assert_non_null(strstr(text, "number 0 ?"));
}

static void test_flush_is_told_after_the_sync(void **state)
{
    struct fixture *f = *state;
    struct stat before, after;

    intake_add(f->intake, "started", NULL);
    assert_int_equal(stat(f->intake_path, &before), 0);
    assert_int_equal(before.st_size, 0);
    for (int i = 0; i < 20 && !(after.st_size = 0, stat(f->intake_path, &after), after.st_size); i++)
        loop_run_once(f->loop, 50);
    assert_true(after.st_size > 0);
}

/* -- weights -- */

static void write_weights(struct fixture *f, const char *name, size_t data, size_t claimed)
{
    cleanup_free char *directory = fs_join(f->directory, "from"), *path = fs_join(directory, name),
                      *header = xasprintf("{\"w\":{\"dtype\":\"U8\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}",
                                          claimed, claimed),
                      *zeros = xcalloc(1, data + 1);
    cleanup_close int fd = -1;
    uint64_t length = strlen(header);

    mkdir(directory, 0700);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_ok(fs_write_all(fd, &length, sizeof(length), &f->error), &f->error);
    assert_ok(fs_write_all(fd, header, length, &f->error), &f->error);
    assert_ok(fs_write_all(fd, zeros, data, &f->error), &f->error);
}

static void test_weights(void **state)
{
    struct fixture *f = *state;
    cleanup_free char *from = fs_join(f->directory, "from"), *to = fs_join(f->directory, "weights"), *text = NULL;
    struct weights *weights;

    write_weights(f, "a.safetensors", 4, 4);
    write_weights(f, "half.safetensors", 3, 4);
    write_weights(f, "long.safetensors", 5, 4);
    write_weights(f, "other.bin", 4, 4);
    write_weights(f, ".hidden.safetensors", 4, 4);
    mkdir(to, 0700);
    assert_ok(weights_open(from, to, f->intake, &weights, &f->error), &f->error);
    weights_found(weights, "a.safetensors");
    weights_found(weights, "gone.safetensors");
    weights_found(weights, "other.bin");
    weights_found(weights, ".hidden.safetensors");
    assert_int_equal(weights_generations(weights), 1);
    weights_scan(weights, false); /* seen for the first time: maybe still being written */
    assert_int_equal(weights_generations(weights), 1);
    write_weights(f, "b.safetensors", 4, 4);
    weights_scan(weights, true);
    assert_int_equal(weights_generations(weights), 2);
    text = lines(f);
    assert_int_equal(count(text, "weights_invalid"), 2);
    assert_non_null(
        strstr(text, "\"generation\":1,\"file\":\"weights/000001.safetensors\",\"name\":\"a.safetensors\""));
    assert_non_null(
        strstr(text, "\"generation\":2,\"file\":\"weights/000002.safetensors\",\"name\":\"b.safetensors\""));
    weights_close(weights);
}

/* -- spec -- */

static void test_spec_is_checked(void **state)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"{}", "kind"},
        {"{\"kind\":\"vm\"}", "process, oci"},
        {"{\"kind\":\"process\"}", "'init' and 'argv'"},
        {"{\"kind\":\"oci\"}", "'runtime'"},
        {"{\"kind\":\"process\",\"init\":\"/i\",\"argv\":[1]}", "argv"},
        {"{\"kind\":\"process\",\"init\":\"/i\",\"argv\":[\"a\"],\"grace_ms\":\"1\"}", "grace_ms"},
        {"{", "line 1"},
    };
    struct fixture *f = *state;
    cleanup_free char *path = fs_join(f->directory, "spec.json");
    struct monitor_spec *spec;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_ok(fs_write_atomic(path, rows[i].text, strlen(rows[i].text), 0600, &f->error), &f->error);
        assert_error(monitor_spec_load(path, &spec, &f->error), &f->error, ERROR_INVALID, rows[i].message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test_setup_teardown(test_lines_arrive_in_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_line_is_skipped_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_warnings_are_capped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flush_is_told_after_the_sync, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_weights, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_spec_is_checked, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
