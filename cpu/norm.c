/* cpu/norm.c: RMS norm of a row, compiled once per instruction set. T5 has no mean and no bias. Four sums of squares
 * run side by side; which element goes into which depends on d only. */
#include "cpu/tile.h"

#include <math.h>

#define SUMS 4

void kernel_norm_row(const float *x, const float *gain, float eps, int32_t d, float *y)
{
    v_f32 sums[SUMS];
    T5_UNROLL for (int32_t s = 0; s < SUMS; s++) sums[s] = v_set1(0.0f);
    int32_t i = 0;
    for (; i + SUMS * V_LANES <= d; i += SUMS * V_LANES) {
        T5_UNROLL for (int32_t s = 0; s < SUMS; s++)
        {
            const v_f32 v = v_load(x + i + s * V_LANES);
            sums[s] = v_fma(v, v, sums[s]);
        }
    }
    float sum = v_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; i < d; i++)
        sum += x[i] * x[i];
    const float scale = 1.0f / sqrtf(sum / (float)d + eps);

    i = 0;
    for (; i + V_LANES <= d; i += V_LANES)
        v_store(y + i, v_load(x + i) * v_set1(scale) * v_load(gain + i));
    for (; i < d; i++)
        y[i] = x[i] * scale * gain[i];
}
