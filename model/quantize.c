/* model/quantize.c: see quantize.h.
 *
 * int4 is symmetric, without a zero point for each group (docs/performance.md has the measurements). The largest weight
 * of a group may become -8, and clipping it a little leaves finer steps for the others: so scales around max / -8 are
 * tried. */
#include "model/quantize.h"

#include "base/assert.h"
#include "model/tensor.h"

#include <math.h>
#include <string.h>

/* 0 for finite weights, else NaN, which a maximum would pass over. */
static float nan_unless_finite(const float *x, int32_t n)
{
    float zero = 0.0f;
    for (int32_t i = 0; i < n; i++)
        zero += 0.0f * x[i];
    return zero;
}

/* Bits of the largest magnitude. Magnitudes are ordered as their bits are; what is not finite is above all others. */
static uint32_t max_bits(const float *row, int32_t n)
{
    int32_t max = 0;
    for (int32_t i = 0; i < n; i++) {
        uint32_t bits = 0;
        memcpy(&bits, &row[i], sizeof bits);
        const int32_t magnitude = (int32_t)(bits & 0x7fffffffu);
        max = magnitude > max ? magnitude : max;
    }
    return (uint32_t)max;
}

/* Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves it in the low bits. */
#define ROUNDING 12582912.0f
#define INFINITY_BITS 0x7f800000u

/* Both loops are ones that a compiler turns into vector code: each weight of a model passes here. */
float t5_quantize_int8(const float *row, int32_t n, int8_t *q)
{
    T5_ASSERT(n >= 1);
    const uint32_t bits = max_bits(row, n);
    float max = 0.0f;
    memcpy(&max, &bits, sizeof max);
    const float inverse = 127.0f / max;
    /* Not finite, or nothing beyond the smallest numbers: all integers are 0. */
    if (bits >= INFINITY_BITS || !isfinite(inverse)) {
        memset(q, 0, (size_t)n);
        return bits >= INFINITY_BITS ? NAN : max / 127.0f;
    }
    for (int32_t i = 0; i < n; i++) {
        const float shifted = row[i] * inverse + ROUNDING;
        uint32_t low = 0;
        memcpy(&low, &shifted, sizeof low);
        q[i] = (int8_t)low;
    }
    return max / 127.0f;
}

#define LANES 8

static float round_to_int4(float x)
{
    const float rounded = (x + ROUNDING) - ROUNDING;
    return rounded < -8.0f ? -8.0f : rounded > 7.0f ? 7.0f : rounded;
}

/* Squared error of the group with this scale, in LANES sums that a compiler can keep in one register. */
static float error_of(const float *x, float scale, float inverse)
{
    float sums[LANES] = {0};
    float sum = 0.0f;
    for (int32_t i = 0; i < T5_INT4_GROUP; i += LANES) {
        for (int32_t k = 0; k < LANES; k++) {
            const float error = round_to_int4(x[i + k] * inverse) * scale - x[i + k];
            sums[k] += error * error;
        }
    }
    for (int32_t k = 0; k < LANES; k++)
        sum += sums[k];
    return sum;
}

/* The weight of largest magnitude, with its sign. */
static float extreme_of(const float *x)
{
    float extreme = 0.0f;
    for (int32_t i = 0; i < T5_INT4_GROUP; i++) {
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    }
    return extreme;
}

/* Weights that fill up a group are 0. */
static uint16_t quantize_group(const float *x, uint8_t *q)
{
    static const float steps[] = {-8.0f, -7.1f, -7.4f, -7.7f, -8.3f, -8.6f, -8.9f, 7.0f}; /* of the extreme weight */
    const float zero = nan_unless_finite(x, T5_INT4_GROUP);
    const float extreme = extreme_of(x);
    float best = 0.0f, best_error = INFINITY;
    for (size_t i = 0; i < T5_COUNT(steps) && zero == 0.0f; i++) {
        const float scale = t5_bf16_to_f32(t5_f32_to_bf16(extreme / steps[i]));
        const float error = error_of(x, scale, 1.0f / scale); /* NaN for a scale of 0 */
        if (!(error < best_error)) continue;
        best_error = error;
        best = scale;
    }
    for (int32_t i = 0; i < T5_INT4_GROUP; i++)
        q[i] = (uint8_t)((best != 0.0f ? (int32_t)round_to_int4(x[i] * (1.0f / best)) : 0) + T5_INT4_ZERO);
    return t5_f32_to_bf16(best + zero);
}

void t5_quantize_int4(const float *row, int32_t n, uint8_t *q, uint16_t *scales)
{
    for (int32_t begin = 0; begin < n; begin += T5_INT4_GROUP) {
        const int32_t n_own = n - begin < T5_INT4_GROUP ? n - begin : T5_INT4_GROUP;
        float x[T5_INT4_GROUP] = {0};
        memcpy(x, row + begin, (size_t)n_own * sizeof *x);
        *scales++ = quantize_group(x, q + begin);
    }
}
