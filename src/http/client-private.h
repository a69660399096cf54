/*
 * What client.c (requests) and client-follow.c (WebSockets) share: the only files that see curl.h.
 */
#pragma once

#include <curl/curl.h>
#include <stdatomic.h>
#include "http/client.h"
#include "util/net.h"

struct http_client {
    CURL *curl;             /* kept between requests, with its connection */
    char *base;             /* "http://localhost" for a Unix socket */
    char *shown;            /* the URL as it was given, for messages */
    char *unix_path;        /* NULL: TCP */
    char *token, *ca_file;
    bool insecure;
    int timeout_ms;
    int cancel_fd;          /* eventfd, readable once cancelled: for poll() */
    atomic_bool cancelled;
    char unix_name[NET_UNIX_SIZE]; /* of unix_path, see net_unix_name() */
    int directory_fd;
};

/* A handle with everything that belongs to the connection set; `path` is appended to the base. */
void client_prepare(struct http_client *client, CURL *curl, const char *path);
/* Turns a failure of curl_easy_perform into an error. `detail` is curl's error buffer. */
int client_failed(struct http_client *client, CURLcode code, const char *detail, struct error *error);
/* Turns an answer with a status of 400 or more into an error. */
int client_refused(long status, const char *body, size_t length, struct error *error);
