/* cuda/keys.cuh: a score and the index of what has it as one 64-bit number that sorts as model/search.c wants: the
 * larger score first, among equals the lower index. Every score gives a key above 0. */
#pragma once
#include "cuda/t5_cuda.h"

typedef unsigned long long t5_key;

__device__ __forceinline__ t5_key t5_key_of(float score, int token)
{
    unsigned bits = __float_as_uint(score + 0.0f); /* -0 becomes 0: they are equal */
    bits = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    return (t5_key)bits << 32 | (0xffffffffu - (unsigned)token);
}
__device__ __forceinline__ int t5_key_token(t5_key key)
{
    return (int)(0xffffffffu - (unsigned)key);
}
__device__ __forceinline__ t5_key t5_warp_max_key(t5_key key)
{
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        t5_key other = __shfl_xor_sync(0xffffffffu, key, step);
        key = other > key ? other : key;
    }
    return key;
}
