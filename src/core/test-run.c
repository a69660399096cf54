#include "core/environment.h"
#include "core/job.h"
#include "core/metric.h"
#include "core/run.h"
#include "store/db.h"
#include "store/journal.h"
#include "util/json.h"
#include "util/test.h"

#define CODE_A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define CODE_B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

struct fixture {
    char *directory;
    struct db *db;
};

static int set_up(void **state)
{
    struct fixture *f = xnew0(struct fixture);
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *path = NULL;

    f->directory = test_directory_new();
    path = fs_join(f->directory, "slipway.db");
    assert_ok(db_open(path, &f->db, &error), &error);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    db_close(f->db);
    test_directory_remove(f->directory);
    free(f);
    return 0;
}

static json_t *parse(const char *text)
{
    cleanup_error struct error error = ERROR_INIT;
    json_t *value = json_parse(text, strlen(text), &error);

    if (!value)
        fail_msg("%s: %s", text, error.message);
    return value;
}

static int create(struct db_tx *tx, const char *request, char id[ID_SIZE], struct error *error)
{
    cleanup_json json_t *value = parse(request);

    if (schema_check(&run_request_schema, value, error) < 0)
        return -1;
    return run_create(tx, "default", "local", value, id, error);
}

static void begin(struct fixture *f, struct db_tx *tx)
{
    cleanup_error struct error error = ERROR_INIT;

    assert_ok(db_begin_write(f->db, tx, &error), &error);
}

static void test_create_and_defaults(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL, *found = NULL;
    char id[ID_SIZE];

    begin(*state, &tx);
    assert_ok(create(&tx, "{\"entry\":[\"true\"],\"resources\":{\"memory\":5},\"labels\":{\"a\":\"b\"}}", id, &error),
              &error);
    assert_ok(run_load(&tx, "default", id, &run, &error), &error);
    assert_int_equal(run->state, RUN_QUEUED);
    assert_string_equal(run->reason, "submitted");
    assert_true(run->resources.cpus == 1.0);
    assert_int_equal(run->resources.memory, 5);
    assert_int_equal(run->nodes, 1);
    assert_int_equal(run->attempt, 1);
    assert_string_equal(json_get_string(json_object_get(run->spec, "environment"), "name", ""), "host");
    id[10] = '\0';
    assert_ok(run_find(&tx, "default", id, &found, &error), &error);
    assert_string_equal(found->id, run->id);
    assert_error(run_load(&tx, "other", run->id, &found, &error), &error, ERROR_NOT_FOUND, run->id);
}

static void test_bad_requests(void **state)
{
    static const struct {
        const char *request;
        enum error_code code;
        const char *text;
    } rows[] = {
        {"{}", ERROR_INVALID, "entry"},
        {"{\"entry\":[\"\"]}", ERROR_INVALID, "entry[0]"},
        {"{\"entry\":[\"x\"],\"nonsense\":1}", ERROR_INVALID, "nonsense"},
        {"{\"entry\":[\"x\"],\"resources\":{\"cpus\":\"2\"}}", ERROR_INVALID, "resources.cpus"},
        {"{\"entry\":[\"x\"],\"resources\":{\"cpus\":0}}", ERROR_INVALID, "resources.cpus"},
        {"{\"entry\":[\"x\"],\"code\":\"md5:1\"}", ERROR_INVALID, "code"},
        {"{\"entry\":[\"x\"],\"code_version\":1}", ERROR_INVALID, "code_version"},
        {"{\"entry\":[\"x\"],\"job\":\"nope\"}", ERROR_NOT_FOUND, "nope"},
        {"{\"entry\":[\"x\"],\"environment\":\"nope\"}", ERROR_NOT_FOUND, "nope"},
        {"{\"entry\":[\"x\"],\"environment\":\"nope@x\"}", ERROR_INVALID, "nope"},
        {"{\"entry\":[\"x\"],\"datasets\":[\"nope@1\"]}", ERROR_NOT_FOUND, "nope"},
        {"{\"entry\":[\"x\"],\"model\":\"no slash\",\"code\":\"" CODE_A "\"}", ERROR_INVALID, "no slash"},
        {"{\"entry\":[\"x\"],\"model\":\"a/b\"}", ERROR_INVALID, "code"},
        {"{\"entry\":[\"x\"],\"gate\":{\"rule\":\"true\"}}", ERROR_INVALID, "model"},
        {"{\"entry\":[\"x\"],\"nodes\":{\"worker\":0}}", ERROR_INVALID, "nodes"},
    };
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    char id[ID_SIZE];

    begin(*state, &tx);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_error(create(&tx, rows[i].request, id, &error), &error, rows[i].code, rows[i].text);
}

static void change(struct db_tx *tx, struct run *run, enum run_state to, const char *reason)
{
    cleanup_error struct error error = ERROR_INIT;
    struct run_change c = {.state = to, .reason = reason};

    assert_ok(run_set_state(tx, run, &c, &error), &error);
}

/* Every pair of states: what the table forbids fails and writes nothing. */
static void test_every_transition(void **state)
{
    static const enum run_state way[RUN_STATE_COUNT_][3] = {
        [RUN_QUEUED] = {RUN_QUEUED},
        [RUN_STARTING] = {RUN_STARTING, RUN_QUEUED},
        [RUN_RUNNING] = {RUN_STARTING, RUN_RUNNING, RUN_QUEUED},
        [RUN_SUCCEEDED] = {RUN_STARTING, RUN_RUNNING, RUN_SUCCEEDED},
        [RUN_FAILED] = {RUN_STARTING, RUN_RUNNING, RUN_FAILED},
        [RUN_STOPPED] = {RUN_STARTING, RUN_RUNNING, RUN_STOPPED},
        [RUN_LOST] = {RUN_STARTING, RUN_RUNNING, RUN_LOST},
    };
    cleanup_error struct error error = ERROR_INIT;

    for (int from = 0; from < RUN_STATE_COUNT_; from++) {
        for (int to = 0; to < RUN_STATE_COUNT_; to++) {
            cleanup_tx struct db_tx tx = DB_TX_INIT;
            cleanup_run struct run *run = NULL;
            struct run_change c = {.state = (enum run_state)to, .reason = "test"};
            int64_t before, after;
            char id[ID_SIZE];
            bool allowed;
            int r;

            begin(*state, &tx);
            assert_ok(create(&tx, "{\"entry\":[\"true\"]}", id, &error), &error);
            assert_ok(run_load(&tx, NULL, id, &run, &error), &error);
            for (int i = 0; i < 3 && way[from][i] != RUN_QUEUED; i++)
                change(&tx, run, way[from][i], "test");
            assert_int_equal(run->state, from);
            assert_ok(journal_newest(&tx, &before, &error), &error);
            allowed = state_check(&run_states, from, to, NULL) == 0;
            r = run_set_state(&tx, run, &c, &error);
            assert_ok(journal_newest(&tx, &after, NULL), &error);
            if ((r == 0) != allowed || after - before != allowed)
                fail_msg("%s to %s: %d, %d events", state_name(&run_states, from), state_name(&run_states, to), r,
                         (int)(after - before));
            error_clear(&error);
            assert_int_equal(run->state, allowed ? to : from);
        }
    }
}

static void test_stop_and_retry(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;
    char id[ID_SIZE];

    begin(*state, &tx);
    assert_ok(create(&tx, "{\"entry\":[\"true\"]}", id, &error), &error);
    assert_ok(run_load(&tx, NULL, id, &run, &error), &error);
    assert_error(run_retry(&tx, run, "local", &error), &error, ERROR_CONFLICT, "queued");
    assert_ok(run_request_stop(&tx, run, "local", &error), &error);
    assert_int_equal(run->state, RUN_STOPPED);
    assert_error(run_request_stop(&tx, run, "local", &error), &error, ERROR_CONFLICT, "ended");
    assert_ok(run_retry(&tx, run, "local", &error), &error);
    assert_int_equal(run->state, RUN_QUEUED);
    assert_int_equal(run->attempt, 2);
    change(&tx, run, RUN_STARTING, "placed");
    assert_error(run_delete(&tx, run, "local", &error), &error, ERROR_CONFLICT, "stop it first");
    assert_ok(run_request_stop(&tx, run, "local", &error), &error);
    assert_int_equal(run->state, RUN_STARTING);
    assert_true(run->stop_requested);
    change(&tx, run, RUN_STOPPED, "stopped_by_user");
    assert_ok(run_retry(&tx, run, "local", &error), &error);
    run = run_free(run);
    assert_ok(run_load(&tx, NULL, id, &run, &error), &error);
    assert_false(run->stop_requested);
    assert_int_equal(run->attempt, 3);
    assert_ok(run_request_stop(&tx, run, "local", &error), &error);
    assert_ok(run_delete(&tx, run, "local", &error), &error);
    assert_error(run_load(&tx, NULL, id, &run, &error), &error, ERROR_NOT_FOUND, id);
}

static void test_list(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct run_filter filter = {.project = "default", .state = -1, .limit = 2};
    char ids[5][ID_SIZE], next[ID_SIZE];
    json_t *page;

    begin(*state, &tx);
    for (int i = 0; i < 5; i++)
        assert_ok(create(&tx,
                         i % 2 ? "{\"entry\":[\"x\"],\"labels\":{\"team\":\"red\"}}"
                               : "{\"entry\":[\"x\"],\"labels\":{\"team\":\"blue\"}}",
                         ids[i], &error),
                  &error);
    page = run_list(&tx, &filter, next, &error);
    assert_int_equal(json_array_size(page), 2);
    assert_string_equal(json_get_string(json_array_get(page, 0), "id", ""), ids[4]);
    assert_string_equal(next, ids[3]);
    json_decref(page);
    filter.before = next;
    filter.limit = 10;
    page = run_list(&tx, &filter, next, &error);
    assert_int_equal(json_array_size(page), 3);
    assert_string_equal(next, "");
    json_decref(page);
    filter.before = NULL;
    filter.label = "team=red";
    page = run_list(&tx, &filter, next, &error);
    assert_int_equal(json_array_size(page), 2);
    json_decref(page);
    filter.label = "team\"=x";
    assert_null(run_list(&tx, &filter, next, &error));
    error_clear(&error);
    filter.label = NULL;
    filter.state = RUN_RUNNING;
    page = run_list(&tx, &filter, next, &error);
    assert_int_equal(json_array_size(page), 0);
    json_decref(page);
}

static void test_job(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_json json_t *definition = parse("{\"name\":\"train\",\"entry\":[\"python3\",\"t.py\"],"
                                            "\"parameters\":{\"lr\":1,\"epochs\":2},\"resources\":{\"cpus\":2}}");
    cleanup_json json_t *changes = parse("{\"retries\":3,\"resources\":{\"gpus\":1},\"entry\":[\"sh\"]}");
    cleanup_job struct job *job = NULL;
    cleanup_run struct run *run = NULL;
    struct digest a, b, got;
    char id[ID_SIZE];
    int version;

    digest_parse(CODE_A, &a, &error);
    digest_parse(CODE_B, &b, &error);
    begin(*state, &tx);
    assert_ok(job_create(&tx, "default", "local", "train", definition, &error), &error);
    assert_error(job_create(&tx, "default", "local", "train", definition, &error), &error, ERROR_EXISTS, "train");
    assert_error(job_create(&tx, "default", "local", "Bad Name", definition, &error), &error, ERROR_INVALID, "job");
    assert_ok(job_load(&tx, "default", "train", &job, &error), &error);
    assert_error(job_code(&tx, job, 0, &got, &version, &error), &error, ERROR_NOT_FOUND, "no code yet");
    assert_ok(job_push_code(&tx, job, &a, 10, NULL, "local", &version, &error), &error);
    assert_int_equal(version, 1);
    assert_ok(job_push_code(&tx, job, &a, 10, NULL, "local", &version, &error), &error);
    assert_int_equal(version, 1);
    assert_ok(job_push_code(&tx, job, &b, 10, NULL, "local", &version, &error), &error);
    assert_int_equal(version, 2);
    assert_ok(create(&tx, "{\"job\":\"train\",\"code_version\":1,\"parameters\":{\"lr\":5},\"arguments\":[\"-v\"]}", id,
                     &error),
              &error);
    assert_ok(run_load(&tx, NULL, id, &run, &error), &error);
    assert_string_equal(run->code, CODE_A);
    assert_int_equal(run->job_code, 1);
    assert_int_equal(json_array_size(json_object_get(run->spec, "entry")), 3);
    assert_int_equal(json_get_int(json_object_get(run->spec, "parameters"), "lr", 0), 5);
    assert_int_equal(json_get_int(json_object_get(run->spec, "parameters"), "epochs", 0), 2);
    assert_true(run->resources.cpus == 2);
    assert_error(job_delete(&tx, job, "local", &error), &error, ERROR_CONFLICT, "1 runs");
    assert_ok(job_update(&tx, job, changes, "local", &error), &error);
    assert_int_equal(json_get_int(json_object_get(job->definition, "resources"), "gpus", 0), 1);
    assert_true(json_get_number(json_object_get(job->definition, "resources"), "cpus", 0) == 2);
    assert_ok(run_request_stop(&tx, run, "local", &error), &error);
    assert_ok(job_delete(&tx, job, "local", &error), &error);
}

static void write_line(struct db_tx *tx, struct metric_writer *writer, int sequence, const char *values)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *value = parse(values);

    assert_ok(metric_write(tx, writer, sequence, 1000 + sequence, value, &error), &error);
}

static void test_metrics(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct metric_writer writer;
    struct metric_source source = {.attempt = 1};
    struct metric_query query = {.node = -1};
    char id[ID_SIZE], text[80];
    json_t *series, *points, *last;

    begin(*state, &tx);
    assert_ok(create(&tx, "{\"entry\":[\"x\"]}", id, &error), &error);
    source.run_id = query.run_id = id;
    metric_writer_init(&writer, &source);
    for (int i = 1; i <= 1000; i++) {
        snprintf(text, sizeof(text), "{\"step\":%d,\"loss\":%d,\"acc\":%s}", i, i == 500 ? 9999 : 1000 - i,
                 i == 1000 ? "null" : "0.5");
        write_line(&tx, &writer, i, text);
    }
    write_line(&tx, &writer, 7, "{\"step\":7,\"loss\":-1}"); /* again: changes nothing */
    metric_writer_release(&writer);

    series = metric_read(&tx, &query, &error);
    assert_int_equal(json_array_size(series), 2);
    assert_string_equal(json_get_string(json_array_get(series, 0), "name", ""), "acc");
    points = json_object_get(json_array_get(series, 1), "points");
    assert_int_equal(json_array_size(points), 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(json_integer_value(json_array_get(json_array_get(points, i), 3)), i + 1);
    assert_true(json_real_value(json_array_get(json_array_get(points, 6), 2)) == 993);
    json_decref(series);

    query.name = "loss";
    query.points = 20;
    series = metric_read(&tx, &query, &error);
    points = json_object_get(json_array_get(series, 0), "points");
    assert_true(json_array_size(points) <= 20 && json_array_size(points) >= 10);
    assert_int_equal(json_integer_value(json_array_get(json_array_get(points, 0), 3)), 1);
    assert_int_equal(json_integer_value(json_array_get(json_array_get(points, json_array_size(points) - 1), 3)), 1000);
    bool spike = false;
    int64_t previous = 0;
    for (size_t i = 0; i < json_array_size(points); i++) {
        int64_t sequence = json_integer_value(json_array_get(json_array_get(points, i), 3));

        spike |= sequence == 500;
        assert_true(sequence > previous);
        previous = sequence;
    }
    assert_true(spike);
    json_decref(series);

    query.after = 990;
    query.points = 0;
    series = metric_read(&tx, &query, &error);
    assert_int_equal(json_array_size(json_object_get(json_array_get(series, 0), "points")), 10);
    json_decref(series);
    last = metric_last(&tx, id, &error);
    assert_true(json_get_number(last, "loss", -1) == 0);
    assert_true(json_get_number(last, "acc", -1) == 0.5);
    json_decref(last);
}

static void test_weights_once(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_run struct run *run = NULL;
    struct run_weights weights = {.attempt = 1, .node_generation = 1, .name = "a.safetensors", .size = 3};
    char id[ID_SIZE];
    int generation;
    bool is_new;
    json_t *list;

    digest_parse(CODE_A, &weights.digest, &error);
    begin(*state, &tx);
    assert_ok(create(&tx, "{\"entry\":[\"x\"]}", id, &error), &error);
    assert_ok(run_load(&tx, NULL, id, &run, &error), &error);
    change(&tx, run, RUN_STARTING, "placed");
    assert_ok(run_add_node(&tx, run, 0, "main", NULL, &error), &error);
    assert_ok(run_add_weights(&tx, run, &weights, &generation, &is_new, &error), &error);
    assert_true(is_new && generation == 1);
    assert_ok(run_add_weights(&tx, run, &weights, &generation, &is_new, &error), &error);
    assert_true(!is_new && generation == 1);
    weights.attempt = 2; /* numbering of the node begins anew, that of the run goes on */
    assert_ok(run_add_weights(&tx, run, &weights, &generation, &is_new, &error), &error);
    assert_true(is_new && generation == 2);
    list = run_weights_list(&tx, id, &error);
    assert_int_equal(json_array_size(list), 2);
    json_decref(list);
}

static void test_environment(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_environment struct environment e = {0};
    char a[ENVIRONMENT_DIGEST_SIZE], b[ENVIRONMENT_DIGEST_SIZE];
    int version;

    environment_digest("numpy\n", "3.11 x86_64", a);
    environment_digest("# why\n\n  numpy   # fast\n", "3.11 x86_64", b);
    assert_string_equal(a, b);
    environment_digest("numpy", "3.12 x86_64", b);
    assert_string_not_equal(a, b);
    begin(*state, &tx);
    assert_error(environment_create(&tx, "default", "x", "host", "", NULL, "3", &version, &error), &error,
                 ERROR_INVALID, "host");
    assert_ok(environment_create(&tx, "default", "x", "tf", "numpy", NULL, "3", &version, &error), &error);
    assert_int_equal(version, 1);
    assert_ok(environment_create(&tx, "default", "x", "tf", "numpy # same", NULL, "3", &version, &error), &error);
    assert_int_equal(version, 1);
    assert_ok(environment_create(&tx, "default", "x", "tf", "numpy", "cupy", "3", &version, &error), &error);
    assert_int_equal(version, 2);
    assert_ok(environment_load(&tx, "default", "tf", &e, &error), &error);
    assert_int_equal(e.version, 2);
    assert_string_not_equal(e.digest[0], e.digest[1]);
    assert_ok(build_set_state(&tx, e.digest[0], "numpy", BUILD_BUILDING, "requested", NULL, 0, &error), &error);
    assert_error(build_set_state(&tx, e.digest[0], NULL, BUILD_BUILDING, "requested", NULL, 0, &error), &error,
                 ERROR_CONFLICT, "building");
    assert_ok(build_set_state(&tx, e.digest[0], NULL, BUILD_FAILED, "build_failed", "no", 0, &error), &error);
    assert_ok(build_set_state(&tx, e.digest[0], NULL, BUILD_BUILDING, "requested", NULL, 0, &error), &error);
    assert_ok(environment_delete(&tx, "default", "tf@2", "x", &error), &error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_create_and_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_requests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_transition, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_and_retry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_job, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_metrics, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_weights_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_environment, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
