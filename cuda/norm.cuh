/* cuda/norm.cuh: the scale of an RMS norm, shared by every kernel that normalizes, so that a fused norm and a separate
 * one give the same bits. Sums in float: half overflows at |x| > 255 already. Twin: norm_row in cpu/ref_backend.c. */
#pragma once
#include "cuda/t5_cuda.h"

/* v = x[k .. k + 3], k a multiple of 4, zero past d. Rows whose width is a multiple of 4 are aligned for one load. */
__device__ __forceinline__ void t5_load_four(const float *x, int k, int d, float (&v)[4])
{
    if (d % 4 == 0 && k < d) {
        t5_load_vector(x + k, v);
        return;
    }
#pragma unroll
    for (int e = 0; e < 4; e++)
        v[e] = k + e < d ? x[k + e] : 0.0f;
}

/* p[0 .. 3] = v as T, half or bfloat16; p aligned to 8 bytes. */
template <class T> __device__ __forceinline__ void t5_store_four(T *p, const float (&v)[4])
{
    unsigned long long low = t5_pair<T>::pack(v[0], v[1]), high = t5_pair<T>::pack(v[2], v[3]);
    *reinterpret_cast<unsigned long long *>(p) = high << 32 | low;
}

/* rsqrt(mean(x[d]^2) + eps), by one whole warp; every lane returns it. Lane l sums elements 4 l .. 4 l + 3, then 128
 * further on, ... */
__device__ __forceinline__ float t5_norm_scale(const float *x, int d, float eps)
{
    float sum = 0.0f;
    for (int k = (int)threadIdx.x % 32 * 4; k < d; k += 128) {
        float v[4];
        t5_load_four(x, k, d, v);
#pragma unroll
        for (int e = 0; e < 4; e++)
            sum += v[e] * v[e];
    }
    return rsqrtf(t5_warp_sum(sum) / (float)d + eps);
}
