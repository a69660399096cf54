#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "api/notify.h"
#include "util/cleanup.h"
#include "util/xalloc.h"

char *notify_open(void)
{
    char *where = xstrdup_null(getenv("NOTIFY_SOCKET"));

    unsetenv("NOTIFY_SOCKET");
    return where;
}

void notify_supervisor(const char *name, const char *state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    cleanup_close int fd = -1;
    size_t length;

    if (!name || (*name != '/' && *name != '@') || strlen(name) >= sizeof(address.sun_path))
        return;
    length = strlen(name);
    memcpy(address.sun_path, name, length);
    if (*name == '@')
        address.sun_path[0] = '\0'; /* the abstract name space */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
}
