/* cuda/epilogue.cuh: what happens to an element of a product before it is stored: activation, gate, scale, residual. */
#pragma once
#include "cuda/kernels.h"
#include "cuda/t5_cuda.h"

/* Formulas of torch and transformers: gelu_new (tanh) and gelu (erf). Twin: activate in cpu/ref_backend.c. */
__device__ __forceinline__ float t5_activate(t5_act act, float x)
{
    switch (act) {
    case T5_ACT_RELU:
        return x > 0.0f ? x : 0.0f;
    case T5_ACT_GELU_TANH:
        return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    case T5_ACT_GELU:
        return 0.5f * x * (1.0f + erff(x * 0.70710678118f));
    case T5_ACT_SILU:
        return x / (1.0f + expf(-x));
    }
    return x;
}

/* Stores element (row, col) of args.y, given the sums over k with w and, when gated, with w_up. */
template <class T>
__device__ __forceinline__ void t5_store_product(const t5_cuda_linear_args &args, int row, int col, float sum,
                                                 float sum_up)
{
    float value = sum * args.x_scale;
    if (args.has_act) value = t5_activate(args.act, value);
    if (args.w_up != NULL) value *= sum_up * args.x_scale;
    size_t at = (size_t)row * (size_t)args.d_out + (size_t)col;
    if (args.output == T5_CUDA_STORE) {
        t5_store((T *)args.y + at, value * args.y_scale);
    } else {
        ((float *)args.y)[at] += value;
    }
}
