/*
 * One request and its answer while they are being worked on; what is behind `implementation_` in router.h.
 * Private to this folder.
 */
#pragma once

#include "http/router.h"
#include "util/map.h"
#include "util/strbuf.h"
#include "util/strvec.h"

struct websocket_handler;

enum http_reply {
    HTTP_REPLY_NONE, /* the handler answered nothing: 204 */
    HTTP_REPLY_BYTES,
    HTTP_REPLY_FD,
    HTTP_REPLY_WEBSOCKET,
};

struct exchange {
    struct http_request request;
    struct http_response response;
    struct http_principal principal;

    char *target;     /* as it came: path, '?', query; percent-encoded */
    char *path;       /* the part before '?' */
    struct map params; /* name → decoded text, owned */
    struct map query;  /* name → decoded text, owned */
    json_t *json;
    /* Where http_header() looks; set by who received the request. */
    const char *(*find_header)(void *userdata, const char *name);
    void *header_userdata;

    enum http_reply reply;
    char *content_type; /* NULL: application/json */
    char *data;
    size_t length;
    int fd;
    uint64_t size;
    struct strvec headers; /* name, value, name, value */
    const struct websocket_handler *websocket;
    void *websocket_userdata;
};

/* Copies the target. */
struct exchange *exchange_new(const char *method, const char *target);
struct exchange *exchange_free(struct exchange *exchange);
DEFINE_CLEANUP(struct exchange *, exchange_free)
#define cleanup_exchange CLEANUP(exchange_free_cleanup)

/* Forgets what a handler replied. */
void exchange_reset_reply(struct exchange *exchange);
/* Makes the JSON error object the answer. `status` 0: that of the code. */
void exchange_reply_error(struct exchange *exchange, int status, const struct error *error);

/* Decodes %XX (and '+' as a space if plus) in text[0..length). ERROR_INVALID for a bad escape, a NUL, or
 * bytes that are not UTF-8. *ret is to be freed. */
int http_percent_decode(const char *text, size_t length, bool plus, char **ret, struct error *error);
/* Splits "a=1&b=2" into decoded texts by name. A name that comes twice, and more than LIMIT_HTTP_QUERY, are
 * ERROR_INVALID. */
int http_parse_form(const char *text, struct map *into, struct error *error);
/* Parses the query of the target and checks it against the rows of the route. */
int exchange_check_query(struct exchange *exchange, struct error *error);
/* All query parameters that a route takes, also those that come with its scope and its pages. */
void http_query_each(const struct http_route *route, void (*fn)(void *userdata, const struct http_query_row *row),
                     void *userdata);

/* -- table of routes -- */
struct router;

/* `tables` is ended by NULL. Two rows that match the same requests abort. */
struct router *router_new(const struct http_route *const *tables);
struct router *router_free(struct router *router);
size_t router_count(const struct router *router);
/* In the order of the tables. */
const struct http_route *router_at(const struct router *router, size_t index);
size_t router_index(const struct router *router, const struct http_route *route);

/* Finds the route for exchange->path and the method, and fills route and params. A segment in the row that is
 * text wins over a parameter, a parameter over a rest. ERROR_NOT_FOUND without a path that fits;
 * ERROR_UNSUPPORTED with the header Allow set if only the method does not fit; ERROR_INVALID for a path that
 * cannot be decoded or has "." or ".." segments. */
int router_find(const struct router *router, struct exchange *exchange, struct error *error);
