/* cpu/gemm_int8.c: tiles of 8-bit integers, compiled once per instruction set. Sums are exact 32-bit integers, so every
 * instruction set gives the same ones, in any order.
 *
 * Weights are signed, -127 .. 127. The VNNI instruction adds four products of an unsigned and a signed byte, so rows
 * are stored with 128 added and 128 times the column's sum is taken off again. Without VNNI the AVX2 instruction adds
 * two products in 16 bits and would saturate; it is given |x| <= 127 and the weight with the sign of x, which fits. ARM
 * multiplies signed bytes. The matrix unit's part is in gemm_amx.c. */
#include "cpu/tile.h"

#include <math.h>

#define ZERO_POINT 128

#if defined(__AVX512F__)
typedef __m512i v_quads;
#define v_set1_i32 _mm512_set1_epi32
#define v_load_i32(p) _mm512_loadu_si512(p)
#elif defined(__AVX2__)
typedef __m256i v_quads;
#define v_set1_i32 _mm256_set1_epi32
#define v_load_i32(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#else
typedef v_i32 v_quads;
#define v_set1_i32(x) ((v_i32){x, x, x, x})
T5_INLINE v_quads v_load_i32(const int8_t *p)
{
    v_quads v;
    memcpy(&v, p, sizeof v);
    return v;
}
#endif

typedef uint8_t v_bytes __attribute__((vector_size(V_LANES)));
typedef int8_t v_signed_bytes __attribute__((vector_size(V_LANES)));
typedef float v_floats __attribute__((vector_size(V_LANES * 4)));

/* Each 32-bit lane of sum gains four products of w with the row's quad. With VNNI the quad is unsigned, else the signed
 * value. */
#if defined(__AVX512VNNI__)
#define ROW_OFFSET 0
T5_INLINE v_quads add_products(v_quads sum, v_quads x, v_quads w)
{
    /* Not the intrinsic: GCC 12 copies each sum before and after it and reads w again for every row. */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
}
#elif defined(__AVXVNNI__)
#define ROW_OFFSET 0
T5_INLINE v_quads add_products(v_quads sum, v_quads x, v_quads w)
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w));
    return sum;
}
#elif defined(__AVX512F__)
#define ROW_OFFSET ZERO_POINT
T5_INLINE v_quads add_products(v_quads sum, v_quads x, v_quads w)
{
    const __mmask64 is_negative = _mm512_movepi8_mask(x);
    const v_quads signed_w = _mm512_mask_sub_epi8(w, is_negative, _mm512_setzero_si512(), w);
    const v_quads pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(x), signed_w);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#elif defined(__AVX2__)
#define ROW_OFFSET ZERO_POINT
T5_INLINE v_quads add_products(v_quads sum, v_quads x, v_quads w)
{
    const v_quads pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#elif defined(__ARM_FEATURE_DOTPROD) && defined(T5_NEON)
#define ROW_OFFSET ZERO_POINT /* signed by signed */
T5_INLINE v_quads add_products(v_quads sum, v_quads x, v_quads w)
{
    return (v_quads)vdotq_s32((int32x4_t)sum, (int8x16_t)w, (int8x16_t)x);
}
#elif defined(T5_NEON)
#define ROW_OFFSET ZERO_POINT
T5_INLINE v_quads add_products(v_quads sum, v_quads x, v_quads w)
{
    const int16x8_t low = vmull_s8(vget_low_s8((int8x16_t)x), vget_low_s8((int8x16_t)w));
    const int16x8_t high = vmull_s8(vget_high_s8((int8x16_t)x), vget_high_s8((int8x16_t)w));
    return sum + (v_quads)vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
}
#else
#define ROW_OFFSET ZERO_POINT
T5_INLINE v_quads add_products(v_quads sum, v_quads x, v_quads w)
{
    T5_UNROLL for (int32_t shift = 24; shift >= 0; shift -= 8) sum = sum + ((x << shift) >> 24) * ((w << shift) >> 24);
    return sum;
}
#endif

/* The row's quad in every lane, as add_products wants it. */
T5_INLINE v_quads broadcast_quad(const uint8_t *x)
{
    uint32_t quad = 0;
    memcpy(&quad, x, sizeof quad);
    if (ROW_OFFSET != 0) quad ^= 0x80808080u; /* takes 128 off each byte */
    return v_set1_i32((int32_t)quad);
}

T5_INLINE void store_scaled(float *out, v_quads sum, float x_scale, const float *w_scales, const int32_t *w_sums)
{
    v_i32 sums, offsets;
    memcpy(&sums, &sum, sizeof sums);
    memcpy(&offsets, w_sums, sizeof offsets);
    const v_i32 exact = sums - offsets * (ZERO_POINT - ROW_OFFSET);
    v_store(out, (v_f32) __builtin_convertvector(exact, v_floats) * (v_set1(x_scale) * v_load(w_scales)));
}

T5_INLINE void tile_body(const t5_tile8 *t, const int32_t n_rows, const int32_t n_panels)
{
    v_quads sum[TILE_ROWS_MAX][TILE_PANELS_MAX * PANEL_VECTORS];
    const size_t panel_len = (size_t)t->n_quads * PANEL * T5_QUAD;
    const char *ahead = t->ahead;
    T5_UNROLL for (int32_t r = 0; r < n_rows; r++)
    {
        T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++) sum[r][v] = v_set1_i32(0);
    }
    for (int32_t k = 0; k < t->n_quads; k++) {
        v_quads w[TILE_PANELS_MAX * PANEL_VECTORS];
        if (k % AHEAD_STEP == 0) ahead = fetch_ahead(ahead, t->ahead_lines);
        T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++)
        {
            const size_t column = (size_t)k * PANEL + (size_t)(v % PANEL_VECTORS) * V_LANES;
            w[v] = v_load_i32(t->w + (size_t)(v / PANEL_VECTORS) * panel_len + column * T5_QUAD);
        }
        T5_UNROLL for (int32_t r = 0; r < n_rows; r++)
        {
            const v_quads x = broadcast_quad(t->x + (size_t)r * t->x_stride + (size_t)k * T5_QUAD);
            T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++) sum[r][v] =
                add_products(sum[r][v], x, w[v]);
        }
    }
    T5_UNROLL for (int32_t r = 0; r < n_rows; r++)
    {
        T5_UNROLL for (int32_t v = 0; v < n_panels * PANEL_VECTORS; v++)
            store_scaled(t->out + (size_t)r * t->out_stride + (size_t)v * V_LANES, sum[r][v], t->x_scales[r],
                         t->w_scales + v * V_LANES, t->w_sums + v * V_LANES);
    }
}

void tile_int8(const t5_tile8 *t, int32_t n_rows, int32_t n_panels)
{
    if (n_panels == 2) {
        tile_body(t, 1, 2);
        return;
    }
    TILE_SWITCH(n_rows, tile_body, t, 1)
}

#if defined(__AMX_INT8__)

void tile_int8_amx(const t5_tile8 *t, int32_t n_rows)
{
    _Alignas(64) int32_t sums[BLOCK_ROWS_MAX * PANEL];
    const t5_amx_tile bytes = {.x = t->x,
                               .x_stride = t->x_stride,
                               .w = t->w,
                               .n_quads = t->n_quads,
                               .sums = sums,
                               .sums_stride = PANEL * sizeof *sums,
                               .ahead = t->ahead,
                               .ahead_lines = t->ahead_lines};
    amx_sum_int8(&bytes, n_rows);
    for (int32_t r = 0; r < n_rows; r++) {
        T5_UNROLL for (int32_t v = 0; v < PANEL_VECTORS; v++)
            store_scaled(t->out + (size_t)r * t->out_stride + (size_t)v * V_LANES,
                         v_load_i32((const int8_t *)(sums + r * PANEL + v * V_LANES)), t->x_scales[r],
                         t->w_scales + v * V_LANES, t->w_sums + v * V_LANES);
    }
}

#endif

/* Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves it in the low bits. */
#define ROUNDING 12582912.0f

static uint8_t quantize(float x, float inverse)
{
    const float shifted = x * inverse + ROUNDING;
    uint32_t bits = 0;
    memcpy(&bits, &shifted, sizeof bits);
    return (uint8_t)(bits + ZERO_POINT);
}

float kernel_quantize_row(const float *x, int32_t d, uint8_t *q)
{
    v_f32 maxima = v_set1(0.0f);
    v_f32 zeros = v_set1(0.0f); /* 0 * x: NaN once a value is not finite, which a maximum would pass over */
    int32_t i = 0;
    for (; i + V_LANES <= d; i += V_LANES) {
        const v_f32 v = v_load(x + i);
        maxima = v_max(v_max(v, v_set1(0.0f) - v), maxima);
        zeros = v_fma(v, v_set1(0.0f), zeros);
    }
    float max = v_max_lane(maxima);
    float zero = v_sum(zeros);
    for (; i < d; i++) {
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
        zero += 0.0f * x[i];
    }
    const float inverse = max > 0.0f ? 127.0f / max : 0.0f;

    for (i = 0; i + V_LANES <= d; i += V_LANES) {
        const v_i32 bits = (v_i32)(v_load(x + i) * v_set1(inverse) + v_set1(ROUNDING)) + ZERO_POINT;
        const v_bytes bytes = __builtin_convertvector(bits, v_bytes);
        memcpy(q + i, &bytes, sizeof bytes);
    }
    for (; i < d; i++)
        q[i] = quantize(x[i], inverse);
    for (; i % T5_QUAD != 0; i++)
        q[i] = ZERO_POINT;
    return max / 127.0f + zero;
}

t5_rounding kernel_rounding(const float *x, const uint8_t *q, uint8_t flip, float scale, int32_t d)
{
    v_f32 norms = v_set1(0.0f), errors = v_set1(0.0f);
    int32_t i = 0;
    for (; i + V_LANES <= d; i += V_LANES) {
        v_bytes bytes;
        memcpy(&bytes, q + i, sizeof bytes);
        const v_i32 integers = __builtin_convertvector((v_signed_bytes)(bytes ^ flip), v_i32);
        const v_f32 rounded = (v_f32) __builtin_convertvector(integers, v_floats) * v_set1(scale);
        const v_f32 error = v_load(x + i) - rounded;
        norms = v_fma(rounded, rounded, norms);
        errors = v_fma(error, error, errors);
    }
    float norm = v_sum(norms), error = v_sum(errors);
    for (; i < d; i++) {
        const float rounded = (float)(int8_t)(q[i] ^ flip) * scale;
        norm += rounded * rounded;
        error += (x[i] - rounded) * (x[i] - rounded);
    }
    return (t5_rounding){.norm = sqrtf(norm) * 1.0001f + 1e-20f, .error = sqrtf(error) * 1.0001f + 1e-20f};
}
