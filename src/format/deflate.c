#include <string.h>
#include <strings.h>
#include <zlib.h>
#include "format/deflate.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define WINDOW_GZIP 16 /* added to the window bits (zlib.h) */
#define WINDOW_ANY  32

int deflate_unpack(const void *data, size_t length, size_t max, char **ret_data, size_t *ret_length,
                   struct error *error)
{
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)length};
    size_t capacity = 64 * KIB, n = 0;
    cleanup_free char *out = NULL;
    int status = Z_OK;

    if (length > UINT32_MAX)
        return error_set(error, ERROR_TOO_LARGE, "more than 4 GiB of compressed data");
    if (inflateInit2(&stream, MAX_WBITS + WINDOW_ANY) != Z_OK)
        return error_set(error, ERROR_INTERNAL, "zlib cannot start");
    do {
        /* One byte more than allowed tells what is too long. */
        if (!out || n == capacity)
            out = xrealloc(out, capacity = out ? (capacity * 2 < max + 1 ? capacity * 2 : max + 1) : capacity);
        stream.next_out = (Bytef *)out + n;
        stream.avail_out = (uInt)(capacity - n);
        status = inflate(&stream, Z_NO_FLUSH);
        n = capacity - stream.avail_out;
    } while (status == Z_OK && n <= max);
    inflateEnd(&stream);
    if (n > max)
        return error_set(error, ERROR_TOO_LARGE, "the data unpack to more than %zu bytes", max);
    if (status != Z_STREAM_END || stream.avail_in)
        return error_set(error, ERROR_INVALID, "the compressed data are malformed");
    *ret_data = steal_ptr(out);
    *ret_length = n;
    return 0;
}

void deflate_pack(enum deflate_form form, const void *data, size_t length, char **ret_data, size_t *ret_length)
{
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)length};
    size_t bound;
    char *out;

    if (deflateInit2(&stream, 1, Z_DEFLATED, MAX_WBITS + (form == DEFLATE_GZIP ? WINDOW_GZIP : 0), 8,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        abort();
    bound = deflateBound(&stream, length);
    out = xmalloc(bound);
    stream.next_out = (Bytef *)out;
    stream.avail_out = (uInt)bound;
    if (deflate(&stream, Z_FINISH) != Z_STREAM_END)
        abort(); /* it was given all the room that it said it needs */
    *ret_data = out;
    *ret_length = bound - stream.avail_out;
    deflateEnd(&stream);
}

int deflate_form_parse(const char *name)
{
    if (!strcasecmp(name, "gzip") || !strcasecmp(name, "x-gzip"))
        return DEFLATE_GZIP;
    if (!strcasecmp(name, "deflate"))
        return DEFLATE_ZLIB;
    return strcasecmp(name, "identity") ? -1 : DEFLATE_NONE;
}

enum deflate_form deflate_form_accepted(const char *header)
{
    enum deflate_form best = DEFLATE_NONE;

    while (header && *header) {
        size_t n = strcspn(header, ",; \t"), part = strcspn(header, ",");
        bool refused = memmem(header, part, "q=0", 3) && !memmem(header, part, "q=0.", 4);

        if (n == 4 && !strncasecmp(header, "gzip", n) && !refused)
            return DEFLATE_GZIP;
        if (n == 7 && !strncasecmp(header, "deflate", n) && !refused)
            best = DEFLATE_ZLIB;
        header += part;
        header += strspn(header, ", \t");
    }
    return best;
}

const char *deflate_form_name(enum deflate_form form)
{
    return form == DEFLATE_GZIP ? "gzip" : form == DEFLATE_ZLIB ? "deflate" : NULL;
}
