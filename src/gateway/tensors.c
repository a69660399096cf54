#include <math.h>
#include <string.h>
#include "gateway/tensors.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/xalloc.h"

/* -- from JSON -- */

/* One element at the end of the frame; false if the value does not fit the type. */
static bool add_integer(struct strbuf *frame, int type, const json_t *value)
{
    json_int_t v = json_integer_value(value);
    size_t size = frame_type_size((uint32_t)type);
    bool is_signed = type >= FRAME_INT8;

    if (type == FRAME_BOOL) {
        uint8_t b = json_is_boolean(value) ? json_is_true(value) : v != 0;

        strbuf_add(frame, &b, 1);
        return json_is_boolean(value) || (json_is_integer(value) && (v == 0 || v == 1));
    }
    if (!json_is_integer(value) || (!is_signed && v < 0))
        return false;
    if (size < 8 && (is_signed ? v < -(INT64_C(1) << (size * 8 - 1)) || v >= INT64_C(1) << (size * 8 - 1)
                               : v >= INT64_C(1) << (size * 8)))
        return false;
    strbuf_add(frame, &v, size); /* little-endian */
    return true;
}

static bool add_number(struct strbuf *frame, int type, const json_t *value)
{
    double v = json_number_value(value);
    float f = (float)v;

    if (!json_is_number(value))
        return false;
    if (type == FRAME_FP32)
        strbuf_add(frame, &f, sizeof(f));
    else
        strbuf_add(frame, &v, sizeof(v));
    return type == FRAME_FP64 || isfinite(f);
}

static bool add_string(struct strbuf *frame, const char *data, size_t length)
{
    uint32_t n = (uint32_t)length;

    strbuf_add(frame, &n, sizeof(n));
    strbuf_add(frame, data, length);
    return true;
}

/* The text of {"b64": text}; NULL if it is none. */
static const char *base64_of(const json_t *value)
{
    return json_object_size(value) == 1 ? json_string_value(json_object_get(value, "b64")) : NULL;
}

static bool add_text(struct strbuf *frame, const json_t *value)
{
    const char *base64 = base64_of(value);
    cleanup_free char *data = NULL;
    size_t length;

    if (json_is_string(value))
        return add_string(frame, json_string_value(value), json_string_length(value));
    data = base64 ? base64_decode(base64, &length) : NULL;
    return data && add_string(frame, data, length);
}

static int add_element(struct strbuf *frame, const struct tensor_spec *spec, const json_t *value, struct error *error)
{
    cleanup_free char *text = NULL;
    bool fits;

    if (spec->type == FRAME_BYTES)
        fits = add_text(frame, value);
    else if (spec->type == FRAME_FP32 || spec->type == FRAME_FP64)
        fits = add_number(frame, spec->type, value);
    else
        fits = spec->type != FRAME_FP16 && add_integer(frame, spec->type, value);
    if (fits)
        return 0;
    text = json_text(value);
    return error_set(error, ERROR_INVALID, "input '%s': %.40s is not a value of type %s", spec->name, text,
                     frame_type_name((uint32_t)spec->type));
}

static int add_flat(struct strbuf *frame, const struct tensor_spec *spec, const json_t *value, int64_t *left,
                    struct error *error)
{
    json_t *item;
    size_t i;

    if (json_is_array(value)) {
        json_array_foreach(value, i, item) {
            if (add_flat(frame, spec, item, left, error) < 0)
                return -1;
        }
        return 0;
    }
    if (--*left < 0)
        return error_set(error, ERROR_INVALID, "input '%s' has more data than its shape", spec->name);
    return add_element(frame, spec, value, error);
}

int tensor_add_flat(struct strbuf *frame, const struct tensor_spec *spec, const json_t *value, struct error *error)
{
    int64_t left = spec->elements;

    if (add_flat(frame, spec, value, &left, error) < 0)
        return -1;
    if (left)
        return error_set(error, ERROR_INVALID, "input '%s' has fewer data than its shape", spec->name);
    return 0;
}

int tensor_shape_of(const json_t *value, struct tensor_spec *spec, struct error *error)
{
    spec->rank = 0;
    while (json_is_array(value)) {
        if (spec->rank == FRAME_RANK)
            return error_set(error, ERROR_INVALID, "input '%s' has more than %d dimensions", spec->name, FRAME_RANK);
        spec->shape[spec->rank++] = (int64_t)json_array_size(value);
        value = json_array_get(value, 0);
    }
    spec->elements = frame_elements(spec->shape, spec->rank);
    if (spec->elements < 0)
        return error_set(error, ERROR_INVALID, "input '%s' has an impossible shape", spec->name);
    return 0;
}

static int add_nested(struct strbuf *frame, const struct tensor_spec *spec, uint32_t depth, const json_t *value,
                      struct error *error)
{
    json_t *item;
    size_t i;

    if (depth == spec->rank)
        return add_element(frame, spec, value, error);
    if (!json_is_array(value) || (int64_t)json_array_size(value) != spec->shape[depth])
        return error_set(error, ERROR_INVALID, "input '%s': its rows are not all of one shape", spec->name);
    json_array_foreach(value, i, item) {
        if (add_nested(frame, spec, depth + 1, item, error) < 0)
            return -1;
    }
    return 0;
}

int tensor_add_nested(struct strbuf *frame, const struct tensor_spec *spec, const json_t *value, struct error *error)
{
    return add_nested(frame, spec, 0, value, error);
}

/* -- to JSON -- */

static json_t *read_number(uint32_t type, const char *data)
{
    union frame_value v = frame_value(type, data);

    switch (type) {
    case FRAME_BOOL: return json_boolean(v.u8);
    case FRAME_UINT8: return json_integer(v.u8);
    case FRAME_UINT16: return json_integer(v.u16);
    case FRAME_UINT32: return json_integer(v.u32);
    case FRAME_UINT64: return v.u64 <= INT64_MAX ? json_integer((json_int_t)v.u64) : NULL;
    case FRAME_INT8: return json_integer(v.i8);
    case FRAME_INT16: return json_integer(v.i16);
    case FRAME_INT32: return json_integer(v.i32);
    case FRAME_INT64: return json_integer(v.i64);
    case FRAME_FP32: return json_real((double)v.f32); /* NULL for NaN and infinities */
    case FRAME_FP64: return json_real(v.f64);
    default: return NULL;
    }
}

static json_t *base64_value(const char *data, size_t length)
{
    cleanup_free char *text = xmalloc(BASE64_SIZE(length));

    return json_build("{s:s}", "b64", base64_encode(data, length, text));
}

/* The element at *at, and moves behind it. Bytes that are no text: NULL, or base64 where that is allowed. */
static json_t *read_element(const struct frame_entry *entry, const char **at, bool base64, struct error *error)
{
    size_t size = frame_type_size(entry->type);
    const char *data = *at;
    json_t *value;
    uint32_t n;

    if (entry->type == FRAME_BYTES) {
        memcpy(&n, data, sizeof(n));
        data += sizeof(n);
        size = sizeof(n) + n;
        value = json_stringn(data, n);
        if (!value && base64)
            value = base64_value(data, n);
    } else {
        value = read_number(entry->type, data);
    }
    *at += size;
    if (!value)
        error_set(error, ERROR_INTERNAL, "output '%s' has a value that JSON cannot express; ask for it in binary form",
                  entry->name);
    return value;
}

json_t *tensor_values(const char *frame, const struct frame_entry *entry, struct error *error)
{
    const char *at = frame + entry->offset, *end = at + entry->length;
    cleanup_json json_t *values = json_array();

    while (at < end) {
        json_t *value = read_element(entry, &at, false, error);

        if (!value)
            return NULL;
        json_array_append_new(values, value);
    }
    return steal_ptr(values);
}

static json_t *read_nested(const struct frame_entry *entry, uint32_t depth, const char **at, struct error *error)
{
    cleanup_json json_t *values = NULL;

    if (depth == entry->rank)
        return read_element(entry, at, true, error);
    values = json_array();
    for (int64_t i = 0; i < entry->shape[depth]; i++) {
        json_t *value = read_nested(entry, depth + 1, at, error);

        if (!value)
            return NULL;
        json_array_append_new(values, value);
    }
    return steal_ptr(values);
}

/* Arrays that a shape like [2^40, 0] would have, which holds no element. */
static int64_t empty_arrays(const struct frame_entry *entry)
{
    int64_t n = 1;

    if (frame_elements(entry->shape, entry->rank))
        return 0;
    for (uint32_t i = 0; entry->shape[i]; i++) {
        if (__builtin_mul_overflow(n, entry->shape[i], &n))
            return INT64_MAX;
    }
    return n;
}

json_t *tensor_nested(const char *frame, const struct frame_entry *entry, struct error *error)
{
    const char *at = frame + entry->offset;

    if (empty_arrays(entry) > LIMIT_PREDICT_INSTANCES) {
        error_set(error, ERROR_INTERNAL, "output '%s' is empty and has more than %d rows", entry->name,
                  LIMIT_PREDICT_INSTANCES);
        return NULL;
    }
    return read_nested(entry, 0, &at, error);
}
