#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include "engine/group.h"
#include "util/fs.h"
#include "util/xalloc.h"

#define NSFS_MAGIC_ 0x6e736673 /* linux/magic.h */

struct creation {
    const char *path;
    const char *step; /* that failed; NULL: none */
    int sys_errno;
};

static bool is_mounted(const char *path)
{
    struct statfs fs;

    return statfs(path, &fs) == 0 && fs.f_type == NSFS_MAGIC_;
}

static int raise_loopback(void)
{
    cleanup_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo"};

    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
        return -1;
    request.ifr_flags |= IFF_UP | IFF_RUNNING;
    return ioctl(fd, SIOCSIFFLAGS, &request);
}

/* In a thread of its own: a namespace is the thread's that makes it, and ends with it if nobody holds it. */
static void *create(void *userdata)
{
    struct creation *creation = userdata;

    if (unshare(CLONE_NEWNET) < 0)
        creation->step = "make a network namespace";
    else if (raise_loopback() < 0)
        creation->step = "raise the loopback interface";
    else if (mount("/proc/thread-self/ns/net", creation->path, NULL, MS_BIND, NULL) < 0)
        creation->step = "hold the network namespace";
    creation->sys_errno = creation->step ? errno : 0;
    return NULL;
}

int group_network_create(const char *path, struct error *error)
{
    cleanup_close int fd = -1;
    struct creation creation = {.path = path};
    pthread_t thread;
    int r;

    if (is_mounted(path))
        return 0;
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot create %s", path);
    r = pthread_create(&thread, NULL, create, &creation);
    if (r != 0)
        return error_set_errno(error, r, "cannot start a thread");
    pthread_join(thread, NULL);
    if (creation.step) {
        unlink(path);
        return error_set_errno(error, creation.sys_errno, "cannot %s for the nodes of a run", creation.step);
    }
    return 0;
}

void group_network_remove(const char *path)
{
    if (is_mounted(path))
        umount2(path, MNT_DETACH);
    unlink(path);
}
