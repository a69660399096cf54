#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "util/cleanup.h"
#include "util/fs.h"
#include "util/net.h"
#include "util/parse.h"
#include "util/xalloc.h"

static void set_ipv4(struct net_address *address, struct in_addr host, uint16_t port)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&address->storage;

    memset(address, 0, sizeof(*address));
    in->sin_family = AF_INET;
    in->sin_addr = host;
    in->sin_port = htons(port);
    address->length = sizeof(*in);
}

static void set_ipv6(struct net_address *address, const struct in6_addr *host, uint16_t port)
{
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address->storage;

    memset(address, 0, sizeof(*address));
    in6->sin6_family = AF_INET6;
    in6->sin6_addr = *host;
    in6->sin6_port = htons(port);
    address->length = sizeof(*in6);
}

int net_parse(const char *text, struct net_address *ret_address, struct error *error)
{
    const char *colon = strrchr(text, ':');
    cleanup_error struct error bad = ERROR_INIT;
    cleanup_free char *host = NULL;
    struct in6_addr v6;
    struct in_addr v4;
    int64_t port;

    if (!colon || parse_int(colon + 1, 0, 65535, &port, &bad) < 0)
        return error_set(error, ERROR_INVALID, "'%.100s' is no address; write HOST:PORT, for example 127.0.0.1:8470",
                         text);
    host = xstrndup(text, (size_t)(colon - text));
    if (*host == '[' && host[strlen(host) - 1] == ']') {
        host[strlen(host) - 1] = '\0';
        if (inet_pton(AF_INET6, host + 1, &v6) == 1) {
            set_ipv6(ret_address, &v6, (uint16_t)port);
            return 0;
        }
    } else if (*host == '\0' || strcmp(host, "*") == 0) {
        set_ipv6(ret_address, &in6addr_any, (uint16_t)port);
        return 0;
    } else if (inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &v4) == 1) {
        set_ipv4(ret_address, v4, (uint16_t)port);
        return 0;
    }
    return error_set(error, ERROR_INVALID,
                     "'%.100s' is no address of this machine; write an IPv4 address, [an IPv6 address], "
                     "localhost or *",
                     text);
}

bool net_is_loopback(const struct net_address *address)
{
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address->storage;
    const struct sockaddr_in *in = (const struct sockaddr_in *)&address->storage;

    switch (address->storage.ss_family) {
    case AF_UNIX: return true;
    case AF_INET: return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
    case AF_INET6:
        return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
               (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) && in6->sin6_addr.s6_addr[12] == 127);
    default: return false;
    }
}

char *net_format(const struct net_address *address, char buffer[NET_TEXT_SIZE])
{
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address->storage;
    const struct sockaddr_in *in = (const struct sockaddr_in *)&address->storage;
    char host[INET6_ADDRSTRLEN] = "?";

    if (address->storage.ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        snprintf(buffer, NET_TEXT_SIZE, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        snprintf(buffer, NET_TEXT_SIZE, "%s:%u", host, ntohs(in->sin_port));
    }
    return buffer;
}

int net_listen(const struct net_address *address, int backlog, int *ret_fd, struct net_address *ret_bound,
               struct error *error)
{
    int family = address->storage.ss_family, on = 1, off = 0;
    cleanup_close int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct net_address bound = {.length = sizeof(bound.storage)};
    char text[NET_TEXT_SIZE];

    if (fd < 0)
        return error_set_errno(error, errno, "cannot make a socket for %s", net_format(address, text));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, (const struct sockaddr *)&address->storage, address->length) < 0 || listen(fd, backlog) < 0) {
        if (errno == EADDRINUSE)
            return error_set(error, ERROR_CONFLICT, "another program listens on %s", net_format(address, text));
        return error_set_errno(error, errno, "cannot listen on %s", net_format(address, text));
    }
    if (getsockname(fd, (struct sockaddr *)&bound.storage, &bound.length) < 0)
        return error_set_errno(error, errno, "cannot tell the port of %s", net_format(address, text));

    if (ret_bound)
        *ret_bound = bound;
    *ret_fd = steal_fd(&fd);
    return 0;
}

int net_unix_name(const char *path, char name[NET_UNIX_SIZE], int *ret_directory, struct error *error)
{
    cleanup_free char *directory = NULL;
    const char *base = fs_basename(path);
    cleanup_close int fd = -1;
    int length;

    if (strlen(path) < NET_UNIX_SIZE) {
        memcpy(name, path, strlen(path) + 1);
        return 0;
    }
    directory = xstrndup(path, (size_t)(base - path));
    fd = open(*directory ? directory : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot open %s", directory);
    length = snprintf(name, NET_UNIX_SIZE, "/proc/self/fd/%d/%s", fd, base);
    if (length < 0 || length >= NET_UNIX_SIZE)
        return error_set(error, ERROR_INVALID, "the name of the socket %.200s is too long", path);
    *ret_directory = steal_fd(&fd);
    return 0;
}

static int unix_address(const char *path, struct sockaddr_un *ret, int *ret_directory, struct error *error)
{
    _Static_assert(sizeof(ret->sun_path) == NET_UNIX_SIZE, "as the kernel has it");
    memset(ret, 0, sizeof(*ret));
    ret->sun_family = AF_UNIX;
    return net_unix_name(path, ret->sun_path, ret_directory, error);
}

int net_listen_unix(const char *path, mode_t mode, int backlog, int *ret_fd, struct error *error)
{
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cleanup_close int directory = -1;
    struct sockaddr_un address;
    struct stat st;

    if (fd < 0)
        return error_set_errno(error, errno, "cannot make a Unix socket");
    if (unix_address(path, &address, &directory, error) < 0)
        return -1;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
    /* On Linux the mode of the socket object limits the mode of the file that bind() makes, so there is no
     * moment in which it is wider than wanted. */
    if (fchmod(fd, mode) < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        chmod(path, mode) < 0 || listen(fd, backlog) < 0)
        return error_set_errno(error, errno, "cannot listen on %s", path);
    *ret_fd = steal_fd(&fd);
    return 0;
}

int net_connect_unix(const char *path, int *ret_fd, struct error *error)
{
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cleanup_close int directory = -1;
    struct sockaddr_un address;

    if (fd < 0)
        return error_set_errno(error, errno, "cannot make a Unix socket");
    if (unix_address(path, &address, &directory, error) < 0)
        return -1;
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return error_set(error, ERROR_UNAVAILABLE, "nobody listens on %s: %s", path, strerror(errno));
    *ret_fd = steal_fd(&fd);
    return 0;
}

ssize_t net_send_fd(int fd, const void *data, size_t length, int passed)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    if (passed >= 0) {
        struct cmsghdr *item;

        header.msg_control = control;
        header.msg_controllen = sizeof(control);
        item = CMSG_FIRSTHDR(&header);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(item), &passed, sizeof(int));
    }
    return sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t net_receive_fd(int fd, void *data, size_t size, int *ret_passed)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {.iov_base = data, .iov_len = size};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    const struct cmsghdr *item = n > 0 ? CMSG_FIRSTHDR(&header) : NULL;

    *ret_passed = -1;
    if (item && item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_RIGHTS &&
        item->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(ret_passed, CMSG_DATA(item), sizeof(int));
    return n;
}
