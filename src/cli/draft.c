#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/draft.h"
#include "util/xalloc.h"

static bool is_plain(const char *path)
{
    struct stat st;

    return strncmp(path, "/proc/", 6) != 0 && (stat(path, &st) < 0 || S_ISREG(st.st_mode));
}

int draft_begin(struct draft *draft, const char *path, mode_t mode, struct error *error)
{
    if (path && is_plain(path)) {
        draft->path = xstrdup(path);
        draft->temporary = xasprintf("%s.partial-%d", path, (int)getpid());
        draft->fd = open(draft->temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    } else {
        fflush(stdout);
        draft->fd = path ? open(path, O_RDWR | O_CLOEXEC) : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        if (draft->fd < 0 && path)
            draft->fd = open(path, O_WRONLY | O_CLOEXEC);
    }
    if (draft->fd < 0)
        return error_set_errno(error, errno, "cannot write %s", path ? path : "standard output");
    return 0;
}

int draft_finish(struct draft *draft, struct error *error)
{
    if (!draft->path)
        return 0;
    if (fsync(draft->fd) < 0 || rename(draft->temporary, draft->path) < 0)
        return error_set_errno(error, errno, "cannot write %s", draft->path);
    free(steal_ptr(draft->temporary));
    return 0;
}

void draft_release(struct draft *draft)
{
    if (draft->temporary)
        unlink(draft->temporary);
    if (draft->fd >= 0)
        close(draft->fd);
    free(draft->path);
    free(draft->temporary);
}
