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

float t5_quantize_int8(const float *row, int32_t n, int8_t *q)
{
    T5_ASSERT(n >= 1);
    float max = 0.0f;
    for (int32_t i = 0; i < n; i++)
        max = fabsf(row[i]) > max ? fabsf(row[i]) : max; /* fmaxf is a call for each weight of a model */
    const float zero = nan_unless_finite(row, n);
    const float inverse = 127.0f / max;
    /* Not finite, or nothing beyond the smallest numbers: all integers are 0. */
    const bool is_usable = zero == 0.0f && isfinite(inverse);
    for (int32_t i = 0; i < n; i++)
        q[i] = is_usable ? (int8_t)lrintf(row[i] * inverse) : 0;
    return max / 127.0f + zero;
}

#define LANES 8
/* Adding 1.5 * 2^23 rounds to the nearest integer, ties to even. */
#define ROUNDING 12582912.0f

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
