/* model/tensor.c: see tensor.h. Conversions between float32 and the two 16-bit formats, bit by bit, so that every
 * machine gives the same numbers. They run at load and in row lookups; the hot paths of the backends have their own.
 *
 * float16: 1 sign, 5 exponent (bias 15), 10 mantissa bits. bfloat16: the upper half of a float32. */
#include "model/tensor.h"

#include "base/assert.h"
#include "model/panels.h"

#include <string.h>

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

size_t t5_dtype_bytes(t5_dtype dtype)
{
    static const size_t n_bytes[] = {[T5_F32] = 4, [T5_F16] = 2, [T5_BF16] = 2, [T5_I8] = 1};
    T5_ASSERT((size_t)dtype < T5_COUNT(n_bytes));
    return n_bytes[dtype];
}

const char *t5_dtype_name(t5_dtype dtype)
{
    static const char *const names[] = {"float32", "float16", "bfloat16", "int8", "int4"};
    T5_ASSERT((size_t)dtype < T5_COUNT(names));
    return names[dtype];
}

/* Masks instead of branches, so that compilers turn a loop over it into vector code. */
static inline float widen_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t rest = h & 0x7fffu;
    const uint32_t small = bits_of((float)(int32_t)rest * 0x1p-24f); /* zero or subnormal: exact in float32 */
    const uint32_t is_small = 0u - (uint32_t)(rest < 0x400u);
    const uint32_t is_special = 0u - (uint32_t)(rest >= 0x7c00u); /* infinity or NaN: all bits of the exponent */
    const uint32_t large = (rest << 13) + (112u << 23) + (is_special & (112u << 23));
    return float_of(sign | (is_small & small) | (~is_small & large));
}

float t5_f16_to_f32(uint16_t h)
{
    return widen_f16(h);
}

float t5_bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

uint16_t t5_f32_to_f16(float x)
{
    uint32_t bits = bits_of(x);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);  /* NaN */
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and above round to infinity */
    if (magnitude < 0x38800000u) { /* below 2^-14: adding 0.5 leaves the subnormal's bits, rounded, at the bottom */
        float shifted = float_of(magnitude) + 0.5f;
        return (uint16_t)(sign | (bits_of(shifted) - 0x3f000000u));
    }
    uint32_t odd = (magnitude >> 13) & 1u; /* ties go to even */
    uint32_t rounded = magnitude + 0xfffu + odd;
    return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}

uint16_t t5_f32_to_bf16(float x)
{
    uint32_t bits = bits_of(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u); /* a NaN stays one */
    uint32_t odd = (bits >> 16) & 1u;
    return (uint16_t)((bits + 0x7fffu + odd) >> 16);
}

bool t5_dtype_is_quantized(t5_dtype dtype)
{
    return dtype == T5_I8 || dtype == T5_I4;
}

int32_t t5_tensor_groups(const t5_tensor *t)
{
    T5_ASSERT(t->dtype == T5_I4);
    return t->n_cols / T5_INT4_GROUP + (t->n_cols % T5_INT4_GROUP != 0);
}

size_t t5_tensor_row_bytes(const t5_tensor *t)
{
    if (t->dtype == T5_I4) return (size_t)t5_tensor_groups(t) * T5_INT4_GROUP / 2;
    return (size_t)t->n_cols * t5_dtype_bytes(t->dtype);
}

size_t t5_tensor_bytes(const t5_tensor *t)
{
    size_t n_bytes = t5_tensor_row_bytes(t);
    if (t->dtype == T5_I8) n_bytes += (t->panel > 0 ? 2 : 1) * sizeof(float);
    if (t->dtype == T5_I4) n_bytes += (size_t)t5_tensor_groups(t) * sizeof(uint16_t);
    return (size_t)t->n_rows * n_bytes;
}

float t5_tensor_row_scale(const t5_tensor *t, int32_t i_row)
{
    T5_ASSERT(t->dtype == T5_I8 && i_row >= 0 && i_row < t->n_rows);
    float scale = 0.0f;
    memcpy(&scale, (const unsigned char *)t->scales + (size_t)i_row * sizeof scale, sizeof scale);
    return scale;
}

float t5_tensor_row_sum(const t5_tensor *t, int32_t i_row)
{
    T5_ASSERT(t->dtype == T5_I8 && t->panel > 0 && i_row >= 0 && i_row < t->n_rows);
    float sum = 0.0f;
    memcpy(&sum, (const unsigned char *)t->scales + ((size_t)t->n_rows + (size_t)i_row) * sizeof sum, sizeof sum);
    return sum;
}

static void row_of_f16(const unsigned char *row, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, row + 2 * i, sizeof h); /* the file aligns to one byte only */
        out[i] = widen_f16(h);
    }
}

static void row_of_bf16(const unsigned char *row, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, row + 2 * i, sizeof h);
        out[i] = float_of((uint32_t)h << 16);
    }
}

static void row_of_int8(const t5_tensor *t, int32_t i_row, const unsigned char *row, float *out)
{
    const float scale = t5_tensor_row_scale(t, i_row);
    for (int32_t i = 0; i < t->n_cols; i++)
        out[i] = (float)(int8_t)row[i] * scale;
}

static void row_of_int4(const t5_tensor *t, int32_t i_row, const unsigned char *row, float *out)
{
    const unsigned char *scales =
        (const unsigned char *)t->scales + (size_t)i_row * (size_t)t5_tensor_groups(t) * sizeof(uint16_t);
    for (int32_t i = 0; i < t->n_cols; i++) {
        uint16_t scale;
        memcpy(&scale, scales + (size_t)(i / T5_INT4_GROUP) * sizeof scale, sizeof scale);
        const int32_t q = (row[i / 2] >> (i % 2 * 4)) & 15;
        out[i] = (float)(q - 8) * t5_bf16_to_f32(scale);
    }
}

/* One column of a panel. */
typedef struct {
    const unsigned char *panel;
    size_t width, c;
} panel_column;

static panel_column column_of(const t5_tensor *t, int32_t i_row)
{
    const size_t width = (size_t)t->panel;
    const size_t line_bytes = t5_line_bytes(t->dtype == T5_I8 ? T5_STORE_INT8 : T5_STORE_INT4, t->n_cols);
    return (panel_column){.panel = (const unsigned char *)t->data + (size_t)(i_row / t->panel) * width * line_bytes,
                          .width = width,
                          .c = (size_t)(i_row % t->panel)};
}

static unsigned char int8_of(const panel_column *p, size_t k)
{
    return p->panel[(k / T5_QUAD * p->width + p->c) * T5_QUAD + k % T5_QUAD];
}

static const unsigned char *group_of(const panel_column *p, size_t i_group)
{
    return p->panel + i_group * T5_INT4_GROUP_BYTES(p->width);
}

/* With 8 added, as the file has it. */
static unsigned char int4_of(const panel_column *p, size_t k)
{
    const unsigned char *blocks = group_of(p, k / T5_INT4_GROUP) + p->width * sizeof(uint16_t);
    const size_t i_block = k % T5_INT4_GROUP / (2 * T5_QUAD), shift = k / T5_QUAD % 2 * 4;
    return blocks[(i_block * p->width + p->c) * T5_QUAD + k % T5_QUAD] >> shift & 15;
}

static uint16_t group_scale_of(const panel_column *p, size_t i_group)
{
    uint16_t scale;
    memcpy(&scale, group_of(p, i_group) + p->c * sizeof scale, sizeof scale);
    return scale;
}

static void row_of_panel(const t5_tensor *t, int32_t i_row, float *out)
{
    const panel_column p = column_of(t, i_row);
    const size_t n = (size_t)t->n_cols;
    const float scale = t->dtype == T5_I8 ? t5_tensor_row_scale(t, i_row) : 0.0f;
    for (size_t k = 0; k < n && t->dtype == T5_I8; k++)
        out[k] = (float)(int8_t)int8_of(&p, k) * scale;
    for (size_t k = 0; k < n && t->dtype == T5_I4; k++)
        out[k] = (float)(int4_of(&p, k) - 8) * t5_bf16_to_f32(group_scale_of(&p, k / T5_INT4_GROUP));
}

void t5_tensor_row_f32(const t5_tensor *t, int32_t i_row, float *out)
{
    T5_ASSERT(i_row >= 0 && i_row < t->n_rows);
    if (t->panel > 0) {
        row_of_panel(t, i_row, out);
        return;
    }
    const unsigned char *row = (const unsigned char *)t->data + (size_t)i_row * t5_tensor_row_bytes(t);
    switch (t->dtype) {
    case T5_F32:
        memcpy(out, row, (size_t)t->n_cols * sizeof *out);
        break;
    case T5_F16:
        row_of_f16(row, (size_t)t->n_cols, out);
        break;
    case T5_BF16:
        row_of_bf16(row, (size_t)t->n_cols, out);
        break;
    case T5_I8:
        row_of_int8(t, i_row, row, out);
        break;
    case T5_I4:
        row_of_int4(t, i_row, row, out);
        break;
    }
}

size_t t5_tensor_row_scales_bytes(const t5_tensor *t)
{
    if (t->dtype == T5_I4) return (size_t)t5_tensor_groups(t) * sizeof(uint16_t);
    return t->dtype == T5_I8 ? sizeof(float) : 0;
}

void t5_tensor_copy_row(const t5_tensor *t, int32_t i_row, void *row, void *scales)
{
    T5_ASSERT(i_row >= 0 && i_row < t->n_rows);
    const size_t row_bytes = t5_tensor_row_bytes(t), scales_bytes = t5_tensor_row_scales_bytes(t);
    unsigned char *out = row;
    if (t->panel == 0) {
        memcpy(row, (const unsigned char *)t->data + (size_t)i_row * row_bytes, row_bytes);
        if (scales_bytes == 0) return;
        memcpy(scales, (const unsigned char *)t->scales + (size_t)i_row * scales_bytes, scales_bytes);
        return;
    }
    const panel_column p = column_of(t, i_row);
    if (t->dtype == T5_I8) {
        const float scale = t5_tensor_row_scale(t, i_row);
        for (size_t k = 0; k < row_bytes; k++)
            out[k] = int8_of(&p, k);
        memcpy(scales, &scale, sizeof scale);
        return;
    }
    for (size_t k = 0; k < row_bytes; k++) /* two in a byte, the first one low */
        out[k] = (unsigned char)(int4_of(&p, 2 * k) | int4_of(&p, 2 * k + 1) << 4);
    for (size_t g = 0; g < scales_bytes / sizeof(uint16_t); g++) {
        const uint16_t scale = group_scale_of(&p, g);
        memcpy((unsigned char *)scales + g * sizeof scale, &scale, sizeof scale);
    }
}
