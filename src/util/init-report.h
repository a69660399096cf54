/*
 * What slipway-init tells the monitor through its descriptor 3. Fixed-size records, smaller than a pipe's
 * atomic write. Included by the freestanding init, so it includes nothing.
 */
#pragma once

enum report_type {
    REPORT_STARTED = 1, /* value: the program's pid, as init sees it */
    REPORT_FAILED = 2,  /* value: error number of execve */
    REPORT_ENDED = 3,   /* value: status as wait() gives it */
};

struct report {
    unsigned type;
    int value;
};
