#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "http/exchange.h"
#include "util/strvec.h"
#include "util/xalloc.h"

/*
 * Rows are compiled into segments and sorted by how specific they are, segment by segment, so that the first
 * row that matches is the right one. There are some hundred rows; comparing a path with each of them costs a
 * few microseconds and needs no cleverer structure.
 */
enum segment_kind { SEGMENT_TEXT, SEGMENT_PARAM, SEGMENT_REST };

struct segment {
    enum segment_kind kind;
    char *text; /* the text, or the name of the parameter */
};

struct pattern {
    const struct http_route *route;
    size_t index; /* place in the tables */
    struct segment *segments;
    size_t count;
};

struct router {
    struct pattern *patterns; /* most specific first */
    const struct http_route **routes;
    size_t count;
};

static struct segment compile_segment(const char *text, size_t length)
{
    struct segment segment = {SEGMENT_TEXT, NULL};

    if (length > 2 && text[0] == '{' && text[length - 1] == '}') {
        bool rest = length > 5 && memcmp(text + length - 4, "...", 3) == 0;

        segment.kind = rest ? SEGMENT_REST : SEGMENT_PARAM;
        segment.text = xstrndup(text + 1, length - (rest ? 5 : 2));
    } else {
        segment.text = xstrndup(text, length);
    }
    return segment;
}

static void compile(struct pattern *pattern, const struct http_route *route, size_t index)
{
    const char *p = route->path;

    assert(*p == '/');
    pattern->route = route;
    pattern->index = index;
    while (*p == '/') {
        const char *start = ++p;

        p = strchrnul(p, '/');
        pattern->segments = xreallocarray(pattern->segments, pattern->count + 1, sizeof(*pattern->segments));
        pattern->segments[pattern->count++] = compile_segment(start, (size_t)(p - start));
        assert(*p == '\0' || pattern->segments[pattern->count - 1].kind != SEGMENT_REST);
    }
}

/* <0: a is more specific. 0: both match the same paths. */
static int compare_segments(const struct pattern *a, const struct pattern *b)
{
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        const struct segment *x = &a->segments[i], *y = &b->segments[i];
        int difference = (int)x->kind - (int)y->kind;

        if (difference == 0 && x->kind == SEGMENT_TEXT)
            difference = strcmp(x->text, y->text);
        if (difference != 0)
            return difference;
    }
    return a->count == b->count ? 0 : a->count > b->count ? -1 : 1;
}

static int compare_patterns(const void *left, const void *right)
{
    const struct pattern *a = left, *b = right;
    int difference = compare_segments(a, b);

    return difference ? difference : strcmp(a->route->method, b->route->method);
}

struct router *router_new(const struct http_route *const *tables)
{
    struct router *router = xnew0(struct router);

    for (; *tables; tables++) {
        for (const struct http_route *route = *tables; route->method; route++) {
            router->patterns = xreallocarray(router->patterns, router->count + 1, sizeof(*router->patterns));
            router->routes = xreallocarray(router->routes, router->count + 1, sizeof(*router->routes));
            router->patterns[router->count] = (struct pattern){0};
            router->routes[router->count] = route;
            compile(&router->patterns[router->count], route, router->count);
            router->count++;
        }
    }
    if (router->count)
        qsort(router->patterns, router->count, sizeof(*router->patterns), compare_patterns);
    for (size_t i = 1; i < router->count; i++)
        if (compare_patterns(&router->patterns[i - 1], &router->patterns[i]) == 0)
            abort();
    return router;
}

struct router *router_free(struct router *router)
{
    if (!router)
        return NULL;
    for (size_t i = 0; i < router->count; i++) {
        for (size_t s = 0; s < router->patterns[i].count; s++)
            free(router->patterns[i].segments[s].text);
        free(router->patterns[i].segments);
    }
    free(router->patterns);
    free(router->routes);
    free(router);
    return NULL;
}

size_t router_count(const struct router *router)
{
    return router->count;
}

const struct http_route *router_at(const struct router *router, size_t index)
{
    return router->routes[index];
}

size_t router_index(const struct router *router, const struct http_route *route)
{
    for (size_t i = 0; i < router->count; i++)
        if (router->routes[i] == route)
            return i;
    abort();
}

/* `parts` are the decoded segments of the path. */
static bool matches(const struct pattern *pattern, const struct strvec *parts)
{
    for (size_t i = 0; i < pattern->count; i++) {
        const struct segment *segment = &pattern->segments[i];

        if (i >= parts->count)
            return false;
        if (segment->kind == SEGMENT_REST)
            return *parts->items[i] != '\0' || parts->count > i + 1;
        if (segment->kind == SEGMENT_PARAM ? *parts->items[i] == '\0' : strcmp(segment->text, parts->items[i]) != 0)
            return false;
    }
    return parts->count == pattern->count;
}

static char *join_rest(const struct strvec *parts, size_t from)
{
    struct strvec rest = {parts->items + from, parts->count - from, 0};

    return strvec_join(&rest, "/");
}

static void fill_params(struct exchange *exchange, const struct pattern *pattern, const struct strvec *parts)
{
    for (size_t i = 0; i < pattern->count; i++) {
        const struct segment *segment = &pattern->segments[i];

        if (segment->kind == SEGMENT_PARAM)
            map_put(&exchange->params, segment->text, xstrdup(parts->items[i]));
        else if (segment->kind == SEGMENT_REST)
            map_put(&exchange->params, segment->text, join_rest(parts, i));
    }
}

/* The component "." or ".." of a decoded segment, which may hold slashes that were sent as %2F; NULL: none. */
static const char *find_dots(const char *part)
{
    static const char *const dots[] = {".", ".."};

    for (const char *at = part, *end; at; at = *end ? end + 1 : NULL) {
        end = strchrnul(at, '/');
        for (size_t i = 0; i < ARRAY_SIZE(dots); i++) {
            if ((size_t)(end - at) == strlen(dots[i]) && !strncmp(at, dots[i], (size_t)(end - at)))
                return dots[i];
        }
    }
    return NULL;
}

static int split_path(const char *path, struct strvec *parts, struct error *error)
{
    if (*path != '/')
        return error_set(error, ERROR_INVALID, "the path must begin with '/'");
    while (*path == '/') {
        const char *end = strchrnul(++path, '/'), *dots;
        char *part;

        if (http_percent_decode(path, (size_t)(end - path), false, &part, error) < 0)
            return error_wrap(error, "bad path");
        strvec_push_take(parts, part);
        dots = find_dots(part);
        if (dots)
            return error_set(error, ERROR_INVALID, "the path must not have '%s' in it", dots);
        path = end;
    }
    return 0;
}

/* GET answers HEAD too. */
static bool method_fits(const char *row, const char *method)
{
    return strcmp(row, method) == 0 || (strcmp(row, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

static int refuse_method(struct exchange *exchange, const struct strvec *allowed, struct error *error)
{
    cleanup_free char *allow = strvec_join(allowed, ", ");

    http_reply_header(&exchange->response, "Allow", allow);
    exchange->response.status = 405;
    return error_set(error, ERROR_UNSUPPORTED, "%.20s is not possible on %.200s; use %s", exchange->request.method,
                     exchange->path, allow);
}

int router_find(const struct router *router, struct exchange *exchange, struct error *error)
{
    cleanup_strvec struct strvec parts = STRVEC_INIT, allowed = STRVEC_INIT;

    if (split_path(exchange->path, &parts, error) < 0)
        return -1;
    for (size_t i = 0; i < router->count; i++) {
        const struct pattern *pattern = &router->patterns[i];

        if (!matches(pattern, &parts))
            continue;
        if (method_fits(pattern->route->method, exchange->request.method)) {
            fill_params(exchange, pattern, &parts);
            exchange->request.route = pattern->route;
            return 0;
        }
        if (!strvec_contains(&allowed, pattern->route->method)) {
            strvec_push(&allowed, pattern->route->method);
            if (strcmp(pattern->route->method, "GET") == 0)
                strvec_push(&allowed, "HEAD");
        }
    }
    if (allowed.count)
        return refuse_method(exchange, &allowed, error);
    return error_set(error, ERROR_NOT_FOUND, "there is nothing at %.200s; /api/v1/openapi.json lists what there is",
                     exchange->path);
}

static const int statuses[] = {
    [ERROR_NONE] = 200,         [ERROR_INVALID] = 400,
    [ERROR_NOT_FOUND] = 404,    [ERROR_EXISTS] = 409,
    [ERROR_CONFLICT] = 409,     [ERROR_UNAUTHENTICATED] = 401,
    [ERROR_FORBIDDEN] = 403,    [ERROR_TOO_LARGE] = 413,
    [ERROR_RATE_LIMITED] = 429, [ERROR_UNAVAILABLE] = 503,
    [ERROR_TIMEOUT] = 504,      [ERROR_CANCELLED] = 499, /* nobody reads it; what nginx logs for a client that left */
    [ERROR_NO_SPACE] = 507,     [ERROR_CORRUPT] = 500,
    [ERROR_UNSUPPORTED] = 501,  [ERROR_IO] = 500,
    [ERROR_INTERNAL] = 500,
};
_Static_assert(ARRAY_SIZE(statuses) == ERROR_CODE_COUNT_, "every error code has a status");

int http_status_of(enum error_code code)
{
    return statuses[code];
}
