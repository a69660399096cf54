/*
 * A file that a command writes for people: it gets its name when it is complete, so that a failure leaves what was
 * there before.
 *
 *     cleanup_draft struct draft draft = DRAFT_INIT;
 *     if (draft_begin(&draft, path, 0666, error) < 0 || write_all_of_it(draft.fd, error) < 0)
 *         return -1;                                  the scope's end removes what was written
 *     return draft_finish(&draft, error);
 *
 * Devices, pipes and what a path below /proc leads to are written as it comes, and so is standard output.
 */
#pragma once

#include <sys/types.h>
#include "util/cleanup.h"
#include "util/error.h"

struct draft {
    int fd;          /* to write, and to read where it is a file of its own */
    char *path;      /* NULL: it has its name already */
    char *temporary; /* its name until then */
};
#define DRAFT_INIT {-1, NULL, NULL}

/* NULL: standard output. The mode is that of open(). */
int draft_begin(struct draft *draft, const char *path, mode_t mode, struct error *error);
/* Makes it durable and gives it its name. */
int draft_finish(struct draft *draft, struct error *error);
void draft_release(struct draft *draft);
#define cleanup_draft CLEANUP(draft_release)
