/*
 * What a load is aimed at: a URL split into its parts, and requests made ready to be sent.
 */
#pragma once

#include "util/error.h"
#include "util/strvec.h"

struct load_target {
    char *host, *port; /* NULL for a Unix socket */
    char *unix_path;
    char *path;        /* with query; at least "/" */
};

/* "http://host[:port][/path]" or "unix:/socket[:/path]". https is ERROR_UNSUPPORTED: the generator would
 * measure its own cryptography. */
int load_target_parse(const char *url, struct load_target *ret_target, struct error *error);
void load_target_release(struct load_target *target);

/* A complete HTTP/1.1 request, to be freed. `bearer` and `body` may be NULL; headers are "Name: value". */
char *load_request_text(const struct load_target *target, const char *method, const char *bearer,
                        const struct strvec *headers, const char *body, size_t body_length, size_t *ret_length);
