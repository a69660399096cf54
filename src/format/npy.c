#include "format/npy.h"

#include <inttypes.h>
#include <string.h>
#include "util/strbuf.h"
#include "util/xalloc.h"

#define HEADER_MAX 65536

static const struct {
    const char *code; /* without the byte order */
    enum dtype dtype;
} codes[] = {
    {"b1", DTYPE_BOOL}, {"u1", DTYPE_U8},  {"i1", DTYPE_I8},  {"u2", DTYPE_U16}, {"i2", DTYPE_I16}, {"f2", DTYPE_F16},
    {"u4", DTYPE_U32},  {"i4", DTYPE_I32}, {"f4", DTYPE_F32}, {"u8", DTYPE_U64}, {"i8", DTYPE_I64}, {"f8", DTYPE_F64},
};

/* A cursor over the Python literal. */
struct cursor {
    const char *p, *end;
    const char *name; /* for messages */
};

static int malformed(const struct cursor *c, const char *what, struct error *error)
{
    return error_set(error, ERROR_INVALID, "%s: the NPY header is malformed: %s", c->name, what);
}

static void skip_blanks(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\t'))
        c->p++;
}

static bool take(struct cursor *c, char expected)
{
    skip_blanks(c);
    if (c->p == c->end || *c->p != expected)
        return false;
    c->p++;
    return true;
}

static bool take_word(struct cursor *c, const char *word)
{
    size_t length = strlen(word);

    skip_blanks(c);
    if ((size_t)(c->end - c->p) < length || memcmp(c->p, word, length) != 0)
        return false;
    c->p += length;
    return true;
}

/* A quoted text without escapes, into a small buffer. */
static int take_string(struct cursor *c, char *buffer, size_t size, struct error *error)
{
    const char *close;
    char quote;

    skip_blanks(c);
    if (c->p == c->end || (*c->p != '\'' && *c->p != '"'))
        return malformed(c, "a text was expected", error);
    quote = *c->p++;
    close = memchr(c->p, quote, c->end - c->p);
    if (!close || (size_t)(close - c->p) >= size)
        return malformed(c, "a text is not closed or too long", error);
    memcpy(buffer, c->p, close - c->p);
    buffer[close - c->p] = '\0';
    c->p = close + 1;
    return 0;
}

static int take_shape(struct cursor *c, struct tensor_header *header, struct error *error)
{
    if (!take(c, '('))
        return malformed(c, "the shape is not a tuple", error);
    for (;;) {
        uint64_t value = 0;
        const char *begin;

        if (take(c, ')'))
            return 0;
        begin = c->p;
        for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++) {
            if (value > (UINT64_C(1) << 62) / 10)
                return malformed(c, "a dimension overflows", error);
            value = value * 10 + (*c->p - '0');
        }
        if (c->p == begin)
            return malformed(c, "a dimension is not a number", error);
        if (c->p < c->end && *c->p == 'L') /* as Python 2 wrote it */
            c->p++;
        if (header->rank == LIMIT_TENSOR_RANK)
            return malformed(c, "there are more than 32 dimensions", error);
        header->shape[header->rank++] = value;
        if (!take(c, ',') && (skip_blanks(c), c->p == c->end || *c->p != ')'))
            return malformed(c, "the shape is not closed", error);
    }
}

static int parse_descr(const struct cursor *c, const char *descr, struct tensor_header *header, struct error *error)
{
    char order = descr[0];

    if (strchr("<>|=", order) && order)
        for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
            if (strcmp(descr + 1, codes[i].code) == 0) {
                header->dtype = codes[i].dtype;
                header->big_endian = order == '>';
                return 0;
            }
    if (strchr(descr, 'O'))
        return error_set(error, ERROR_INVALID, "%s is an array of Python objects, which would run code when loaded",
                         c->name);
    return error_set(error, ERROR_INVALID, "%s: elements of type '%s' are not supported", c->name, descr);
}

static int parse_literal(struct cursor *c, struct tensor_header *header, struct error *error)
{
    bool descr = false, order = false, shape = false;

    if (!take(c, '{'))
        return malformed(c, "it is not a dictionary", error);
    while (!take(c, '}')) {
        char key[32], text[64];

        if (take_string(c, key, sizeof(key), error) < 0)
            return -1;
        if (!take(c, ':'))
            return malformed(c, "a ':' is missing", error);
        if (strcmp(key, "descr") == 0 && !descr) {
            skip_blanks(c);
            if (c->p < c->end && *c->p == '[')
                return error_set(error, ERROR_INVALID, "%s is an array of structures", c->name);
            if (take_string(c, text, sizeof(text), error) < 0 || parse_descr(c, text, header, error) < 0)
                return -1;
            descr = true;
        } else if (strcmp(key, "fortran_order") == 0 && !order) {
            header->fortran = take_word(c, "True");
            if (!header->fortran && !take_word(c, "False"))
                return malformed(c, "fortran_order is neither True nor False", error);
            order = true;
        } else if (strcmp(key, "shape") == 0 && !shape) {
            if (take_shape(c, header, error) < 0)
                return -1;
            shape = true;
        } else {
            return malformed(c, "a key is unknown or there twice", error);
        }
        if (!take(c, ',') && (skip_blanks(c), c->p == c->end || *c->p != '}'))
            return malformed(c, "it is not closed", error);
    }
    skip_blanks(c);
    if (c->p != c->end)
        return malformed(c, "something follows it", error);
    return descr && order && shape ? 0 : malformed(c, "descr, fortran_order or shape is missing", error);
}

int npy_read_header(struct reader *reader, struct tensor_header *ret_header, struct error *error)
{
    struct tensor_header header = {0};
    struct cursor c = {.name = reader_name(reader)};
    cleanup_free char *text = NULL;
    uint8_t fixed[8], wide[4] = {0};
    size_t length;

    if (reader_read(reader, fixed, sizeof(fixed), error) < 0)
        return -1;
    if (memcmp(fixed, "\x93NUMPY", 6) != 0)
        return error_set(error, ERROR_INVALID, "%s is not an NPY file", c.name);
    if (fixed[6] < 1 || fixed[6] > 3)
        return error_set(error, ERROR_INVALID, "%s: version %d of NPY is not known", c.name, fixed[6]);
    if (reader_read(reader, wide, fixed[6] == 1 ? 2 : 4, error) < 0)
        return -1;
    length = wide[0] | wide[1] << 8 | wide[2] << 16 | (size_t)wide[3] << 24;
    if (length > HEADER_MAX)
        return error_set(error, ERROR_INVALID, "%s claims a header of %zu bytes", c.name, length);
    text = xmalloc(length + 1);
    if (reader_read(reader, text, length, error) < 0)
        return -1;
    c.p = text;
    c.end = text + length;
    if (parse_literal(&c, &header, error) < 0 || tensor_header_check(&header, c.name, error) < 0)
        return -1;
    if (reader_raw_size(reader) && !reader_is_compressed(reader) &&
        reader_raw_size(reader) - reader_offset(reader) != header.size)
        return error_set(error, ERROR_INVALID, "%s claims %" PRIu64 " bytes of elements, but the file has %" PRIu64,
                         c.name, header.size, reader_raw_size(reader) - reader_offset(reader));
    *ret_header = header;
    return 0;
}

char *npy_make_header(enum dtype dtype, int rank, const uint64_t *shape, size_t *ret_length)
{
    struct strbuf text = STRBUF_INIT(4096);
    const char *code = "V";
    size_t length;

    for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
        if (codes[i].dtype == dtype)
            code = codes[i].code;
    strbuf_addf(&text, "{'descr': '%c%s', 'fortran_order': False, 'shape': (", dtype_size(dtype) == 1 ? '|' : '<',
                code);
    for (int i = 0; i < rank; i++)
        strbuf_addf(&text, "%" PRIu64 "%s", shape[i], rank == 1 ? "," : i + 1 < rank ? ", " : "");
    strbuf_adds(&text, "), }");
    /* Magic, version and length take 10 bytes; elements begin at a multiple of 64. */
    while ((10 + text.length + 1) % 64)
        strbuf_addc(&text, ' ');
    strbuf_addc(&text, '\n');
    length = text.length;
    char *header = xmalloc(10 + length);
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (char)(length & 0xff);
    header[9] = (char)(length >> 8);
    memcpy(header + 10, text.data, length);
    strbuf_release(&text);
    *ret_length = 10 + length;
    return header;
}
