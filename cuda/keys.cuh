/* cuda/keys.cuh: a score and the index of what has it as one 64-bit number that sorts as model/search.c wants: the
 * larger score first, among equals the lower index. Every score gives a key above 0. */
#pragma once
#include "cuda/t5_cuda.h"

typedef unsigned long long t5_key;

/* The upper half of a key: sorts as the scores do, and what is no number above all of them, so that it is noticed. */
__device__ __forceinline__ unsigned t5_rank_of(float score)
{
    unsigned bits = __float_as_uint(score + 0.0f); /* -0 becomes 0: they are equal */
    if (score != score) return 0xffffffffu;
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ t5_key t5_key_of(float score, int token)
{
    return (t5_key)t5_rank_of(score) << 32 | (0xffffffffu - (unsigned)token);
}
__device__ __forceinline__ int t5_key_token(t5_key key)
{
    return (int)(0xffffffffu - (unsigned)key);
}
__device__ __forceinline__ float t5_key_score(t5_key key)
{
    unsigned bits = (unsigned)(key >> 32);
    return __uint_as_float((bits & 0x80000000u) != 0 ? bits & 0x7fffffffu : ~bits);
}
__device__ __forceinline__ t5_key t5_warp_max_key(t5_key key)
{
    unsigned high = (unsigned)(key >> 32);
    unsigned best = __reduce_max_sync(0xffffffffu, high);
    unsigned low = __reduce_max_sync(0xffffffffu, high == best ? (unsigned)key : 0u);
    return (t5_key)best << 32 | low;
}
