#include <stdlib.h>
#include <string.h>
#include "http/exchange.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/xalloc.h"

struct exchange *exchange_new(const char *method, const char *target)
{
    struct exchange *exchange = xnew0(struct exchange);

    exchange->target = xstrdup(target);
    exchange->path = xstrndup(target, strcspn(target, "?#"));
    exchange->params.destroy = free;
    exchange->query.destroy = free;
    exchange->fd = -1;
    exchange->request.method = method;
    exchange->request.path = exchange->path;
    exchange->request.principal = &exchange->principal;
    exchange->request.body_fd = -1;
    exchange->request.implementation_ = exchange;
    exchange->response.implementation_ = exchange;
    return exchange;
}

void exchange_reset_reply(struct exchange *exchange)
{
    free(exchange->content_type);
    free(exchange->data);
    if (exchange->fd >= 0)
        close(exchange->fd);
    exchange->content_type = NULL;
    exchange->data = NULL;
    exchange->length = 0;
    exchange->fd = -1;
    exchange->reply = HTTP_REPLY_NONE;
}

struct exchange *exchange_free(struct exchange *exchange)
{
    if (!exchange)
        return NULL;
    exchange_reset_reply(exchange);
    strvec_release(&exchange->headers);
    map_release(&exchange->params);
    map_release(&exchange->query);
    json_decref(exchange->json);
    if (exchange->request.body_fd >= 0)
        close(exchange->request.body_fd);
    free(exchange->principal.name);
    free(exchange->principal.project);
    free(exchange->principal.run_id);
    free(exchange->target);
    free(exchange->path);
    free(exchange);
    return NULL;
}

/* -- reading -- */

const char *http_path_param(const struct http_request *request, const char *name)
{
    const struct exchange *exchange = request->implementation_;

    return map_get(&exchange->params, name);
}

const char *http_query_param(const struct http_request *request, const char *name)
{
    const struct exchange *exchange = request->implementation_;

    return map_get(&exchange->query, name);
}

int64_t http_query_int(const struct http_request *request, const char *name, int64_t otherwise)
{
    const char *text = http_query_param(request, name);
    int64_t value;

    return text && parse_int(text, INT64_MIN, INT64_MAX, &value, NULL) == 0 ? value : otherwise;
}

bool http_query_bool(const struct http_request *request, const char *name)
{
    const char *text = http_query_param(request, name);

    return text && (*text == '\0' || strcmp(text, "true") == 0 || strcmp(text, "1") == 0);
}

const char *http_header(const struct http_request *request, const char *name)
{
    const struct exchange *exchange = request->implementation_;

    return exchange->find_header ? exchange->find_header(exchange->header_userdata, name) : NULL;
}

int http_project(const struct http_request *request, const char **ret_project, struct error *error)
{
    const char *asked = http_query_param(request, "project"), *own = request->principal->project;

    if (asked && own && strcmp(asked, own) != 0)
        return error_set(error, ERROR_FORBIDDEN, "the token belongs to project %s and does not cover project %s", own,
                         asked);
    *ret_project = asked ?: own ?: "default";
    return 0;
}

int http_page_limit(const struct http_request *request)
{
    int64_t limit = http_query_int(request, "limit", LIMIT_PAGE_DEFAULT);

    return limit < 1 ? 1 : limit > LIMIT_PAGE ? LIMIT_PAGE : (int)limit;
}

const char *http_page_after(const struct http_request *request)
{
    const char *after = http_query_param(request, "after");

    return after && *after ? after : NULL;
}

/* -- decoding -- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int http_percent_decode(const char *text, size_t length, bool plus, char **ret, struct error *error)
{
    cleanup_free char *decoded = xmalloc(length + 1);
    json_t *check;
    size_t n = 0;

    for (size_t i = 0; i < length; i++) {
        char c = text[i];

        if (c == '+' && plus) {
            c = ' ';
        } else if (c == '%') {
            int high = -1, low = -1;

            if (length - i > 2) {
                high = hex_value(text[i + 1]);
                low = hex_value(text[i + 2]);
            }
            if (high < 0 || low < 0)
                return error_set(error, ERROR_INVALID, "'%%' must be followed by two hexadecimal digits");
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0')
            return error_set(error, ERROR_INVALID, "a NUL byte is not allowed");
        decoded[n++] = c;
    }
    decoded[n] = '\0';
    /* jansson takes UTF-8 only, and what we read here ends up in JSON. */
    check = json_stringn(decoded, n);
    if (!check)
        return error_set(error, ERROR_INVALID, "bytes that are not UTF-8");
    json_decref(check);
    *ret = steal_ptr(decoded);
    return 0;
}

int http_parse_form(const char *text, struct map *into, struct error *error)
{
    while (*text) {
        const char *end = strchrnul(text, '&'), *equals = memchr(text, '=', (size_t)(end - text));
        cleanup_free char *name = NULL;
        cleanup_free char *value = NULL;

        if (http_percent_decode(text, (size_t)((equals ?: end) - text), true, &name, error) < 0)
            return -1;
        if (!equals)
            value = xstrdup("");
        else if (http_percent_decode(equals + 1, (size_t)(end - equals - 1), true, &value, error) < 0)
            return error_wrap(error, "'%.80s'", name);
        if (*name && map_get(into, name))
            return error_set(error, ERROR_INVALID, "'%.80s' is given twice", name);
        if (map_count(into) >= LIMIT_HTTP_QUERY)
            return error_set(error, ERROR_INVALID, "more than %d parameters", LIMIT_HTTP_QUERY);
        if (*name)
            map_put(into, name, steal_ptr(value));
        text = *end ? end + 1 : end;
    }
    return 0;
}

/* -- query -- */

static const struct http_query_row page_rows[] = {
    {"limit", SCHEMA_INTEGER, NULL, "elements on a page"},
    {"after", SCHEMA_STRING, NULL, "cursor: `next` of the page before"},
    {0},
};

static const struct http_query_row project_rows[] = {
    {"project", SCHEMA_STRING, NULL, "project; default: that of the token, else `default`"},
    {0},
};

static bool takes_project(const struct http_route *route)
{
    return route->scope != SCOPE_NONE;
}

static const struct http_query_row *find_in(const struct http_query_row *rows, const char *name)
{
    for (; rows && rows->name; rows++)
        if (strcmp(rows->name, name) == 0)
            return rows;
    return NULL;
}

static const struct http_query_row *find_row(const struct http_route *route, const char *name)
{
    const struct http_query_row *row = find_in(route->query, name);

    if (!row && route->paged)
        row = find_in(page_rows, name);
    if (!row && takes_project(route))
        row = find_in(project_rows, name);
    return row;
}

static void list_rows(struct strbuf *into, const struct http_query_row *rows)
{
    for (; rows && rows->name; rows++)
        strbuf_addf(into, "%s%s", into->length ? ", " : "", rows->name);
}

void http_query_each(const struct http_route *route, void (*fn)(void *, const struct http_query_row *), void *userdata)
{
    const struct http_query_row *tables[] = {
        route->query,
        route->paged ? page_rows : NULL,
        takes_project(route) ? project_rows : NULL,
    };

    for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
        for (const struct http_query_row *row = tables[i]; row && row->name; row++)
            if (find_row(route, row->name) == row)
                fn(userdata, row);
}

static int unknown_parameter(const struct http_route *route, const char *name, struct error *error)
{
    cleanup_strbuf struct strbuf known = STRBUF_INIT(LIMIT_DESCRIPTION);

    list_rows(&known, route->query);
    if (route->paged)
        list_rows(&known, page_rows);
    if (takes_project(route))
        list_rows(&known, project_rows);
    return error_set(error, ERROR_INVALID, "unknown query parameter '%.80s'; known are: %s", name,
                     known.length ? known.data : "none");
}

static int check_value(const struct http_query_row *row, const char *text, struct error *error)
{
    int64_t integer;
    double number;

    switch (row->type) {
    case SCHEMA_INTEGER:
        if (parse_int(text, INT64_MIN, INT64_MAX, &integer, error) < 0)
            return error_wrap(error, "query parameter '%s'", row->name);
        return 0;
    case SCHEMA_NUMBER:
        if (parse_number(text, -1e308, 1e308, &number, error) < 0)
            return error_wrap(error, "query parameter '%s'", row->name);
        return 0;
    case SCHEMA_BOOLEAN:
        if (*text && strcmp(text, "true") && strcmp(text, "false") && strcmp(text, "1") && strcmp(text, "0"))
            return error_set(error, ERROR_INVALID, "query parameter '%s' must be true or false, not '%.80s'", row->name,
                             text);
        return 0;
    default: break;
    }
    if (row->values) {
        cleanup_strbuf struct strbuf allowed = STRBUF_INIT(LIMIT_DESCRIPTION);

        for (const char *const *value = row->values; *value; value++) {
            if (strcmp(*value, text) == 0)
                return 0;
            strbuf_addf(&allowed, "%s%s", allowed.length ? ", " : "", *value);
        }
        return error_set(error, ERROR_INVALID, "query parameter '%s' is '%.80s'; it must be one of: %s", row->name,
                         text, allowed.data);
    }
    return 0;
}

int exchange_check_query(struct exchange *exchange, struct error *error)
{
    const char *mark = strchr(exchange->target, '?');
    struct map_iterator it = {0};

    if (mark && http_parse_form(mark + 1, &exchange->query, error) < 0)
        return error_wrap(error, "bad query");
    while (map_next(&exchange->query, &it)) {
        const struct http_query_row *row = find_row(exchange->request.route, it.key);

        if (!row)
            return unknown_parameter(exchange->request.route, it.key, error);
        if (check_value(row, it.value, error) < 0)
            return -1;
    }
    return 0;
}

/* -- answering -- */

void http_reply_text(struct http_response *response, int status, const char *content_type, const char *text,
                     size_t length)
{
    struct exchange *exchange = response->implementation_;

    exchange_reset_reply(exchange);
    exchange->reply = HTTP_REPLY_BYTES;
    exchange->content_type = xstrdup(content_type);
    exchange->data = xmemdup(text, length);
    exchange->length = length;
    response->status = status;
}

void http_reply_json(struct http_response *response, int status, json_t *value)
{
    struct exchange *exchange = response->implementation_;

    exchange_reset_reply(exchange);
    exchange->reply = HTTP_REPLY_BYTES;
    exchange->data = json_text(value);
    exchange->length = strlen(exchange->data);
    response->status = status;
    json_decref(value);
}

void http_reply_fd(struct http_response *response, int status, const char *content_type, int fd, uint64_t size)
{
    struct exchange *exchange = response->implementation_;

    exchange_reset_reply(exchange);
    exchange->reply = HTTP_REPLY_FD;
    exchange->content_type = xstrdup(content_type);
    exchange->fd = fd;
    exchange->size = size;
    response->status = status;
}

void http_reply_header(struct http_response *response, const char *name, const char *value)
{
    struct exchange *exchange = response->implementation_;

    strvec_push(&exchange->headers, name);
    strvec_push(&exchange->headers, value);
}

void http_reply_page(struct http_response *response, json_t *items, const char *next)
{
    json_t *page = json_build("{s:o}", "items", items);

    json_set_string(page, "next", next);
    http_reply_json(response, 200, page);
}

void exchange_reply_error(struct exchange *exchange, int status, const struct error *error)
{
    json_t *object = json_build("{s:{s:s, s:s}}", "error", "code", error_code_name(error->code), "message",
                                error->message ?: "no reason was given");

    status = status ?: http_status_of(error->code);
    if (status == 401)
        http_reply_header(&exchange->response, "WWW-Authenticate", "Bearer realm=\"slipway\"");
    if (status == 503 || status == 429)
        http_reply_header(&exchange->response, "Retry-After", "1");
    http_reply_json(&exchange->response, status, object);
}
