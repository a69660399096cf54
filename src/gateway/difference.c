#include <math.h>
#include <string.h>
#include "format/frame.h"
#include "format/safetensors.h"
#include "gateway/difference.h"
#include "util/json.h"

/* Wide enough for every integer of 64 bits. */
typedef long double number;

static void compare_numbers(struct difference *d, number a, number b, double tolerance)
{
    number abs, rel, larger;

    d->is_numeric = true;
    if (a == b || (isnan(a) && isnan(b)))
        return;
    abs = fabsl(a - b);
    if (isnan(abs))
        abs = INFINITY;
    larger = fmaxl(fabsl(a), fabsl(b));
    rel = isinf(abs) ? INFINITY : abs / larger;
    d->max_abs = fmax(d->max_abs, (double)abs);
    d->max_rel = fmax(d->max_rel, (double)rel);
    if (abs > tolerance && rel > tolerance)
        d->agree = false;
}

/* -- JSON -- */

static number number_of(const json_t *value)
{
    return json_is_integer(value) ? (number)json_integer_value(value) : (number)json_real_value(value);
}

/* False: they have not one structure. The depth is bounded by the parser. */
static bool compare_values(struct difference *d, const json_t *a, const json_t *b, double tolerance)
{
    json_t *item;
    const char *key;
    size_t i;

    if (json_is_number(a) && json_is_number(b)) {
        compare_numbers(d, number_of(a), number_of(b), tolerance);
        return true;
    }
    if (json_is_array(a) && json_is_array(b) && json_array_size(a) == json_array_size(b)) {
        json_array_foreach(a, i, item) {
            if (!compare_values(d, item, json_array_get(b, i), tolerance))
                return false;
        }
        return true;
    }
    if (json_is_object(a) && json_is_object(b) && json_object_size(a) == json_object_size(b)) {
        json_object_foreach((json_t *)a, key, item) {
            const json_t *other = json_object_get(b, key);

            if (!other || !compare_values(d, item, other, tolerance))
                return false;
        }
        return true;
    }
    return json_equal(a, b);
}

void difference_of_text(const char *a, size_t a_length, const char *b, size_t b_length, double tolerance,
                        struct difference *ret)
{
    cleanup_json json_t *left = json_parse(a, a_length, NULL), *right = json_parse(b, b_length, NULL);

    *ret = (struct difference){.agree = true};
    if (left && right) {
        if (!compare_values(ret, left, right, tolerance))
            *ret = (struct difference){0};
    } else if (a_length != b_length || memcmp(a, b, a_length) != 0) {
        *ret = (struct difference){0};
    }
}

/* -- tensors -- */

static number read_number(uint32_t type, const char *at)
{
    union frame_value v = frame_value(type, at);

    switch (type) {
    case FRAME_BOOL: return v.u8 != 0;
    case FRAME_UINT8: return v.u8;
    case FRAME_UINT16: return v.u16;
    case FRAME_UINT32: return v.u32;
    case FRAME_UINT64: return (number)v.u64;
    case FRAME_INT8: return v.i8;
    case FRAME_INT16: return v.i16;
    case FRAME_INT32: return v.i32;
    case FRAME_INT64: return (number)v.i64;
    case FRAME_FP16: return half_to_float(v.u16);
    case FRAME_FP32: return v.f32;
    default: return v.f64;
    }
}

void difference_print(struct strbuf *text, const char *frame, const struct frame_entry *entry)
{
    const char *at = frame + entry->offset, *end = at + entry->length;

    while (at < end && !text->overflowed) {
        size_t size = frame_type_size(entry->type);
        uint32_t n;

        if (entry->type == FRAME_BYTES) {
            memcpy(&n, at, sizeof(n));
            strbuf_addf(text, " %.*s", (int)(n < 200 ? n : 200), at + sizeof(n));
            size = sizeof(n) + n;
        } else {
            strbuf_addf(text, " %.7Lg", read_number(entry->type, at));
        }
        at += size;
    }
}

static const struct frame_entry *find_entry(const char *frame, const char *name)
{
    for (uint32_t i = 0; i < frame_count(frame); i++) {
        if (strcmp(frame_entries(frame)[i].name, name) == 0)
            return &frame_entries(frame)[i];
    }
    return NULL;
}

static bool compare_entries(struct difference *d, const char *a, const struct frame_entry *x, const char *b,
                            const struct frame_entry *y, double tolerance)
{
    size_t size = frame_type_size(x->type);

    if (x->type != y->type || x->rank != y->rank || memcmp(x->shape, y->shape, x->rank * sizeof(x->shape[0])) != 0)
        return false;
    if (x->type == FRAME_BYTES)
        return x->length == y->length && memcmp(a + x->offset, b + y->offset, x->length) == 0;
    for (uint64_t at = 0; at < x->length; at += size)
        compare_numbers(d, read_number(x->type, a + x->offset + at), read_number(x->type, b + y->offset + at),
                        tolerance);
    return true;
}

void difference_of_frames(const char *a, const char *b, double tolerance, struct difference *ret)
{
    *ret = (struct difference){.agree = true};
    if (frame_count(a) != frame_count(b)) {
        *ret = (struct difference){0};
        return;
    }
    for (uint32_t i = 0; i < frame_count(a); i++) {
        const struct frame_entry *entry = &frame_entries(a)[i], *other = find_entry(b, entry->name);

        if (!other || !compare_entries(ret, a, entry, b, other, tolerance)) {
            *ret = (struct difference){0};
            return;
        }
    }
}
