#include <pthread.h>
#include <sqlite3.h>
#include "store/db.h"
#include "store/migrations.h"
#include "util/test.h"

struct fixture {
    char *directory;
    char *path;
    struct db *db;
};

static int setup(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    struct fixture *f = xnew0(struct fixture);

    f->directory = test_directory_new();
    f->path = fs_join(f->directory, "test.db");
    assert_ok(db_open(f->path, &f->db, &error), &error);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    db_close(f->db);
    test_directory_remove(f->directory);
    free(f->path);
    free(f);
    return 0;
}

static int put_setting(struct db_tx *tx, const char *key, const char *value, struct error *error)
{
    return db_exec(tx, error, "INSERT INTO settings (key, value) VALUES (?, ?)", "ss", key, value);
}

static int64_t count_settings(struct db_tx *tx)
{
    cleanup_error struct error error = ERROR_INIT;
    int64_t n = -1;

    assert_ok(db_query_int(tx, &n, &error, "SELECT COUNT(*) FROM settings", NULL), &error);
    return n;
}

static void test_commit_and_rollback(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;

    {
        cleanup_tx struct db_tx tx = DB_TX_INIT;

        assert_ok(db_begin_write(f->db, &tx, &error), &error);
        assert_ok(put_setting(&tx, "a", "1", &error), &error);
        /* the scope's end rolls back */
    }
    {
        cleanup_tx struct db_tx tx = DB_TX_INIT;

        assert_ok(db_begin_write(f->db, &tx, &error), &error);
        assert_int_equal(count_settings(&tx), 0);
        assert_ok(put_setting(&tx, "a", "1", &error), &error);
        assert_int_equal(db_changes(&tx), 1);
        assert_ok(db_commit(&tx, &error), &error);
    }
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    assert_ok(db_begin_read(f->db, &tx, &error), &error);
    assert_int_equal(count_settings(&tx), 1);
}

static void test_readers_have_a_snapshot(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx reader = DB_TX_INIT, writer = DB_TX_INIT, later = DB_TX_INIT;

    assert_ok(db_begin_read(f->db, &reader, &error), &error);
    assert_int_equal(count_settings(&reader), 0);
    assert_ok(db_begin_write(f->db, &writer, &error), &error);
    assert_ok(put_setting(&writer, "a", "1", &error), &error);
    assert_int_equal(count_settings(&reader), 0);
    assert_ok(db_commit(&writer, &error), &error);
    assert_int_equal(count_settings(&reader), 0);
    assert_ok(db_begin_read(f->db, &later, &error), &error);
    assert_int_equal(count_settings(&later), 1);
    /* A reader cannot write. */
    assert_error(put_setting(&later, "b", "2", &error), &error, ERROR_IO, "readonly");
}

static void test_savepoints(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    assert_ok(db_begin_write(f->db, &tx, &error), &error);
    assert_ok(put_setting(&tx, "a", "1", &error), &error);
    assert_ok(db_savepoint(&tx, "one", &error), &error);
    assert_ok(put_setting(&tx, "b", "1", &error), &error);
    assert_ok(db_savepoint_rollback(&tx, "one", &error), &error);
    assert_int_equal(count_settings(&tx), 1);
    assert_ok(db_savepoint(&tx, "two", &error), &error);
    assert_ok(put_setting(&tx, "c", "1", &error), &error);
    assert_ok(db_savepoint_release(&tx, "two", &error), &error);
    assert_int_equal(count_settings(&tx), 2);
    assert_ok(db_commit(&tx, &error), &error);
}

static void test_all_types(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *value = json_build("{s:i, s:[i,i]}", "b", 1, "a", 2, 3);
    cleanup_json json_t *back = NULL;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    size_t length;

    assert_ok(db_begin_read(f->db, &tx, &error), &error);
    assert_ok(db_query(&tx, &rows, &error, "SELECT ?, ?, ?, ?, ?, ?, ?", "sidbjsj", "täxt", INT64_MIN, 0.1, "\0\1\2",
                       (size_t)3, value, NULL, NULL),
              &error);
    assert_int_equal(db_next(&rows, &error), 1);
    assert_string_equal(db_text(&rows, 0), "täxt");
    assert_true(db_int(&rows, 1) == INT64_MIN);
    assert_true(db_real(&rows, 2) == 0.1);
    assert_memory_equal(db_blob(&rows, 3, &length), "\0\1\2", 3);
    assert_int_equal(length, 3);
    assert_string_equal(db_text(&rows, 4), "{\"a\":[2,3],\"b\":1}");
    back = db_json(&rows, 4, &error);
    assert_true(json_equal(back, value));
    assert_true(db_is_null(&rows, 5));
    assert_null(db_text(&rows, 5));
    assert_null(db_json(&rows, 6, &error));
    assert_false(error_is_set(&error));
    assert_int_equal(db_next(&rows, &error), 0);
}

static void test_errors_have_codes(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int64_t n;

    assert_ok(db_begin_write(f->db, &tx, &error), &error);
    assert_ok(put_setting(&tx, "a", "1", &error), &error);
    assert_error(put_setting(&tx, "a", "2", &error), &error, ERROR_EXISTS, "UNIQUE");
    assert_error(db_exec(&tx, &error, "INSERT INTO pins VALUES ('o', 'no such blob', 0)", NULL), &error, ERROR_CONFLICT,
                 "FOREIGN KEY");
    assert_error(db_exec(&tx, &error, "INSERT INTO nowhere VALUES (1)", NULL), &error, ERROR_INTERNAL, "nowhere");
    assert_error(db_query_int(&tx, &n, &error, "SELECT value FROM settings WHERE key = 'x'", NULL), &error,
                 ERROR_NOT_FOUND, "");
    /* The transaction goes on after a statement that failed. */
    assert_ok(db_commit(&tx, &error), &error);
}

static void test_a_statement_within_itself(void **state)
{
    struct fixture *f = *state;
    static const char sql[] = "SELECT key FROM settings ORDER BY key";
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    int inner = 0;

    assert_ok(db_begin_write(f->db, &tx, &error), &error);
    assert_ok(put_setting(&tx, "a", "1", &error), &error);
    assert_ok(put_setting(&tx, "b", "1", &error), &error);
    cleanup_rows struct db_rows outer = DB_ROWS_INIT;
    assert_ok(db_query(&tx, &outer, &error, sql, NULL), &error);
    while (db_next(&outer, &error) > 0) {
        cleanup_rows struct db_rows rows = DB_ROWS_INIT;

        assert_ok(db_query(&tx, &rows, &error, sql, NULL), &error);
        while (db_next(&rows, &error) > 0)
            inner++;
    }
    assert_int_equal(inner, 4);
}

static void test_statement_cache_is_bounded(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    assert_ok(db_begin_read(f->db, &tx, &error), &error);
    for (int i = 0; i < 1000; i++) {
        cleanup_free char *sql = xasprintf("SELECT %d", i);
        int64_t value = -1;

        assert_ok(db_query_int(&tx, &value, &error, sql, NULL), &error);
        assert_int_equal(value, i);
    }
}

/* -- migrations -- */

static char *schema_of(struct db *db)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    char *all = xstrdup("");

    assert_ok(db_begin_read(db, &tx, &error), &error);
    assert_ok(db_query(&tx, &rows, &error, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name", NULL),
              &error);
    while (db_next(&rows, &error) > 0) {
        char *more = xasprintf("%s%s\n", all, db_text(&rows, 0));

        free(all);
        all = more;
    }
    return all;
}

static void test_from_every_older_version(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *newest = schema_of(f->db);

    for (size_t i = 0; i < migrations_count; i++) {
        cleanup_free char *name = xasprintf("%s/at-%d.db", f->directory, migrations[i].number);
        cleanup_free char *schema = NULL;
        struct db *db = NULL;
        int64_t steps = 0;

        assert_ok(db_open_at(name, migrations[i].number, &db, &error), &error);
        {
            cleanup_tx struct db_tx tx = DB_TX_INIT;

            assert_ok(db_begin_write(db, &tx, &error), &error);
            assert_ok(put_setting(&tx, "kept", "yes", &error), &error);
            assert_ok(db_commit(&tx, &error), &error);
        }
        db_close(db);

        assert_ok(db_open(name, &db, &error), &error);
        schema = schema_of(db);
        assert_string_equal(schema, newest);
        {
            cleanup_tx struct db_tx tx = DB_TX_INIT;

            assert_ok(db_begin_read(db, &tx, &error), &error);
            assert_int_equal(count_settings(&tx), 1);
            assert_ok(db_query_int(&tx, &steps, &error, "SELECT COUNT(*) FROM migrations", NULL), &error);
            assert_int_equal(steps, migrations_count);
        }
        db_close(db);
    }
}

/* Tables that a step builds anew keep their rows, and numbers that were given are not given again. */
static void test_traffic_keeps_routes_and_deployments(void **state)
{
    static const char *const rows[] = {
        "INSERT INTO models (id, project, name, created_at) VALUES (1, 'default', 'a/b', 0)",
        "INSERT INTO model_code (model, number, digest, size, created_at) VALUES (1, 1, 'd', 1, 0)",
        "INSERT INTO model_versions (id, model, number, code, created_at, created_by) VALUES (10, 1, 1, 1, 0, 'x')",
        "INSERT INTO model_code (model, number, digest, size, created_at) VALUES (1, 2, 'e', 1, 0)",
        "INSERT INTO model_versions (id, model, number, code, created_at, created_by) VALUES (11, 1, 2, 2, 0, 'x')",
        "INSERT INTO endpoints VALUES (5, 'default', 'e', 1, NULL, '{}', 'serving', 0, 'x')",
        "INSERT INTO endpoint_routes (endpoint, version, role) VALUES (5, 10, 'live'), (5, 11, 'standby')",
        "INSERT INTO deployments (endpoint, kind, version, state, actor, created_at) VALUES (5, 'a', 1, 'live', 'x', "
        "7)",
        "INSERT INTO deployments (endpoint, kind, version, state, actor, created_at) VALUES (5, 'b', 2, 'live', 'x', "
        "8)",
        "DELETE FROM deployments WHERE id = 2",
    };
    static const struct {
        const char *sql;
        int64_t value;
    } checks[] = {
        {"SELECT weight FROM endpoint_routes WHERE role = 'live' AND version = 10", 100},
        {"SELECT weight FROM endpoint_routes WHERE role = 'standby' AND version = 11", 0},
        {"SELECT created_at FROM deployments WHERE id = 1 AND state = 'live' AND options IS NULL", 7},
        {"SELECT seq FROM sqlite_sequence WHERE name = 'deployments'", 2},
        {"SELECT count(*) FROM sqlite_sequence WHERE name LIKE '%_new'", 0},
    };
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *path = xasprintf("%s/before-traffic.db", f->directory);
    cleanup_db struct db *db = NULL;

    assert_ok(db_open_at(path, 5, &db, &error), &error);
    {
        cleanup_tx struct db_tx tx = DB_TX_INIT;

        assert_ok(db_begin_write(db, &tx, &error), &error);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
            assert_ok(db_exec(&tx, &error, rows[i], NULL), &error);
        assert_ok(db_commit(&tx, &error), &error);
    }
    db = db_close(db);
    assert_ok(db_open_at(path, 6, &db, &error), &error);
    {
        cleanup_tx struct db_tx tx = DB_TX_INIT;

        assert_ok(db_begin_write(db, &tx, &error), &error);
        for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
            int64_t value = -1;

            assert_ok(db_query_int(&tx, &value, &error, checks[i].sql, NULL), &error);
            if (value != checks[i].value)
                fail_msg("%s: %lld, expected %lld", checks[i].sql, (long long)value, (long long)checks[i].value);
        }
        assert_ok(db_exec(&tx, &error,
                          "INSERT INTO endpoint_routes VALUES (5, 11, 'canary', 0.5) "
                          "ON CONFLICT DO UPDATE SET role = excluded.role, weight = excluded.weight",
                          NULL),
                  &error);
        assert_int_equal(db_exec(&tx, NULL, "UPDATE endpoint_routes SET role = 'king'", NULL), -1);
    }
}

static void test_numbers_ascend(void **state)
{
    for (size_t i = 1; i < migrations_count; i++)
        assert_true(migrations[i].number > migrations[i - 1].number);
}

/* Changes a database behind db.c's back, as another version would. */
static void alter(const char *path, const char *sql)
{
    sqlite3 *handle = NULL;

    assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
    if (sqlite3_exec(handle, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(handle));
    sqlite3_close(handle);
}

static void test_refuses_what_it_does_not_know(void **state)
{
    static const struct {
        const char *sql;
        enum error_code code;
        const char *message;
    } rows[] = {
        {"PRAGMA user_version = 9999", ERROR_UNSUPPORTED, "newer version"},
        {"UPDATE migrations SET digest = 'sha256:00' WHERE number = 2", ERROR_UNSUPPORTED, "0002-access"},
        {"PRAGMA application_id = 7", ERROR_UNSUPPORTED, "another program"},
    };
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_free char *path = xasprintf("%s/%zu.db", f->directory, i);
        struct db *db = NULL;

        assert_ok(db_open(path, &db, &error), &error);
        db_close(db);
        alter(path, rows[i].sql);
        db = NULL;
        assert_error(db_open(path, &db, &error), &error, rows[i].code, rows[i].message);
        assert_null(db);
    }
}

static void test_refuses_garbage(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *path = fs_join(f->directory, "garbage.db");
    char garbage[8192];
    struct db *db = NULL;

    memset(garbage, 'x', sizeof(garbage));
    assert_ok(fs_write_atomic(path, garbage, sizeof(garbage), 0600, &error), &error);
    assert_error(db_open(path, &db, &error), &error, ERROR_CORRUPT, "not a database");
    assert_null(db);
}

static void test_file_is_private(void **state)
{
    struct fixture *f = *state;
    static const char *const suffixes[] = {"", "-wal", "-shm"};

    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        cleanup_free char *path = xasprintf("%s%s", f->path, suffixes[i]);
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
}

/* -- threads -- */

#define THREADS    6
#define PER_THREAD 100

struct worker {
    struct fixture *f;
    int number;
    pthread_t thread;
};

static void *write_many(void *userdata)
{
    struct worker *worker = userdata;

    for (int i = 0; i < PER_THREAD; i++) {
        cleanup_error struct error error = ERROR_INIT;
        cleanup_tx struct db_tx tx = DB_TX_INIT;
        char key[32];

        snprintf(key, sizeof(key), "%d-%d", worker->number, i);
        assert_ok(db_begin_write(worker->f->db, &tx, &error), &error);
        assert_ok(put_setting(&tx, key, "x", &error), &error);
        assert_ok(db_commit(&tx, &error), &error);
    }
    return NULL;
}

static void *read_many(void *userdata)
{
    struct worker *worker = userdata;
    int64_t last = 0;

    for (int i = 0; i < PER_THREAD; i++) {
        cleanup_error struct error error = ERROR_INIT;
        cleanup_tx struct db_tx tx = DB_TX_INIT;
        int64_t now;

        assert_ok(db_begin_read(worker->f->db, &tx, &error), &error);
        now = count_settings(&tx);
        assert_true(now >= last);
        last = now;
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    struct worker workers[2 * THREADS];

    for (int i = 0; i < 2 * THREADS; i++) {
        workers[i] = (struct worker){f, i, 0};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, i % 2 ? read_many : write_many, &workers[i]), 0);
    }
    for (int i = 0; i < 2 * THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    assert_ok(db_begin_read(f->db, &tx, &error), &error);
    assert_int_equal(count_settings(&tx), THREADS * PER_THREAD);
}

static void test_backup(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *path = fs_join(f->directory, "copy.db");
    cleanup_db struct db *copy = NULL;
    cleanup_tx struct db_tx writer = DB_TX_INIT, tx = DB_TX_INIT;

    assert_ok(db_begin_write(f->db, &writer, &error), &error);
    assert_ok(put_setting(&writer, "a", "1", &error), &error);
    assert_ok(db_commit(&writer, &error), &error);

    /* A change in progress is not in the copy and does not hold it up. */
    assert_ok(db_begin_write(f->db, &writer, &error), &error);
    assert_ok(put_setting(&writer, "b", "1", &error), &error);
    assert_ok(db_backup(f->db, path, &error), &error);
    assert_ok(db_commit(&writer, &error), &error);

    assert_ok(db_open(path, &copy, &error), &error);
    assert_ok(db_begin_read(copy, &tx, &error), &error);
    assert_int_equal(count_settings(&tx), 1);
    assert_error(db_backup(f->db, path, &error), &error, ERROR_EXISTS, "copy.db");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_commit_and_rollback, setup, teardown),
        cmocka_unit_test_setup_teardown(test_readers_have_a_snapshot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_savepoints, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_types, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors_have_codes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_statement_within_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(test_statement_cache_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_from_every_older_version, setup, teardown),
        cmocka_unit_test_setup_teardown(test_traffic_keeps_routes_and_deployments, setup, teardown),
        cmocka_unit_test(test_numbers_ascend),
        cmocka_unit_test_setup_teardown(test_refuses_what_it_does_not_know, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refuses_garbage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_is_private, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_backup, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
