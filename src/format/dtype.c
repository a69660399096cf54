#include <string.h>
#include "format/safetensors.h"
#include "util/strbuf.h"

static const struct {
    const char *name, *numpy_name;
    size_t size;
} dtypes[] = {
    [DTYPE_BOOL] = {"BOOL", "bool", 1},
    [DTYPE_U8] = {"U8", "uint8", 1},
    [DTYPE_I8] = {"I8", "int8", 1},
    [DTYPE_F8_E5M2] = {"F8_E5M2", "float8_e5m2", 1},
    [DTYPE_F8_E4M3] = {"F8_E4M3", "float8_e4m3fn", 1},
    [DTYPE_U16] = {"U16", "uint16", 2},
    [DTYPE_I16] = {"I16", "int16", 2},
    [DTYPE_F16] = {"F16", "float16", 2},
    [DTYPE_BF16] = {"BF16", "bfloat16", 2},
    [DTYPE_U32] = {"U32", "uint32", 4},
    [DTYPE_I32] = {"I32", "int32", 4},
    [DTYPE_F32] = {"F32", "float32", 4},
    [DTYPE_U64] = {"U64", "uint64", 8},
    [DTYPE_I64] = {"I64", "int64", 8},
    [DTYPE_F64] = {"F64", "float64", 8},
};
_Static_assert(ARRAY_SIZE(dtypes) == DTYPE_COUNT_, "a row for each dtype");

const char *dtype_name(enum dtype dtype)
{
    return dtype < DTYPE_COUNT_ ? dtypes[dtype].name : NULL;
}

const char *dtype_numpy_name(enum dtype dtype)
{
    return dtype < DTYPE_COUNT_ ? dtypes[dtype].numpy_name : NULL;
}

size_t dtype_size(enum dtype dtype)
{
    return dtypes[dtype].size;
}

bool dtype_is_integer(enum dtype dtype)
{
    return dtypes[dtype].name[0] != 'F' && dtype != DTYPE_BF16;
}

int dtype_parse(const char *name, enum dtype *ret_dtype, struct error *error)
{
    cleanup_strbuf struct strbuf known = STRBUF_INIT(1024);

    for (int i = 0; i < DTYPE_COUNT_; i++) {
        if (strcmp(name, dtypes[i].name) == 0 || strcmp(name, dtypes[i].numpy_name) == 0) {
            *ret_dtype = i;
            return 0;
        }
        strbuf_addf(&known, "%s%s", i ? ", " : "", dtypes[i].name);
    }
    return error_set(error, ERROR_INVALID, "'%.40s' is not a dtype; known are %s", name, known.data);
}

bool tensor_count(int rank, const uint64_t *shape, uint64_t *ret_count)
{
    uint64_t count = 1;

    /* A zero anywhere makes the tensor empty, but must not hide an overflow of the rest. */
    for (int i = 0; i < rank; i++) {
        uint64_t factor = shape[i] ? shape[i] : 1;

        if (factor > (UINT64_C(1) << 62) / count)
            return false;
        count *= factor;
    }
    for (int i = 0; i < rank; i++)
        if (!shape[i])
            count = 0;
    *ret_count = count;
    return true;
}

float bfloat16_to_float(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;

    memcpy(&value, &wide, 4);
    return value;
}

/* A float with `exponent` and `mantissa` bits as IEEE 754 has them, widened. */
static float small_float(uint32_t bits, int exponent_bits, int mantissa_bits)
{
    uint32_t sign = bits >> (exponent_bits + mantissa_bits) & 1;
    uint32_t exponent = bits >> mantissa_bits & ((1u << exponent_bits) - 1);
    uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
    int bias = (1 << (exponent_bits - 1)) - 1;
    float value;

    if (exponent == (1u << exponent_bits) - 1)
        value = mantissa ? __builtin_nanf("") : __builtin_inff();
    else if (exponent == 0)
        value = __builtin_ldexpf((float)mantissa, 1 - bias - mantissa_bits);
    else
        value = __builtin_ldexpf((float)(mantissa | 1u << mantissa_bits), (int)exponent - bias - mantissa_bits);
    return sign ? -value : value;
}

float half_to_float(uint16_t half)
{
    return small_float(half, 5, 10);
}

/* E4M3 of the "fn" kind: no infinities, all ones is NaN, the rest of the top exponent are numbers. */
static float e4m3_to_float(uint8_t bits)
{
    float value;

    if ((bits & 0x7f) == 0x7f)
        return __builtin_nanf("");
    if ((bits & 0x78) != 0x78)
        return small_float(bits, 4, 3);
    value = __builtin_ldexpf((float)((bits & 7) | 8), 15 - 7 - 3);
    return bits & 0x80 ? -value : value;
}

double tensor_value(enum dtype dtype, const void *data, uint64_t index)
{
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
        float f32;
        double f64;
    } v = {0};

    memcpy(&v, (const char *)data + index * dtypes[dtype].size, dtypes[dtype].size);
    switch (dtype) {
    case DTYPE_BOOL:
    case DTYPE_U8: return v.u8;
    case DTYPE_I8: return v.i8;
    case DTYPE_F8_E5M2: return small_float(v.u8, 5, 2);
    case DTYPE_F8_E4M3: return e4m3_to_float(v.u8);
    case DTYPE_U16: return v.u16;
    case DTYPE_I16: return v.i16;
    case DTYPE_F16: return half_to_float(v.u16);
    case DTYPE_BF16: return bfloat16_to_float(v.u16);
    case DTYPE_U32: return v.u32;
    case DTYPE_I32: return v.i32;
    case DTYPE_F32: return v.f32;
    case DTYPE_U64: return v.u64;
    case DTYPE_I64: return v.i64;
    case DTYPE_F64: return v.f64;
    case DTYPE_COUNT_: break;
    }
    return 0;
}
