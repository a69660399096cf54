#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include "core/compare.h"
#include "format/safetensors.h"
#include "store/store.h"
#include "util/xalloc.h"

#define BLOCK 4096 /* elements that are converted and summed at a time */

/* What is summed up over a tensor, or over all of them. */
struct sums {
    double difference, a, b, product; /* ‖a−b‖², ‖a‖², ‖b‖², ⟨a,b⟩ */
    double max;
    uint64_t elements, nan_a, nan_b;
};

static bool is_comparable(enum dtype dtype)
{
    return dtype != DTYPE_F8_E5M2 && dtype != DTYPE_F8_E4M3;
}

#define CONVERT(type)                                                                                                  \
    do {                                                                                                               \
        type v_;                                                                                                       \
        for (size_t i = 0; i < count; i++) {                                                                           \
            memcpy(&v_, (const char *)data + i * sizeof(v_), sizeof(v_));                                              \
            ret[i] = (double)v_;                                                                                       \
        }                                                                                                              \
    } while (0)

/* Elements first … first + count as float64. */
static void convert(enum dtype dtype, const void *tensor, uint64_t first, size_t count, double *ret)
{
    const void *data = (const char *)tensor + first * dtype_size(dtype);

    switch (dtype) {
    case DTYPE_F64: CONVERT(double); break;
    case DTYPE_F32: CONVERT(float); break;
    case DTYPE_I8: CONVERT(int8_t); break;
    case DTYPE_BOOL:
    case DTYPE_U8: CONVERT(uint8_t); break;
    case DTYPE_I16: CONVERT(int16_t); break;
    case DTYPE_U16: CONVERT(uint16_t); break;
    case DTYPE_I32: CONVERT(int32_t); break;
    case DTYPE_U32: CONVERT(uint32_t); break;
    case DTYPE_I64: CONVERT(int64_t); break;
    case DTYPE_U64: CONVERT(uint64_t); break;
    default: /* the 16-bit floats */
        for (size_t i = 0; i < count; i++)
            ret[i] = tensor_value(dtype, data, i);
    }
}

static void add_block(struct sums *total, const double *a, const double *b, size_t count)
{
    struct sums block = {0};

    for (size_t i = 0; i < count; i++) {
        double d = a[i] - b[i];

        if (!isfinite(a[i]) || !isfinite(b[i])) {
            block.nan_a += !isfinite(a[i]);
            block.nan_b += !isfinite(b[i]);
            continue;
        }
        block.difference += d * d;
        block.a += a[i] * a[i];
        block.b += b[i] * b[i];
        block.product += a[i] * b[i];
        if (fabs(d) > block.max)
            block.max = fabs(d);
    }
    total->difference += block.difference;
    total->a += block.a;
    total->b += block.b;
    total->product += block.product;
    total->max = fmax(total->max, block.max);
    total->nan_a += block.nan_a;
    total->nan_b += block.nan_b;
}

static void add_sums(struct sums *total, const struct sums *part)
{
    total->difference += part->difference;
    total->a += part->a;
    total->b += part->b;
    total->product += part->product;
    total->max = fmax(total->max, part->max);
    total->elements += part->elements;
    total->nan_a += part->nan_a;
    total->nan_b += part->nan_b;
}

static void sum_tensors(const struct tensor *a, const void *data_a, const struct tensor *b, const void *data_b,
                        struct sums *ret)
{
    double block_a[BLOCK], block_b[BLOCK];
    uint64_t count = a->size / dtype_size(a->dtype);

    *ret = (struct sums){.elements = count};
    for (uint64_t first = 0; first < count; first += BLOCK) {
        size_t n = count - first < BLOCK ? (size_t)(count - first) : BLOCK;

        convert(a->dtype, data_a, first, n, block_a);
        convert(b->dtype, data_b, first, n, block_b);
        add_block(ret, block_a, block_b, n);
    }
}

static double relative_l2(const struct sums *s)
{
    if (s->difference == 0)
        return 0;
    return s->b == 0 ? INFINITY : sqrt(s->difference) / sqrt(s->b);
}

static double cosine(const struct sums *s)
{
    if (s->a == 0 || s->b == 0)
        return s->a == s->b ? 1 : 0;
    return fmax(-1, fmin(1, s->product / (sqrt(s->a) * sqrt(s->b))));
}

static void describe_sums(json_t *object, const struct sums *s)
{
    json_set_int(object, "elements", (int64_t)s->elements);
    json_set_number(object, "relative_l2", relative_l2(s));
    json_set_number(object, "cosine", cosine(s));
    json_set_number(object, "max_abs", s->max);
    json_set_int(object, "nan", (int64_t)s->nan_a);
    json_set_int(object, "nan_base", (int64_t)s->nan_b);
}

static json_t *shape_of(const struct tensor *tensor)
{
    json_t *shape = json_array();

    for (int i = 0; i < tensor->rank; i++)
        json_array_append_new(shape, json_integer((json_int_t)tensor->shape[i]));
    return shape;
}

static bool same_shape(const struct tensor *a, const struct tensor *b)
{
    return a->rank == b->rank && memcmp(a->shape, b->shape, (size_t)a->rank * sizeof(*a->shape)) == 0;
}

static json_t *row_new(const char *name, const char *status, const struct tensor *a, const struct tensor *b)
{
    json_t *row = json_build("{s:s, s:s}", "name", name, "status", status);

    json_set_string(row, "dtype", a ? dtype_name(a->dtype) : NULL);
    json_set_string(row, "dtype_base", b ? dtype_name(b->dtype) : NULL);
    json_object_set_new(row, "shape", a ? shape_of(a) : json_null());
    json_object_set_new(row, "shape_base", b ? shape_of(b) : json_null());
    return row;
}

struct totals {
    struct sums sums;
    int64_t changed, added, removed, reshaped, compared;
};

/* A tensor that both have. */
static json_t *compare_pair(const struct tensor *a, const void *data_a, const struct tensor *b, const void *data_b,
                            struct totals *totals)
{
    bool same_bytes = a->dtype == b->dtype && a->size == b->size && memcmp(data_a, data_b, a->size) == 0;
    struct sums sums;
    json_t *row;

    if (!same_shape(a, b)) {
        totals->reshaped++;
        return row_new(a->name, "reshaped", a, b);
    }
    row = row_new(a->name, same_bytes ? "same" : "changed", a, b);
    totals->changed += !same_bytes;
    if (!is_comparable(a->dtype) || !is_comparable(b->dtype))
        return row;
    sum_tensors(a, data_a, b, data_b, &sums);
    describe_sums(row, &sums);
    add_sums(&totals->sums, &sums);
    totals->compared++;
    return row;
}

static json_t *describe_totals(const struct totals *t, size_t n_tensors)
{
    json_t *total = json_object();

    describe_sums(total, &t->sums);
    json_set_int(total, "tensors", (int64_t)n_tensors);
    json_set_int(total, "changed", t->changed);
    json_set_int(total, "added", t->added);
    json_set_int(total, "removed", t->removed);
    json_set_int(total, "reshaped", t->reshaped);
    json_set_bool(total, "comparable", t->compared > 0 && t->added + t->removed + t->reshaped == 0);
    if (t->compared == 0) {
        json_object_set_new(total, "relative_l2", json_null());
        json_object_set_new(total, "cosine", json_null());
        json_object_set_new(total, "max_abs", json_null());
    }
    return total;
}

json_t *compare_weights(const void *data, size_t length, const void *base, size_t base_length, struct error *error)
{
    cleanup_safetensors struct safetensors *a = NULL, *b = NULL;
    cleanup_json json_t *rows = json_array();
    struct totals totals = {0};

    if (safetensors_parse(data, length, "weights", &a, error) < 0 ||
        safetensors_parse(base, base_length, "weights to compare with", &b, error) < 0)
        return NULL;
    for (size_t i = 0; i < a->n_tensors; i++) {
        const struct tensor *t = &a->tensors[i], *u = safetensors_find(b, t->name);

        if (u) {
            json_array_append_new(rows, compare_pair(t, (const char *)data + a->data_offset + t->begin, u,
                                                     (const char *)base + b->data_offset + u->begin, &totals));
        } else {
            totals.added++;
            json_array_append_new(rows, row_new(t->name, "added", t, NULL));
        }
    }
    for (size_t i = 0; i < b->n_tensors; i++) {
        if (!safetensors_find(a, b->tensors[i].name)) {
            totals.removed++;
            json_array_append_new(rows, row_new(b->tensors[i].name, "removed", NULL, &b->tensors[i]));
        }
    }
    return json_build("{s:o, s:O}", "total", describe_totals(&totals, a->n_tensors), "tensors", rows);
}

struct mapping {
    void *data;
    size_t length;
};

static void mapping_release(struct mapping *m)
{
    if (m->data)
        munmap(m->data, m->length);
}
#define cleanup_mapping CLEANUP(mapping_release)

static int map_blob(struct store *store, const char *text, struct mapping *ret, struct error *error)
{
    struct digest digest;
    const void *data;

    if (digest_parse(text, &digest, error) < 0 || vault_map(store->vault, &digest, &data, &ret->length, error) < 0)
        return -1;
    ret->data = (void *)data;
    madvise(ret->data, ret->length, MADV_SEQUENTIAL);
    return 0;
}

json_t *compare_blobs(struct store *store, const char *digest, const char *base_digest, struct error *error)
{
    cleanup_mapping struct mapping a = {NULL, 0}, b = {NULL, 0};

    if (map_blob(store, digest, &a, error) < 0 || map_blob(store, base_digest, &b, error) < 0)
        return NULL;
    return compare_weights(a.data, a.length, b.data, b.length, error);
}
