/* Shared by the fuzzers of servers: a private directory for sockets, and a client on the fuzzer's own thread. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "util/fs.h"
#include "util/loop.h"
#include "util/net.h"
#include "util/xalloc.h"

static char *fuzz_directory_;

static inline void fuzz_directory_remove_(void)
{
    fs_remove_all(fuzz_directory_, NULL);
    free(fuzz_directory_);
}

/* A directory that goes with the process. */
static inline const char *fuzz_directory(void)
{
    if (!fuzz_directory_) {
        fuzz_directory_ = xstrdup("/tmp/slipway-fuzz-XXXXXX");
        if (!mkdtemp(fuzz_directory_))
            abort();
        atexit(fuzz_directory_remove_);
    }
    return fuzz_directory_;
}

static inline int fuzz_connect(const char *path)
{
    int fd;

    if (net_connect_unix(path, &fd, NULL) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        abort();
    return fd;
}

/* Reads what was answered, and forgets it. False when the other side closed. */
static inline bool fuzz_drain(int fd)
{
    char buffer[4096];
    ssize_t n;

    while ((n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0)
        ;
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

#define FUZZ_PATIENCE 20 /* turns in which nothing of a piece was taken */

/* Sends all while the loop of the server turns. False when the other side closed, or does not read because it has an
 * answer to give first. */
static inline bool fuzz_send(struct loop *loop, int fd, const uint8_t *data, size_t length)
{
    for (int turns = 0; length && turns < FUZZ_PATIENCE; turns++) {
        ssize_t n = send(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n > 0) {
            data += n;
            length -= (size_t)n;
            turns = 0;
        }
        loop_run_once(loop, 0);
        if (!fuzz_drain(fd))
            return false;
    }
    return length == 0;
}
