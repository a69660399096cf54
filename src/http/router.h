/*
 * Routes as rows, and what a handler sees of a request.
 *
 *     static const struct http_route routes[] = {
 *         {"GET", "/api/v1/datasets/{name}", SCOPE_VIEW, get_dataset, "show a dataset",
 *          .query = dataset_query, .response = &dataset_schema},
 *         {"POST", "/api/v1/blobs", SCOPE_DEVELOP, post_blob, "store a blob",
 *          .body = HTTP_BODY_FILE, .body_limit = LIMIT_UPLOAD, .response = &blob_schema},
 *         {}
 *     };
 *
 * The router checks the scope, the size and shape of the body, and the query parameters before the handler
 * runs; unknown fields and parameters are named in the error. From the same rows come OpenAPI and the
 * reference. A handler returns 0 after it filled the response, or -1 with an error, which the router turns
 * into {"error":{"code","message"}} with the status of http_status_of(). Handlers run on HTTP threads, are
 * short and synchronous. Path parameters match one segment, percent-decoded; "{name...}" as the last one
 * takes the rest (with slashes).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "util/error.h"
#include "util/json.h"
#include "util/schema.h"

/* What a token may do. Each includes those below it, except predict. */
enum http_scope {
    SCOPE_NONE,    /* no token needed */
    SCOPE_INTROSPECT, /* ask what tokens are worth: the gateway */
    SCOPE_VIEW,    /* read everything in the token's project */
    SCOPE_DEVELOP, /* change things in the token's project */
    SCOPE_ADMIN,   /* everything everywhere: tokens, projects, gc, backup */
};

/* Who asks. Filled by the authenticator that the server was given. */
struct http_principal {
    char *name;             /* "token:alice", "local" (Unix socket), "anonymous" */
    enum http_scope scope;
    char *project;          /* NULL: all projects */
    char *run_id;           /* the token of a run: may touch that run only; else NULL */
};

enum http_body {
    HTTP_BODY_NONE, /* a body is refused, unless `request` is set: then JSON */
    HTTP_BODY_JSON,
    HTTP_BODY_FORM, /* application/x-www-form-urlencoded: request->json is an object of strings, checked as JSON is */
    HTTP_BODY_FILE, /* streamed into a temporary file, unlinked; request->body_fd at position 0 */
};

struct http_request {
    const char *method;
    const char *path;
    const struct http_route *route;
    const struct http_principal *principal;
    void *context;       /* what the server was given: struct daemon */
    json_t *json;        /* HTTP_BODY_JSON: checked against the route's schema; borrowed */
    int body_fd;         /* HTTP_BODY_FILE, else -1 */
    uint64_t body_size;
    void *implementation_;
};

/* NULL if absent. Strings live as long as the request. */
const char *http_path_param(const struct http_request *request, const char *name);
const char *http_query_param(const struct http_request *request, const char *name);
int64_t http_query_int(const struct http_request *request, const char *name, int64_t otherwise);
bool http_query_bool(const struct http_request *request, const char *name);
const char *http_header(const struct http_request *request, const char *name);
/* The project that the request is about: query parameter `project`, else the token's, else "default".
 * ERROR_FORBIDDEN if the token is of another project. */
int http_project(const struct http_request *request, const char **ret_project, struct error *error);

struct http_response {
    int status; /* 200 unless set */
    void *implementation_;
};

/* Steals the reference. */
void http_reply_json(struct http_response *response, int status, json_t *value);
/* Copies. */
void http_reply_text(struct http_response *response, int status, const char *content_type, const char *text,
                     size_t length);
/* Takes the descriptor; sends from its position 0 (ranges are honoured). */
void http_reply_fd(struct http_response *response, int status, const char *content_type, int fd, uint64_t size);
void http_reply_header(struct http_response *response, const char *name, const char *value);
/* One page of a list: {"items":[…],"next":"cursor"|null}. Steals items; next may be NULL. */
void http_reply_page(struct http_response *response, json_t *items, const char *next);

typedef int (*http_handler)(struct http_request *request, struct http_response *response, struct error *error);

/* A query parameter. Every list route takes `limit` and `after` (the cursor) from http_page_query. */
struct http_query_row {
    const char *name;        /* NULL ends the table */
    enum schema_type type;   /* SCHEMA_STRING, _INTEGER, _NUMBER or _BOOLEAN */
    const char *const *values;
    const char *doc;
};

struct http_route {
    const char *method;      /* NULL ends the table */
    const char *path;
    enum http_scope scope;
    http_handler handler;
    const char *summary;
    const struct http_query_row *query; /* NULL: none */
    bool paged;                         /* also takes `limit` and `after`; response is a page of `response` */
    const struct schema *request;       /* body; NULL: none */
    const struct schema *response;      /* NULL: any JSON, or not JSON (see content_type) */
    enum http_body body;
    uint64_t body_limit;                /* 0: LIMIT_JSON_BODY */
    const struct schema *failure;       /* what its own 400 and 401 look like, where a standard wants another form */
    int status;                         /* of success, for the document; 0: 200 */
    const char *content_type;           /* of a response that is not JSON */
    bool slow;                          /* may take long (imports, gc): few of them at once */
    bool websocket;                     /* answered by upgrade: see websocket.h */
    const char *tag;                    /* group in the reference: "datasets" */
};

/* `project` is taken by every route that has a scope. */

/* Limit of a page, clamped to 1..LIMIT_PAGE, and its cursor (NULL: from the start). */
int http_page_limit(const struct http_request *request);
const char *http_page_after(const struct http_request *request);

/* The one table of error codes and statuses. */
int http_status_of(enum error_code code);
