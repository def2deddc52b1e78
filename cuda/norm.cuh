/* cuda/norm.cuh: the scale of an RMS norm, shared by every kernel that normalizes, so that a fused norm and a separate
 * one give the same bits. Sums in float: half overflows at |x| > 255 already. Twin: norm_row in cpu/ref_backend.c. */
#pragma once
#include "cuda/t5_cuda.h"

/* rsqrt(mean(x[d]^2) + eps), by one whole warp; every lane returns it. Lane l sums elements l, l + 32, ... */
__device__ __forceinline__ float t5_norm_scale(const float *x, int d, float eps)
{
    float sum = 0.0f;
    for (int i = (int)threadIdx.x % 32; i < d; i += 32)
        sum += x[i] * x[i];
    return rsqrtf(t5_warp_sum(sum) / (float)d + eps);
}
