#include <string.h>
#include "load/target.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

static void parse_unix(const char *rest, struct load_target *target)
{
    const char *colon = strchr(rest, ':');

    target->unix_path = colon ? xstrndup(rest, (size_t)(colon - rest)) : xstrdup(rest);
    target->path = xstrdup(colon && colon[1] ? colon + 1 : "/");
}

static int parse_http(const char *rest, const char *url, struct load_target *target, struct error *error)
{
    size_t authority = strcspn(rest, "/?");
    const char *end = rest + authority, *colon;
    size_t host_length;

    if (*rest == '[') { /* IPv6 literal */
        const char *bracket = memchr(rest, ']', authority);

        if (!bracket)
            return error_set(error, ERROR_INVALID, "'%s' has a '[' without ']'", url);
        target->host = xstrndup(rest + 1, (size_t)(bracket - rest - 1));
        colon = bracket + 1 < end && bracket[1] == ':' ? bracket + 1 : NULL;
    } else {
        colon = memchr(rest, ':', authority);
        host_length = colon ? (size_t)(colon - rest) : authority;
        target->host = xstrndup(rest, host_length);
    }
    if (!*target->host)
        return error_set(error, ERROR_INVALID, "'%s' has no host", url);
    target->port = colon ? xstrndup(colon + 1, (size_t)(end - colon - 1)) : xstrdup("80");
    target->path = *end == '/' ? xstrdup(end) : xasprintf("/%s", end);
    return 0;
}

int load_target_parse(const char *url, struct load_target *ret_target, struct error *error)
{
    struct load_target target = {0};

    if (strncmp(url, "https://", 8) == 0)
        return error_set(error, ERROR_UNSUPPORTED,
                         "the load generator speaks plain HTTP only: it would measure its own TLS");
    if (strpbrk(url, " \r\n"))
        return error_set(error, ERROR_INVALID, "a URL has no spaces or line breaks");
    if (strncmp(url, "unix:/", 6) == 0) {
        parse_unix(url + 5, &target);
    } else if (strncmp(url, "http://", 7) != 0) {
        return error_set(error, ERROR_INVALID,
                         "'%s' is not a URL; expected http://host:port/path or unix:/socket:/path", url);
    } else if (parse_http(url + 7, url, &target, error) < 0) {
        load_target_release(&target);
        return -1;
    }
    *ret_target = target;
    return 0;
}

void load_target_release(struct load_target *target)
{
    free(target->host);
    free(target->port);
    free(target->unix_path);
    free(target->path);
    *target = (struct load_target){0};
}

char *load_request_text(const struct load_target *target, const char *method, const char *bearer,
                        const struct strvec *headers, const char *body, size_t body_length, size_t *ret_length)
{
    struct strbuf sb = STRBUF_INIT(LIMIT_PREDICT_BODY + LIMIT_HTTP_HEADER);

    strbuf_addf(&sb, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, target->path, target->host ?: "localhost");
    if (bearer)
        strbuf_addf(&sb, "Authorization: Bearer %s\r\n", bearer);
    for (size_t i = 0; headers && i < headers->count; i++)
        strbuf_addf(&sb, "%s\r\n", headers->items[i]);
    if (body)
        strbuf_addf(&sb, "Content-Length: %zu\r\n", body_length);
    strbuf_adds(&sb, "\r\n");
    if (body)
        strbuf_add(&sb, body, body_length);
    return strbuf_detach(&sb, ret_length);
}
