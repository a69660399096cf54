#include <pthread.h>
#include "store/journal.h"
#include "util/limits.h"
#include "util/test.h"

struct fixture {
    char *directory;
    struct db *db;
    struct journal *journal;
};

static int setup(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    struct fixture *f = xnew0(struct fixture);
    cleanup_free char *path = NULL;

    f->directory = test_directory_new();
    path = fs_join(f->directory, "test.db");
    assert_ok(db_open(path, &f->db, &error), &error);
    f->journal = journal_new(f->db);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    journal_free(f->journal);
    db_close(f->db);
    test_directory_remove(f->directory);
    free(f);
    return 0;
}

static int64_t append(struct fixture *f, const char *type, const char *subject, const char *project)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_json json_t *data = json_build("{s:s}", "of", subject);
    struct journal_event event = {type, subject, project, NULL, data};
    int64_t sequence = 0;

    assert_ok(db_begin_write(f->db, &tx, &error), &error);
    assert_ok(journal_append(&tx, &event, &sequence, &error), &error);
    assert_ok(db_commit(&tx, &error), &error);
    return sequence;
}

static json_t *read_events(struct fixture *f, struct journal_filter filter)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    json_t *events;

    assert_ok(db_begin_read(f->db, &tx, &error), &error);
    events = journal_read(&tx, &filter, &error);
    if (!events)
        fail_msg("journal_read: %s", error.message);
    return events;
}

static void test_numbers_have_no_gaps(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    int64_t newest;

    assert_int_equal(append(f, "slipway.run.queued", "run/1", "default"), 1);
    {
        cleanup_tx struct db_tx tx = DB_TX_INIT;
        struct journal_event event = {"slipway.run.running", "run/1", "default", "token:alice", NULL};

        assert_ok(db_begin_write(f->db, &tx, &error), &error);
        assert_ok(journal_append(&tx, &event, NULL, &error), &error);
        assert_int_equal(tx.last_event, 2);
        /* rolled back */
    }
    assert_int_equal(append(f, "slipway.run.failed", "run/1", "default"), 2);

    cleanup_tx struct db_tx tx = DB_TX_INIT;
    assert_ok(db_begin_read(f->db, &tx, &error), &error);
    assert_ok(journal_newest(&tx, &newest, &error), &error);
    assert_int_equal(newest, 2);
}

static void test_is_a_cloudevent(void **state)
{
    struct fixture *f = *state;
    cleanup_json json_t *events = NULL;
    json_t *event;

    append(f, "slipway.dataset.created", "dataset/digits@3", "team-a");
    events = read_events(f, (struct journal_filter){.limit = 10});
    assert_int_equal(json_array_size(events), 1);
    event = json_array_get(events, 0);
    assert_string_equal(json_get_string(event, "specversion", ""), "1.0");
    assert_string_equal(json_get_string(event, "id", ""), "1");
    assert_int_equal(json_get_int(event, "sequence", 0), 1);
    assert_string_equal(json_get_string(event, "type", ""), "slipway.dataset.created");
    assert_string_equal(json_get_string(event, "subject", ""), "dataset/digits@3");
    assert_string_equal(json_get_string(event, "project", ""), "team-a");
    assert_string_equal(json_get_string(event, "actor", ""), "system");
    assert_string_equal(json_get_string(json_object_get(event, "data"), "of", ""), "dataset/digits@3");
}

static void test_filters(void **state)
{
    struct fixture *f = *state;
    static const struct {
        struct journal_filter filter;
        size_t count;
        int64_t first;
    } rows[] = {
        {{.limit = 100}, 6, 1},
        {{.limit = 2}, 2, 1},
        {{.after = 4, .limit = 100}, 2, 5},
        {{.project = "a", .limit = 100}, 3, 1},
        {{.type = "slipway.run.", .limit = 100}, 4, 1},
        {{.type = "slipway.run.", .project = "b", .limit = 100}, 2, 2},
        {{.subject = "run/1", .limit = 100}, 2, 1},
        {{.subject = "run/1", .project = "b", .limit = 100}, 0, 0},
        {{.subject = "run/1", .type = "slipway.run.f", .limit = 100}, 1, 4},
        {{.type = "slipway.%", .limit = 100}, 0, 0},
        {{.after = 6, .limit = 100}, 0, 0},
        {{.newest = true, .limit = 2}, 2, 5},
        {{.newest = true, .limit = 100}, 6, 1},
        {{.newest = true, .after = 5, .limit = 100}, 1, 6},
        {{.newest = true, .type = "slipway.run.", .limit = 1}, 1, 4},
        {{.newest = true, .project = "a", .subject = "run/1", .limit = 1}, 1, 4},
    };

    append(f, "slipway.run.queued", "run/1", "a");
    append(f, "slipway.run.queued", "run/2", "b");
    append(f, "slipway.run.failed", "run/2", "b");
    append(f, "slipway.run.failed", "run/1", "a");
    append(f, "slipway.dataset.created", "dataset/x@1", "a");
    append(f, "slipway.gc.finished", "vault", NULL);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_json json_t *events = read_events(f, rows[i].filter);

        if (json_array_size(events) != rows[i].count)
            fail_msg("row %zu: %zu events, expected %zu", i, json_array_size(events), rows[i].count);
        if (rows[i].count)
            assert_int_equal(json_get_int(json_array_get(events, 0), "sequence", 0), rows[i].first);
    }
}

static void count_call(void *userdata, int64_t newest)
{
    int64_t *seen = userdata;

    if (newest > *seen)
        *seen = newest;
}

static void test_listeners(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    int64_t first = 0, second = 0;
    struct journal_listener *a = journal_listen(f->journal, count_call, &first);
    struct journal_listener *b = journal_listen(f->journal, count_call, &second);

    append(f, "slipway.run.queued", "run/1", "a");
    assert_int_equal(first, 1);
    assert_int_equal(second, 1);

    journal_unlisten(f->journal, a);
    append(f, "slipway.run.queued", "run/2", "a");
    assert_int_equal(first, 1);
    assert_int_equal(second, 2);

    /* A change without an event wakes nobody. */
    {
        cleanup_tx struct db_tx tx = DB_TX_INIT;

        second = 0;
        assert_ok(db_begin_write(f->db, &tx, &error), &error);
        assert_ok(db_exec(&tx, &error, "INSERT INTO settings VALUES ('k', 'v')", NULL), &error);
        assert_ok(db_commit(&tx, &error), &error);
        assert_int_equal(second, 0);
    }
    journal_unlisten(f->journal, b);
    journal_unlisten(f->journal, NULL);
}

#define THREADS    8
#define PER_THREAD 50

static void *append_many(void *userdata)
{
    for (int i = 0; i < PER_THREAD; i++)
        append(userdata, "slipway.test.happened", "test/1", "a");
    return NULL;
}

static void test_many_threads_append(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[THREADS];
    cleanup_json json_t *events = NULL;
    int64_t seen = 0;
    struct journal_listener *listener = journal_listen(f->journal, count_call, &seen);

    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, append_many, f), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    journal_unlisten(f->journal, listener);
    assert_int_equal(seen, THREADS * PER_THREAD);

    events = read_events(f, (struct journal_filter){.limit = LIMIT_PAGE});
    assert_int_equal(json_array_size(events), THREADS * PER_THREAD);
    for (size_t i = 0; i < json_array_size(events); i++)
        assert_int_equal(json_get_int(json_array_get(events, i), "sequence", 0), (int64_t)i + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_numbers_have_no_gaps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_is_a_cloudevent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_filters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_listeners, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_threads_append, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
