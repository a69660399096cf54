#include <signal.h>
#include <sys/stat.h>
#include "config.h"
#include "engine/document.h"
#include "engine/fake.h"
#include "util/clock.h"
#include "util/loop.h"
#include "util/test.h"

#define RUN_ID   "0190aaaabbbb7cccdddd000011112222"
#define DEADLINE (20 * NS_PER_SEC)
#define READ_MAX (1 << 20)

struct fixture {
    char *data, *node;
    struct loop *loop;
    struct engine *engine;
    int intake, exited, lost;
    struct error error;
};

static void on_event(void *userdata, const char *key, const char *directory, enum engine_event event)
{
    struct fixture *f = userdata;

    f->intake += event == ENGINE_INTAKE;
    f->exited += event == ENGINE_EXITED;
    f->lost += event == ENGINE_LOST;
}

static void open_engine(struct fixture *f, const char *name, json_t *options)
{
    f->loop = loop_new();
    assert_ok(engine_open(name, options, f->loop, f->data, on_event, f, &f->engine, &f->error), &f->error);
    json_decref(options);
}

static void close_engine(struct fixture *f)
{
    engine_close(f->engine);
    loop_free(f->loop);
}

static int set_up(void **state)
{
    struct fixture *f = xnew0(struct fixture);

    f->data = test_directory_new();
    f->node = fs_join(f->data, "node");
    mkdir(f->node, 0700);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    error_clear(&f->error);
    test_directory_remove(f->data);
    free(f->node);
    free(f);
    return 0;
}

static void run_until(struct fixture *f, const int *counter, int value)
{
    int64_t deadline = clock_monotonic_ns() + DEADLINE;

    while (*counter < value) {
        if (clock_monotonic_ns() > deadline)
            fail_msg("no event: intake %d, exited %d, lost %d", f->intake, f->exited, f->lost);
        loop_run_once(f->loop, 100);
    }
}

static struct engine_spec shell(struct fixture *f, const char *const *argv)
{
    return (struct engine_spec){
        .run_id = RUN_ID,
        .attempt = 1,
        .role = "main",
        .directory = f->node,
        .argv = argv,
        .grace_ms = 5000,
    };
}

static char *read_node_file(struct fixture *f, const char *name)
{
    cleanup_free char *path = fs_join(f->node, name);
    char *text;

    assert_ok(fs_read(path, READ_MAX, &text, NULL, &f->error), &f->error);
    return text;
}

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' does not hold '%s'", text, part);
}

/* -- the table -- */

static void test_names(void **state)
{
    struct fixture *f = *state;
    struct engine *engine;

    assert_string_equal(engine_driver_at(0)->name, "local");
    assert_error(engine_open("moon", NULL, NULL, f->data, on_event, f, &engine, &f->error), &f->error, ERROR_INVALID,
                 "'moon' is no engine; there are: local, process, fake, disabled, auto");
}

static void test_disabled_refuses(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = shell(f, (const char *[]){"true", NULL});
    struct engine_capacity capacity;

    open_engine(f, "disabled", NULL);
    assert_ok(engine_probe(f->engine, &capacity, &f->error), &f->error);
    assert_true(capacity.cpus == 0);
    assert_error(engine_launch(f->engine, &spec, &f->error), &f->error, ERROR_UNAVAILABLE, "'disabled'");
    close_engine(f);
}

/* -- documents -- */

static void test_translate(void **state)
{
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {"/slipway/data/digits", "/x/view/data/digits"},
        {"PYTHONPATH=/usr/lib:/slipway/lib", "PYTHONPATH=/usr/lib:/x/view/lib"},
        {"--out=/slipway/out", "--out=/x/view/out"},
        {"/srv/slipway/out", "/srv/slipway/out"},
        {"/slipwayx", "/slipwayx"},
        {"", ""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_free char *text = document_translate(rows[i].text, "/x/view");

        assert_string_equal(text, rows[i].expected);
    }
}

static void test_environment_keeps_what_was_given(void **state)
{
    const char *const given[] = {"OMP_NUM_THREADS=7", "PATH=/mine", NULL};
    struct engine_spec spec = {
        .run_id = RUN_ID, .attempt = 2, .role = "worker", .node = 3, .environment = given, .cpus = 1.5, .gpus = "0,1"};
    cleanup_strvec struct strvec e = STRVEC_INIT;

    document_environment(&spec, "/slipway", "/tmp", &e);
    assert_true(strvec_contains(&e, "OMP_NUM_THREADS=7"));
    assert_false(strvec_contains(&e, "OMP_NUM_THREADS=2"));
    assert_true(strvec_contains(&e, "PATH=/mine"));
    assert_true(strvec_contains(&e, "SLIPWAY_NODE_ROLE=worker"));
    assert_true(strvec_contains(&e, "SLIPWAY_NODE_INDEX=3"));
    assert_true(strvec_contains(&e, "SLIPWAY_ATTEMPT=2"));
    assert_true(strvec_contains(&e, "SLIPWAY_DEVICE=gpu"));
    assert_true(strvec_contains(&e, "CUDA_VISIBLE_DEVICES=0,1"));
}

/* -- fake -- */

static void test_fake_runs_by_itself(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = shell(f, (const char *[]){"true", NULL});
    cleanup_free char *intake = NULL, *record = NULL;

    open_engine(f, "fake", json_build("{s:i}", "exit_code", 3));
    assert_ok(engine_launch(f->engine, &spec, &f->error), &f->error);
    assert_error(engine_launch(f->engine, &spec, &f->error), &f->error, ERROR_EXISTS, RUN_ID "/1/0");
    run_until(f, &f->exited, 1);
    intake = read_node_file(f, "intake.jsonl");
    record = read_node_file(f, "exit.json");
    assert_contains(intake, "{\"seq\":1,");
    assert_contains(intake, "\"type\":\"exited\"");
    assert_contains(record, "\"exit_code\":3");
    close_engine(f);
}

static void test_fake_by_hand(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = shell(f, (const char *[]){"true", NULL});

    open_engine(f, "fake", json_build("{s:b, s:b, s:i}", "manual", 1, "stubborn", 1, "refuse", 1));
    assert_error(engine_launch(f->engine, &spec, &f->error), &f->error, ERROR_UNAVAILABLE, "refuses");
    assert_ok(engine_launch(f->engine, &spec, &f->error), &f->error);
    assert_ok(fake_start(f->engine, RUN_ID "/1/0", &f->error), &f->error);
    assert_int_equal(f->intake, 1);
    assert_int_equal(fake_count(f->engine), 1);
    assert_ok(engine_signal(f->engine, RUN_ID "/1/0", SIGTERM, "stopped", &f->error), &f->error);
    assert_int_equal(f->exited, 0);
    assert_ok(fake_lose(f->engine, RUN_ID "/1/0", &f->error), &f->error);
    assert_int_equal(f->lost, 1);
    assert_error(fake_end(f->engine, RUN_ID "/1/0", 0, 0, NULL, &f->error), &f->error, ERROR_NOT_FOUND, "not running");
    close_engine(f);
}

/* -- process: the real monitor -- */

static json_t *process_options(void)
{
    return json_build("{s:s}", "program", SLIPWAY_BUILD_ROOT "/src/slipway");
}

static void test_process_runs(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = shell(f, (const char *[]){"sh", "-c",
                                                        "echo $SLIPWAY_RUN_ID; cat $SLIPWAY_DIR/params.json;"
                                                        "echo '{\"step\":1}' >> $SLIPWAY_DIR/metrics.jsonl; exit 4",
                                                        NULL});
    cleanup_free char *log = NULL, *intake = NULL, *record = NULL;

    spec.params = "{\"lr\":0.1}";
    open_engine(f, "process", process_options());
    assert_ok(engine_launch(f->engine, &spec, &f->error), &f->error);
    run_until(f, &f->exited, 1);
    assert_true(f->intake > 0);
    log = read_node_file(f, "log");
    intake = read_node_file(f, "intake.jsonl");
    record = read_node_file(f, "exit.json");
    assert_contains(log, " stdout F " RUN_ID "\n");
    assert_contains(log, " stdout F {\"lr\":0.1}\n");
    assert_contains(intake, "\"type\":\"metric\",\"values\":{\"step\":1}}");
    assert_contains(record, "\"exit_code\":4,\"signal\":null");
    assert_ok(engine_forget(f->engine, RUN_ID "/1/0", &f->error), &f->error);
    close_engine(f);
}

static void test_process_stop_at_any_time(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = shell(f, (const char *[]){"sleep", "60", NULL});
    cleanup_free char *record = NULL;

    /* At once: the monitor has not even started. */
    open_engine(f, "process", process_options());
    assert_ok(engine_launch(f->engine, &spec, &f->error), &f->error);
    assert_ok(engine_signal(f->engine, RUN_ID "/1/0", SIGTERM, "preempted", &f->error), &f->error);
    run_until(f, &f->exited, 1);
    record = read_node_file(f, "exit.json");
    assert_contains(record, "\"reason\":\"preempted\"");
    close_engine(f);
}

static void test_process_survives_the_engine(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = shell(f, (const char *[]){"sh", "-c", "sleep 0.5; echo done", NULL});
    cleanup_free char *log = NULL;

    open_engine(f, "process", process_options());
    assert_ok(engine_launch(f->engine, &spec, &f->error), &f->error);
    run_until(f, &f->intake, 1);
    close_engine(f);

    open_engine(f, "process", process_options());
    assert_ok(engine_attach(f->engine, RUN_ID "/1/0", f->node, &f->error), &f->error);
    assert_error(engine_attach(f->engine, RUN_ID "/1/0", f->node, &f->error), &f->error, ERROR_EXISTS, "attached");
    run_until(f, &f->exited, 1);
    log = read_node_file(f, "log");
    assert_contains(log, " stdout F done\n");
    close_engine(f);

    /* And once more, now that it has ended. */
    open_engine(f, "process", process_options());
    assert_ok(engine_attach(f->engine, RUN_ID "/1/0", f->node, &f->error), &f->error);
    run_until(f, &f->exited, 2);
    close_engine(f);
}

static void test_process_lost_with_its_monitor(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = shell(f, (const char *[]){"sh", "-c", "echo $$; exec sleep 61", NULL});
    cleanup_free char *identity = NULL, *intake = NULL;
    cleanup_json json_t *json = NULL;
    int64_t deadline = clock_monotonic_ns() + DEADLINE;
    long program;

    open_engine(f, "process", process_options());
    assert_ok(engine_launch(f->engine, &spec, &f->error), &f->error);
    run_until(f, &f->intake, 1);
    intake = read_node_file(f, "intake.jsonl");
    assert_non_null(strstr(intake, "\"pid\":"));
    program = strtol(strstr(intake, "\"pid\":") + 6, NULL, 10);
    identity = read_node_file(f, "monitor.json");
    json = json_parse(identity, strlen(identity), NULL);
    assert_int_equal(kill((pid_t)json_get_int(json, "pid", 0), SIGKILL), 0);
    run_until(f, &f->lost, 1);
    while (kill((pid_t)program, 0) == 0)
        if (clock_monotonic_ns() > deadline)
            fail_msg("process %ld still runs", program);
    close_engine(f);
}

static void test_attach_to_nothing_is_lost(void **state)
{
    struct fixture *f = *state;

    open_engine(f, "process", process_options());
    assert_ok(engine_attach(f->engine, RUN_ID "/1/0", f->node, &f->error), &f->error);
    run_until(f, &f->lost, 1);
    close_engine(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_disabled_refuses, set_up, tear_down),
        cmocka_unit_test(test_translate),
        cmocka_unit_test(test_environment_keeps_what_was_given),
        cmocka_unit_test_setup_teardown(test_fake_runs_by_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fake_by_hand, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_process_runs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_process_stop_at_any_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_process_survives_the_engine, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_process_lost_with_its_monitor, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_attach_to_nothing_is_lost, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
