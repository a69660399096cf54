#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>
#include "store/db.h"
#include "store/migrations.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/list.h"
#include "util/map.h"
#include "util/xalloc.h"

#define APPLICATION_ID   0x536c6970 /* "Slip" */
#define BUSY_MS          10000      /* the only other writer is a checkpoint, or an operator's sqlite3 */
#define MAX_STATEMENTS   256        /* cached per connection */
#define MAX_IDLE_READERS 8
#define WAL_KEEP         (64 * 1024 * 1024) /* bytes that the log keeps after a checkpoint */

/*
 * A statement that was prepared. While it is in use the same text is prepared once more, uncached.
 */
struct db_statement {
    sqlite3_stmt *handle;
    struct list lru; /* unlinked: not cached */
    bool in_use;
    struct db_connection *connection;
};

struct db_connection {
    struct db *db;
    sqlite3 *handle;
    struct map statements; /* text → db_statement */
    struct list lru;       /* least recently used first */
    struct list idle;      /* in db->readers */
    int open_rows;
    int changes; /* sqlite3_total_changes() when the transaction began */
};

/*
 * How a commit becomes durable. The writer runs with synchronous=NORMAL: COMMIT writes to the log but does
 * not sync it. Whoever committed then waits, outside of the write lock, for a sync of the log that began
 * after its commit; one thread at a time syncs, for all that have committed so far:
 *
 *     thread A   [COMMIT 1][ sync ........ ]
 *     thread B      [COMMIT 2] wait ......  [ sync for 2 and 3 ]
 *     thread C           [COMMIT 3] wait ..   wait ............
 *
 * A checkpoint syncs the log itself before it touches the database file. After a failed sync nobody knows
 * what is on the disk: the database then refuses all further writes.
 */
struct durability {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t committed; /* tickets given */
    uint64_t durable;   /* all up to here are on the disk */
    bool syncing;
    int failed; /* errno of a failed sync */
    int log_fd;
};

struct db {
    char *path;

    pthread_mutex_t write_lock;
    struct db_connection *writer; /* under write_lock */

    pthread_mutex_t lock;
    struct list readers; /* idle ones; under lock */
    int n_readers;
    db_commit_fn hook;
    void *hook_userdata;

    struct durability durability;
};

/* -- errors -- */

static enum error_code code_of(sqlite3 *handle, int result)
{
    switch (result) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID: return ERROR_EXISTS;
    case SQLITE_CONSTRAINT_FOREIGNKEY: return ERROR_CONFLICT;
    }
    switch (result & 0xff) {
    case SQLITE_FULL: return ERROR_NO_SPACE;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return ERROR_UNAVAILABLE;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return ERROR_CORRUPT;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY: return handle && sqlite3_system_errno(handle) == ENOSPC ? ERROR_NO_SPACE : ERROR_IO;
    case SQLITE_TOOBIG: return ERROR_TOO_LARGE;
    default: return ERROR_INTERNAL;
    }
}

static int set_error(struct error *error, sqlite3 *handle, const char *what)
{
    return error_set(error, code_of(handle, sqlite3_extended_errcode(handle)), "database: %s: %s", what,
                     sqlite3_errmsg(handle));
}

/* -- statements -- */

static struct db_statement *statement_free(struct db_statement *statement)
{
    if (statement) {
        list_unlink(&statement->lru);
        sqlite3_finalize(statement->handle);
        free(statement);
    }
    return NULL;
}

static void statement_destroy(void *statement)
{
    statement_free(statement);
}

static void evict_statement(struct db_connection *connection)
{
    struct db_statement *statement;

    list_for_each(statement, &connection->lru, lru) {
        if (!statement->in_use) {
            map_remove(&connection->statements, sqlite3_sql(statement->handle));
            return;
        }
    }
}

static struct db_statement *statement_get(struct db_connection *connection, const char *sql, struct error *error)
{
    struct db_statement *statement = map_get(&connection->statements, sql);
    bool cached = statement == NULL;
    const char *tail;

    if (statement && !statement->in_use) {
        list_unlink(&statement->lru);
        list_append(&connection->lru, &statement->lru);
        statement->in_use = true;
        return statement;
    }

    statement = xnew0(struct db_statement);
    statement->connection = connection;
    statement->in_use = true;
    list_init(&statement->lru);
    if (sqlite3_prepare_v3(connection->handle, sql, -1, cached ? SQLITE_PREPARE_PERSISTENT : 0, &statement->handle,
                           &tail) != SQLITE_OK) {
        set_error(error, connection->handle, sql);
        return statement_free(statement);
    }
    assert(statement->handle && "an empty statement");
    assert(tail[strspn(tail, " ;\n\t")] == '\0' && "one statement at a time");

    if (cached) {
        if (map_count(&connection->statements) >= MAX_STATEMENTS)
            evict_statement(connection);
        map_put(&connection->statements, sql, statement);
        list_append(&connection->lru, &statement->lru);
    }
    return statement;
}

static void statement_put(struct db_statement *statement)
{
    if (list_is_empty(&statement->lru)) {
        statement_free(statement);
        return;
    }
    sqlite3_reset(statement->handle);
    sqlite3_clear_bindings(statement->handle);
    statement->in_use = false;
}

/* Texts and blobs are bound without a copy: the caller keeps them until the statement is done (exec) or
 * they are copied (query). */
static void bind(struct db_statement *statement, const char *types, va_list args, sqlite3_destructor_type copy)
{
    sqlite3_stmt *handle = statement->handle;
    int n = types ? (int)strlen(types) : 0;
    int r = SQLITE_OK;

    assert(n == sqlite3_bind_parameter_count(handle) && "as many arguments as parameters");
    for (int i = 0; i < n && r == SQLITE_OK; i++) {
        switch (types[i]) {
        case 's': r = sqlite3_bind_text(handle, i + 1, va_arg(args, const char *), -1, copy); break;
        case 'i': r = sqlite3_bind_int64(handle, i + 1, va_arg(args, int64_t)); break;
        case 'd': r = sqlite3_bind_double(handle, i + 1, va_arg(args, double)); break;
        case 'b': {
            const void *data = va_arg(args, const void *);
            size_t length = va_arg(args, size_t);

            r = sqlite3_bind_blob64(handle, i + 1, data, length, copy);
            break;
        }
        case 'j': {
            json_t *value = va_arg(args, json_t *);

            r = value ? sqlite3_bind_text(handle, i + 1, json_text_canonical(value), -1, free)
                      : sqlite3_bind_null(handle, i + 1);
            break;
        }
        default: assert(!"a type of s, i, d, b, j");
        }
    }
    /* Only a value beyond SQLite's own limit (1 GB) fails; nothing that big gets this far. */
    if (r != SQLITE_OK)
        abort();
}

/* -- connections -- */

static struct db_connection *connection_free(struct db_connection *connection)
{
    if (connection) {
        map_release(&connection->statements);
        sqlite3_close(connection->handle);
        free(connection);
    }
    return NULL;
}

DEFINE_CLEANUP(struct db_connection *, connection_free)

static int run_script(struct db_connection *connection, const char *sql, struct error *error)
{
    char *message = NULL;

    if (sqlite3_exec(connection->handle, sql, NULL, NULL, &message) == SQLITE_OK)
        return 0;
    error_set(error, code_of(connection->handle, sqlite3_extended_errcode(connection->handle)), "database: %s",
              message ? message : sqlite3_errmsg(connection->handle));
    sqlite3_free(message);
    return -1;
}

static int connection_open(struct db *db, bool write, struct db_connection **ret_connection, struct error *error)
{
    CLEANUP(connection_free_cleanup) struct db_connection *connection = xnew0(struct db_connection);

    connection->db = db;
    connection->statements = (struct map)MAP_INIT(statement_destroy);
    list_init(&connection->lru);
    list_init(&connection->idle);
    if (sqlite3_open_v2(db->path, &connection->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return set_error(error, connection->handle, db->path);
    sqlite3_extended_result_codes(connection->handle, 1);
    sqlite3_busy_timeout(connection->handle, BUSY_MS);
    if (run_script(connection,
                   write ? "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;"
                           "PRAGMA wal_autocheckpoint = 2000; PRAGMA cache_size = -8192;"
                         : "PRAGMA query_only = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096;",
                   error) < 0)
        return error_wrap(error, "%s", db->path);
    *ret_connection = steal_ptr(connection);
    return 0;
}

static int connection_int(struct db_connection *connection, const char *sql, int64_t *ret_value, struct error *error)
{
    struct db_statement *statement = statement_get(connection, sql, error);
    int r;

    if (!statement)
        return -1;
    r = sqlite3_step(statement->handle);
    if (r == SQLITE_ROW)
        *ret_value = sqlite3_column_int64(statement->handle, 0);
    else
        set_error(error, connection->handle, sql);
    statement_put(statement);
    return r == SQLITE_ROW ? 0 : -1;
}

/* -- schema -- */

int db_schema_version(void)
{
    return migrations[migrations_count - 1].number;
}

static void digest_of_step(const struct migration *migration, char text[DIGEST_TEXT_SIZE])
{
    struct digest digest;

    digest_of(migration->sql, strlen(migration->sql), &digest);
    digest_format(&digest, text);
}

/* A step's foreign keys are off while it runs; what it leaves must hold all the same. */
static int check_foreign_keys(struct db_connection *connection, struct error *error)
{
    struct db_statement *statement = statement_get(connection, "PRAGMA foreign_key_check", error);
    int r;

    if (!statement)
        return -1;
    r = sqlite3_step(statement->handle);
    if (r == SQLITE_ROW)
        error_set(error, ERROR_CORRUPT, "a row of table %s refers to a row of %s that does not exist",
                  (const char *)sqlite3_column_text(statement->handle, 0),
                  (const char *)sqlite3_column_text(statement->handle, 2));
    else if (r != SQLITE_DONE)
        set_error(error, connection->handle, "foreign_key_check");
    statement_put(statement);
    return r == SQLITE_DONE ? 0 : -1;
}

static int record_step(struct db_connection *connection, const struct migration *migration, struct error *error)
{
    char digest[DIGEST_TEXT_SIZE];
    cleanup_free char *pragma = xasprintf("PRAGMA user_version = %d", migration->number);
    struct db_statement *statement;
    int r;

    statement = statement_get(connection, "INSERT INTO migrations VALUES (?, ?, ?, ?)", error);
    if (!statement)
        return -1;
    digest_of_step(migration, digest);
    sqlite3_bind_int(statement->handle, 1, migration->number);
    sqlite3_bind_text(statement->handle, 2, migration->name, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement->handle, 3, digest, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement->handle, 4, clock_wall_ms());
    r = sqlite3_step(statement->handle);
    if (r != SQLITE_DONE)
        set_error(error, connection->handle, "cannot record a migration");
    statement_put(statement);
    return r == SQLITE_DONE ? run_script(connection, pragma, error) : -1;
}

static int apply_step(struct db_connection *connection, const struct migration *migration, struct error *error)
{
    if (run_script(connection, "BEGIN IMMEDIATE", error) < 0)
        return -1;
    if (run_script(connection, migration->sql, error) < 0 || check_foreign_keys(connection, error) < 0 ||
        record_step(connection, migration, error) < 0 || run_script(connection, "COMMIT", error) < 0) {
        run_script(connection, "ROLLBACK", NULL);
        return error_wrap(error, "migration %04d-%s", migration->number, migration->name);
    }
    return 0;
}

/* Whoever changed an old step, or built from a branch, is told here and not by a missing column later. */
static int check_history(struct db_connection *connection, struct error *error)
{
    struct db_statement *statement = statement_get(
        connection, "SELECT number, name, digest FROM migrations ORDER BY number", error);
    char digest[DIGEST_TEXT_SIZE];
    size_t i = 0;
    int r;

    if (!statement)
        return -1;
    while ((r = sqlite3_step(statement->handle)) == SQLITE_ROW) {
        digest_of_step(&migrations[i < migrations_count ? i : 0], digest);
        if (i >= migrations_count || sqlite3_column_int(statement->handle, 0) != migrations[i].number ||
            strcmp((const char *)sqlite3_column_text(statement->handle, 2), digest) != 0) {
            error_set(error, ERROR_UNSUPPORTED,
                      "the database was made with another text of migration %04d-%s; use the program that "
                      "made it, or another data directory",
                      sqlite3_column_int(statement->handle, 0),
                      (const char *)sqlite3_column_text(statement->handle, 1));
            statement_put(statement);
            return -1;
        }
        i++;
    }
    statement_put(statement);
    return r == SQLITE_DONE ? 0 : set_error(error, connection->handle, "migrations");
}

static int check_identity(struct db_connection *connection, struct error *error)
{
    int64_t id, tables;

    if (connection_int(connection, "PRAGMA application_id", &id, error) < 0 ||
        connection_int(connection, "SELECT COUNT(*) FROM sqlite_schema", &tables, error) < 0)
        return -1;
    if (id != APPLICATION_ID && tables > 0)
        return error_set(error, ERROR_UNSUPPORTED, "the file is a database of another program");
    return 0;
}

static int migrate(struct db *db, int target, struct error *error)
{
    struct db_connection *connection = db->writer;
    cleanup_free char *identify = xasprintf("PRAGMA application_id = %d", APPLICATION_ID);
    int64_t version;

    if (check_identity(connection, error) < 0 || connection_int(connection, "PRAGMA user_version", &version, error) < 0)
        return -1;
    if (version > db_schema_version())
        return error_set(error, ERROR_UNSUPPORTED,
                         "the database was written by a newer version of slipway (schema %lld; this program "
                         "knows %d): use that version, or restore a backup that is older",
                         (long long)version, db_schema_version());
    if (version > 0 && check_history(connection, error) < 0)
        return -1;

    if (version < target) {
        if (run_script(connection, "PRAGMA foreign_keys = OFF", error) < 0 ||
            (version == 0 && run_script(connection, identify, error) < 0))
            return -1;
        for (size_t i = 0; i < migrations_count; i++)
            if (migrations[i].number > version && migrations[i].number <= target &&
                apply_step(connection, &migrations[i], error) < 0)
                return -1;
    }
    return run_script(connection, "PRAGMA foreign_keys = ON", error);
}

/* -- open and close -- */

/* SQLite gives the log and the index the mode of the database; it must exist, private, before SQLite opens
 * it (closing any descriptor of it later would drop SQLite's locks). */
static int create_private(const char *path, struct error *error)
{
    cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    return fd < 0 ? error_set_errno(error, errno, "cannot open database %s", path) : 0;
}

int db_open_at(const char *path, int version, struct db **ret_db, struct error *error)
{
    pthread_mutexattr_t checked;
    cleanup_db struct db *db = NULL;
    cleanup_free char *log_path = xasprintf("%s-wal", path);
    cleanup_free char *directory = xstrndup(path, (size_t)(fs_basename(path) - path));
    cleanup_free char *limit = xasprintf("PRAGMA journal_size_limit = %d", WAL_KEEP);

    if (create_private(path, error) < 0)
        return -1;

    db = xnew0(struct db);
    db->path = xstrdup(path);
    pthread_mutexattr_init(&checked);
    pthread_mutexattr_settype(&checked, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&db->write_lock, &checked);
    pthread_mutexattr_destroy(&checked);
    pthread_mutex_init(&db->lock, NULL);
    pthread_mutex_init(&db->durability.lock, NULL);
    pthread_cond_init(&db->durability.changed, NULL);
    db->durability.log_fd = -1;
    list_init(&db->readers);

    if (connection_open(db, true, &db->writer, error) < 0 || migrate(db, version, error) < 0 ||
        run_script(db->writer, limit, error) < 0)
        return error_is_set(error) ? error_wrap(error, "cannot open database %s", path) : -1;

    /* The log lives as long as a connection is open, under the same inode. */
    db->durability.log_fd = open(log_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (db->durability.log_fd < 0)
        return error_set_errno(error, errno, "cannot open %s", log_path);
    if (fdatasync(db->durability.log_fd) < 0)
        return error_set_errno(error, errno, "cannot sync %s", log_path);
    if (fs_sync_dir(*directory ? directory : ".", error) < 0)
        return -1;
    *ret_db = steal_ptr(db);
    return 0;
}

int db_open(const char *path, struct db **ret_db, struct error *error)
{
    return db_open_at(path, db_schema_version(), ret_db, error);
}

struct db *db_close(struct db *db)
{
    struct db_connection *reader, *tmp;

    if (!db)
        return NULL;
    list_for_each_safe(reader, tmp, &db->readers, idle) {
        connection_free(reader);
    }
    connection_free(db->writer);
    if (db->durability.log_fd >= 0)
        close(db->durability.log_fd);
    pthread_cond_destroy(&db->durability.changed);
    pthread_mutex_destroy(&db->durability.lock);
    pthread_mutex_destroy(&db->lock);
    pthread_mutex_destroy(&db->write_lock);
    free(db->path);
    free(db);
    return NULL;
}

/* -- transactions -- */

static int simple(struct db_connection *connection, const char *sql, struct error *error)
{
    struct db_statement *statement = statement_get(connection, sql, error);
    int r;

    if (!statement)
        return -1;
    r = sqlite3_step(statement->handle);
    if (r != SQLITE_DONE)
        set_error(error, connection->handle, sql);
    statement_put(statement);
    return r == SQLITE_DONE ? 0 : -1;
}

static struct db_connection *take_reader(struct db *db)
{
    struct db_connection *reader;

    pthread_mutex_lock(&db->lock);
    reader = list_first(&db->readers, struct db_connection, idle);
    if (reader) {
        list_unlink(&reader->idle);
        db->n_readers--;
    }
    pthread_mutex_unlock(&db->lock);
    return reader;
}

static void give_reader(struct db_connection *reader)
{
    struct db *db = reader->db;
    bool keep;

    pthread_mutex_lock(&db->lock);
    keep = db->n_readers < MAX_IDLE_READERS;
    if (keep) {
        list_prepend(&db->readers, &reader->idle);
        db->n_readers++;
    }
    pthread_mutex_unlock(&db->lock);
    if (!keep)
        connection_free(reader);
}

int db_begin_read(struct db *db, struct db_tx *ret_tx, struct error *error)
{
    struct db_connection *reader = take_reader(db);

    if (!reader && connection_open(db, false, &reader, error) < 0)
        return -1;
    if (simple(reader, "BEGIN", error) < 0) {
        connection_free(reader);
        return -1;
    }
    *ret_tx = (struct db_tx){db, reader, false, 0};
    return 0;
}

static int writes_are_possible(struct db *db, struct error *error)
{
    int failed;

    pthread_mutex_lock(&db->durability.lock);
    failed = db->durability.failed;
    pthread_mutex_unlock(&db->durability.lock);
    if (failed)
        return error_set_errno(error, failed,
                               "the database takes no more changes since writing it to the disk failed; restart "
                               "when the disk is mended");
    return 0;
}

int db_begin_write(struct db *db, struct db_tx *ret_tx, struct error *error)
{
    int r = pthread_mutex_lock(&db->write_lock);

    assert(r == 0 && "a thread begins one write transaction at a time");
    (void)r;
    if (writes_are_possible(db, error) < 0 || simple(db->writer, "BEGIN IMMEDIATE", error) < 0) {
        pthread_mutex_unlock(&db->write_lock);
        return -1;
    }
    db->writer->changes = sqlite3_total_changes(db->writer->handle);
    *ret_tx = (struct db_tx){db, db->writer, true, 0};
    return 0;
}

void db_end(struct db_tx *tx)
{
    struct db_connection *connection = tx->connection;

    if (!connection)
        return;
    assert(connection->open_rows == 0 && "rows end before their transaction");
    /* An error may have rolled back already. */
    if (!sqlite3_get_autocommit(connection->handle))
        simple(connection, "ROLLBACK", NULL);
    tx->connection = NULL;
    if (tx->is_write)
        pthread_mutex_unlock(&tx->db->write_lock);
    else
        give_reader(connection);
}

void db_forget_pages(struct db_tx *tx)
{
    sqlite3_db_release_memory(tx->connection->handle);
}

static int wait_until_durable(struct durability *d, uint64_t ticket, struct error *error)
{
    int failed;

    pthread_mutex_lock(&d->lock);
    while (d->durable < ticket && !d->failed) {
        if (d->syncing) {
            pthread_cond_wait(&d->changed, &d->lock);
            continue;
        }
        uint64_t covers = d->committed;
        int r;

        d->syncing = true;
        pthread_mutex_unlock(&d->lock);
        r = fdatasync(d->log_fd) < 0 ? errno : 0;
        pthread_mutex_lock(&d->lock);
        d->syncing = false;
        if (r)
            d->failed = r;
        else
            d->durable = covers;
        pthread_cond_broadcast(&d->changed);
    }
    failed = d->durable < ticket ? d->failed : 0;
    pthread_mutex_unlock(&d->lock);
    return failed ? error_set_errno(error, failed, "cannot make a change durable") : 0;
}

static void run_hook(struct db *db, int64_t last_event)
{
    db_commit_fn hook;
    void *userdata;

    if (!last_event)
        return;
    pthread_mutex_lock(&db->lock);
    hook = db->hook;
    userdata = db->hook_userdata;
    pthread_mutex_unlock(&db->lock);
    if (hook)
        hook(userdata, last_event);
}

int db_commit(struct db_tx *tx, struct error *error)
{
    struct db_connection *connection = tx->connection;
    struct db *db = tx->db;
    bool changed;
    uint64_t ticket = 0;

    assert(connection && "a transaction that was begun");
    assert(connection->open_rows == 0 && "rows end before their transaction");
    changed = tx->is_write && sqlite3_total_changes(connection->handle) != connection->changes;
    if (simple(connection, "COMMIT", error) < 0) {
        db_end(tx);
        return -1;
    }
    if (!tx->is_write) {
        db_end(tx);
        return 0;
    }

    /* Still under the write lock, so that tickets are in the order of the log. */
    if (changed) {
        pthread_mutex_lock(&db->durability.lock);
        ticket = ++db->durability.committed;
        pthread_mutex_unlock(&db->durability.lock);
    }
    db_end(tx);
    if (ticket && wait_until_durable(&db->durability, ticket, error) < 0)
        return -1;
    run_hook(db, tx->last_event);
    return 0;
}

void db_set_commit_hook(struct db *db, db_commit_fn fn, void *userdata)
{
    pthread_mutex_lock(&db->lock);
    db->hook = fn;
    db->hook_userdata = userdata;
    pthread_mutex_unlock(&db->lock);
}

static int savepoint(struct db_tx *tx, const char *verb, const char *name, struct error *error)
{
    cleanup_free char *sql = xasprintf("%s %s", verb, name);

    assert(name[strspn(name, "abcdefghijklmnopqrstuvwxyz_")] == '\0');
    return simple(tx->connection, sql, error);
}

int db_savepoint(struct db_tx *tx, const char *name, struct error *error)
{
    return savepoint(tx, "SAVEPOINT", name, error);
}

int db_savepoint_release(struct db_tx *tx, const char *name, struct error *error)
{
    return savepoint(tx, "RELEASE", name, error);
}

int db_savepoint_rollback(struct db_tx *tx, const char *name, struct error *error)
{
    if (savepoint(tx, "ROLLBACK TO", name, error) < 0)
        return -1;
    return savepoint(tx, "RELEASE", name, error);
}

/* -- statements for callers -- */

int db_exec(struct db_tx *tx, struct error *error, const char *sql, const char *types, ...)
{
    struct db_connection *connection = tx->connection;
    struct db_statement *statement;
    va_list args;
    int r;

    assert(connection && "a transaction that was begun");
    statement = statement_get(connection, sql, error);
    if (!statement)
        return -1;
    va_start(args, types);
    bind(statement, types, args, SQLITE_STATIC);
    va_end(args);
    r = sqlite3_step(statement->handle);
    assert(r != SQLITE_ROW && "use db_query for statements that return rows");
    if (r != SQLITE_DONE)
        set_error(error, connection->handle, sql);
    statement_put(statement);
    return r == SQLITE_DONE ? 0 : -1;
}

int64_t db_last_id(struct db_tx *tx)
{
    return sqlite3_last_insert_rowid(tx->connection->handle);
}

int db_changes(struct db_tx *tx)
{
    return sqlite3_changes(tx->connection->handle);
}

static int query(struct db_tx *tx, struct db_rows *ret_rows, struct error *error, const char *sql, const char *types,
                 va_list args)
{
    struct db_statement *statement;

    assert(tx->connection && "a transaction that was begun");
    statement = statement_get(tx->connection, sql, error);
    if (!statement)
        return -1;
    bind(statement, types, args, SQLITE_TRANSIENT);
    tx->connection->open_rows++;
    *ret_rows = (struct db_rows){tx, statement};
    return 0;
}

int db_query(struct db_tx *tx, struct db_rows *ret_rows, struct error *error, const char *sql, const char *types, ...)
{
    va_list args;
    int r;

    va_start(args, types);
    r = query(tx, ret_rows, error, sql, types, args);
    va_end(args);
    return r;
}

int db_next(struct db_rows *rows, struct error *error)
{
    int r = sqlite3_step(rows->statement->handle);

    if (r == SQLITE_ROW)
        return 1;
    if (r == SQLITE_DONE)
        return 0;
    return set_error(error, rows->tx->connection->handle, sqlite3_sql(rows->statement->handle));
}

void db_rows_end(struct db_rows *rows)
{
    if (!rows->statement)
        return;
    rows->statement->connection->open_rows--;
    statement_put(rows->statement);
    *rows = (struct db_rows)DB_ROWS_INIT;
}

const char *db_text(struct db_rows *rows, int column)
{
    return (const char *)sqlite3_column_text(rows->statement->handle, column);
}

int64_t db_int(struct db_rows *rows, int column)
{
    return sqlite3_column_int64(rows->statement->handle, column);
}

double db_real(struct db_rows *rows, int column)
{
    return sqlite3_column_double(rows->statement->handle, column);
}

const void *db_blob(struct db_rows *rows, int column, size_t *ret_length)
{
    const void *data = sqlite3_column_blob(rows->statement->handle, column);

    *ret_length = (size_t)sqlite3_column_bytes(rows->statement->handle, column);
    return data;
}

bool db_is_null(struct db_rows *rows, int column)
{
    return sqlite3_column_type(rows->statement->handle, column) == SQLITE_NULL;
}

json_t *db_json(struct db_rows *rows, int column, struct error *error)
{
    const char *text = db_text(rows, column);
    json_t *value;

    if (!text)
        return NULL;
    value = json_parse(text, (size_t)sqlite3_column_bytes(rows->statement->handle, column), error);
    if (!value)
        error_wrap(error, "database: column %s", sqlite3_column_name(rows->statement->handle, column));
    return value;
}

int db_query_int(struct db_tx *tx, int64_t *ret_value, struct error *error, const char *sql, const char *types, ...)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    va_list args;
    int r;

    va_start(args, types);
    r = query(tx, &rows, error, sql, types, args);
    va_end(args);
    if (r < 0)
        return -1;
    r = db_next(&rows, error);
    if (r < 0)
        return -1;
    if (r == 0)
        return error_set(error, ERROR_NOT_FOUND, "no such row");
    *ret_value = db_int(&rows, 0);
    return 0;
}

/* -- backup -- */

/* One step copies everything from one snapshot; writers go on meanwhile, into the log. */
static int copy_database(sqlite3 *from, sqlite3 *to, struct error *error)
{
    sqlite3_backup *backup = sqlite3_backup_init(to, "main", from, "main");

    if (!backup)
        return set_error(error, to, "cannot start a backup");
    sqlite3_backup_step(backup, -1);
    if (sqlite3_backup_finish(backup) != SQLITE_OK)
        return set_error(error, to, "backup");
    return 0;
}

int db_backup(struct db *db, const char *path, struct error *error)
{
    struct db_connection *reader = NULL;
    sqlite3 *to = NULL;
    int r = -1;

    if (fs_exists(path))
        return error_set(error, ERROR_EXISTS, "%s exists already", path);
    if (create_private(path, error) < 0)
        return -1;
    reader = take_reader(db);
    if (!reader && connection_open(db, false, &reader, error) < 0)
        goto out;
    if (sqlite3_open_v2(path, &to, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) {
        set_error(error, to, path);
        goto out;
    }
    sqlite3_extended_result_codes(to, 1);
    /* Makes the copy one file: without it, it would want a log beside it. */
    if (copy_database(reader->handle, to, error) == 0 &&
        sqlite3_exec(to, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL) == SQLITE_OK)
        r = 0;
out:
    sqlite3_close(to);
    if (reader)
        give_reader(reader);
    if (r < 0) {
        unlink(path);
        if (!error_is_set(error))
            error_set(error, ERROR_IO, "cannot finish the backup %s", path);
    }
    return r;
}
