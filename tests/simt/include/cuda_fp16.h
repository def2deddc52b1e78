/* tests/simt/include/cuda_fp16.h: half precision with the device's rounding (to nearest, ties to even). Kernels only
 * load, convert and store halves, so there is no arithmetic here. */
#pragma once
#include <cuda_runtime.h>

float simt_half_to_float(uint16_t bits);
uint16_t simt_float_to_half(float x);

struct __half {
    uint16_t bits;
};
struct alignas(4) __half2 {
    __half x, y;
};
typedef __half half;
typedef __half2 half2;

static inline float __half2float(half h)
{
    return simt_half_to_float(h.bits);
}
static inline half __float2half_rn(float x)
{
    return half{simt_float_to_half(x)};
}
static inline half2 __floats2half2_rn(float x, float y)
{
    return half2{__float2half_rn(x), __float2half_rn(y)};
}
static inline float2 __half22float2(half2 h)
{
    return float2{__half2float(h.x), __half2float(h.y)};
}
