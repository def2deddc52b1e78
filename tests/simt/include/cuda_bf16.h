/* tests/simt/include/cuda_bf16.h: bfloat16 with the device's rounding (to nearest, ties to even). */
#pragma once
#include <cuda_runtime.h>

float simt_bf16_to_float(uint16_t bits);
uint16_t simt_float_to_bf16(float x);

struct __nv_bfloat16 {
    uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

static inline float __bfloat162float(__nv_bfloat16 h)
{
    return simt_bf16_to_float(h.bits);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    return __nv_bfloat16{simt_float_to_bf16(x)};
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return __nv_bfloat162{__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
static inline float2 __bfloat1622float2(__nv_bfloat162 h)
{
    return float2{__bfloat162float(h.x), __bfloat162float(h.y)};
}
