/*
 * The steps that bring a database to the newest schema, oldest first.
 *
 * A step is never changed once somebody has data: its digest is kept in the database and compared. A new
 * one is a new file NNNN-name.sql and a new row. Foreign keys are off while a step runs and checked
 * before it commits, so that it may rebuild tables.
 */
#pragma once

#include <stddef.h>
#include "store/db.h"

struct migration {
    int number;
    const char *name;
    const char *sql;
};

extern const struct migration migrations[];
extern const size_t migrations_count;

/* For tests: like db_open, but stops at a version that is not the newest. */
int db_open_at(const char *path, int version, struct db **ret_db, struct error *error);
