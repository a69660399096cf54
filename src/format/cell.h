/* One field of a row, as the readers of tables (csv.h, jsonl.h) hand them to table.h. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum cell_kind {
    CELL_MISSING,
    CELL_INTEGER,
    CELL_REAL,
    CELL_TEXT,
};

struct cell {
    enum cell_kind kind;
    uint32_t length;
    const char *text; /* as it stood in the file, whatever the kind; not terminated */
    union {
        int64_t integer;
        double real;
    };
};
