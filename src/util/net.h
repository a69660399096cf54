/*
 * Addresses to listen on, and listening sockets.
 */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>
#include "util/error.h"

struct net_address {
    struct sockaddr_storage storage;
    socklen_t length;
};

/* "127.0.0.1:8470", "[::1]:0", "localhost:80", "*:80" or ":80" (all IPv4 and IPv6 addresses). Names are not
 * looked up, except localhost. ERROR_INVALID says what is wrong. */
int net_parse(const char *text, struct net_address *ret_address, struct error *error);
/* True if only this machine can reach it. */
bool net_is_loopback(const struct net_address *address);

/* "127.0.0.1:8470" or "[::1]:8470". Returns buffer. */
#define NET_TEXT_SIZE 64
char *net_format(const struct net_address *address, char buffer[NET_TEXT_SIZE]);

/* A non-blocking, close-on-exec listening socket; *ret_bound (may be NULL) has the port that was taken for
 * port 0. ERROR_CONFLICT if somebody else listens there. */
int net_listen(const struct net_address *address, int backlog, int *ret_fd, struct net_address *ret_bound,
               struct error *error);
/* A stream socket at a path, mode as given from its first moment; a socket that was left there is replaced.
 * Paths of any length. */
int net_listen_unix(const char *path, mode_t mode, int backlog, int *ret_fd, struct error *error);
/* A name for a socket's path that fits into a socket's address: the path itself, or one through
 * /proc/self/fd and a descriptor of its directory, which is stored in *ret_directory (else untouched) and must
 * stay open as long as the name is used. */
#define NET_UNIX_SIZE 108
int net_unix_name(const char *path, char name[NET_UNIX_SIZE], int *ret_directory, struct error *error);
/* Connects to it; blocking, close-on-exec. ERROR_UNAVAILABLE if nobody listens. */
int net_connect_unix(const char *path, int *ret_fd, struct error *error);

/* Bytes over a Unix stream socket, with a descriptor (SCM_RIGHTS; -1: none) on the first of them. As send()
 * and recv() with MSG_DONTWAIT. *ret_passed is the one that came, close-on-exec, or -1. */
ssize_t net_send_fd(int fd, const void *data, size_t length, int passed);
ssize_t net_receive_fd(int fd, void *data, size_t size, int *ret_passed);
