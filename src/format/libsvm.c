#include "format/libsvm.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "format/number.h"
#include "util/limits.h"
#include "util/xalloc.h"

struct libsvm {
    struct reader *reader;
    struct libsvm_row row;
    size_t capacity;
    uint64_t line;
};

struct libsvm *libsvm_open(struct reader *reader)
{
    struct libsvm *libsvm = xnew0(struct libsvm);

    libsvm->reader = reader;
    return libsvm;
}

struct libsvm *libsvm_free(struct libsvm *libsvm)
{
    if (!libsvm)
        return NULL;
    free(libsvm->row.indices);
    free(libsvm->row.values);
    free(libsvm);
    return NULL;
}

static int complain(const struct libsvm *libsvm, struct error *error, const char *what)
{
    return error_set(error, ERROR_INVALID, "%s: line %" PRIu64 ": %s", reader_name(libsvm->reader), libsvm->line, what);
}

static inline const char *skip_blanks(const char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

static inline bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\0' || c == '#' || c == '\r' || c == '\n';
}

static const char *parse_label(struct libsvm *libsvm, const char *p, const char *end, struct error *error)
{
    struct number number;
    enum number_kind kind = number_scan(p, end, &p, &number);

    if (kind != NUMBER_NONE && *p == ',') {
        complain(libsvm, error, "several labels a line are not supported");
        return NULL;
    }
    if (kind == NUMBER_NONE || !is_blank(*p)) {
        complain(libsvm, error, "the label is not a number");
        return NULL;
    }
    libsvm->row.label_is_integer = kind == NUMBER_INTEGER;
    libsvm->row.label = kind == NUMBER_INTEGER ? (double)number.integer : number.real;
    if (!isfinite(libsvm->row.label)) {
        complain(libsvm, error, "the label is not finite");
        return NULL;
    }
    return p;
}

static const char *parse_qid(struct libsvm *libsvm, const char *p, const char *end, struct error *error)
{
    struct number number;

    if (number_scan(p + 4, end, &p, &number) != NUMBER_INTEGER || !is_blank(*p)) {
        complain(libsvm, error, "the qid is not an integer");
        return NULL;
    }
    libsvm->row.has_qid = true;
    libsvm->row.qid = number.integer;
    return p;
}

static void make_room(struct libsvm *libsvm)
{
    struct libsvm_row *row = &libsvm->row;

    if (row->count < libsvm->capacity)
        return;
    libsvm->capacity = libsvm->capacity ? 2 * libsvm->capacity : 64;
    row->indices = xreallocarray(row->indices, libsvm->capacity, sizeof(*row->indices));
    row->values = xreallocarray(row->values, libsvm->capacity, sizeof(*row->values));
}

/* "index:value" */
static const char *parse_pair(struct libsvm *libsvm, const char *p, const char *end, struct error *error)
{
    struct libsvm_row *row = &libsvm->row;
    struct number number;
    enum number_kind kind;
    uint64_t index = 0;
    const char *begin = p;

    while ((unsigned char)(*p - '0') < 10 && index <= LIMIT_LIBSVM_INDEX)
        index = index * 10 + (*p++ - '0');
    if (index > LIMIT_LIBSVM_INDEX) {
        error_set(error, ERROR_TOO_LARGE, "%s: line %" PRIu64 ": an index is greater than %d",
                  reader_name(libsvm->reader), libsvm->line, LIMIT_LIBSVM_INDEX);
        return NULL;
    }
    if (p == begin || *p != ':') {
        complain(libsvm, error, "there is something else than index:value");
        return NULL;
    }
    if (row->count && index <= row->indices[row->count - 1]) {
        complain(libsvm, error, "indices must ascend");
        return NULL;
    }
    kind = number_scan(p + 1, end, &p, &number);
    if (kind == NUMBER_NONE || !is_blank(*p) || (kind == NUMBER_REAL && !isfinite(number.real))) {
        complain(libsvm, error, "a value is not a finite number");
        return NULL;
    }
    make_room(libsvm);
    row->indices[row->count] = index;
    row->values[row->count++] = kind == NUMBER_INTEGER ? (double)number.integer : number.real;
    return p;
}

static int parse_row(struct libsvm *libsvm, const char *p, const char *end, struct error *error)
{
    libsvm->row.count = 0;
    libsvm->row.has_qid = false;
    p = parse_label(libsvm, p, end, error);
    if (!p)
        return -1;
    p = skip_blanks(p);
    if (end - p > 4 && memcmp(p, "qid:", 4) == 0) {
        p = parse_qid(libsvm, p, end, error);
        if (!p)
            return -1;
        p = skip_blanks(p);
    }
    while (p < end && *p != '#') {
        p = parse_pair(libsvm, p, end, error);
        if (!p)
            return -1;
        p = skip_blanks(p);
    }
    return 1;
}

int libsvm_next(struct libsvm *libsvm, const struct libsvm_row **ret_row, struct error *error)
{
    for (;;) {
        const char *line, *p;
        size_t length;
        int r = reader_line(libsvm->reader, LIMIT_LINE, &line, &length, error);

        if (r <= 0)
            return r;
        libsvm->line++;
        if (memchr(line, 0, length))
            return complain(libsvm, error, "there is a NUL byte; is it a text file?");
        p = skip_blanks(line);
        if (p >= line + length || *p == '#')
            continue;
        if (parse_row(libsvm, p, line + length, error) < 0)
            return -1;
        *ret_row = &libsvm->row;
        return 1;
    }
}

uint64_t libsvm_line(const struct libsvm *libsvm)
{
    return libsvm->line;
}
