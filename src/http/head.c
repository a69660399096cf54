#include <ctype.h>
#include <string.h>
#include <strings.h>
#include "http/head.h"
#include "util/limits.h"

size_t head_end(const char *data, size_t length, size_t from)
{
    const char *at;

    from = from > 3 ? from - 3 : 0;
    at = memmem(data + from, length - from, "\r\n\r\n", 4);
    return at ? (size_t)(at - data) + 4 : 0;
}

/* Characters of a token (RFC 9110, 5.6.2). */
static bool is_token(unsigned char c)
{
    static const bool table[256] = {
        ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1,         ['&'] = 1,         ['\''] = 1,
        ['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1,         ['^'] = 1,         ['_'] = 1,
        ['`'] = 1, ['|'] = 1, ['~'] = 1, ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
    };

    return table[c];
}

static bool is_value(unsigned char c)
{
    return c == '\t' || (c >= 0x20 && c != 0x7f);
}

static int bad(struct error *error, const char *what)
{
    return error_set(error, ERROR_INVALID, "the request is not HTTP/1.1: %s", what);
}

static int parse_line(char *line, struct head *head, struct error *error)
{
    char *target = line, *version, *question;

    while (is_token((unsigned char)*target))
        target++;
    if (target == line || *target != ' ')
        return bad(error, "no method");
    *target++ = '\0';
    version = target;
    while ((unsigned char)*version > 0x20 && (unsigned char)*version < 0x7f)
        version++;
    if (version == target || *version != ' ')
        return bad(error, "no target");
    *version++ = '\0';
    if (*target != '/')
        return bad(error, "the target is not a path");
    if (!strcmp(version, "HTTP/1.1"))
        head->keep_alive = true;
    else if (strcmp(version, "HTTP/1.0"))
        return error_set(error, ERROR_UNSUPPORTED, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    head->method = line;
    head->path = target;
    question = strchr(target, '?');
    if (question) {
        *question = '\0';
        head->query = question + 1;
    }
    return 0;
}

static int take_length(struct head *head, const char *value, struct error *error)
{
    uint64_t length = 0;
    size_t digits = 0;

    for (; isdigit((unsigned char)value[digits]) && digits < 18; digits++)
        length = length * 10 + (uint64_t)(value[digits] - '0');
    if (!digits || value[digits] || head->has_length)
        return bad(error, "Content-Length must be one number");
    head->content_length = length;
    head->has_length = true;
    return 0;
}

static int take_encoding(struct head *head, const char *value, struct error *error)
{
    if (head->chunked || strcasecmp(value, "chunked"))
        return error_set(error, ERROR_UNSUPPORTED, "the only Transfer-Encoding spoken here is chunked");
    head->chunked = true;
    return 0;
}

static int take_connection(struct head *head, const char *value, struct error *error)
{
    while (*value) {
        size_t n = strcspn(value, ", \t");

        if (n == 5 && !strncasecmp(value, "close", n))
            head->keep_alive = false;
        else if (n == 10 && !strncasecmp(value, "keep-alive", n))
            head->keep_alive = true;
        value += n;
        value += strspn(value, ", \t");
    }
    return 0;
}

static int take_expect(struct head *head, const char *value, struct error *error)
{
    head->expects_continue = !strcasecmp(value, "100-continue");
    return 0;
}

static int take_authorization(struct head *head, const char *value, struct error *error)
{
    if (head->authorization)
        return bad(error, "two Authorization headers");
    head->authorization = value;
    return 0;
}

static int take_content_type(struct head *head, const char *value, struct error *error)
{
    head->content_type = value;
    return 0;
}

static const struct {
    const char *name;
    size_t length;
    int (*take)(struct head *head, const char *value, struct error *error);
} known[] = {
#define ROW(name, fn) {name, sizeof(name) - 1, fn}
    ROW("Content-Length", take_length),       ROW("Transfer-Encoding", take_encoding),
    ROW("Connection", take_connection),       ROW("Expect", take_expect),
    ROW("Authorization", take_authorization), ROW("Content-Type", take_content_type),
#undef ROW
};

static int parse_field(char *line, char *end, struct head *head, int *hosts, struct error *error)
{
    char *colon = line, *value;
    size_t n;

    while (is_token((unsigned char)*colon))
        colon++;
    if (colon == line || *colon != ':')
        return bad(error, "a header field without name, or with white space in it");
    *colon = '\0';
    value = colon + 1;
    while (*value == ' ' || *value == '\t')
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = '\0';
    for (const char *p = value; p < end; p++) {
        if (!is_value((unsigned char)*p))
            return bad(error, "a control character in a header field");
    }
    if (head->n_fields == HEAD_FIELDS)
        return error_set(error, ERROR_TOO_LARGE, "the request has more than %d header fields", HEAD_FIELDS);
    head->fields[head->n_fields++] = (struct head_field){line, value};

    n = (size_t)(colon - line);
    if (n == 4 && !strcasecmp(line, "Host"))
        ++*hosts;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (known[i].length == n && !strcasecmp(line, known[i].name))
            return known[i].take(head, value, error);
    }
    return 0;
}

int head_parse(char *data, size_t length, struct head *ret_head, struct error *error)
{
    char *line = data, *last = data + length - 2; /* the empty line */
    struct head *head = ret_head;
    int hosts = 0;
    bool is_11 = false;

    memset(head, 0, offsetof(struct head, fields));
    memset((char *)head + offsetof(struct head, n_fields), 0, sizeof(*head) - offsetof(struct head, n_fields));
    while (line < last) {
        char *end = memchr(line, '\r', (size_t)(last - line));

        if (!end || end[1] != '\n' || memchr(line, '\n', (size_t)(end - line)))
            return bad(error, "a line that does not end with CR LF");
        *end = '\0';
        if (line == data ? parse_line(line, head, error) < 0 : parse_field(line, end, head, &hosts, error) < 0)
            return -1;
        if (line == data)
            is_11 = head->keep_alive;
        line = end + 2;
    }
    if (!head->method)
        return bad(error, "no request line");
    if (hosts > 1 || (is_11 && !hosts))
        return bad(error, "there must be one Host");
    if (head->chunked && head->has_length)
        return bad(error, "both Content-Length and Transfer-Encoding");
    return 0;
}

const char *head_get(const struct head *head, const char *name)
{
    for (size_t i = 0; i < head->n_fields; i++) {
        if (!strcasecmp(head->fields[i].name, name))
            return head->fields[i].value;
    }
    return NULL;
}

/* -- chunked bodies -- */

enum {
    CHUNK_SIZE,
    CHUNK_SIZE_MORE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_CR,
    CHUNK_LF,
    TRAILER,
    TRAILER_LINE,
    TRAILER_LF,
    LAST_LF
};

#define CHUNK_OVERHEAD (16 * 1024) /* bytes of extensions and trailers */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte that is not content. -1: malformed. */
static int step(struct chunks *chunks, char c)
{
    int digit = hex_value(c);

    if (++chunks->overhead > CHUNK_OVERHEAD)
        return -1;
    switch (chunks->state) {
    case CHUNK_SIZE:
        if (digit < 0)
            return -1;
        chunks->left = (uint64_t)digit;
        chunks->state = CHUNK_SIZE_MORE;
        return 0;
    case CHUNK_SIZE_MORE:
        if (digit >= 0) {
            if (chunks->left >> 56)
                return -1;
            chunks->left = chunks->left * 16 + (uint64_t)digit;
            return 0;
        }
        chunks->state = c == '\r' ? CHUNK_SIZE_LF : CHUNK_EXTENSION;
        return c == '\r' || c == ';' || c == ' ' || c == '\t' ? 0 : -1;
    case CHUNK_EXTENSION:
        if (c == '\r')
            chunks->state = CHUNK_SIZE_LF;
        return c == '\r' || is_value((unsigned char)c) ? 0 : -1;
    case CHUNK_SIZE_LF: chunks->state = chunks->left ? CHUNK_DATA : TRAILER; return c == '\n' ? 0 : -1;
    case CHUNK_CR: chunks->state = CHUNK_LF; return c == '\r' ? 0 : -1;
    case CHUNK_LF: chunks->state = CHUNK_SIZE; return c == '\n' ? 0 : -1;
    case TRAILER:
        chunks->state = c == '\r' ? LAST_LF : TRAILER_LINE;
        return c == '\r' || is_token((unsigned char)c) ? 0 : -1;
    case TRAILER_LINE:
        if (c == '\r')
            chunks->state = TRAILER_LF;
        return c == '\r' || is_value((unsigned char)c) ? 0 : -1;
    case TRAILER_LF: chunks->state = TRAILER; return c == '\n' ? 0 : -1;
    default: /* LAST_LF */ chunks->done = true; return c == '\n' ? 0 : -1;
    }
}

int chunks_decode(struct chunks *chunks, char *data, size_t *length, size_t *ret_used)
{
    size_t at = 0, out = 0;

    while (at < *length && !chunks->done) {
        size_t n = *length - at;

        if (chunks->state != CHUNK_DATA) {
            if (step(chunks, data[at++]) < 0)
                return -1;
            continue;
        }
        if (n > chunks->left)
            n = (size_t)chunks->left;
        memmove(data + out, data + at, n);
        at += n;
        out += n;
        chunks->left -= n;
        chunks->overhead = 0;
        if (!chunks->left)
            chunks->state = CHUNK_CR;
    }
    *ret_used = at;
    *length = out;
    return 0;
}
