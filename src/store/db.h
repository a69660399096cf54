/*
 * The database: one SQLite file in WAL mode, foreign keys on.
 *
 * One connection writes, under a mutex; a pool of connections reads, each transaction on a snapshot of
 * its own. A transaction belongs to the thread that began it.
 *
 *     cleanup_tx struct db_tx tx = DB_TX_INIT;
 *     if (db_begin_write(db, &tx, error) < 0)
 *         return -1;
 *     if (db_exec(&tx, error, "UPDATE jobs SET name = ? WHERE id = ?", "si", name, id) < 0)
 *         return -1;                                  the scope's end rolls back
 *     return db_commit(&tx, error);
 *
 * Rules of the house: core/ functions take a `struct db_tx *` and never begin or commit, so that callers
 * compose them into one transaction. Nobody blocks (network, child process, large file) while holding a
 * write transaction. Hooks run after a commit, on the committing thread, outside of the lock.
 *
 * A commit returns when the change is on the disk: threads that commit at the same time share one sync.
 * Bulk (metrics, log offsets) goes many rows to a transaction. Rows end before their transaction does.
 *
 * Argument types of db_exec and db_query: s text (const char *, NULL is NULL), i int64_t, d double,
 * b blob (const void *, size_t), j JSON (json_t *, borrowed, stored as canonical text, NULL is NULL).
 * `error` stands before the SQL because the arguments are variadic.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "util/error.h"
#include "util/json.h"

struct db;
struct db_connection;
struct db_statement;

struct db_tx {
    struct db *db;
    struct db_connection *connection; /* NULL: not begun, or ended */
    bool is_write;
    int64_t last_event; /* sequence number of the newest event appended in it; 0: none */
};
#define DB_TX_INIT {NULL, NULL, false, 0}

/* Opens or creates the file and brings it to the newest schema, step by step, each in a transaction of
 * its own. ERROR_UNSUPPORTED if the file was written by a newer version. */
int db_open(const char *path, struct db **ret_db, struct error *error);
struct db *db_close(struct db *db);
DEFINE_CLEANUP(struct db *, db_close)
#define cleanup_db CLEANUP(db_close_cleanup)

/* The number of migrations this program knows. */
int db_schema_version(void);

int db_begin_read(struct db *db, struct db_tx *ret_tx, struct error *error);
int db_begin_write(struct db *db, struct db_tx *ret_tx, struct error *error);
int db_commit(struct db_tx *tx, struct error *error);
/* Rolls back unless committed. For scopes. */
void db_end(struct db_tx *tx);
#define cleanup_tx CLEANUP(db_end)
/* Gives back the memory of the pages that were read, after a scan that nobody will repeat. */
void db_forget_pages(struct db_tx *tx);

/* Undoes what was done since, without ending the transaction. Nested by name. */
int db_savepoint(struct db_tx *tx, const char *name, struct error *error);
int db_savepoint_release(struct db_tx *tx, const char *name, struct error *error);
int db_savepoint_rollback(struct db_tx *tx, const char *name, struct error *error);

/* Runs one statement that returns no rows. A violated UNIQUE or PRIMARY KEY is ERROR_EXISTS, a violated
 * foreign key ERROR_CONFLICT, a full disk ERROR_NO_SPACE. Statements are cached per connection by text. */
int db_exec(struct db_tx *tx, struct error *error, const char *sql, const char *types, ...);
int64_t db_last_id(struct db_tx *tx);
/* Rows changed by the last db_exec. */
int db_changes(struct db_tx *tx);

/*
 *     cleanup_rows struct db_rows rows = DB_ROWS_INIT;
 *     int r;
 *     if (db_query(tx, &rows, error, "SELECT id, name FROM jobs WHERE project = ?", "s", project) < 0)
 *         return -1;
 *     while ((r = db_next(&rows, error)) > 0)
 *         use(db_int(&rows, 0), db_text(&rows, 1));
 *     return r;
 */
struct db_rows {
    struct db_tx *tx;
    struct db_statement *statement;
};
#define DB_ROWS_INIT {NULL, NULL}

int db_query(struct db_tx *tx, struct db_rows *ret_rows, struct error *error, const char *sql, const char *types, ...);
/* 1: a row; 0: no more; -1: error. */
int db_next(struct db_rows *rows, struct error *error);
void db_rows_end(struct db_rows *rows);
#define cleanup_rows CLEANUP(db_rows_end)

/* Valid until the next db_next. Text is NULL for NULL. */
const char *db_text(struct db_rows *rows, int column);
int64_t db_int(struct db_rows *rows, int column);
double db_real(struct db_rows *rows, int column);
const void *db_blob(struct db_rows *rows, int column, size_t *ret_length);
bool db_is_null(struct db_rows *rows, int column);
/* Parses a JSON column; a new reference, or NULL for NULL. */
json_t *db_json(struct db_rows *rows, int column, struct error *error);

/* The single integer that a query returns; ERROR_NOT_FOUND without a row. */
int db_query_int(struct db_tx *tx, int64_t *ret_value, struct error *error, const char *sql, const char *types, ...);

/* Called after every commit of a write transaction that appended events. */
typedef void (*db_commit_fn)(void *userdata, int64_t last_event);
void db_set_commit_hook(struct db *db, db_commit_fn fn, void *userdata);

/* A consistent copy to a new file while others read and write (online backup). */
int db_backup(struct db *db, const char *path, struct error *error);
